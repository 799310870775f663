"""Generated land: fields, roads, water, buildings and trees, as colour, height and class label.

Illumination is added later, from the height map. Lengths are in pixels of 0.5 m; x runs east, y south.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Floats, Floats32, Indices, Mask

BACKGROUND, BUILDING, WOODLAND, WATER, ROAD = range(5)

Random = np.random.Generator

# Margin of the plan of fields and roads around the scene, since the distortion samples beyond the scene.
_MARGIN = 80

# Red, green, blue, strength of rows, strength of mottling. Each class has a look-alike here (pale soil and dirt track,
# chalk and asphalt, clay and roof tiles, peat and water, wet meadow and woodland), so colour alone cannot separate
# the classes.
_CROPS = np.array(
    [
        (198, 178, 122, 5, 4),  # ripe grain
        (186, 166, 126, 9, 4),  # stubble
        (172, 152, 124, 6, 7),  # pale soil
        (134, 110, 88, 7, 7),  # brown soil
        (144, 102, 82, 7, 6),  # clay
        (152, 144, 128, 6, 6),  # chalk
        (62, 66, 58, 5, 4),  # peat, wet and ploughed
        (84, 110, 58, 10, 4),  # maize
        (104, 134, 68, 6, 4),  # beet
        (128, 142, 86, 2, 8),  # meadow
        (66, 86, 50, 3, 8),  # wet meadow
        (170, 166, 84, 4, 6),  # rape
        (142, 136, 100, 2, 13),  # fallow
    ],
    np.float32,
)
_CROP_ODDS = np.array([10, 8, 9, 8, 5, 5, 7, 10, 7, 12, 10, 4, 5]) / 100
_WATERS = np.array([(48, 62, 58), (66, 66, 52), (56, 72, 52), (58, 70, 76)], np.float32)
_ROOFS = np.array([(156, 84, 66), (128, 70, 58), (112, 88, 74), (104, 104, 106), (134, 132, 130)], np.float32)
# Half widths of main roads, side roads and dirt tracks.
_HALF_WIDTHS = np.array([6.5, 4.5, 3.4], np.float32)


@dataclass
class Land:
    """Land of a scene, filled step by step."""

    #: (S, S, 3) float32, 0 to 255: colour of flat ground in full sun.
    colour: Floats32
    #: (S, S) float32, height above the ground.
    height: Floats32
    #: (S, S) uint8, class ids.
    label: npt.NDArray[np.uint8]
    #: (S, S) intp, number of the field.
    parcel: Indices
    #: (S, S) float32, distance across the plough direction of the field.
    across: Floats32
    #: (3, S, S) float32, distance to the edge of main roads, side roads and tracks; negative on them.
    roads: Floats32
    #: (S, S) float32, distance to the nearest shore; negative in the water.
    shore: Floats32

    @property
    def size(self) -> int:
        """Height and width."""
        return len(self.label)


def fractal(rng: Random, size: int, wavelength: float, octaves: int = 4) -> Floats32:
    """Return fractal noise, (size, size) float32, with mean 0 and standard deviation 1."""
    noise = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = min(size, round(size / wavelength * 2**octave) + 3)
        grid = rng.standard_normal((cells, cells), np.float32)
        noise += 0.5**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    noise -= noise.mean()
    noise /= noise.std()
    return noise


def smoothstep(values: Floats32, low: float, high: float) -> Floats32:
    """Return 0 below `low`, 1 above `high`, and a smooth ramp in between."""
    ramp: Floats32 = np.clip((values - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _rgb(*channels: float) -> Floats32:
    return np.array(channels, np.float32)


def _distance(line: npt.NDArray[np.uint8]) -> Floats32:
    """Return the distance to the nearest 0 in pixels."""
    return np.asarray(cv2.distanceTransform(line, cv2.DIST_L2, 5), np.float32)


def _grow(mask: Mask, width: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), np.bool_)


def _cover(land: Land, opacity: Floats32, paint: Floats32) -> None:
    """Blend paint, one colour or (S, S, 3), over the land where opacity (S, S) is above 0."""
    where = opacity > 0
    new = np.broadcast_to(paint, land.colour.shape)[where]
    land.colour[where] += opacity[where, None] * (new - land.colour[where])


def paint(rng: Random, size: int, woodland: float, wetness: float) -> Land:
    """Generate a square of land of `size` px with a share `woodland` (0 to 1) of trees.

    `wetness` (0 to 1) selects the water: below 0.4 a river, to 0.7 a lake, to 0.85 both, above a pond.
    """
    land = _survey(rng, size)
    _sow(rng, land)
    _flood(rng, land, wetness)
    _pave(rng, land)
    yards = _settle(rng, land)
    _plant(rng, land, yards, woodland)
    return land


def _survey(rng: Random, size: int) -> Land:
    """Divide the land into fields and roads, and distort the plan smoothly."""
    wide = size + 2 * _MARGIN
    fields, roads = _divide(rng, wide)
    parcels = np.zeros((wide, wide), np.float32)
    for number, field in enumerate(fields):
        cv2.fillPoly(parcels, [field.round().astype(np.int32)], float(number))
    lines = np.full((3, wide, wide), 255, np.uint8)
    for kind, ends in roads:
        cv2.polylines(lines[kind], [ends.round().astype(np.int32)], isClosed=False, color=0)
    bend = [np.clip(16 * fractal(rng, size, 420, 2), -_MARGIN, _MARGIN) + _MARGIN for _ in "xy"]
    x, y = bend + np.indices((size, size), np.float32)[::-1]
    distances = [cv2.remap(_distance(line), x, y, cv2.INTER_LINEAR) for line in lines]
    parcel = cv2.remap(parcels, x, y, cv2.INTER_NEAREST).astype(np.intp)
    turn = np.array([_long_side(field)[0] for field in fields], np.float32)
    return Land(
        colour=np.zeros((size, size, 3), np.float32),
        height=np.zeros((size, size), np.float32),
        label=np.full((size, size), BACKGROUND, np.uint8),
        parcel=parcel,
        across=y * np.cos(turn)[parcel] - x * np.sin(turn)[parcel],
        roads=np.array(distances, np.float32) - _HALF_WIDTHS[:, None, None],
        shore=np.full((size, size), np.inf, np.float32),
    )


def _divide(rng: Random, wide: int) -> tuple[list[Floats32], list[tuple[int, Floats32]]]:
    """Cut a rotated square that covers the plan into fields; long cuts through large blocks become roads."""
    box = cv2.boxPoints(((wide / 2, wide / 2), (1.45 * wide, 1.45 * wide), rng.uniform(0, 90)))
    blocks, fields, roads = [(box.astype(np.float32), 0)], [], []
    while blocks:
        block, depth = blocks.pop()
        area = cv2.contourArea(block)
        if depth and area < rng.lognormal(10.9, 0.5):  # about 1.4 ha
            fields.append(block)
            continue
        pieces, cut = _cut(rng, block, spread=0.06 if depth == 0 else 0.15)
        blocks += [(piece, depth + 1) for piece in pieces]
        if depth == 0 or area > 1_000_000:
            roads.append((0 if depth == 0 else int(rng.choice([1, 2], p=[0.35, 0.65])), cut))
    return fields, roads


def _long_side(block: Floats32) -> tuple[float, float]:
    """Return the direction of a polygon's longer side in radians, and its aspect ratio."""
    _, (width, height), angle = cv2.minAreaRect(block)
    return math.radians(angle) + (math.pi / 2 if height > width else 0), max(width, height) / min(width, height)


