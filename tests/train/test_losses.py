import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F  # noqa: N812 - the usual name

from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.model.device import deterministic
from landseg.train.losses import Loss, class_weights, loss_function
from landseg.train.params import LOSSES

Array = npt.NDArray[np.float64]
SUMS = ["dice+cross_entropy", "lovasz+focal+tversky"]
NAMES = [*LOSSES, *SUMS]
WEIGHTS = [None, [0.2, 1.0, 3.0]]
K = 3


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (2, 3, 8, 8) and targets (2, 8, 8), a quarter of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(K, (2, 8, 8), generator=generator)
    targets[:, ::2, ::2] = IGNORE
    return torch.randn(2, K, 8, 8, generator=generator), targets


def new_loss(name: str, weights: list[float] | None) -> Loss:
    return loss_function(name, 2.0, weights, 0.3, 0.9, 0.1)


def value_and_gradient(loss: Loss, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets).sum()
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def all_losses(function: Any) -> Any:
    named = pytest.mark.parametrize("name", NAMES)
    return pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])(named(function))


@all_losses
def test_ignored_pixels_do_not_contribute(name: str, weights: list[float] | None) -> None:
    loss = new_loss(name, weights)
    logits, targets = case()
    ignored = (targets == IGNORE)[:, None].expand_as(logits)
    value, gradient = value_and_gradient(loss, logits, targets)
    for constant in (30.0, -1e30):
        other = torch.where(ignored, constant * torch.arange(1, K + 1).view(1, K, 1, 1), logits)
        assert float(loss(other, targets).sum()) == pytest.approx(value.item(), rel=1e-6)
        torch.testing.assert_close(value_and_gradient(loss, other, targets)[1], gradient)
    assert not gradient[ignored].any()
    assert gradient[~ignored].all()


@all_losses
@pytest.mark.parametrize("scale", [1, 200])
def test_ignored_pixels_might_as_well_be_removed(name: str, weights: list[float] | None, scale: float) -> None:
    """Also if labelled pixels have an error of exactly 0, as they have with large logits."""
    loss = new_loss(name, weights)
    logits, targets = case()
    labelled = targets != IGNORE
    value, gradient = value_and_gradient(loss, scale * logits, targets)
    kept = (scale * logits).movedim(1, -1)[labelled].T[None, :, None]
    removed_value, removed_gradient = value_and_gradient(loss, kept, targets[labelled][None, None])
    torch.testing.assert_close(value, removed_value)
    torch.testing.assert_close(gradient.movedim(1, -1)[labelled], removed_gradient[0, :, 0].T)


@all_losses
def test_batch_without_labelled_pixels_has_no_loss(name: str, weights: list[float] | None) -> None:
    logits, targets = case()
    value, gradient = value_and_gradient(new_loss(name, weights), logits, torch.full_like(targets, IGNORE))
    assert value.item() == 0
    assert not gradient.any()


@all_losses
def test_correct_predictions_have_a_small_loss_and_wrong_ones_a_large_one(
    name: str, weights: list[float] | None
) -> None:
    loss = loss_function(name, 2.0, weights)
    _, targets = case()
    right = _one_hot(targets) * 20.0 - 10
    assert float(loss(right, targets).sum()) < 1e-3
    assert float(loss(-right, targets).sum()) > 0.5


@all_losses
def test_low_precision_and_missing_classes_are_finite(name: str, weights: list[float] | None) -> None:
    logits, targets = case()
    targets[0] = IGNORE
    targets[1][targets[1] != IGNORE] = 1
    loss = new_loss(name, weights)
    low = (logits * 50).bfloat16()
    value, gradient = value_and_gradient(loss, low, targets)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(low, targets).sum()
    assert float(mixed) == pytest.approx(value.item(), rel=1e-5)


