"""Data card of your own images and masks."""

from landseg.core.data_card import CloudEncoding, DataCard, ExtraBands, MaskEncoding
from landseg.core.scaling import scaling_text
from landseg.datasets.folder.params import ExtraFiles
from landseg.datasets.folder.params import FolderParams as Params
from landseg.download.params import DownloadParams


def _extra(files: ExtraFiles) -> ExtraBands:
    scaling = "" if files.scale is None else scaling_text(files.scale, files.offset)
    return ExtraBands(bands=files.bands, scaling=scaling)


def card(dataset: Params, download: DownloadParams) -> DataCard:
    """Return the data card, by the section `dataset` of params.yaml."""
    return DataCard(
        name=dataset.name,
        title=f"Images and labels of {download.folder.resolve().name}",
        licence=dataset.licence,
        classes=dataset.classes,
        background=dataset.background,
        bands=dataset.band_names,
        extra_files=tuple(_extra(extra) for extra in dataset.extra),
        decibels=dataset.decibel_bands,
        nodata=dataset.nodata,
        scaling=dataset.scaling,
        drivers=dataset.drivers,
        clouds=CloudEncoding(layers=(dataset.cloud_values,), clear=dataset.cloud_clear, nodata=dataset.cloud_nodata),
        mask=MaskEncoding(
            values=dataset.mask_values,
            ignore=dataset.ignore,
            remap=dataset.remap,
            unlisted=dataset.unlisted,
            unit_band=2 if dataset.labels else None,
        ),
    )