def _cut(rng: Random, block: Floats32, spread: float) -> tuple[list[Floats32], Floats32]:
    """Cut a convex polygon (N, 2), mostly across its longer side; return the pieces and the ends (2, 2) of the cut."""
    turn, ratio = _long_side(block)
    turn += rng.normal(0, 0.09) + (math.pi / 2 if ratio < 2.4 and rng.random() < 0.3 else 0)
    side = block @ np.array([math.cos(turn), math.sin(turn)], np.float32)
    side -= side.min() + np.ptp(side) * (0.5 + rng.uniform(-spread, spread))
    after, side_after = np.roll(block, -1, axis=0), np.roll(side, -1)
    crossed = side * side_after < 0
    share = (side / np.where(crossed, side - side_after, 1))[crossed, None]
    ends = block[crossed] + share * (after - block)[crossed]
    hulls = [cv2.convexHull(np.concatenate([block[inside], ends])) for inside in (side >= 0, side < 0)]
    return [np.asarray(hull[:, 0], np.float32) for hull in hulls], ends


def _sow(rng: Random, land: Land) -> None:
    """Fill every field with a crop, its rows, tramlines, and a grassy boundary."""
    count = int(land.parcel.max()) + 1
    crop = _CROPS[rng.choice(len(_CROPS), count, p=_CROP_ODDS)]
    hue = crop[:, :3] * rng.normal(1, 0.05, (count, 1)) + rng.normal(0, 3, (count, 3))
    pitch = (2 * np.pi / rng.uniform(4, 8, count)).astype(np.float32)[land.parcel]
    across = land.across + 1.5 * fractal(rng, land.size, 90, 2)
    grain = fractal(rng, land.size, 6, 2)
    rows = np.sin(across * pitch) * (0.7 + 0.3 * grain)
    tramlines = np.abs(np.abs(across % 44 - 22) - 2) < 0.8
    texture = crop[:, 3][land.parcel] * (0.9 * rows - 1.6 * tramlines)
    texture += crop[:, 4][land.parcel] * (fractal(rng, land.size, 110) + 0.5 * grain)
    land.colour[:] = hue.astype(np.float32)[land.parcel] + texture[..., None]
    boundary = _grow(_boundaries(land.parcel), 3).astype(np.float32)
    _cover(land, 0.6 * boundary, _rgb(112, 120, 76))


