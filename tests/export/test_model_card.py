"""The model card: that it says what the results say, and what follows from them."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.cards import DIGEST, PARAMS, TABLE, files, row, rows
from helpers.runs import CLASSES, matrices, run
from helpers.tiles import model_info
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.export.model_card import model_card
from landseg.results.run import Run


def made(**changes: Any) -> Run:
    return run("a run", files(**changes))


def carded(of: Run, **changes: Any) -> str:
    """The card of a model whose file says what the run does, with what differs."""
    told = {"dataset": of.metrics["dataset"], "classes": of.classes}
    return model_card(of, model_info(**told | changes), DIGEST)


def shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


class TestScores:
    def test_are_those_of_the_results(self) -> None:
        of = made()
        text, metrics = carded(of), of.metrics
        low, high = shown(metrics["macro_miou_low"]), shown(metrics["macro_miou_high"])
        assert row(text, "macro mIoU", 4)[1:3] == [shown(metrics["macro_miou"]), f"{low} to {high}"]
        for title, key in (
            ("without background", "macro_miou_without_background"),
            ("macro F1", "macro_f1"),
            ("micro IoU", "micro_iou"),
            ("pixel accuracy", "pixel_accuracy"),
            ("paper IoU", "paper_iou"),
        ):
            assert row(text, title, 4)[1] == shown(metrics[key])
        assert row(text, "to beat", 4)[1] == "0.090"
        assert row(text, "to beat", 4)[3].endswith("shows background everywhere")
        assert "never hold it beside a macro mIoU" in row(text, "paper IoU", 4)[3]

    def test_of_classes_are_those_of_the_results(self) -> None:
        of = made()
        text, mapped = carded(of), of.confusion.sum(axis=0)
        for n, name in enumerate(CLASSES):
            scores = of.metrics["per_class"][name]
            assert row(text, name, 8)[1:] == [
                shown(scores["iou"]),
                f"{shown(scores['iou_low'])} to {shown(scores['iou_high'])}",
                *(shown(scores[key]) for key in ("precision", "recall", "f1")),
                f"{scores['pixels']:,}",
                f"{mapped[n]:,}",
            ]

    def test_of_few_places_are_called_so(self) -> None:
        text = carded(made())
        assert "over 3 scenes: too few to rely on it)" in text
        assert "independent. 3 are too few to rely on them." in text
        assert "- **Few places.** It was scored on 3 scenes," in text

    def test_of_many_places_are_not(self) -> None:
        text = carded(made(units=matrices([0.9, 0.8] * 6)))
        assert "over 12 scenes)" in text
        assert "too few" not in text
        assert "**Few places.**" not in text

    def test_of_one_place_have_no_interval(self) -> None:
        text = carded(made(units=matrices([0.9])))
        assert "(no interval: fewer than two scenes)." in text
        assert "There is no interval: it is drawn over scenes, and there are fewer than two." in text
        assert row(text, "macro mIoU", 4)[2] == "–"

    def test_without_a_background(self) -> None:
        text = carded(made(classes=("field", "woodland", "water")))
        assert not [each for each in rows(text) if each[0] == "without background"]
        assert row(text, "macro mIoU", 4)[3] == "mean of the IoU over classes"


class TestLeakage:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, "The scores speak of places that the model never saw, in the same data set."),
            (
                {"leakage": {"edge_or_corner": 0.9, "same_location": 1.0}},
                "Neighbouring tiles look alike, so the scores are",
            ),
            (
                {"leakage": {"same_location": 1.0}},
                "No scored tile touches a training tile, but their places also train:",
            ),
            ({"leakage": {"same_group": 0.5}}, "No scored tile touches a training tile, but their places also train:"),
            (
                {"leakage": {"edge": None, "edge_or_corner": None}},
                "How near scored tiles lie to training tiles is not known",
            ),
            ({"split": "val"}, "The best epoch was chosen by this very part, which flatters it. The scores speak of"),
            ({"split": "train"}, "The scores are of the training set itself: they say what the model remembers"),
        ],
    )
    def test_is_told_with_what_it_means(self, changes: dict[str, Any], said: str) -> None:
        text = carded(made(**changes))
        assert [line for line in text.splitlines() if line.startswith(said)]

    def test_is_told_in_figures(self) -> None:
        text = carded(made(leakage={"edge": 0.982, "edge_or_corner": 0.997, "same_location": 1.0}))
        assert "98.2 % share an edge with a training tile, 99.7 % touch one" in row(text, "leakage", 2)[1]

    def test_and_what_the_split_warned_of(self) -> None:
        assert "\nMind: 3 scenes overlap.\n" in carded(made(scores={"warnings": ["3 scenes overlap"]}))


class TestLimits:
    def test_classes_found_badly_are_named_with_their_numbers(self) -> None:
        units = np.array([[[900, 0, 100], [700, 200, 100], [0, 0, 1000]]])
        text = carded(made(units=units))
        assert (
            "- **woodland:** IoU 0.200: it maps 20.0 % of its pixels as such, and most of the rest as background; "
            "100.0 % of what it maps as woodland is right.\n"
        ) in text
        assert "**background:**" not in text  # IoU 900 / 1700

    def test_rare_classes_are_named(self) -> None:
        assert "- **water:** it has 1.0 % of the training pixels.\n" in carded(made())

    def test_classes_that_the_part_does_not_hold_are_named(self) -> None:
        units = matrices([0.9, 0.8])
        units[:, 1] = 0
        text = carded(made(units=units))
        assert "- **woodland:** the test set has no pixels of it: how well it is mapped is not known.\n" in text
        assert row(text, "woodland", 8)[1:6] == ["–"] * 5

    def test_classes_in_few_places_are_named_where_places_are_many(self) -> None:
        units = matrices([0.9] * 12)
        units[2:, 2] = 0
        text = carded(made(units=units))
        assert "- **water:** only 2 scenes of the test set hold it, too few to rely on its interval; it has" in text
        assert "**woodland:**" not in text

    def test_bias_of_counted_pixels(self) -> None:
        units = np.array([[[1000, 0, 0], [250, 750, 0], [0, 500, 500]]])
        text = " ".join(carded(made(units=units)).split())
        assert "against what there is, 25.0 % more background, 25.0 % more woodland, 50.0 % less water." in text

    def test_generated_scenes_are_no_landscape(self) -> None:
        assert "**Its scenes are generated.**" in carded(made())
        other = files(dataset="folder", params={"dataset": {"name": "folder"}})
        other["data/tables/folder/card.json"] = other["data/tables/sample/card.json"]
        assert "generated" not in carded(run("a run", other))


class TestLicence:
    @pytest.mark.parametrize(
        ("licence", "said", "unsaid"),
        [
            ("CC-BY-NC-SA-4.0", ["for non-commercial ends only", "CC BY-NC-SA 4.0. Before you sell"], []),
            ("cc by-nc-sa 4.0", ["for non-commercial ends only"], []),
            ("CC-BY-4.0", ["**attribution.**", "name the authors beside the model"], ["share-alike", "sell"]),
            ("CC-BY-SA-4.0", ["**attribution, share-alike.**", "both on under CC BY-SA 4.0"], ["non-commercial"]),
            ("CC0-1.0", ["**no conditions.**"], ["attribution", "non-commercial"]),
            ("not stated", ["landseg does not know these terms. Find them out"], ["attribution", "no conditions"]),
        ],
    )
    def test_is_told_with_what_it_means(self, licence: str, said: list[str], unsaid: list[str]) -> None:
        whole = carded(made(), licence=licence)
        assert row(whole, "licence", 2)[1] == licence
        text = " ".join(whole.partition("## Licence of the training data\n\n")[2].split())
        assert text.startswith(f"{licence}: ")
        assert text.endswith("This is no legal advice.")
        assert all(words in text for words in said)
        assert not any(words in text for words in unsaid)
        assert f"To put beside a map: trained on Scenes, {licence}. Somebody et al., 2020" in text

    def test_of_weights_from_imagenet(self) -> None:
        assert "weights from ImageNet" not in carded(made())
        assert "began with weights from ImageNet" in carded(made(params={"model": {"encoder_weights": "imagenet"}}))


class TestModel:
    def test_is_told_from_its_file(self) -> None:
        text = carded(made(), gsd=0.25, tile=64, params={"loss": {"name": "dice"}})
        assert text.startswith("# Unet with resnet18, trained on Scenes\n")
        for name, said in (
            ("parameters", "14,328,789"),
            ("bands", "red, green, blue"),
            ("ground sampling distance", "0.25 m"),
            ("sides of an image", "multiples of 8 px"),
            ("trained on tiles of", "64 px"),
            ("SHA-256 of the file", DIGEST),
        ):
            assert row(text, name, 2)[1] == said
        assert "**Other resolutions.** It knows things at 0.25 m a pixel." in text
        assert row(text, "2", 4)[1:] == ["water", "`#000002`", "1.0 %"]
        assert "loss: {name: dice}\n" in text
        assert "exported" not in text

    def test_that_was_exported_is_told_from_both_files(self) -> None:
        of = made()
        text = model_card(of, model_info(dataset="sample", classes=TABLE), DIGEST, "cd34" * 16)
        assert row(text, "SHA-256 of the file", 2)[1] == DIGEST
        assert row(text, "SHA-256 of the file that it was exported from", 2)[1] == "cd34" * 16

    def test_values_that_are_stretched_are_told(self) -> None:
        text = carded(made(), dtypes=("uint16",))
        assert row(text, "values that are not uint8", 2)[1] == "0 to 3000 become 0 to 255, gamma 1"

    def test_training_and_parameters(self) -> None:
        text = carded(made())
        assert "7 epochs in 117 s, from random weights, seed 0. The best epoch by val/macro_miou was number 5" in text
        block = YAML(typ="safe").load(text.partition("```yaml\n")[2].partition("```")[0])
        assert block == {name: of for name, of in PARAMS.items() if name not in ("download", "compute")}

    def test_of_another_run_is_refused(self) -> None:
        with pytest.raises(
            LandsegError, match="a run: its results are of sample with background, woodland, water, but"
        ):
            model_card(made(), model_info(), DIGEST)

    def test_without_its_data_card(self) -> None:
        kept = {name: of for name, of in files().items() if "card.json" not in name}
        text = carded(run("a run", kept), licence="CC-BY-4.0")
        assert row(text, "data set", 2)[1] == "sample (its data card is not here)"
        assert row(text, "licence", 2)[1] == "CC-BY-4.0"
        assert "To put beside a map" not in text

    def test_of_results_that_lack_something(self) -> None:
        broken = files() | {"results/train/metrics.json": b"{}"}
        with pytest.raises(LandsegError, match="a run: its results hold no step; run `dvc repro` there, and commit"):
            model_card(run("a run", broken), model_info(), DIGEST)
        del broken["results/metrics.json"]
        with pytest.raises(LandsegError, match=r"a run: has no results/metrics\.json; run `dvc repro` there"):
            model_card(run("a run", broken), model_info(), DIGEST)


def test_text_of_others_neither_marks_up_nor_breaks_a_table() -> None:
    card = {"title": "A | B\n# <b>C</b> [d](e)", "citation": "*F* `g`"}
    text = carded(made(card=card))
    assert "trained on A \\| B # \\<b\\>C\\</b\\> \\[d\\](e)\n" in text
    assert "| cite | \\*F\\* \\`g\\` |" in text


def test_same_results_are_the_same_card() -> None:
    assert carded(made()) == carded(made())


def test_blocks_of_markdown_are_parted_by_one_blank_line() -> None:
    text = carded(made(scores={"warnings": ["one", "two"]}, params={"model": {"encoder_weights": "imagenet"}}))
    assert "\n\n\n" not in text
    assert text.endswith("advice.\n")
    for before, line in pairwise(text.splitlines()):
        assert not before or line[:1] != "#"
