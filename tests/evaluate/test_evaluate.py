"""Evaluation of batches, and the evaluate stage."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.root import ROOT
from helpers.tiles import CLASSES, PATHS, SIZE, make_project, model_info, tile_set, write_params
from torch.nn.functional import one_hot

from landseg import metrics
from landseg.core.arrays import Pixels
from landseg.core.classes import IGNORE, class_channels, class_names
from landseg.core.errors import LandsegError
from landseg.evaluate.examples import read_examples
from landseg.evaluate.predict import evaluate_batches, evaluate_tiles, predict_ids, sum_by_group
from landseg.loader.batches import BatchLoader, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet, split_tiles
from landseg.model.info import read_info
from landseg.model.segmenter import Segmenter, build_model, load_model, save_model
from landseg.train.losses import loss_function

K = len(CLASSES)


def loader(tiles: TileSet, batch_size: int) -> BatchLoader:
    return batch_loader(tiles, TileBatchSampler(len(tiles), batch_size), "stream", "cpu", 1)


def planes(tiles: TileSet, n: int) -> torch.Tensor:
    """Return the image of a tile, (3, H, W)."""
    return torch.from_numpy(tiles.read(n)[0]).permute(2, 0, 1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with a briefly trained model."""
    folder = tmp_path_factory.mktemp("evaluation")
    make_project(folder)
    torch.manual_seed(0)
    info = model_info(params={"train": {"precision": "32"}})
    model, loss = build_model(info, None), loss_function("focal", 2.0, None)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(4):
        for images, targets in loader(tile_set(folder, "train"), 4):
            optimizer.zero_grad()
            loss(model(images), targets.long()).backward()
            optimizer.step()
    for weights in ("best", "last"):
        save_model(model, folder / PATHS.model(weights))
    return folder


@pytest.fixture(scope="module")
def model(project: Path) -> Segmenter:
    return load_model(project / PATHS.model("best")).eval()