@all_losses
@pytest.mark.parametrize("size", [30.0, 90.0, 1e4, 1e30])
def test_extreme_logits_have_finite_gradients(name: str, weights: list[float] | None, size: float) -> None:
    logits, targets = case()
    targets[targets == 2] = 0  # the probability of a class that is absent can be 0 in all pixels
    logits[:, 2] = -2
    for each in (size * logits, size * logits.sign(), torch.full_like(logits, size)):
        value, gradient = value_and_gradient(new_loss(name, weights), each, targets)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def _one_hot(targets: torch.Tensor, classes: int = K) -> torch.Tensor:
    return F.one_hot(targets.where(targets != IGNORE, 0), classes).movedim(-1, 1)


def _softmax(z: Array) -> Array:
    p: Array = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p


def _focal(z: Array, y: Array, w: Array) -> float:
    p = 1 / (1 + np.exp(-z))
    p = np.where(y == 1, p, 1 - p)
    return float((w * (-((1 - p) ** 2) * np.log(p)).mean(0)).sum() / w.sum())


def _tversky(alpha: float, beta: float) -> Callable[[Array, Array, Array], float]:
    def loss(z: Array, y: Array, w: Array) -> float:
        p = _softmax(z)
        hits, false_positives, false_negatives = (p * y).sum(0), (p * (1 - y)).sum(0), ((1 - p) * y).sum(0)
        scores = hits / (hits + alpha * false_positives + beta * false_negatives)
        return float((w * (1 - scores) * (y.sum(0) > 0)).sum() / w.sum())

    return loss


def _lovasz(z: Array, y: Array, w: Array) -> float:
    """By equations 6 to 9 of the paper: the Jaccard loss of growing sets of wrong pixels."""
    errors, present = np.abs(y - _softmax(z)), np.flatnonzero(y.sum(0))
    total = 0.0
    for k in present:
        of_class, wrong, before = set(np.flatnonzero(y[:, k])), set[int](), 0.0
        for pixel in np.argsort(-errors[:, k]):
            wrong.add(int(pixel))
            jaccard = len(wrong) / len(of_class | wrong)
            total += w[k] * errors[pixel, k] * (jaccard - before)
            before = jaccard
    return float(total / w[present].sum())


def _cross_entropy(z: Array, y: Array, w: Array) -> float:
    smooth = 0.9 * y + 0.1 / y.shape[1]
    return float(-(w * smooth * np.log(_softmax(z))).sum() / (w * y).sum())


#: Losses of logits (P, K) and one-hot targets (P, K) of labelled pixels, and class weights (K,).
FORMULAS = {
    "focal": _focal,
    "dice": _tversky(0.5, 0.5),
    "jaccard": _tversky(1, 1),
    "tversky": _tversky(0.3, 0.9),
    "lovasz": _lovasz,
    "cross_entropy": _cross_entropy,
}


@all_losses
@pytest.mark.parametrize("absent", [False, True], ids=["all classes", "absent class"])
def test_value_and_gradient_equal_the_formula(name: str, weights: list[float] | None, absent: bool) -> None:
    logits, targets = (part[:, ..., :4] for part in case())
    if absent:
        targets[targets == 2] = 1
    labelled = targets != IGNORE
    z = logits.movedim(1, -1)[labelled].double().numpy()
    y = np.eye(K)[targets[labelled].numpy()]

    def formula(z: Array) -> float:
        return sum(FORMULAS[term](z, y, np.array(weights or [1.0] * K)) for term in name.split("+"))

    value, gradient = value_and_gradient(new_loss(name, weights), logits, targets)
    assert value.item() == pytest.approx(formula(z), rel=1e-5)
    expected = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[index] = 1e-6
        expected[index] = (formula(z + step) - formula(z - step)) / 2e-6
    np.testing.assert_allclose(gradient.movedim(1, -1)[labelled], expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_sums_have_one_value_and_one_weight_per_term(weights: list[float] | None) -> None:
    logits, targets = case()
    names = ["tversky", "cross_entropy", "lovasz"]
    losses = [new_loss(name, weights) for name in names]
    whole = new_loss("+".join(names), weights)
    assert torch.equal(whole(logits, targets), torch.stack([loss(logits, targets) for loss in losses]))
    assert whole.weight(targets).tolist() == pytest.approx([float(loss.weight(targets)) for loss in losses])


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_equals_that_of_torch(smoothing: float, weights: list[float] | None) -> None:
    logits, targets = case()
    given = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits, targets, given, ignore_index=IGNORE, label_smoothing=smoothing)
    loss = loss_function("cross_entropy", 0.0, weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, targets), expected)


