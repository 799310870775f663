"""Data cards."""

from pathlib import Path
from typing import Any

import pytest
from helpers.rasters import card

from landseg.core.data_card import expand_names, imagery_card, layer_names, read_card, write_card
from landseg.core.errors import LandsegError


def test_card_round_trip(tmp_path: Path) -> None:
    written = card(title="Łąki", mask={"values": "rgb", "ignore": (9, "#ff0000")}, background="background")
    write_card(written, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == written


def test_missing_or_invalid_card(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(LandsegError, match=f"^{path}: file not found; run `dvc repro` or the stage that writes it"):
        read_card(path)
    path.write_text('{"name": "x"')
    with pytest.raises(LandsegError, match=f"^{path}: Invalid JSON.*re-run the stage that writes it"):
        read_card(path)
    path.write_text(card().model_dump_json().replace('"bands"', '"band"'))
    with pytest.raises(LandsegError, match=f"^{path}: bands: Field required; re-run the stage that writes it"):
        read_card(path)


def test_layers_of_bands() -> None:
    assert layer_names(("red", "nir"), ("q1", "q2")) == ("red_q1", "nir_q1", "red_q2", "nir_q2")
    assert layer_names(("red", "nir"), ("",)) == ("red", "nir")


def test_card_of_stacked_imagery() -> None:
    files: dict[str, Any] = {"band_files": {"red": "B04", "nir": "B08"}, "extra_files": ({"bands": ("vv",)},)}
    of = card(bands=("red", "nir", "vv"), decibels=("vv",), **files)
    stacked = imagery_card(of, ("d1", "d2"))
    assert stacked.bands == ("red_d1", "nir_d1", "vv_d1", "red_d2", "nir_d2", "vv_d2")
    assert (stacked.layers, stacked.decibels) == (("d1", "d2"), ("vv_d1", "vv_d2"))
    one_file: dict[str, Any] = {"band_files": {}, "extra_files": ()}
    same = {"bands": of.bands, "layers": (), "decibels": of.decibels}
    assert stacked.model_copy(update=same) == of.model_copy(update=one_file)
    assert imagery_card(of, ("",)) == of.model_copy(update=one_file)


@pytest.mark.faults
def test_band_with_the_name_of_a_layer() -> None:
    with pytest.raises(LandsegError, match=r"^dataset\.bands: 'red_q1' would also be the name of a layer of another"):
        imagery_card(card(bands=("red", "red_q1")), ("q1", "q2"))


@pytest.mark.parametrize(
    ("names", "expanded"),
    [
        (("blue", "red"), ("blue_q1", "red_q1", "blue_q2", "red_q2")),
        (("red_q2", "blue_q1"), ("red_q2", "blue_q1")),
        (("red_q2", "blue", "red"), ("red_q2", "blue_q1", "red_q1", "blue_q2", "red_q2")),
        (("red", "NDVI"), ("red_q1", "NDVI_q1", "red_q2", "NDVI_q2")),
        (("NDVI_q2", "red"), ("NDVI_q2", "red_q1", "red_q2")),
        (("x_q1", "x_q1_q2"), ("x_q1_q1", "x_q1_q2", "x_q1_q2")),  # a band of the dataset is called x_q1
        (("x_q2", "red_q5"), ("x_q2", "red_q5")),  # and none x; there is no q5
        ((), ()),
    ],
)
def test_names_that_stand_for_all_layers(names: tuple[str, ...], expanded: tuple[str, ...]) -> None:
    of = card(bands=("red", "blue", "x_q1"))
    stacked = imagery_card(of, ("q1", "q2"))
    assert expand_names(names, stacked.bands, stacked.layers) == expanded
    assert expand_names(names, of.bands, of.layers) == names
