import numpy as np
import pytest
import torch
from helpers.tiles import SIZE, land
from scipy import ndimage

from landseg.core.arrays import Image, Pixels
from landseg.core.classes import IGNORE
from landseg.train.augmentation import Augmentation, BandScale
from landseg.train.zoom import zoom

# Standard errors by which an estimate may differ: 1 in 1.7 million exceeds them.
ERRORS = 5


def augmented(augmentation: Augmentation, image: Image, target: Pixels, tiles: int) -> list[tuple[Image, Pixels]]:
    """Return the same tile repeatedly, augmented with the draws of one epoch."""
    draws = augmentation.draws(0, tiles)
    return [augmentation.augment_tile(image, target, draws, position) for position in range(tiles)]


class TestDraws:
    def test_depend_on_seed_and_epoch(self) -> None:
        def draw(seed: int, epoch: int) -> tuple[bytes, bytes, bytes]:
            draws = Augmentation(True, 0.2, 0.2, seed).draws(epoch, 50)
            return draws.symmetry.tobytes(), draws.contrast.tobytes(), draws.brightness.tobytes()

        assert draw(0, 0) == draw(0, 0)
        for kind in range(3):
            assert len({draw(seed, epoch)[kind] for seed in (0, 1) for epoch in (0, 1, 2)}) == 6

    def test_do_not_change_when_another_augmentation_is_disabled(self) -> None:
        both = Augmentation(True, 0.2, 0.1, 0).draws(3, 50)
        np.testing.assert_array_equal(Augmentation(True, 0, 0, 0).draws(3, 50).symmetry, both.symmetry)
        photometric = Augmentation(False, 0.2, 0.1, 0).draws(3, 50)
        np.testing.assert_array_equal(photometric.contrast, both.contrast)
        assert not photometric.symmetry.any()

    def test_of_d4_and_light_are_those_of_earlier_versions(self) -> None:
        """Zoom and noise do not change them."""
        for kinds in ((0, 0), (0.5, 0), (0.5, 0.1)):
            draws = Augmentation(True, 0.2, 0.1, 0, None, *kinds).draws(3, 6)
            assert draws.symmetry.tolist() == [7, 0, 4, 6, 4, 1]
            np.testing.assert_allclose(draws.contrast[:3], [1.02241457, 0.90285283, 1.00015628], rtol=1e-7)
            np.testing.assert_allclose(draws.brightness[:3], [-8.4693594, -38.841835, -2.8121669], rtol=1e-7)

    def test_of_zoom_and_noise(self) -> None:
        """The logarithm of the factor, the point and the standard deviation are uniform."""
        count = 10_000
        draws = Augmentation(False, 0, 0, 0, None, 0.5, 0.2).draws(0, count)
        uniform = [np.log(draws.zoom) / np.log(1.5) / 2 + 0.5, *draws.point, draws.noise / 0.2]
        for values in uniform:
            assert 0 <= values.min() < 0.01
            assert 0.99 < values.max() <= 1
            for power in (1, 2, 3):  # moments of a uniform distribution
                mean, second = 1 / (power + 1), 1 / (2 * power + 1)
                assert abs((values**power).mean() - mean) < ERRORS * np.sqrt((second - mean**2) / count)
        correlations = np.corrcoef([*uniform, draws.noise_start])[np.triu_indices(5, 1)]
        assert np.abs(correlations).max() < ERRORS / np.sqrt(count)

    def test_augmentation_without_changes_is_the_identity(self) -> None:
        assert Augmentation(False, 0, 0, 0).is_identity
        assert not any(
            Augmentation(*kinds, 0).is_identity for kinds in [(True, 0, 0), (False, 0.1, 0), (False, 0, 0.1)]
        )
        assert not Augmentation(False, 0, 0, 0, scale=0.1).is_identity
        assert not Augmentation(False, 0, 0, 0, noise=0.1).is_identity