@pytest.mark.parametrize(
    ("alpha", "beta", "published"),
    [(1, 1, smp.losses.JaccardLoss), (0.3, 0.9, partial(smp.losses.TverskyLoss, alpha=0.3, beta=0.9))],
)
def test_tversky_loss_of_a_rare_class_in_a_large_batch(alpha: float, beta: float, published: Any) -> None:
    """In 32 bit, a sum over the pixels of the class is lost in one over all pixels."""
    targets = torch.zeros(1, 1024, 1024, dtype=torch.int64)
    targets[0, 0, :8] = 1
    logits = torch.randn(1, 2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 3
    z, y = (part.double().movedim(1, -1).flatten(0, 2).numpy() for part in (logits, _one_hot(targets, 2)))
    score = 1 - _tversky(alpha, beta)(z, y, np.array([0, 1]))
    value = loss_function("tversky", 0.0, [1e-9, 1], alpha, beta)(logits, targets)
    assert 1 - float(value) == pytest.approx(score, rel=1e-2)
    assert 1 - float(published("multiclass", class_weights=[1e-9, 1])(logits, targets)) != pytest.approx(
        score, rel=1e-2
    )


def test_without_data_no_operation_can_wait_for_the_device() -> None:
    """Tensors on the device "meta" have no values: whatever depends on values fails."""
    logits, targets = (part.to("meta") for part in case())
    for name in NAMES:
        loss = new_loss(name, [0.2, 1.0, 3.0]).to("meta")
        assert loss(logits, targets).is_meta
        assert loss.weight(targets).is_meta
        kept = [value for module in loss.modules() for value in vars(module).values()]
        assert not any(isinstance(value, torch.Tensor) and not value.is_meta for value in kept)
    with pytest.raises((RuntimeError, NotImplementedError)):
        smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE)(logits, targets)


