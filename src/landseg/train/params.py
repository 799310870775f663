"""Sections `model`, `loss`, `optimizer`, `scheduler`, `augment` and `train`."""

from typing import Literal

from pydantic import Field

from landseg.core.params import Section


class ModelParams(Section):
    """The network."""

    architecture: str
    """Any architecture of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, DeepLabV3Plus, ..."""
    encoder: str
    """Any encoder of segmentation-models-pytorch: resnet18, resnet34, resnet101, ..."""
    encoder_weights: str | None
    """imagenet (fetched once), null (random), or the path of a local .safetensors or .pth file."""
    encoder_depth: int = Field(ge=3, le=5)
    """How often the encoder halves the picture."""


class LossParams(Section):
    """What training makes small."""

    name: Literal["focal", "dice", "cross_entropy"]
    """focal (Lin et al., 2017), dice (Milletari et al., 2016) or cross_entropy."""
    gamma: float = Field(ge=0)
    """Focus of the focal loss on hard pixels; 0 is none."""
    class_weights: Literal["balanced"] | tuple[float, ...] | None
    """null: all 1; balanced: inverse to the pixels in the training part; or one number a class."""


class OptimizerParams(Section):
    """How weights move."""

    name: Literal["adam", "adamw", "sgd"]
    """adam, adamw or sgd (with momentum 0.9)."""
    lr: float = Field(gt=0)
    """Learning rate at the start."""
    weight_decay: float = Field(ge=0)
    """Weight decay."""


class SchedulerParams(Section):
    """How the learning rate falls."""

    step: int = Field(ge=1)
    """Epochs after which the learning rate is multiplied by factor, again and again (StepLR)."""
    factor: float = Field(gt=0, le=1)
    """What it is multiplied by; 1 keeps it."""


class AugmentParams(Section):
    """What is done to training tiles, anew in every epoch, and never to any other."""

    d4: bool
    """Turns by quarters and mirrors: the eight symmetries of a square."""
    brightness: float = Field(ge=0, le=1)
    """Largest change of brightness, as a share of the whole range."""
    contrast: float = Field(ge=0, le=1)
    """Largest change of contrast."""


#: What can be watched while training; all are scores of the validation part.
Monitor = Literal["val/macro_miou", "val/micro_iou", "val/fscore", "val/accuracy", "val/loss"]


class TrainParams(Section):
    """The run."""

    seed: int = Field(ge=0)
    """Seed of weights, order and augmentation."""
    epochs: int = Field(ge=1)
    """Passes over the training part."""
    batch_size: int = Field(ge=1)
    """Tiles in a step."""
    precision: Literal["auto", "32", "bf16"]
    """auto: bf16 mixed where the GPU or CPU computes in it, else 32."""
    monitor: Monitor
    """By which score the best epoch is chosen (a loss: the smaller, the better)."""
    early_stopping: int | None = Field(ge=1)
    """Epochs without a better score after which training ends; null: never before the last."""
    cache: Literal["auto", "device", "memory", "stream"]
    """Where tiles are while training: in the device's memory, in main memory, or on disk; auto: the first with room."""
    compile: Literal["auto", True, False]
    """Whether to use torch.compile; auto: on a GPU, in runs long enough to pay for it."""
    deterministic: bool
    """Whether the same run on the same machine gives the same bits."""