def _boundaries(parcel: Indices) -> Mask:
    """Return the boundaries of fields, (S, S)."""
    steps = cv2.morphologyEx(parcel.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    return np.asarray(steps, np.bool_)


def _flood(rng: Random, land: Land, wetness: float) -> None:
    """Add water, with reeds along the shore."""
    if wetness < 0.4 or 0.7 < wetness < 0.85:
        land.shore = np.minimum(land.shore, _river(rng, land.size))
    if wetness >= 0.4:
        radius = land.size * (rng.uniform(0.1, 0.17) if wetness < 0.85 else rng.uniform(0.045, 0.07))
        land.shore = np.minimum(land.shore, _lake(rng, land, radius))
    ripple = fractal(rng, land.size, 160, 3)
    tint = _WATERS[rng.integers(len(_WATERS))] + _rgb(*rng.normal(0, 4, 3)) + rng.uniform(-6, 12)
    reeds = smoothstep(-land.shore, -9, -2) * np.clip(0.6 + 0.4 * ripple, 0, 1)
    _cover(land, reeds, _rgb(92, 104, 60))
    water = land.shore < 0
    shallow = 10 * np.exp(land.shore[water] / 6) + 3.5 * ripple[water]
    land.colour[water] = tint + shallow[:, None] * _rgb(0.9, 1, 0.7)
    land.label[water] = WATER


def _river(rng: Random, size: int) -> Floats32:
    """Return the distance to the banks of a meandering river; negative inside."""
    along = np.linspace(-0.8, 0.8, 240) * size
    phases = rng.uniform(0, 2 * np.pi, 2)
    sway = rng.uniform(24, 60) * np.sin(along / rng.uniform(48, 80) + phases[0])
    sway += 0.08 * size * np.sin(along * 3 / size + phases[1]) + rng.normal(0, 0.14) * size
    turn = rng.uniform(0, np.pi)
    x = size / 2 + along * np.cos(turn) - sway * np.sin(turn)
    y = size / 2 + along * np.sin(turn) + sway * np.cos(turn)
    line = np.full((size, size), 255, np.uint8)
    cv2.polylines(line, [np.stack([x, y], 1).round().astype(np.int32)], isClosed=False, color=0)
    half: Floats32 = rng.uniform(11, 21) * (1 + 0.16 * fractal(rng, size, 120, 3))
    return _distance(line) - half


def _lake(rng: Random, land: Land, radius: float) -> Floats32:
    """Return the distance to the shore of a lake away from roads; negative inside."""
    clear = land.roads.min(axis=0)
    spots = rng.integers(land.size // 8, land.size - land.size // 8, (12, 2))
    row, col = spots[np.argmax(clear[spots[:, 0], spots[:, 1]])].tolist()
    y, x = np.mgrid[: land.size, : land.size].astype(np.float32)
    turn, stretch = rng.uniform(0, math.pi), rng.uniform(1, 1.7)
    along = (x - col) * math.cos(turn) + (y - row) * math.sin(turn)
    across = (y - row) * math.cos(turn) - (x - col) * math.sin(turn)
    reach = radius * (1 + 0.24 * fractal(rng, land.size, 2 * radius + 40))
    shore = np.hypot(along / math.sqrt(stretch), across * math.sqrt(stretch)) - reach
    return np.asarray(np.maximum(shore, 14 - clear), np.float32)


def _pave(rng: Random, land: Land) -> None:
    """Add asphalt on main and side roads, wheel ruts on tracks, and verges."""
    grain = fractal(rng, land.size, 5, 2)
    wear = fractal(rng, land.size, 60, 3)
    _cover(land, 0.75 * smoothstep(-land.roads.min(axis=0), -7, -2), _rgb(118, 128, 80) + 5 * grain[..., None])
    soil = _rgb(172, 152, 124) * rng.uniform(0.86, 1.06)
    asphalt = _rgb(1, 0.995, 0.985) * rng.uniform(92, 146)
    for kind in (2, 1, 0):
        edge = land.roads[kind]
        road = edge < 0
        shade = 3 * grain[road] + 5 * wear[road]
        if kind == 2:  # grass grows between the ruts
            grass = np.clip(0.4 + 0.3 * wear[road], 0, 0.8) * (edge[road] < 1.3 - _HALF_WIDTHS[2])
            land.colour[road] = soil + 1.6 * shade[:, None] - grass[:, None] * _rgb(40, 22, 40)
        else:
            land.colour[road] = asphalt + shade[:, None] + 8 * (edge[road] < 0.8 - _HALF_WIDTHS[kind])[:, None]
        land.label[road] = ROAD


def _settle(rng: Random, land: Land) -> Mask:
    """Add houses and barns along the roads up to a share of the scene; return their yards."""
    road = land.roads[:2].min(axis=0)
    gradient = np.stack([cv2.Sobel(road, cv2.CV_32F, 1, 0), cv2.Sobel(road, cv2.CV_32F, 0, 1)])
    village = fractal(rng, land.size, 300, 2)
    rows, cols = np.nonzero((road > 18) & (road < 85) & (land.roads[2] > 16) & (land.shore > 18))
    tries = rng.permutation(len(rows))[:400]
    tries = tries[np.argsort((road / 60 - village)[rows, cols][tries])]
    occupied = np.zeros(land.label.shape, np.uint8)
    wanted = rng.uniform(0.009, 0.019) * land.label.size
    for row, col in zip(rows[tries], cols[tries], strict=True):
        if np.count_nonzero(land.label == BUILDING) > wanted:
            break
        turn = np.arctan2(*gradient[::-1, row, col]) + np.pi / 2
        _build(rng, land, occupied, (int(row), int(col)), float(turn))
    return _garden(rng, land, occupied)


def _garden(rng: Random, land: Land, plots: npt.NDArray[np.uint8]) -> Mask:
    """Add lawns and gravel around the houses; return where, (S, S)."""
    near = cv2.GaussianBlur(cv2.dilate(plots, np.ones((17, 17), np.uint8)).astype(np.float32), (0, 0), 9)
    yard = smoothstep(near * (1 + 0.4 * fractal(rng, land.size, 60, 3)), 0.3, 0.5)
    yard *= (land.label == BACKGROUND) & (land.shore > 6)
    worn = fractal(rng, land.size, 40, 3)
    _cover(land, 0.85 * yard, _rgb(116, 126, 80) + worn[..., None] * _rgb(14, 8, 12))
    _cover(land, yard * smoothstep(worn, 0.5, 0.8), _rgb(138, 134, 126) + 5 * worn[..., None])
    return yard > 0.5


def _build(rng: Random, land: Land, occupied: npt.NDArray[np.uint8], spot: tuple[int, int], turn: float) -> None:
    """Add one building with a gabled roof, unless its plot is occupied."""
    long, short = rng.uniform(18, 28), rng.uniform(15, 20)
    if rng.random() < 0.3:
        long, short = rng.uniform(30, 56), rng.uniform(18, 28)  # a barn or a hall
    turn += rng.normal(0, 0.05) + rng.choice([0, np.pi / 2], p=[0.65, 0.35])
    reach = int(np.hypot(long, short) / 2 + 6)
    window = tuple(slice(max(at - reach, 0), min(at + reach + 1, land.size)) for at in spot)
    y, x = np.mgrid[window] - np.reshape(spot, (2, 1, 1))
    along = np.abs(x * np.cos(turn) + y * np.sin(turn)) - long / 2
    across = np.abs(y * np.cos(turn) - x * np.sin(turn)) - short / 2
    plot = np.maximum(along, across) < 5
    if occupied[window][plot].any() or (land.label[window][plot] != BACKGROUND).any():
        return
    roof = np.maximum(along, across) < 0
    colour = _ROOFS[rng.choice(len(_ROOFS), p=[0.3, 0.12, 0.16, 0.24, 0.18])] * rng.normal(1, 0.06)
    pitch = rng.uniform(0.35, 0.8) if rng.random() < 0.85 else 0
    occupied[window][plot] = 1
    land.colour[window][roof] = colour + rng.normal(0, 2.5, (np.count_nonzero(roof), 1))
    land.height[window][roof] = rng.uniform(7, 12) - pitch * across[roof]
    land.label[window][roof] = BUILDING


def _plant(rng: Random, land: Land, yards: Mask, share: float) -> None:
    """Add woods, hedgerows and single trees; single trees stay background, as in LandCover.ai."""
    road = land.roads.min(axis=0)
    open_ground = (land.label == BACKGROUND) & (road > 5) & (land.shore > 3) & ~yards
    wood = _woods(rng, land, open_ground, share)
    spacing = rng.uniform(6.5, 9.5)
    rows, cols = _scatter(rng, land.size, spacing)
    chance = _solitude(land, yards, road)
    planted = wood[rows, cols] | (rng.random(len(rows)) < chance[rows, cols])
    rows, cols, in_wood = rows[planted], cols[planted], wood[rows, cols][planted]
    # Single trees are wide rather than tall.
    radius = spacing * rng.uniform(0.5, 0.8, len(rows)) * np.where(in_wood, 1, 1.4)
    tall = (rng.uniform(10, 17) + rng.normal(0, 1.6, len(rows))) * np.where(in_wood, 1, 0.5)
    crowns, canopy, tree = _crowns(rng, land, (rows, cols), radius, tall)
    inside = in_wood[tree] & canopy
    closed = ~_grow(~_grow(inside, 11), 11) & ((land.label == BACKGROUND) | inside)
    land.colour[closed & ~canopy] = _rgb(44, 50, 34)  # the forest floor
    land.colour[canopy] = crowns[canopy]
    land.label[closed] = WOODLAND


def _solitude(land: Land, yards: Mask, road: Floats32) -> Floats:
    """Return the probability of a single tree, (S, S): in gardens, along roads and shores, rarely in fields."""
    lush = yards | (np.abs(land.shore - 7) < 4) | (np.abs(road - 10) < 2.5)
    allowed = (land.label == BACKGROUND) & (road > 6) & (land.shore > 2) & ~_grow(land.label == BUILDING, 11)
    return np.asarray(np.where(lush, 0.035, 0.0006) * allowed, np.float64)


def _woods(rng: Random, land: Land, open_ground: Mask, share: float) -> Mask:
    """Return the area of woods, (S, S): whole fields, irregular patches, and hedges between some fields."""
    count = int(land.parcel.max()) + 1
    suits = fractal(rng, land.size, 300) + 0.25 * fractal(rng, land.size, 24, 3)
    suits += rng.normal(0, 0.9, count).astype(np.float32)[land.parcel]
    suits[~open_ground] = -np.inf
    wanted = min(round(share * land.label.size), int(np.count_nonzero(open_ground)))
    wood = suits >= np.partition(suits, -wanted, axis=None)[-wanted]
    wood = _grow(~_grow(~wood, 17), 17)  # removes small patches
    hedged = (rng.random(count) < 0.3)[land.parcel] & _boundaries(land.parcel)
    hedged &= fractal(rng, land.size, 120, 2) > -0.6
    return np.asarray((wood | _grow(hedged, 9)) & open_ground, np.bool_)


def _scatter(rng: Random, size: int, spacing: float) -> tuple[Indices, Indices]:
    """Return rows and columns of the points of a jittered grid."""
    count = int(size / spacing)
    grid = np.indices((count, count)).reshape(2, -1) + rng.uniform(0, 0.9, (2, count * count))
    return tuple((grid * size / count).astype(np.intp))


def _crowns(
    rng: Random, land: Land, at: tuple[Indices, Indices], radius: Floats, tall: Floats
) -> tuple[Floats32, Mask, Indices]:
    """Add crowns to the height map; return their colours (S, S, 3), their area (S, S), and the tree of each pixel."""
    seeds = np.full(land.label.shape, 255, np.uint8)
    seeds[at] = 0
    distance, nearest = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    number = np.zeros(int(nearest.max()) + 1, np.intp)
    number[nearest[at]] = np.arange(len(at[0]))
    tree = number[nearest]
    spread = radius.astype(np.float32)[tree]
    reach = (distance + 0.5 * fractal(rng, land.size, 3, 1)) / spread
    canopy = (reach < 1) & (land.label != BUILDING)
    pine = smoothstep(fractal(rng, land.size, 260, 2), -0.3, 0.3)[..., None]
    leaf = _rgb(86, 104, 58) * (1 - pine) + _rgb(64, 84, 55) * pine
    vigour = rng.normal(1, 0.1, (len(radius), 1)) + rng.normal(0, 0.03, (len(radius), 3))
    dome = spread * np.sqrt(np.clip(1 - reach * reach, 0, 1))
    land.height[canopy] = (tall.astype(np.float32)[tree] + dome)[canopy]
    return leaf * vigour.astype(np.float32)[tree], canopy, tree
