"""LandCoverNet: data card and file names."""

from pathlib import Path

import pytest

from landseg.datasets.landcovernet import fetch as landcovernet_set
from landseg.datasets.landcovernet.card import card as landcovernet_card
from landseg.datasets.landcovernet.params import LandCoverNetParams
from landseg.download.params import DownloadParams

DOWNLOAD = DownloadParams(folder=Path("none"))


def test_unknown_is_a_class_only_if_scored() -> None:
    plain = {"name": "landcovernet", "region": "eu", "chips": 1, "seed": 0, "dates": ["2018-01-01"] * 2}
    plain |= {"dates_per_chip": 1, "bands": ["red"]}
    card = landcovernet_card(LandCoverNetParams.model_validate(plain), DOWNLOAD)
    assert [land_class.id for land_class in card.classes] == [1, 2, 3, 4, 5, 6, 7]
    assert card.mask.ignore == (0,)
    scored = landcovernet_card(LandCoverNetParams.model_validate(plain | {"score_unknown": True}), DOWNLOAD)
    assert [land_class.id for land_class in scored.classes] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert scored.mask.ignore == ()


@pytest.mark.parametrize(
    ("key", "parsed"),
    [
        ("2018/29NMG/21/29NMG_21_2018_LC_10m.tif", ("29NMG_21", None, "label")),
        ("2018/29NMG/21/S2/29NMG_21_20180803/29NMG_21_20180803_B8A_10m.tif", ("29NMG_21", "2018-08-03", "B8A")),
        ("landcovernet_af/29NMG_21_20180803_SCL_10m.tif", ("29NMG_21", "2018-08-03", "SCL")),
        ("landcovernet_eu/29NMG_21_20180803_SCL_10m.tif", None),
        ("2018/29NMG/21/L8/29NMG_21_20180803/29NMG_21_20180803_B02_10m.tif", None),
        ("ref_landcovernet_af_v1_labels_29NMG_21/labels.tif", ("29NMG_21", None, "label")),
        ("ref_landcovernet_af_v1_source_sentinel_2_29NMG_21_20180803/CLD.tif", ("29NMG_21", "2018-08-03", "CLD")),
        ("ref_landcovernet_af_v1_source_sentinel_1_29NMG_21_20180803/VV.tif", None),
        ("29NMG_21_labeling_dates.csv", None),
    ],
)
def test_names_of_files(key: str, parsed: tuple[str, str | None, str] | None) -> None:
    assert landcovernet_set._parse_key("af", key) == parsed
