"""Tile tables: columns and metadata."""

import io
from pathlib import Path

import pandas as pd

from landseg.core.tables import NOTICES, extend_parquet, read_metadata, read_notices, read_parquet


def test_columns_and_metadata_are_replaced(tmp_path: Path) -> None:
    """A stage adds to what an earlier one has written."""
    content, path, later = io.BytesIO(), tmp_path / "plan.parquet", tmp_path / "tiles.parquet"
    pd.DataFrame({"tile": ["a", "b"], "row": [0, 32]}).to_parquet(content)
    extend_parquet(content, path, {}, {"tile_size": "32", NOTICES: '["said by tile"]'})
    extend_parquet(path, later, {"row": [1, 2], "pixels": [8, 9]}, {NOTICES: '["said by tile", "said by convert"]'})
    assert (read_metadata(later, "tile_size"), read_notices(later)) == ("32", ["said by tile", "said by convert"])
    assert read_parquet(later).to_dict("list") == {"tile": ["a", "b"], "row": [1, 2], "pixels": [8, 9]}