@pytest.mark.gpu
@all_losses
def test_losses_do_not_synchronise_and_are_deterministic(name: str, weights: list[float] | None) -> None:
    logits, targets = (part.cuda() for part in case())
    loss = new_loss(name, weights).cuda()
    found = []
    for _ in range(2):
        with deterministic(True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype", UserWarning)
            try:
                torch.cuda.set_sync_debug_mode("error")
                found.append(value_and_gradient(loss, logits, targets))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@all_losses
def test_deterministic_algorithms_are_available(name: str, weights: list[float] | None) -> None:
    logits, targets = case()
    loss = new_loss(name, weights)
    expected = value_and_gradient(loss, logits, targets)
    with deterministic(True):
        torch.testing.assert_close(value_and_gradient(loss, logits, targets), expected)


def test_focal_loss_equals_the_paper() -> None:
    """Lin et al., 2017, equation 4, one class against all others."""
    logits, targets = case()
    labelled = targets != IGNORE
    truth = _one_hot(targets)
    p = logits.sigmoid()
    pt = torch.where(truth == 1, p, 1 - p)
    expected = (-((1 - pt) ** 2) * pt.log()).movedim(1, -1)[labelled].mean()
    assert float(loss_function("focal", 2.0, None)(logits, targets)) == pytest.approx(float(expected), rel=1e-5)
    # gamma 0 is binary cross entropy.
    plain = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none").movedim(1, -1)[labelled].mean()
    assert float(loss_function("focal", 0.0, None)(logits, targets)) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_loss_and_gradient_equal_segmentation_models(gamma: float, weights: list[float] | None) -> None:
    published = smp.losses.FocalLoss("multiclass", gamma=gamma, ignore_index=IGNORE, class_weights=weights)
    found = []
    for loss in (loss_function("focal", gamma, weights), published):
        logits, targets = case()
        logits.requires_grad_()
        value = loss(logits, targets)
        value.backward()
        found.append((value, logits.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_cross_entropy_equals_its_deterministic_form(weights: list[float] | None) -> None:
    """On CUDA, pixels are passed as rows."""
    logits, targets = case()
    given = None if weights is None else torch.tensor(weights)
    rows = F.cross_entropy(logits.permute(0, 2, 3, 1).flatten(0, 2), targets.flatten(), given, ignore_index=IGNORE)
    torch.testing.assert_close(loss_function("cross_entropy", 2.0, weights)(logits, targets), rows)


def test_dice_loss_of_absent_classes_is_zero() -> None:
    logits, targets = case()
    targets[targets == 2] = 1
    labelled = targets != IGNORE
    p = logits.softmax(1).movedim(1, -1)[labelled]
    truth = F.one_hot(targets[labelled], K)
    dice = 2 * (p * truth).sum(0) / (p.sum(0) + truth.sum(0))
    expected = float((1 - dice[:2]).sum() / K)
    assert float(loss_function("dice", 0.0, None)(logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_larger_class_weight_gives_a_larger_gradient(name: str) -> None:
    logits, targets = case()
    shares = []
    for weight in (1.0, 10.0):
        given = logits.clone().requires_grad_()
        loss_function(name, 2.0, [1.0, 1.0, weight])(given, targets).sum().backward()
        assert given.grad is not None
        of_class = given.grad[:, 2][targets == 2].abs().sum()
        shares.append(float(of_class / given.grad.abs().sum()))
    assert shares[1] > 1.3 * shares[0]


def test_balanced_weights() -> None:
    pixels = np.array([600, 300, 0, 100], np.int64)
    weights = class_weights("balanced", pixels)
    assert weights == pytest.approx([1000 / (3 * 600), 1000 / (3 * 300), 1.0, 1000 / (3 * 100)])
    assert class_weights(None, pixels) is None
    assert class_weights((1, 2, 3, 0.5), pixels) == [1, 2, 3, 0.5]
    logits, targets = case()
    balanced = class_weights("balanced", np.array([5, 5, 50], np.int64))
    assert torch.isfinite(loss_function("cross_entropy", 0.0, balanced)(logits, targets))


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 2.0, 0.0), (1.0, -1.0, 2.0)])
def test_wrong_weights_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(LandsegError, match=r"loss.class_weights = .*: expected 3 positive numbers, one per class"):
        class_weights(weights, np.array([1, 2, 3], np.int64))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("logit", [-40.0, -17.0, 0.0, 17.0, 40.0])
def test_focal_loss_has_the_gradient_of_exact_arithmetic(gamma: float, logit: float) -> None:
    """In 32 bits, 1 - p is 0 for logits above about 17: a power below 1 of it has no derivative."""

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        logits = torch.tensor([logit, -logit, 0.3], dtype=dtype).view(1, 3, 1, 1).requires_grad_()
        loss_function("focal", gamma, None)(logits, torch.zeros(1, 1, 1, dtype=torch.uint8)).backward()
        assert logits.grad is not None
        return logits.grad.double()

    found, exact = gradient(torch.float32), gradient(torch.float64)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-12)
    if abs(logit) < 20:  # by differences of the definition, in double precision

        def value(z: float) -> float:
            p = 1 / (1 + np.exp(-z))
            return float(-((1 - p) ** gamma) * np.log(p))

        expected = (value(logit + 1e-5) - value(logit - 1e-5)) / 2e-5 / 3
        assert float(exact[0, 0, 0, 0]) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_focal_loss_is_finite_in_mixed_precision() -> None:
    logits = torch.full((1, 3, 4, 4), 40.0, dtype=torch.bfloat16).requires_grad_()
    loss_function("focal", 0.5, None)(logits.float(), torch.zeros(1, 4, 4, dtype=torch.uint8)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