class TestTiles:
    def test_d4_applies_all_eight_symmetries_to_image_and_mask_alike(self) -> None:
        row, col = np.mgrid[:SIZE, :SIZE].astype(np.uint8)
        image = np.stack([row, col, row ^ col], axis=-1)
        mask = (row * 2 + col // 32).astype(np.uint8)  # 128 ids, one per half row
        symmetries = [np.rot90(turned, k) for turned in (image, image[:, ::-1]) for k in range(4)]
        seen = set()
        for turned, ids in augmented(Augmentation(True, 0, 0, 0), image, mask, 80):
            np.testing.assert_array_equal(ids, turned[..., 0] * 2 + turned[..., 1] // 32)
            seen.add(next(k for k, symmetry in enumerate(symmetries) if np.array_equal(symmetry, turned)))
        assert seen == set(range(8))

    def test_photometric_augmentation_does_not_change_the_mask(self) -> None:
        image, mask = land(0)
        mask[0] = IGNORE
        for lit, ids in augmented(Augmentation(False, 0.3, 0.3, 0), image, mask, 20):
            np.testing.assert_array_equal(ids, mask)
            assert lit.dtype == np.uint8
            assert not np.array_equal(lit, image)

    def test_photometric_changes_stay_within_their_range(self) -> None:
        grey = np.full((8, 8, 3), 100, np.uint8)
        brighter = [int(of[0, 0, 0]) for of, _ in augmented(Augmentation(False, 0.1, 0, 0), grey, grey[..., 0], 200)]
        assert (74 <= min(brighter) < 80, 120 < max(brighter) <= 126) == (True, True)
        stronger = [int(of[0, 0, 0]) for of, _ in augmented(Augmentation(False, 0, 0.2, 0), grey, grey[..., 0], 200)]
        assert (79 <= min(stronger) < 84, 116 < max(stronger) <= 120) == (True, True)


@pytest.mark.parametrize("more", [(0, 0), (0.5, 0), (0, 0.1), (1, 0.05)])
@pytest.mark.parametrize("kinds", [(True, 0.2, 0.2), (True, 0, 0), (False, 0.4, 0), (False, 0, 0.5)])
def test_batches_equal_tiles_augmented_one_by_one(kinds: tuple[bool, float, float], more: tuple[float, float]) -> None:
    augmentation, tiles = Augmentation(*kinds, 3, None, *more), 64
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (tiles, SIZE, SIZE, 3), dtype=np.uint8)
    targets = generator.integers(0, 5, (tiles, SIZE, SIZE), dtype=np.uint8)
    draws, positions, drawn = augmentation.draws(7, tiles), *generator.integers(tiles, size=(2, 40))
    batch = augmentation.augment_batch(torch.from_numpy(images), torch.from_numpy(targets), draws, positions, drawn)
    pairs = zip(positions.tolist(), drawn.tolist(), strict=True)
    expected = [augmentation.augment_tile(images[n], targets[n], draws, k) for n, k in pairs]
    for found, wanted in zip(batch, zip(*expected, strict=True), strict=True):
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found.numpy(), np.stack(wanted))


def band_tiles(dtype: str, bands: int, tiles: int = 32) -> tuple[Image, BandScale]:
    """Return noise over the range of a data type, (tiles, SIZE, SIZE, bands), with its statistics."""
    generator = np.random.default_rng(0)
    if dtype == "float32":
        images = generator.normal(-10, 3, (tiles, SIZE, SIZE, bands)).astype(np.float32)
    else:
        limits = np.iinfo(dtype)
        images = generator.integers(limits.min, limits.max, (tiles, SIZE, SIZE, bands), dtype, endpoint=True)
    wide = images.astype(np.float64)
    return images, BandScale(tuple(wide.mean(axis=(0, 1, 2)).tolist()), tuple(wide.std(axis=(0, 1, 2)).tolist()))


