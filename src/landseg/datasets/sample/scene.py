"""Generated scenes: land, sunlight, clouds and sensor noise, written as GeoTIFFs."""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio import Affine

from landseg.core.arrays import Floats32
from landseg.datasets.sample.terrain import Land, Random, fractal, paint, smoothstep

GSD = 0.5
"""Ground sampling distance, m per pixel."""
CRS = "EPSG:2180"
"""Poland CS92, metres."""
CLOUD_NODATA = 255
"""Nodata value of cloud layers."""

# Each scene lies in its own cell of 10 km, larger than the largest scene, of a box in Poland.
_CELL, _WEST, _SOUTH, _COLUMNS, _ROWS = 10_000, 250_000, 300_000, 40, 32
# Steps of the R2 sequence (Roberts 2018), a low-discrepancy sequence: woodland and wetness vary evenly over scenes.
_R2 = np.array([0.7548776662466927, 0.5698402909980532])


@dataclass(frozen=True)
class ScenePlan:
    """Parameters of one scene; the scene depends on nothing else."""

    scene: str
    seed: np.random.SeedSequence
    #: Height and width in pixels.
    size: int
    #: Upper left corner in EPSG:2180, m.
    west: float
    north: float
    #: Share of woodland, 0 to 1.
    woodland: float
    #: 0 to 1, see `terrain.paint`.
    wetness: float
    #: Share under clouds, 0 to 1.
    cloud: float


def plan_scenes(seed: int, count: int, size: int, cloudy: int) -> list[ScenePlan]:
    """Draw position, woodland, wetness and cloud share of every scene.

    Args:
        seed: random seed.
        count: number of scenes.
        size: height and width of a scene in pixels.
        cloudy: number of scenes with a cloud share of 0.4 to 0.7.
    """
    whole, *seeds = np.random.SeedSequence(seed).spawn(count + 1)
    rng = np.random.Generator(np.random.PCG64(whole))
    cells = rng.permutation(_COLUMNS * _ROWS)[:count]
    spread = (rng.random(2) + _R2 * np.arange(count)[:, None]) % 1
    clouds = rng.uniform(0.005, 0.045, count) * (rng.random(count) < 0.4)
    overcast = rng.permutation(count)[:cloudy]
    clouds[overcast] = rng.uniform(0.4, 0.7, cloudy)
    return [
        ScenePlan(
            scene=f"scene_{index:03d}",
            seed=seed_of_scene,
            size=size,
            west=float(_WEST + _CELL * (cell % _COLUMNS)),
            north=float(_SOUTH + _CELL * (cell // _COLUMNS + 1)),
            woodland=float(0.12 + 0.36 * spread[index, 0]),
            wetness=float(spread[index, 1]),
            cloud=float(clouds[index]),
        )
        for index, (seed_of_scene, cell) in enumerate(zip(seeds, cells, strict=True))
    ]


def write_scene(plan: ScenePlan, raw: Path) -> None:
    """Generate one scene and write images/, masks/ and clouds/<scene>.tif."""
    rng = np.random.Generator(np.random.PCG64(plan.seed))
    land = paint(rng, plan.size, plan.woodland, plan.wetness)
    azimuth = rng.uniform(0.75, 1.25) * math.pi  # from south-east over south to south-west
    ground = _light(rng, land, azimuth)
    tone = rng.normal(1.02, 0.05) * rng.normal(1, 0.025, 3)  # the light differs from scene to scene
    ground = ground * tone.astype(np.float32) + rng.uniform(0, 12)
    view, cloud = _add_clouds(rng, ground, plan.cloud, azimuth)
    image = _expose(rng, view)
    _write(raw / "images" / f"{plan.scene}.tif", plan, np.moveaxis(image, 2, 0), photometric="rgb", predictor=2)
    _write(raw / "masks" / f"{plan.scene}.tif", plan, land.label[None])
    _write(raw / "clouds" / f"{plan.scene}.tif", plan, cloud[None], nodata=CLOUD_NODATA)


def _light(rng: Random, land: Land, azimuth: float) -> Floats32:
    """Return the sunlit land, (S, S, 3) float32: hillshading, cast shadows, bluish skylight, light haze.

    Flat ground in the sun keeps its colour, apart from the haze.
    """
    rise = math.tan(math.radians(rng.uniform(40, 52)))
    toward = np.array([math.sin(azimuth), -math.cos(azimuth)], np.float32)
    height = cv2.GaussianBlur(land.height, (0, 0), 0.7)
    dx = np.clip(cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), -1.1, 1.1)
    dy = np.clip(cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8), -1.1, 1.1)
    facing = (1 - (dx * toward[0] + dy * toward[1]) / rise) / np.sqrt(1 + dx * dx + dy * dy)
    sun = np.clip(facing, 0, 1.5) * (1 - _shadows(land.height, toward, rise))
    across = np.linspace(-1, 1, land.size, dtype=np.float32)
    haze = 1 + rng.uniform(-0.05, 0.05) * across + rng.uniform(-0.05, 0.05) * across[:, None]
    sky = np.array([0.3, 0.33, 0.38], np.float32)
    lit = land.colour * (sky + (1 - sky) * sun[..., None])
    lit *= haze[..., None]
    faded: Floats32 = 0.82 * lit + 0.18 * cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY)[..., None]
    return faded


