"""Inputs of a model in words, for the metadata of exported models and for the model card."""

from collections.abc import Iterator

from landseg.model.info import ModelInfo
from landseg.raster.derived import DerivedBands


def band_values(info: ModelInfo) -> str:
    """Return which values the images of a model with bands in their own data type must have."""
    return "; ".join(_band_values(info))


def _band_values(info: ModelInfo) -> Iterator[str]:
    rendering = info.rendering
    other = f" as {rendering.read_dtype}" if rendering.read_dtype not in ("", rendering.dtype) else ""
    yield f"{rendering.dtype}, {'stored × scale + offset' if rendering.scaled else f'as stored{other}'}"
    derived = DerivedBands.of(rendering.bands, info.image_bands, rendering.decibels, scaled=rendering.scaled)
    if derived:
        yield from map(str, derived.indices.values())
    if rendering.decibels:
        yield f"{', '.join(rendering.decibels)} in decibels, 10 log10 of the value"
    yield "pixels without data have the mean of the image's other pixels, band by band"


def stretch(info: ModelInfo) -> str:
    """Return how the values of RGB images that are not uint8 become 8 bits."""
    rendering = info.rendering
    if rendering.stretch != "fixed":
        return "from the minimum to the maximum of each band to 0 to 255"
    return f"from {rendering.range[0]:g} to {rendering.range[1]:g} to 0 to 255"


def mean_and_std(info: ModelInfo) -> tuple[str, str]:
    """Return mean and standard deviation of the bands, with their unit."""
    unit = "values from 0 to 1" if info.rendering.format == "png" else "values"
    mean, std = (f"{', '.join(f'{value:g}' for value in values)} of {unit}" for values in (info.mean, info.std))
    return mean, std