class TestBands:
    @pytest.mark.parametrize("bands", [1, 2, 3, 4, 10, 30])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    def test_d4_of_any_bands(self, dtype: str, bands: int) -> None:
        """Values move, and none changes."""
        images, scale = band_tiles(dtype, bands, 1)
        mask = np.arange(SIZE * SIZE, dtype=np.uint32).astype(np.uint8).reshape(SIZE, SIZE)
        symmetries = [np.rot90(turned, k) for turned in (images[0], images[0][:, ::-1]) for k in range(4)]
        seen = set()
        for turned, _ in augmented(Augmentation(True, 0, 0, 0, scale), images[0], mask, 60):
            assert turned.dtype == dtype
            seen.add(next(k for k, symmetry in enumerate(symmetries) if np.array_equal(symmetry, turned)))
        assert seen == set(range(8))

    @pytest.mark.parametrize("more", [(0, 0), (1, 0), (0, 0.1), (0.3, 0.05)])
    @pytest.mark.parametrize("kinds", [(True, 0.2, 0.2), (True, 0, 0), (False, 0.4, 0), (False, 0, 0.5)])
    @pytest.mark.parametrize(("dtype", "bands"), [("uint8", 4), ("uint16", 10), ("int16", 1), ("float32", 10)])
    def test_batches_equal_tiles_augmented_one_by_one(
        self, dtype: str, bands: int, kinds: tuple[bool, float, float], more: tuple[float, float]
    ) -> None:
        images, scale = band_tiles(dtype, bands)
        augmentation = Augmentation(*kinds, 3, scale, *more)
        targets = np.random.default_rng(1).integers(0, 5, images.shape[:3], dtype=np.uint8)
        draws, positions = augmentation.draws(7, len(images)), np.random.default_rng(2).permutation(len(images))[:20]
        batch = augmentation.augment_batch(
            torch.from_numpy(images), torch.from_numpy(targets), draws, positions, positions
        )
        expected = [augmentation.augment_tile(images[n], targets[n], draws, n) for n in positions.tolist()]
        for found, wanted in zip(batch, zip(*expected, strict=True), strict=True):
            np.testing.assert_array_equal(found.numpy(), np.stack(wanted))
        assert batch[0].numpy().dtype == dtype

    def test_contrast_changes_around_the_mean(self) -> None:
        """An elevation of 1200 ± 5 m stays one: a factor around 0 would move it by hundreds of metres."""
        values = np.linspace(1190, 1210, 64, dtype=np.float32).reshape(8, 8, 1)
        scale = BandScale((1200.0,), (5.0,))
        for image, _ in augmented(Augmentation(False, 0, 0.5, 0, scale), values, values[..., 0].astype(np.uint8), 50):
            factor = (image.max() - image.min()) / 20
            assert 0.5 <= factor <= 1.5
            np.testing.assert_allclose(image, 1200 + factor * (values - 1200), atol=1e-3)

    def test_brightness_is_a_share_of_four_standard_deviations(self) -> None:
        values, scale = np.zeros((8, 8, 2), np.float32), BandScale((0.0, 0.0), (1.0, 100.0))
        lit = augmented(Augmentation(False, 0.1, 0, 0, scale), values, np.zeros((8, 8), np.uint8), 200)
        first, second = np.array([image[0, 0] for image, _ in lit]).T
        np.testing.assert_allclose(second, 100 * first, rtol=1e-5)
        assert -0.4 <= first.min() < -0.36
        assert 0.36 < first.max() <= 0.4

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
    def test_integers_are_clipped(self, dtype: str) -> None:
        """They never wrap around: bright stays bright."""
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        scale = BandScale(((low + high) / 2,), ((high - low) / 2,))
        values = np.array([[[low], [high]]], dtype)
        lit = augmented(Augmentation(False, 0.3, 0, 0, scale), values, np.zeros((1, 2), np.uint8), 100)
        found = np.stack([image[0, :, 0] for image, _ in lit])
        assert found.dtype == dtype
        dark, bright = found.astype(np.int64).T
        assert (dark[bright < high] == low).all()
        assert (bright[dark > low] == high).all()
        assert (bright < high).sum() + (dark > low).sum() > 80

    def test_integers_are_rounded(self) -> None:
        values, augmentation = (
            np.full((4, 4, 1), 100, np.int16),
            Augmentation(False, 0, 0.2, 0, BandScale((0.0,), (1.0,))),
        )
        lit = augmented(augmentation, values, np.zeros((4, 4), np.uint8), 40)
        expected = np.rint(100 * augmentation.draws(0, 40).contrast).astype(int)
        assert [image[0, 0, 0] for image, _ in lit] == expected.tolist()


