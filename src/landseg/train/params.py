"""Sections `model`, `loss`, `optimizer`, `scheduler`, `augment` and `train`."""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from landseg.core.params import MAX_SEED, PLAIN_NAME, Section
from landseg.model.info import is_timm


class ModelParams(Section):
    """Model architecture."""

    architecture: str
    """Any architecture of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, DeepLabV3Plus, ..."""
    encoder: Annotated[str, Field(pattern=PLAIN_NAME)]
    """Any encoder of segmentation-models-pytorch: resnet18, resnet34, resnet101, ..."""
    encoder_weights: str | None
    """Initial encoder weights: imagenet (downloaded once), null (random), path of a .safetensors or .pth file, or
    hf://owner/repository/file on Hugging Face Hub (downloaded once)."""
    weights_bands: tuple[str, ...] | None = None
    """Names of the bands that the first convolution of encoder_weights is for, in its order: bands get the weights of
    the same name, others the mean of all. null: weights for red, green, blue, repeated for other numbers of bands."""
    freeze_encoder: int = Field(default=0, ge=0)
    """Number of epochs, from the first, in which the encoder keeps its initial weights."""
    encoder_depth: int = Field(ge=3, le=5)
    """Number of downsampling stages of the encoder."""

    @model_validator(mode="after")
    def _check_weights_bands(self) -> "ModelParams":
        names, weights = [name.casefold() for name in self.weights_bands or ()], self.encoder_weights
        if names and weights is None:
            raise ValueError("model.weights_bands: model.encoder_weights is null, random, so none has a band; set both")
        if weights == "imagenet" and names and names != ["red", "green", "blue"]:
            raise ValueError(
                "model.weights_bands: ImageNet's weights are for red, green, blue; name these, or set null"
            )
        if weights == "imagenet" and names and is_timm(self.encoder):
            raise ValueError(
                f"model.weights_bands: timm itself fits ImageNet's weights of {self.encoder} to the bands; set it to "
                "null, or set model.encoder_weights to a file, such as hf://timm/.../model.safetensors"
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"model.weights_bands: names {twice} twice; name each band of the weights once")
        return self


#: Loss functions.
LOSSES = ["focal", "dice", "jaccard", "tversky", "lovasz", "cross_entropy"]


class LossParams(Section):
    """Loss function."""

    name: str = Field(
        json_schema_extra={"pattern": rf"^({'|'.join(LOSSES)})(\+({'|'.join(LOSSES)}))*$"}, examples=LOSSES
    )
    """Loss function: focal (Lin et al., 2017), dice (Milletari et al., 2016), jaccard (Rahman and Wang, 2016), tversky
    (Salehi et al., 2017), lovasz (Berman et al., 2018) or cross_entropy; or the sum of several, as in
    dice+cross_entropy."""
    gamma: float = Field(ge=0)
    """Focusing parameter of the focal loss; 0 is cross entropy."""
    alpha: float = Field(default=0.5, gt=0)
    """Weight of false positives in the Tversky loss."""
    beta: float = Field(default=0.5, gt=0)
    """Weight of false negatives in the Tversky loss; more than alpha favours recall."""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    """Label smoothing of cross entropy: the share of the target probability that is spread over all classes."""
    class_weights: Literal["balanced"] | tuple[float, ...] | None
    """Class weights: null (none), balanced (inverse class frequency in training pixels), or one number per class."""

    @field_validator("name")
    @classmethod
    def _are_losses(cls, value: str) -> str:
        terms = value.split("+")
        if not set(terms) <= set(LOSSES):
            near = [next(iter(get_close_matches(term, LOSSES, n=1, cutoff=0.5)), None) for term in terms]
            raise ValueError(
                f"loss.name = {value!r}: must be one of {', '.join(LOSSES)}, or several joined by + without spaces, as "
                "in dice+cross_entropy" + (f"; did you mean {'+'.join(filter(None, near))}?" if all(near) else "")
            )
        if twice := [term for term in LOSSES if terms.count(term) > 1]:
            raise ValueError(
                f"loss.name = {value!r}: has {twice[0]} twice; name each of {', '.join(LOSSES)} at most once"
            )
        return value

    @model_validator(mode="after")
    def _uses_its_keys(self) -> "LossParams":
        for key, term in (("alpha", "tversky"), ("beta", "tversky"), ("label_smoothing", "cross_entropy")):
            value, default = getattr(self, key), LossParams.model_fields[key].default
            if term not in self.name.split("+") and value != default:
                raise ValueError(
                    f"loss.{key} = {value:g}: only {term} uses this key; set it to {default}, or add {term} to "
                    f"loss.name = {self.name}"
                )
        return self


class OptimizerParams(Section):
    """Optimizer."""

    name: Literal["adam", "adamw", "sgd"]
    """Optimizer: adam, adamw or sgd (momentum 0.9)."""
    lr: float = Field(gt=0)
    """Learning rate: the initial one, the one after warm-up, or the maximum of one_cycle."""
    weight_decay: float = Field(ge=0)
    """Weight decay."""
    clip: float | None = Field(default=None, gt=0)
    """Maximum norm of all gradients of an optimizer step (Pascanu et al., 2013); null: not limited."""


