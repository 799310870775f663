"""Section `dataset` for `landcoverai`."""

from typing import Literal

from landseg.download.params import DatasetParams


class LandCoverAiParams(DatasetParams):
    """LandCover.ai v1: 41 orthophotos of Poland."""

    name: Literal["landcoverai"]
    """Name of the dataset, used in paths below data/ and models/."""

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:
        """Allow official with the publisher's tiling: 512 pixels, edge windows dropped."""
        if strategy == "official" and (tile_size, tile_edge) == (512, "drop"):
            return None
        return super().split_fault(strategy, tile_size, tile_edge, source)
