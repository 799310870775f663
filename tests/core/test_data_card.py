"""Data cards."""

from pathlib import Path

import pytest
from helpers.rasters import card

from landseg.core.data_card import read_card, write_card
from landseg.core.errors import LandsegError


def test_card_round_trip(tmp_path: Path) -> None:
    written = card(title="Łąki", mask={"values": "rgb", "ignore": (9, "#ff0000")}, background="background")
    write_card(written, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == written


def test_missing_or_invalid_card(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(LandsegError, match=f"^{path}: file not found; run the download stage first"):
        read_card(path)
    path.write_text('{"name": "x"')
    with pytest.raises(LandsegError, match=f"^{path}: Invalid JSON.*re-run the download stage"):
        read_card(path)
    path.write_text(card().model_dump_json().replace('"bands"', '"band"'))
    with pytest.raises(LandsegError, match=f"^{path}: bands: Field required; re-run the download stage"):
        read_card(path)