class SchedulerParams(Section):
    """Learning rate schedule."""

    name: Literal["step", "cosine", "one_cycle", "plateau"] = "step"
    """Schedule: step (decays at regular epochs), cosine (falls with every optimizer step; Loshchilov and Hutter, 2017),
    one_cycle (rises in 30 % of the optimizer steps, then falls; Smith and Topin, 2018) or plateau (decays if
    train.monitor does not improve)."""
    step: int = Field(ge=1)
    """Epochs between learning rate decays (step only)."""
    factor: float = Field(gt=0, le=1)
    """Decay factor of the learning rate (step and plateau only); 1 keeps it constant (step)."""
    warmup: float = Field(default=0.0, ge=0)
    """Epochs, also parts of one, in which the rate rises linearly from near 0 (not for one_cycle); 0: none."""
    min_factor: float = Field(default=0.0, ge=0, lt=1)
    """Learning rate at the end of the run, as a share of optimizer.lr (cosine only)."""
    patience: int = Field(default=2, ge=1)
    """Epochs without improvement of train.monitor after which the rate decays (plateau only)."""

    @model_validator(mode="after")
    def _check_keys(self) -> "SchedulerParams":
        for key, names in _SCHEDULES.items():
            value, default = getattr(self, key), type(self).model_fields[key].default
            if self.name not in names and value != default:
                raise ValueError(
                    f"scheduler.{key} = {value:g}: not used by scheduler.name = {self.name}; set it to {default:g}, "
                    f"its default, or the name to {' or '.join(names)}"
                )
        if self.name == "plateau" and self.factor == 1:
            raise ValueError("scheduler.factor = 1: plateau would never lower the learning rate; set it below 1")
        return self


# Schedules that use a key, for keys that not all presets have.
_SCHEDULES = {"warmup": ("step", "cosine", "plateau"), "min_factor": ("cosine",), "patience": ("plateau",)}


class AugmentParams(Section):
    """Random augmentation of training tiles."""

    d4: bool
    """Random 90-degree rotations and flips (the dihedral group D4)."""
    brightness: float = Field(ge=0, le=1)
    """Maximum change of brightness, as a share of the value range; 0: none."""
    contrast: float = Field(ge=0, le=1)
    """Maximum relative change of contrast; 0: none."""
    scale: float = Field(default=0, ge=0, le=1)
    """Random zoom by a factor between 1 / (1 + scale) and 1 + scale, log-uniform, about a random point; ground beyond
    the tile is its mirror image; 0: none."""
    noise: float = Field(default=0, ge=0, le=1)
    """Maximum standard deviation of Gaussian noise, as a share of the value range; 0: none."""


#: Validation scores that can select the best epoch.
Monitor = Literal["val/macro_miou", "val/micro_iou", "val/fscore", "val/accuracy", "val/loss"]


class TrainParams(Section):
    """Training run."""

    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of initial weights, shuffling and augmentation."""
    epochs: int = Field(ge=1, le=100_000)
    """Number of epochs."""
    batch_size: int = Field(ge=1, le=100_000)
    """Tiles per optimizer step."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """Tiles of an epoch: shuffle (each once) or balanced (as many draws, each of a random class, then of a tile by its
    pixels of the class; rare classes are then predicted more often, and confidences no longer fit the split)."""
    precision: Literal["auto", "32", "bf16"]
    """Floating-point precision: 32, bf16 (mixed), or auto (bf16 if the hardware supports it)."""
    monitor: Monitor
    """Score that selects the best epoch (val/loss: the lowest, others: the highest)."""
    early_stopping: int | None = Field(ge=1)
    """Stop after this many epochs without improvement; null: never."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the exponential moving average of weights and normalisation statistics, which is then the model that is
    scored and written; after n steps at most (1 + n) / (10 + n). null: no average."""
    batch_norm: Literal["synchronised", "local"] = "synchronised"
    """Batch normalisation over several devices: synchronised (by the whole batch; the numbers are those of one device)
    or local (each device by its share of the batch)."""
    cache: Literal["auto", "device", "memory", "stream"]
    """Where tiles are cached: device (GPU), memory (RAM), stream (read from disk), or auto (the first that fits)."""
    compile: Literal["auto", True, False]
    """Use torch.compile; auto: in long runs on a GPU."""
    deterministic: bool
    """Bit-identical results on the same machine."""


def schedule_fault(scheduler: SchedulerParams, train: TrainParams) -> str | None:
    """Return what is wrong with a learning rate schedule that has no effect in a run; None if nothing is."""
    run, warmup, patience = f"train.epochs = {train.epochs}", scheduler.warmup, scheduler.patience
    if warmup >= train.epochs:
        return (
            f"scheduler.warmup = {warmup:g}: not shorter than the run ({run}), so there is nothing to warm up for; "
            "lower it, or raise train.epochs"
        )
    if scheduler.name == "step" and scheduler.factor < 1 and scheduler.step > train.epochs:
        return (
            f"scheduler.step = {scheduler.step}: longer than the run ({run}), so the learning rate would never fall; "
            "lower it, set scheduler.factor to 1 for a constant rate, or raise train.epochs"
        )
    if scheduler.name != "plateau":
        return None
    if patience + 2 > train.epochs:  # the first epoch is an improvement, and a lower rate needs an epoch to act in
        return (
            f"scheduler.patience = {patience}: too long for the run ({run}), so the learning rate would never fall; "
            f"lower it, or raise train.epochs to {patience + 2} or more"
        )
    if train.early_stopping is not None and train.early_stopping <= patience:
        return (
            f"scheduler.patience = {patience}: train.early_stopping = {train.early_stopping} ends the run before the "
            "learning rate falls; lower scheduler.patience, or raise train.early_stopping"
        )
    return None
