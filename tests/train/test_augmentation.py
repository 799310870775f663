import numpy as np
import pytest
import torch
from helpers.tiles import SIZE, land

from landseg.core.arrays import Image, Pixels
from landseg.core.classes import IGNORE
from landseg.train.augmentation import Augmentation, BandScale


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

    def test_augmentation_without_changes_is_the_identity(self) -> None:
        assert Augmentation(False, 0, 0, 0).is_identity
        assert not any(
            Augmentation(*kinds, 0).is_identity for kinds in [(True, 0, 0), (False, 0.1, 0), (False, 0, 0.1)]
        )


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


@pytest.mark.parametrize("kinds", [(True, 0.2, 0.2), (True, 0, 0), (False, 0.4, 0), (False, 0, 0.5)])
def test_batches_equal_tiles_augmented_one_by_one(kinds: tuple[bool, float, float]) -> None:
    augmentation, tiles = Augmentation(*kinds, seed=3), 64
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (tiles, SIZE, SIZE, 3), dtype=np.uint8)
    targets = generator.integers(0, 5, (tiles, SIZE, SIZE), dtype=np.uint8)
    draws, positions = augmentation.draws(7, tiles), generator.permutation(tiles)[:40]
    batch = augmentation.augment_batch(torch.from_numpy(images), torch.from_numpy(targets), draws, positions)
    expected = [augmentation.augment_tile(images[n], targets[n], draws, n) for n in positions.tolist()]
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

    @pytest.mark.parametrize("kinds", [(True, 0.2, 0.2), (True, 0, 0), (False, 0.4, 0), (False, 0, 0.5)])
    @pytest.mark.parametrize(("dtype", "bands"), [("uint8", 4), ("uint16", 5), ("int16", 1), ("float32", 10)])
    def test_batches_equal_tiles_augmented_one_by_one(
        self, dtype: str, bands: int, kinds: tuple[bool, float, float]
    ) -> None:
        images, scale = band_tiles(dtype, bands)
        augmentation = Augmentation(*kinds, 3, scale)
        targets = np.random.default_rng(1).integers(0, 5, images.shape[:3], dtype=np.uint8)
        draws, positions = augmentation.draws(7, len(images)), np.random.default_rng(2).permutation(len(images))[:20]
        batch = augmentation.augment_batch(torch.from_numpy(images), torch.from_numpy(targets), draws, positions)
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