class TestBatches:
    def test_matrices_equal_those_of_single_tiles(self, project: Path, model: Segmenter) -> None:
        tiles = tile_set(project, "test")
        counts = [batch.matrices for batch in evaluate_batches(model, loader(tiles, 3), bf16=False)]
        assert [len(matrices) for matrices in counts] == [3, 3, 2]
        matrices = np.concatenate(counts)
        assert matrices.shape == (8, K, K)
        assert matrices.dtype == np.int64
        with torch.inference_mode():
            for n in range(len(tiles)):
                predicted = model(planes(tiles, n)[None])[0].argmax(0).numpy().astype(np.uint8)
                np.testing.assert_array_equal(matrices[n], metrics.confusion(tiles.read(n)[1], predicted, K))

    def test_one_hot_iou_equals_segmentation_models(self, project: Path, model: Segmenter) -> None:
        published = published_iou()
        batches = list(loader(tile_set(project, "train"), 3))
        ious = [batch.paper_iou for batch in evaluate_batches(model, batches, bf16=False)]
        undecided = 0
        for (images, targets), iou in zip(batches, ious, strict=True):
            probabilities = model.logits(images, bf16=False).float().softmax(dim=1)
            labelled = targets != IGNORE
            truth = one_hot(targets.long().where(labelled, 0), K).movedim(-1, 1)
            # The published function does not support ignored pixels.
            expected = published(probabilities * labelled[:, None], truth * labelled[:, None], threshold=0.5)
            assert iou == pytest.approx(float(expected), rel=1e-6)
            undecided += int(((probabilities.amax(dim=1) <= 0.5) & labelled).sum())
        assert undecided  # some pixels have no class above 0.5

    def test_batches_without_labels_do_not_enter_the_one_hot_iou(
        self, project: Path, model: Segmenter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tiles = split_tiles(project / PATHS.table("split.parquet"), "test", CLASSES)
        read = TileSet.read

        def unlabelled_from(first: int) -> float:
            def changed(tile_set: TileSet, position: int) -> tuple[Pixels, Pixels]:
                image, target = read(tile_set, position)
                return image, np.full_like(target, IGNORE) if position >= first else target

            with monkeypatch.context() as patched:
                patched.setattr(TileSet, "read", changed)
                return evaluate_tiles(model, False, tiles, project / PATHS.tiles, 3, 1).paper_iou

        ious = [batch.paper_iou for batch in evaluate_batches(model, loader(tile_set(project, "test"), 3), bf16=False)]
        assert unlabelled_from(8) == pytest.approx(np.mean(ious))
        assert unlabelled_from(6) == pytest.approx(np.mean(ious[:2]))  # the third batch has no label
        assert np.isnan(unlabelled_from(0))

    def test_bf16_changes_logits_slightly(self, project: Path, model: Segmenter) -> None:
        images, _ = next(iter(loader(tile_set(project, "test"), 2)))
        plain, low = (model.logits(images, bf16=bf16).float() for bf16 in (False, True))
        assert plain.dtype == low.dtype == torch.float32
        assert not torch.equal(plain, low)
        torch.testing.assert_close(plain, low, rtol=0.2, atol=0.2)

    def test_predicted_ids_equal_the_counted_predictions(self, project: Path, model: Segmenter) -> None:
        tiles = tile_set(project, "test")
        images = np.stack([tiles.read(n)[0] for n in range(3)])
        predicted = predict_ids(model, images, bf16=False)
        assert predicted.shape == (3, SIZE, SIZE)
        assert predicted.dtype == np.uint8
        assert set(np.unique(predicted)) <= {land_class.id for land_class in CLASSES}
        counted = next(evaluate_batches(model, loader(tiles, 3), bf16=False)).matrices
        for n in range(3):
            target = tiles.read(n)[1]
            np.testing.assert_array_equal(
                counted[n], metrics.confusion(target, class_channels(CLASSES)[predicted[n]], K)
            )


def published_iou() -> Any:
    """Return the published function, without importing its deprecated package."""
    package = importlib.util.find_spec("segmentation_models_pytorch")
    assert package is not None
    assert package.origin is not None
    return module_of(Path(package.origin).parent / "utils/functional.py").iou


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_matrices_are_summed_by_group() -> None:
    matrices = np.arange(4 * 9).reshape(4, 3, 3)
    groups, sums = sum_by_group(matrices, ["b", "a", "b", "a"])
    assert groups == ["a", "b"]
    np.testing.assert_array_equal(sums[0], matrices[1] + matrices[3])
    np.testing.assert_array_equal(sums[1], matrices[0] + matrices[2])


@pytest.fixture(scope="module")
def evaluated(project: Path) -> tuple[Path, str, str]:
    """The project after the stage, its standard output and its standard error."""
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline/evaluate.py"],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return project, done.stdout, done.stderr


class TestStage:
    @pytest.fixture
    def results(self, evaluated: tuple[Path, str, str]) -> Path:
        return evaluated[0] / "results"

    @pytest.fixture
    def scores(self, results: Path) -> dict[str, Any]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        content: dict[str, Any] = json.loads((results / "metrics.json").read_text(), parse_constant=refuse)
        return content

    def test_inputs_of_rgb_are_not_explained(self, scores: dict[str, Any]) -> None:
        assert "inputs" not in scores

    def test_prints_one_line_without_a_terminal(self, evaluated: tuple[Path, str, str]) -> None:
        _, output, errors = evaluated
        assert output.startswith("macro mIoU on test: 0.")
        assert output.endswith(", no interval: 2 locations, at least 5 are needed\n")
        assert output.count("\n") == 1
        assert "Warning" not in errors
        assert "Error" not in errors

    def test_scores_follow_from_the_matrices_of_the_scenes(self, results: Path, scores: dict[str, Any]) -> None:
        rows = pd.read_csv(results / "scenes.csv")
        pixels = {key: int(group["pixels"].sum()) for key, group in rows.groupby(["actual", "predicted"])}
        ious, right, labelled = [], 0, sum(pixels.values())
        for name in class_names(CLASSES):
            hits = pixels.get((name, name), 0)
            target = sum(count for (actual, _), count in pixels.items() if actual == name)
            predicted = sum(count for (_, guess), count in pixels.items() if guess == name)
            found = scores["per_class"][name]
            assert found["pixels"] == target
            right += hits
            if target:
                ious.append(hits / (target + predicted - hits))
                assert found["iou"] == pytest.approx(ious[-1], abs=1e-6)
                assert found["recall"] == pytest.approx(hits / target, abs=1e-6)
                assert found["f1"] == pytest.approx(2 * hits / (target + predicted), abs=1e-6)
        assert labelled == 2 * (4 * SIZE**2 - 16)  # two scenes, each with an ignored corner
        assert scores["macro_miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-6)
        assert scores["macro_miou_without_background"] == pytest.approx(sum(ious[1:]) / len(ious[1:]), abs=1e-6)
        assert scores["pixel_accuracy"] == pytest.approx(right / labelled, abs=1e-6)
        assert scores["micro_iou"] == pytest.approx(right / (2 * labelled - right), abs=1e-6)
        units = [group["pixels"].sum() for _, group in rows.groupby("unit")]
        assert scores["effective_units"] == pytest.approx(sum(units) ** 2 / sum(n * n for n in units), abs=1e-6)
        assert (scores["macro_miou_low"], scores["macro_miou_high"]) == (None, None)  # two locations

    def test_scene_miou_is_the_mean_over_locations(self, results: Path, scores: dict[str, Any]) -> None:
        rows, own = pd.read_csv(results / "scenes.csv"), []
        for _, unit in rows.groupby("unit"):
            hits = unit[unit["actual"] == unit["predicted"]].groupby("actual")["pixels"].sum()
            target, predicted = (unit.groupby(of)["pixels"].sum() for of in ("actual", "predicted"))
            ious = [hits.get(n, 0) / (count + predicted.get(n, 0) - hits.get(n, 0)) for n, count in target.items()]
            own.append(sum(ious) / len(ious))
        assert scores["scene_miou"] == pytest.approx(sum(own) / 2, abs=1e-6)

    def test_scores_of_an_absent_class_are_null(self, results: Path, scores: dict[str, Any]) -> None:
        absent = scores["per_class"]["water"]
        assert (absent.pop("pixels"), absent.pop("units"), absent.pop("effective_units")) == (0, 0, 0)
        assert set(absent) == {"iou", "iou_low", "iou_high", "precision", "recall", "f1"}
        assert set(absent.values()) == {None}
        assert scores["classes_scored"] == 2
        assert (results / "classes.csv").read_text().splitlines()[-1] == "water,9,#1e3c96,,,,,,,0,0,0.0"

    def test_examples(self, evaluated: tuple[Path, str, str], project: Path, model: Segmenter) -> None:
        examples = read_examples(project / PATHS.examples)
        assert {why for each in examples for why in each.why.split()} == {"worst", "best", "spread", "rich"}
        assert [each.accuracy for each in examples] == sorted(each.accuracy for each in examples)
        for each in examples:
            np.testing.assert_array_equal(each.prediction, predict_ids(model, each.image[None], bf16=False)[0])
            counted = metrics.confusion(
                class_channels(CLASSES)[each.target], class_channels(CLASSES)[each.prediction], K
            )
            assert each.accuracy == pytest.approx(metrics.pixel_accuracy(counted))
            assert each.miou == pytest.approx(np.nanmean(metrics.iou(counted)))

    def test_scores_come_with_split_leakage_and_units(
        self, project: Path, model: Segmenter, scores: dict[str, Any]
    ) -> None:
        expected = {
            "dataset": "tiny",
            "split": "test",
            "weights": "best",
            "tiles": 8,
            "scenes": 2,
            "locations": 2,
            "interval_over": "locations",
            "interval_units": 2,
            "strategy": "scene",
            "leakage": {"edge": 0.0},
        }
        assert {key: scores[key] for key in expected} == expected
        batches = loader(tile_set(project, "test"), 3)
        ious = [batch.paper_iou for batch in evaluate_batches(model, batches, bf16=False)]
        assert scores["paper_iou"] == pytest.approx(np.mean(ious), abs=1e-5)
        assert scores["paper_iou_batch_size"] == 3
        shares = json.loads((project / "results/split.json").read_text())["splits"]["train"]["share"]
        assert scores["majority"]["class"] == max(shares, key=lambda name: shares[name])

    def test_tables(self, results: Path, scores: dict[str, Any]) -> None:
        confusion = pd.read_csv(results / "confusion.csv")
        assert list(confusion.columns) == ["actual", "predicted", "pixels"]
        assert len(confusion) == K * K
        scenes = pd.read_csv(results / "scenes.csv")
        assert list(scenes.columns) == ["scene", "unit", "actual", "predicted", "pixels"]
        assert set(scenes["scene"]) == set(scenes["unit"]) == {"d", "e"}
        assert scenes["pixels"].min() > 0
        summed = scenes.groupby(["actual", "predicted"])["pixels"].sum()
        for actual, predicted, pixels in confusion.itertuples(index=False):
            assert summed.get((actual, predicted), 0) == pixels
        classes = pd.read_csv(results / "classes.csv").set_index("class")
        assert list(classes.columns)[:5] == ["id", "color", "iou", "iou_low", "iou_high"]
        assert list(classes["id"]) == [each.id for each in CLASSES]
        assert classes.loc["wood", "iou"] == scores["per_class"]["wood"]["iou"]

    def test_calibration(self, evaluated: tuple[Path, str, str], results: Path, scores: dict[str, Any]) -> None:
        found, bins = scores["calibration"], pd.read_csv(results / "calibration.csv", keep_default_na=False)
        assert found["method"] == "temperature"
        assert found["fitted_pixels"] == 4 * SIZE**2 - 16
        assert read_info(evaluated[0] / PATHS.scored_model).temperature == found["temperature"] != 1
        assert found["accuracy"] == scores["pixel_accuracy"]
        for name, error in (("", found), *found["per_class"].items()):
            rows = bins[(bins["class"] == name) & (bins["pixels"] > 0)]
            gaps = (rows["confidence"].astype(float) - rows["accuracy"].astype(float)).abs()
            assert error["pixels"] == rows["pixels"].sum()
            assert error["ece"] == pytest.approx((gaps * rows["pixels"]).sum() / rows["pixels"].sum(), abs=1e-5)
            assert error["ece_low"] is None  # two locations

    def test_no_temporary_files_are_left(self, results: Path) -> None:
        assert not list(results.rglob(".*"))


class TestStageInProcess:
    """The stage in this process, in a copy of the project."""

    @pytest.fixture
    def stage(self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.chdir(shutil.copytree(project, tmp_path / "project"))
        return module_of(ROOT / "pipeline/evaluate.py")

    def test_scores_in_the_precision_of_training(self, stage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        used = []
        logits = Segmenter.logits

        def spy(model: Segmenter, images: torch.Tensor, bf16: bool) -> torch.Tensor:
            used.append(bf16)
            return logits(model, images, bf16)

        monkeypatch.setattr(Segmenter, "logits", spy)
        write_params(Path(), {"evaluate": {"n_examples": 1}})
        path = Path(PATHS.model("best"))
        model = load_model(path)
        params = {"train": {"precision": "bf16"}}
        save_model(Segmenter(model.network, model.info.model_copy(update={"params": params})), path)
        stage.main()
        assert len(used) > 3  # three batches, and the example tiles
        assert set(used) == {True}

    def test_scores_the_configured_split_and_weights(self, stage: ModuleType) -> None:
        Path("models/tiny/best.safetensors").unlink()
        write_params(Path(), {"evaluate": {"split": "val", "weights": "last", "n_examples": 0}})
        stage.main()
        scores = json.loads(Path("results/metrics.json").read_text())
        assert (scores["split"], scores["weights"], scores["tiles"], scores["scenes"]) == ("val", "last", 4, 1)
        assert scores["macro_miou_low"] is None  # one scene has no interval
        assert scores["leakage"] is None
        assert read_examples(Path(PATHS.examples)) == []

    def test_model_of_other_classes_is_refused(self, stage: ModuleType) -> None:
        card = Path("data/tables/tiny/card.json")
        card.write_text(card.read_text().replace('"wood"', '"forest"'))
        with pytest.raises(
            LandsegError, match=r"best.safetensors: trained on other classes than those of the data card; re-run the tr"
        ):
            stage.main()