def _shadows(height: Floats32, toward: Floats32, rise: float) -> Floats32:
    """Return 1 in shadow and 0 in the sun, (S, S) float32, for a sun of slope `rise` (tangent of its elevation).

    The horizon within 2**k steps toward the sun follows from that within 2**(k - 1): six shifts cover 63 px.
    """
    horizon = height
    for step in (1, 2, 4, 8, 16, 32):
        dx, dy = toward * step
        move = np.array([[1, 0, -dx], [0, 1, -dy]])
        moved = cv2.warpAffine(horizon, move, height.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        horizon = np.maximum(horizon, moved - step * rise)
    shade = np.clip((horizon - height - 0.8) / 1.6, 0, 1)
    return np.asarray(cv2.GaussianBlur(shade, (0, 0), 0.8), np.float32)


def _add_clouds(rng: Random, ground: Floats32, share: float, azimuth: float) -> tuple[Floats32, npt.NDArray[np.uint8]]:
    """Add clouds over `share` of a scene, and their shadows; return the scene and the cloud mask, (S, S) uint8.

    Outside the mask, thin cloud remains; the ground shows through it.
    """
    size = len(ground)
    if share == 0:
        return ground, np.zeros((size, size), np.uint8)
    drift = min(90, size // 6)  # px between a cloud and its shadow
    field = fractal(rng, size + 2 * drift, 230, 6)
    above = field[drift : drift + size, drift : drift + size]
    edge = float(np.quantile(above, 1 - share))
    opacity = smoothstep(field - edge, -0.12, 0.32)
    row, col = (round(drift * (1 + step)) for step in (-math.cos(azimuth), math.sin(azimuth)))
    shadow = cv2.GaussianBlur(opacity[row : row + size, col : col + size], (0, 0), 4)
    white = 214 + 34 * smoothstep(above - edge, 0, 1.4) + 5 * cv2.GaussianBlur(above, (0, 0), 2)
    veil = opacity[drift : drift + size, drift : drift + size, None]
    shaded = ground * (1 - 0.5 * shadow[..., None])
    return shaded + veil * (white[..., None] - shaded), (above > edge).astype(np.uint8)


def _expose(rng: Random, light: Floats32) -> npt.NDArray[np.uint8]:
    """Return the image with lens blur and sensor noise, (S, S, 3) uint8."""
    noise = 2.2 * rng.standard_normal(light.shape, np.float32)
    return np.clip(cv2.GaussianBlur(light, (0, 0), 0.65) + noise + 0.5, 0, 255).astype(np.uint8)


def _write(path: Path, plan: ScenePlan, bands: npt.NDArray[np.uint8], **options: object) -> None:
    """Write bands (C, S, S) as a tiled GeoTIFF."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=len(bands),
        height=plan.size,
        width=plan.size,
        crs=CRS,
        transform=Affine(GSD, 0, plan.west, 0, -GSD, plan.north),
        tiled=True,
        compress="deflate",
        zlevel=1,  # noise hardly compresses at any level
        **options,
    ) as raster:
        raster.write(bands)
