"""The model card: every number equals the results, and limitations follow from them."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.cards import DIGEST, PARAMS, TABLE, run_files, table_row, table_rows
from helpers.runs import CLASSES, matrices, run
from helpers.scenes import band_rendering
from helpers.tiles import model_info
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.export.model_card import render_model_card
from landseg.results.run import Run


def example_run(**changes: Any) -> Run:
    return run("a run", run_files(**changes))


def card_text(of: Run, **changes: Any) -> str:
    """Return the card of a model that a run trained, with changes of its metadata."""
    metadata = {"dataset": of.metrics["dataset"], "classes": of.classes}
    return render_model_card(of, model_info(**metadata | changes), DIGEST)


def formatted(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


class TestScores:
    def test_equal_the_results(self) -> None:
        of = example_run()
        text, metrics = card_text(of), of.metrics
        low, high = formatted(metrics["macro_miou_low"]), formatted(metrics["macro_miou_high"])
        assert table_row(text, "macro mIoU", 4)[1:3] == [formatted(metrics["macro_miou"]), f"{low} to {high}"]
        for title, key in (
            ("macro mIoU without background", "macro_miou_without_background"),
            ("macro F1", "macro_f1"),
            ("micro IoU", "micro_iou"),
            ("pixel accuracy", "pixel_accuracy"),
            ("paper IoU", "paper_iou"),
        ):
            assert table_row(text, title, 4)[1] == formatted(metrics[key])
        assert table_row(text, "majority-class baseline", 4)[1] == "0.090"
        assert table_row(text, "majority-class baseline", 4)[3].endswith("predicts background everywhere")
        assert "not comparable with macro mIoU" in table_row(text, "paper IoU", 4)[3]

    def test_of_classes_equal_the_results(self) -> None:
        of = example_run()
        text, mapped = card_text(of), of.confusion.sum(axis=0)
        for n, name in enumerate(CLASSES):
            scores = of.metrics["per_class"][name]
            assert table_row(text, name, 9)[1:] == [
                formatted(scores["iou"]),
                f"{formatted(scores['iou_low'])} to {formatted(scores['iou_high'])}",
                *(formatted(scores[key]) for key in ("precision", "recall", "f1")),
                f"{scores['pixels']:,}",
                f"{mapped[n]:,}",
                f"{scores['units']} ({scores['effective_units']:.1f})",
            ]

    def test_of_few_units_are_marked(self) -> None:
        text = card_text(example_run())
        assert "over 6 scenes (effectively 6.0))." in text
        assert "The intervals are jackknife intervals over 6 scenes (effectively 6.0), because" in text
        assert "- **Small sample.** The model was scored on 6 scenes (effectively 6.0), so" in text

    def test_of_many_units_are_not_marked(self) -> None:
        text = card_text(example_run(units=matrices([0.9, 0.8] * 6)))
        assert "over 12 scenes (effectively 12.0))." in text
        assert "**Small sample.**" not in text

    def test_of_one_unit_have_no_interval(self) -> None:
        text = card_text(example_run(units=matrices([0.9])))
        assert "(no interval: 1 scene, at least 5 are needed)." in text
        assert "The macro mIoU has no interval: 1 scene, at least 5 are needed." in text
        assert table_row(text, "macro mIoU", 4)[2] == "–"

    def test_without_a_background(self) -> None:
        text = card_text(example_run(classes=("field", "woodland", "water")))
        assert not [each for each in table_rows(text) if each[0] == "macro mIoU without background"]
        assert table_row(text, "macro mIoU", 4)[3] == "mean of the IoU over all classes"


class TestLeakage:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, "No scored location is in the training split: the scores hold for new locations in this dataset."),
            (
                {"leakage": {"edge_or_corner": 0.9, "same_location": 1.0}},
                "Neighbouring tiles and copies are alike, so leakage inflates the scores:",
            ),
            (
                {"leakage": {"same_location": 1.0}},
                "No scored tile touches a training tile, but some share a location or group with one:",
            ),
            (
                {"leakage": {"same_group": 0.5}},
                "No scored tile touches a training tile, but some share a location or group with one:",
            ),
            (
                {"leakage": {"edge": None, "edge_or_corner": None}},
                "No scored location is in the training split by its name",
            ),
            (
                {"scored_split": "val"},
                "The best epoch was selected on this split, which inflates its scores. No scored location",
            ),
            ({"scored_split": "train"}, "The scores are of the training split: they show how well the model fits it"),
        ],
    )
    def test_effect_on_the_scores(self, changes: dict[str, Any], expected: str) -> None:
        text = card_text(example_run(**changes))
        assert [line for line in text.splitlines() if line.startswith(expected)]

    def test_shares(self) -> None:
        text = card_text(example_run(leakage={"edge": 0.982, "edge_or_corner": 0.997, "same_location": 1.0}))
        assert table_row(text, "leakage", 2)[1].startswith(
            "98.2 % of test tiles share an edge with a training tile, 99.7 % an edge or"
        )

    def test_warnings_of_the_split(self) -> None:
        assert "\nWarning: 3 scenes overlap.\n" in card_text(example_run(scores={"warnings": ["3 scenes overlap"]}))


class TestLimitations:
    def test_classes_with_a_low_iou(self) -> None:
        units = np.array([[[900, 0, 100], [700, 200, 100], [0, 0, 1000]]])
        text = card_text(example_run(units=units))
        assert (
            "- **woodland:** IoU 0.200: 20.0 % of its pixels are mapped correctly, most of the others as background; "
            "100.0 % of the pixels mapped as woodland are correct.\n"
        ) in text
        assert "**background:**" not in text  # IoU 900 / 1700

    def test_rare_classes(self) -> None:
        assert "- **water:** it makes up only 1.0 % of the training pixels.\n" in card_text(example_run())

    def test_classes_without_pixels_in_the_scored_split(self) -> None:
        units = matrices([0.9, 0.8])
        units[:, 1] = 0
        text = card_text(example_run(units=units))
        assert "- **woodland:** the test split has no pixels of this class, so its accuracy is unknown.\n" in text
        assert table_row(text, "woodland", 9)[1:6] == ["–"] * 5

    def test_classes_in_few_of_many_units(self) -> None:
        units = matrices([0.9] * 12)
        units[2:, 2] = 0
        text = card_text(example_run(units=units))
        assert (
            "- **water:** its pixels in the test split lie in 2 scenes (effectively 2.0), so its scores are imprecise; "
            "it makes up" in text
        )
        assert "**woodland:**" not in text

    def test_bias_of_counted_pixels(self) -> None:
        units = np.array([[[1000, 0, 0], [250, 750, 0], [0, 500, 500]]])
        text = " ".join(card_text(example_run(units=units)).split())
        assert "compared with the labels, 25.0 % more background, 25.0 % more woodland, 50.0 % less water." in text

    def test_synthetic_data(self) -> None:
        assert "**Synthetic data.**" in card_text(example_run())
        other = run_files(dataset="folder", params={"dataset": {"name": "folder"}})
        other["data/tables/folder/card.json"] = other["data/tables/sample/card.json"]
        assert "Synthetic" not in card_text(run("a run", other))


class TestConfidence:
    def test_equals_the_results(self) -> None:
        of = example_run()
        text, found = card_text(of), of.calibration
        assert "In scenes like these, it says how likely the mapped class is." in text
        for name, scores in (("all classes", found), ("woodland", found.per_class["woodland"])):
            assert table_row(text, name, 7)[1:] == [
                f"{scores.ece:.3f}",
                f"{scores.ece_low:.3f} to {scores.ece_high:.3f}",
                str(scores.units),
                f"{scores.ece_before:.3f}",
                f"{scores.confidence:.3f}",
                f"{scores.accuracy:.3f}",
            ]

    def test_without_a_temperature(self) -> None:
        text = card_text(example_run(calibration={"temperature": 1}))
        assert "Confidence is not calibrated: it ranks pixels, but is not a probability of being correct." in text
        assert "how likely" not in text


class TestLicence:
    @pytest.mark.parametrize(
        ("licence", "present", "absent"),
        [
            ("CC-BY-NC-SA-4.0", ["for non-commercial purposes only", "CC BY-NC-SA 4.0. Before you sell"], []),
            ("cc by-nc-sa 4.0", ["for non-commercial purposes only"], []),
            ("CC-BY-4.0", ["**attribution.**", "name the authors beside the model"], ["share-alike", "sell"]),
            ("CC-BY-SA-4.0", ["**attribution, share-alike.**", "share both under CC BY-SA 4.0"], ["non-commercial"]),
            ("CC0-1.0", ["**no conditions.**"], ["attribution", "non-commercial"]),
            ("not stated", ["landseg does not know this licence. Read its terms"], ["attribution", "no conditions"]),
        ],
    )
    def test_conditions(self, licence: str, present: list[str], absent: list[str]) -> None:
        whole = card_text(example_run(), licence=licence)
        assert table_row(whole, "licence", 2)[1] == licence
        text = " ".join(whole.partition("## Licence of the training data\n\n")[2].split())
        assert text.startswith(f"{licence}: ")
        assert text.endswith("This is not legal advice.")
        assert all(words in text for words in present)
        assert not any(words in text for words in absent)
        assert f"Attribution for maps: trained on Scenes, {licence}. Somebody et al., 2020" in text

    def test_imagenet_weights(self) -> None:
        assert "pretrained on ImageNet" not in card_text(example_run())
        assert "pretrained on ImageNet" in card_text(example_run(params={"model": {"encoder_weights": "imagenet"}}))


class TestModel:
    def test_describes_the_model_file(self) -> None:
        text = card_text(example_run(), gsd=0.25, tile=64, params={"loss": {"name": "dice"}})
        assert text.startswith("# Unet with resnet18, trained on Scenes\n")
        for name, value in (
            ("parameters", "14,328,789"),
            ("input bands", "red, green, blue"),
            ("ground sampling distance", "0.25 m"),
            ("image height and width", "multiples of 8 px"),
            ("training tile size", "64 px"),
            ("SHA-256 of the file", DIGEST),
        ):
            assert table_row(text, name, 2)[1] == value
        assert "**Other resolutions.** The model was trained at 0.25 m per pixel." in text
        assert table_row(text, "2", 4)[1:] == ["water", "`#000002`", "1.0 %"]
        assert "loss: {name: dice}\n" in text
        assert "exported" not in text

    def test_exported_model_lists_both_files(self) -> None:
        of = example_run()
        text = render_model_card(of, model_info(dataset="sample", classes=TABLE), DIGEST, "cd34" * 16)
        assert table_row(text, "SHA-256 of the file", 2)[1] == DIGEST
        assert table_row(text, "SHA-256 of the file that it was exported from", 2)[1] == "cd34" * 16

    def test_scaling_of_other_data_types(self) -> None:
        text = card_text(example_run(), dtypes=("uint16",))
        assert (
            table_row(text, "scaling of values that are not uint8", 2)[1]
            == "0 to 3000 (stored values) are mapped to 0 to 255, gamma 1"
        )

    def test_training_and_parameters(self) -> None:
        text = card_text(example_run())
        assert (
            "Trained for 7 epochs in 117 s, from random weights, with seed 0. The best epoch by val/macro_miou was"
            in text
        )
        block = YAML(typ="safe").load(text.partition("```yaml\n")[2].partition("```")[0])
        assert block == {name: section for name, section in PARAMS.items() if name not in ("download", "compute")}

    def test_results_of_another_model_are_refused(self) -> None:
        with pytest.raises(
            LandsegError, match="a run: its results are of sample with background, woodland, water, but"
        ):
            render_model_card(example_run(), model_info(), DIGEST)

    def test_without_a_data_card(self) -> None:
        kept = {name: content for name, content in run_files().items() if "card.json" not in name}
        text = card_text(run("a run", kept), licence="CC-BY-4.0")
        assert table_row(text, "dataset", 2)[1] == "sample (data card not found)"
        assert table_row(text, "licence", 2)[1] == "CC-BY-4.0"
        assert "Attribution for maps" not in text

    def test_incomplete_results(self) -> None:
        broken = run_files() | {"results/train/metrics.json": b"{}"}
        with pytest.raises(
            LandsegError, match=r"a run: results/train/metrics\.json has no step; run `dvc repro` there and commit"
        ):
            render_model_card(run("a run", broken), model_info(), DIGEST)
        del broken["results/metrics.json"]
        with pytest.raises(LandsegError, match=r"a run: results/metrics\.json not found; run `dvc repro` there"):
            render_model_card(run("a run", broken), model_info(), DIGEST)


def test_text_from_the_data_card_is_escaped() -> None:
    card = {"title": "A | B\n# <b>C</b> [d](e)", "citation": "*F* `g`"}
    text = card_text(example_run(card=card))
    assert "trained on A \\| B # \\<b\\>C\\</b\\> \\[d\\](e)\n" in text
    assert "| citation | \\*F\\* \\`g\\` |" in text


def test_card_is_reproducible() -> None:
    assert card_text(example_run()) == card_text(example_run())


def test_one_blank_line_between_blocks() -> None:
    text = card_text(
        example_run(scores={"warnings": ["one", "two"]}, params={"model": {"encoder_weights": "imagenet"}})
    )
    assert "\n\n\n" not in text
    assert text.endswith("advice.\n")
    for before, line in pairwise(text.splitlines()):
        assert not before or line[:1] != "#"


class TestInputs:
    """What a user must know to feed the model other bands than RGB."""

    BANDS = ("blue", "green", "red", "nir", "NDVI")

    def text(self, **changes: Any) -> str:
        rendering = band_rendering(
            self.BANDS,
            "float32",
            **{"sources": self.BANDS[:4], "read_dtype": "uint16", "show": ("nir", "red", "green")} | changes,
        )
        info = {"rendering": rendering, "image_bands": self.BANDS[:4], "mean": (1, 2, 3, 4, 0.5), "std": (0.25,) * 5}
        return card_text(example_run(), **info)

    def test_of_bands_in_their_own_data_type(self) -> None:
        text = self.text()
        assert table_row(text, "input bands", 2)[1] == "blue, green, red, nir, NDVI"
        assert table_row(text, "data type and values", 2)[1] == (
            "float32, as stored as uint16; NDVI = (N-R)/(N+R) with N = nir, R = red; pixels without data have the mean "
            "of the image's other pixels, band by band"
        )
        assert table_row(text, "normalisation, in the model", 2)[1] == (
            "mean 1, 2, 3, 4, 0.5 of values; standard deviation 0.25, 0.25, 0.25, 0.25, 0.25 of values; both of the "
            "training split"
        )
        assert table_row(text, "pictures", 2)[1] == (
            "nir, red, green as red, green and blue, 2 to 98 % of the values of the training tiles, band by band, as 0 "
            "to 255"
        )
        assert "Intended use" in text
        assert "imagery similar to the training data: blue, green, red, nir, NDVI at about 0.5 m" in text

    def test_of_scaled_values(self) -> None:
        text = self.text(scaled=True, stretch="fixed", range=(0, 0.3), gamma=2)
        assert table_row(text, "data type and values", 2)[1].startswith("float32, stored × scale + offset; NDVI = ")
        assert table_row(text, "pictures", 2)[1] == (
            "nir, red, green as red, green and blue, 0 to 0.3 as 0 to 255, gamma 2"
        )

    def test_of_rgb_are_as_before(self) -> None:
        text = card_text(example_run())
        assert table_row(text, "input bands", 2)[1] == "red, green, blue"
        assert "data type and values" not in text
        assert "pictures" not in text
