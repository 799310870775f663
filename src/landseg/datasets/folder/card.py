"""Data card of your own images and masks."""

from landseg.core.data_card import CloudEncoding, DataCard, MaskEncoding
from landseg.datasets.folder.params import FolderParams as Params
from landseg.download.params import DownloadParams


def card(dataset: Params, download: DownloadParams) -> DataCard:
    """Return the data card, by the section `dataset` of params.yaml."""
    return DataCard(
        name=dataset.name,
        title=f"Images and masks of {download.folder.resolve().name}",
        licence=dataset.licence,
        classes=dataset.classes,
        background=dataset.background,
        bands=dataset.band_names,
        extra_files=tuple(extra.bands for extra in dataset.extra),
        decibels=dataset.decibel_bands,
        nodata=dataset.nodata,
        scaling=dataset.scaling,
        drivers=dataset.drivers,
        clouds=CloudEncoding(layers=(dataset.cloud_values,), clear=dataset.cloud_clear, nodata=dataset.cloud_nodata),
        mask=MaskEncoding(
            values=dataset.mask_values, ignore=dataset.ignore, remap=dataset.remap, unlisted=dataset.unlisted
        ),
    )
