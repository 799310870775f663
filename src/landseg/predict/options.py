"""Options of a prediction: the model and how to run it."""

from dataclasses import dataclass

from landseg.predict.backend import DeviceName


@dataclass(frozen=True)
class PredictOptions:
    """The model and how to run it."""

    #: A path, a git revision, a DVC experiment or 'workspace'.
    model: str
    #: The bands of a scene for those that the model reads, in its order; empty: found automatically.
    bands: tuple[str, ...] = ()
    #: The classes that the model must have, and no others; empty: any.
    classes: tuple[str, ...] = ()
    #: Resample scenes to the model's ground sampling distance.
    resample: bool = False
    #: Height and width of a window, px; None: the tile size that the model was trained on.
    window: int | None = None
    #: Minimum fraction of a window that the next one overlaps; None: 0.25.
    overlap: float | None = None
    #: Windows per batch; None: the default of the device.
    batch: int | None = None
    #: Test-time augmentation: average over the eight rotations and flips of each window.
    d4: bool = False
    #: Where to compute; None: auto.
    device: DeviceName | None = None