class TestZoom:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    @pytest.mark.parametrize("factor", [0.5, 0.77, 1.0, 1.3, 2.0])
    def test_equals_an_interpolation_of_mirrored_tiles(self, dtype: str, factor: float) -> None:
        """By SciPy: bilinear for images, nearest for targets, mirrored at the edge ("reflect")."""
        (image,), _ = band_tiles(dtype, 3, 1)
        target = np.random.default_rng(1).choice(np.array([0, 1, 2, IGNORE], np.uint8), (SIZE, SIZE))
        for point in ((0.0, 0.0), (1.0, 0.3), (0.41, 0.87)):
            zoomed, ids = zoom_tile(image, target, factor, point)
            row, column = ((np.arange(SIZE) + 0.5 - each * SIZE) / factor + each * SIZE - 0.5 for each in point)
            grid = np.meshgrid(row, column, indexing="ij")
            expected = np.stack(
                [
                    ndimage.map_coordinates(band.astype(np.float64), grid, order=1, mode="reflect")
                    for band in image.T.swapaxes(1, 2)
                ],
                axis=-1,
            )
            limit = 0.01 if dtype == "float32" else 0.51  # rounding to integers
            assert np.abs(zoomed - expected).max() < limit
            exact = np.meshgrid(*(np.abs(axis % 1 - 0.5) > 1e-9 for axis in (row, column)), indexing="ij")
            sure = exact[0] & exact[1]  # halfway between two pixels, either is the nearest
            nearest = ndimage.map_coordinates(target, grid, order=0, mode="reflect")
            np.testing.assert_array_equal(ids[sure], nearest[sure])
            assert (str(zoomed.dtype), str(ids.dtype)) == (dtype, "uint8")

    @pytest.mark.parametrize("axis", [0, 1])
    def test_image_and_mask_stay_aligned(self, axis: int) -> None:
        """In an image of the mask, the class of every pixel is still that of the mask, also beside no data."""
        lines = np.repeat(np.array([3, IGNORE, 3, 3, IGNORE, IGNORE, 3, IGNORE], np.uint8), SIZE // 8)
        mask = np.ascontiguousarray(np.broadcast_to(np.expand_dims(lines, 1 - axis), (SIZE, SIZE)))
        image = np.where(mask == IGNORE, 0, 100).astype(np.float32)[..., None]
        scale = BandScale((50.0,), (50.0,))
        zoomed = augmented(Augmentation(True, 0, 0, 0, scale, scale=1), image, mask, 50)
        for values, ids in zoomed:
            assert ((values[..., 0] > 50) == (ids == 3)).all()
            assert set(np.unique(ids)) <= {3, IGNORE}
        assert len({ids.tobytes() for _, ids in zoomed}) > 40

    def test_sizes_change_by_the_factor(self) -> None:
        """A square of 8 px becomes one of 16 px, or four of its mirror images one of 8 px."""
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[:8, :8] = 1
        image = np.repeat(mask[..., None], 3, axis=2) * 200
        _, larger = zoom_tile(image, mask, 2, (0, 0))
        assert (larger.sum(), larger[:16, :16].sum()) == (256, 256)
        _, smaller = zoom_tile(image, mask, 0.5, (0.5, 0.5))
        assert (smaller.sum(), smaller[4:12, 4:12].sum()) == (64, 64)

    def test_without_data(self) -> None:
        """The value that fills pixels spreads by less than a pixel."""
        image = np.full((SIZE, SIZE, 1), 100, np.int16)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        image[:, :10], mask[:, :10] = 40, IGNORE
        for factor in (0.6, 1.7):
            zoomed, ids = zoom_tile(image, mask, factor, (0.3, 0.3))
            labelled = zoomed[ids == 0]
            assert labelled.min() >= 70  # at most a half of the fill
            mixed = np.isin(zoomed[..., 0], (40, 100), invert=True).any(axis=0)
            assert mixed.sum() <= 2 * np.ceil(factor)

    def test_masks_hold_the_values_of_the_tile(self) -> None:
        image, mask = land(0)
        for _, ids in augmented(Augmentation(True, 0, 0, 0, scale=1), image, mask, 40):
            assert set(np.unique(ids)) <= set(np.unique(mask))


def zoom_tile(image: Image, target: Pixels, factor: float, point: tuple[float, float]) -> tuple[Image, Pixels]:
    """Zoom one tile."""
    tile = torch.from_numpy(image)[None], torch.from_numpy(target)[None]
    images, targets = zoom(*tile, np.array([factor]), np.array(point)[:, None])
    return images[0].numpy(), targets[0].numpy()


class TestNoise:
    """Estimates from n values have the standard errors s / sqrt(n), of means, and s / sqrt(2 n), of deviations s."""

    def test_has_the_deviation_of_its_draw_and_mean_zero(self) -> None:
        size, count = 64, 64 * 64
        values, scale = np.zeros((size, size, 2), np.float32), BandScale((0.0, 0.0), (1.0, 100.0))
        augmentation = Augmentation(False, 0, 0, 0, scale, noise=0.1)
        draws = augmentation.draws(0, 60)
        noisy = augmented(augmentation, values, np.zeros((size, size), np.uint8), 60)
        for share, (image, _) in zip(draws.noise, noisy, strict=True):
            for band, std in enumerate(scale.std):
                expected = 4 * std * share  # a share of four standard deviations
                assert abs(image[..., band].mean()) < ERRORS * expected / np.sqrt(count)
                assert abs(image[..., band].std() / expected - 1) < ERRORS / np.sqrt(2 * count)

    def test_is_independent_of_bands_pixels_and_draws(self) -> None:
        size = 64
        values, scale = np.zeros((size, size, 3), np.float32), BandScale((0.0,) * 3, (1.0,) * 3)
        noisy = augmented(Augmentation(False, 0, 0, 0, scale, noise=0.1), values, np.zeros((size, size), np.uint8), 20)
        images = np.stack([image for image, _ in noisy])
        pairs = [
            *((image[..., one], image[..., other]) for image in images for one, other in ((0, 1), (0, 2), (1, 2))),
            *((image[1:, :, 0], image[:-1, :, 0]) for image in images),
            *((image[:, 1:, 0], image[:, :-1, 0]) for image in images),
            *zip(images[1:, ..., 0], images[:-1, ..., 0], strict=True),
        ]
        for one, other in pairs:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < ERRORS / np.sqrt(one.size)

    def test_of_8_bit_rgb_is_a_share_of_255_levels(self) -> None:
        grey = np.full((64, 64, 3), 128, np.uint8)
        augmentation = Augmentation(False, 0, 0, 0, noise=0.1)
        draws = augmentation.draws(0, 60)
        for share, (image, mask) in zip(draws.noise, augmented(augmentation, grey, grey[..., 0], 60), strict=True):
            expected = np.sqrt((255 * share) ** 2 + 1 / 12)  # rounding adds a twelfth to the variance
            if 255 * share > 0.5:  # of less noise, rounding leaves little
                assert abs(image.std() / expected - 1) < ERRORS / np.sqrt(2 * image.size)
            assert abs(image.mean() - 128) < ERRORS * expected / np.sqrt(image.size)
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(mask, grey[..., 0])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
    def test_integers_are_clipped(self, dtype: str) -> None:
        """They never wrap around: bright stays bright."""
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        scale = BandScale((0.0,), ((high - low) / 8,))
        values = np.broadcast_to(np.array([[[low], [high]]], dtype), (16, 2, 1))
        for image, _ in augmented(Augmentation(False, 0, 0, 0, scale, noise=0.1), values, values[..., 0], 40):
            assert image[:, 0].max() < (low + high) / 2 < image[:, 1].min()
            assert image[:, 0].min() == low
            assert image[:, 1].max() == high
