"""Example tiles: selection, and the ZIP file."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.tiles import CLASSES

from landseg.core.arrays import Counts
from landseg.core.classes import IGNORE, palette
from landseg.evaluate.examples import (
    ExampleTile,
    choose_examples,
    choose_rich,
    choose_spread,
    read_examples,
    write_examples,
)


class TestSpread:
    @staticmethod
    def tiles(*accuracies: float, classes: int = 3) -> Iterator[Counts]:
        """Yield matrices with a number of classes and these accuracies."""
        for accuracy in accuracies:
            matrix = np.zeros((4, 4), np.int64)
            share = 900 // classes
            for k in range(classes):
                matrix[k, k] = round(share * accuracy)
                matrix[k, (k + 1) % 4] = share - matrix[k, k]
            yield matrix

    def test_from_worst_to_best(self) -> None:
        matrices = np.stack([*self.tiles(0.5, 0.9, 0.1, 0.7, 0.3)])
        assert choose_spread(matrices, 5) == [2, 4, 0, 3, 1]
        assert choose_spread(matrices, 3) == [2, 0, 1]
        assert choose_spread(matrices, 1) == [2]
        assert choose_spread(matrices, 50) == [2, 4, 0, 3, 1]

    def test_tiles_of_one_class_come_last(self) -> None:
        matrices = np.stack(
            [*self.tiles(0.0, 1.0, classes=1), *self.tiles(0.2, 0.8, classes=2), *self.tiles(0.4, 0.6, classes=3)]
        )
        assert choose_spread(matrices, 2) == [4, 5]
        assert choose_spread(matrices, 3) == [2, 5, 3]
        assert choose_spread(matrices, 4) == [2, 4, 5, 3]
        assert choose_spread(matrices, 5)[0] == 0


def with_targets(*pixels: list[int]) -> Counts:
    """Return matrices with these target pixels per class, half of them correct."""
    matrices = np.zeros((len(pixels), 3, 3), np.int64)
    for n, counts in enumerate(pixels):
        for k, count in enumerate(counts):
            matrices[n, k, k], matrices[n, k, (k + 1) % 3] = count - count // 2, count // 2
    return matrices


class TestRich:
    def test_highest_entropy_comes_first(self) -> None:
        matrices = with_targets([100, 0, 0], [34, 33, 33], [50, 50, 0], [90, 5, 5])
        assert choose_rich(matrices, ["a", "b", "c", "d"], 4) == [1, 2, 3, 0]

    def test_every_scene_comes_once_before_any_comes_twice(self) -> None:
        matrices = with_targets([34, 33, 33], [35, 35, 30], [50, 50, 0], [90, 10, 0])
        assert choose_rich(matrices, ["a", "a", "b", "b"], 4) == [0, 2, 1, 3]
        assert choose_rich(matrices, ["a", "a", "b", "b"], 2) == [0, 2]

    def test_mostly_ignored_tiles_come_last(self) -> None:
        matrices = with_targets([3, 3, 3], [60, 40, 0], [80, 20, 0])
        assert choose_rich(matrices, ["a", "b", "c"], 3) == [1, 2, 0]

    def test_predictions_are_not_used(self) -> None:
        matrices = with_targets([34, 33, 33], [35, 35, 30], [50, 50, 0], [90, 10, 0])
        shuffled = matrices[:, :, ::-1].copy()
        assert choose_rich(shuffled, ["a", "a", "b", "b"], 3) == choose_rich(matrices, ["a", "a", "b", "b"], 3)


def test_all_kinds_are_chosen_and_the_worst_tile_comes_first() -> None:
    generator = np.random.default_rng(0)
    matrices = generator.integers(1, 100, (40, 3, 3))
    scenes = [f"scene{n % 7}" for n in range(40)]
    chosen = choose_examples(matrices, scenes, 3)
    accuracy = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
    positions = list(chosen)
    assert [accuracy[n] for n in positions] == sorted(accuracy[n] for n in positions)
    of = {kind: [n for n, why in chosen.items() if kind in why.split()] for kind in ("worst", "best", "spread", "rich")}
    assert {len(tiles) for tiles in of.values()} == {3}
    order = [int(n) for n in np.argsort(accuracy)]
    assert of["worst"] == order[:3]
    assert of["best"] == order[-3:]
    assert sorted(of["rich"]) == sorted(choose_rich(matrices, scenes, 3))
    assert of["spread"] == choose_spread(matrices, 3)
    assert choose_examples(matrices, scenes, 0) == {}


@pytest.fixture
def examples() -> list[ExampleTile]:
    generator = np.random.default_rng(0)
    ids = np.array([each.id for each in CLASSES] + [IGNORE], np.uint8)
    image = generator.integers(0, 256, (8, 8, 3), np.uint8)
    target, prediction = generator.choice(ids, (8, 8)), generator.choice(ids[:3], (8, 8))
    return [ExampleTile("a_1", "a", "worst rich", 0.25, 1 / 3, image, target, prediction)]


def test_examples_are_read_as_written(tmp_path: Path, examples: list[ExampleTile]) -> None:
    path = tmp_path / "examples.zip"
    write_examples(path, examples, CLASSES)
    (read,) = read_examples(path)
    assert (read.tile, read.scene, read.why, read.accuracy, read.miou) == ("a_1", "a", "worst rich", 0.25, 1 / 3)
    for name in ("image", "target", "prediction"):
        np.testing.assert_array_equal(getattr(read, name), getattr(examples[0], name))


def test_file_is_reproducible_and_maps_have_the_class_palette(tmp_path: Path, examples: list[ExampleTile]) -> None:
    from PIL import Image

    for name in ("one", "other"):
        write_examples(tmp_path / name, examples, CLASSES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive, Image.open(archive.open("targets/a_1.png")) as picture:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert bytes(picture.getpalette() or ()) == palette(CLASSES).tobytes()


def test_file_without_examples(tmp_path: Path) -> None:
    write_examples(tmp_path / "none.zip", [], CLASSES)
    assert read_examples(tmp_path / "none.zip") == []
