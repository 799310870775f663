import numpy as np
import pytest
import torch
from helpers.tiles import SIZE, land

from landseg.core.arrays import Pixels
from landseg.core.classes import IGNORE
from landseg.train.augmentation import Augmentation


def augmented(augmentation: Augmentation, image: Pixels, target: Pixels, tiles: int) -> list[tuple[Pixels, Pixels]]:
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
