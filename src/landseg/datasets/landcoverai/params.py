"""Parameters of the data set `landcoverai`."""

from typing import Literal

from landseg.download.params import DatasetParams


class LandCoverAiParams(DatasetParams):
    """LandCover.ai v1: 41 orthophotos of Poland."""

    name: Literal["landcoverai"]
    """The data set. Paths under data/ and models/ carry this name."""

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:
        """The publisher's lists name its own tiles: 512 px, whole ones alone."""
        if strategy == "official" and (tile_size, tile_edge) == (512, "drop"):
            return None
        return super().split_fault(strategy, tile_size, tile_edge, source)
