from typing import Any, Literal

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F  # noqa: N812 - the usual name

from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.train.losses import class_weights, loss_function

Name = Literal["focal", "dice", "cross_entropy"]
NAMES: list[Name] = ["focal", "dice", "cross_entropy"]
WEIGHTS = [None, [0.2, 1.0, 3.0]]
K = 3


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (2, 3, 8, 8) and targets (2, 8, 8), a quarter of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(K, (2, 8, 8), generator=generator)
    targets[:, ::2, ::2] = IGNORE
    return torch.randn(2, K, 8, 8, generator=generator), targets


def all_losses(function: Any) -> Any:
    named = pytest.mark.parametrize("name", NAMES)
    return pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])(named(function))


@all_losses
def test_ignored_pixels_do_not_contribute(name: Name, weights: list[float] | None) -> None:
    loss = loss_function(name, 2.0, weights)
    logits, targets = case()
    ignored = (targets == IGNORE)[:, None].expand_as(logits)
    other = torch.where(ignored, torch.full_like(logits, 30), logits)
    logits.requires_grad_()
    value = loss(logits, targets)
    value.backward()
    assert logits.grad is not None
    assert float(loss(other, targets)) == pytest.approx(value.item(), rel=1e-6)
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].all()


@all_losses
def test_batch_without_labelled_pixels_has_no_loss(name: Name, weights: list[float] | None) -> None:
    logits, targets = case()
    logits.requires_grad_()
    value = loss_function(name, 2.0, weights)(logits, torch.full_like(targets, IGNORE))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@all_losses
def test_correct_predictions_have_a_small_loss_and_wrong_ones_a_large_one(
    name: Name, weights: list[float] | None
) -> None:
    loss = loss_function(name, 2.0, weights)
    _, targets = case()
    right = F.one_hot(targets.where(targets != IGNORE, 0), K).movedim(-1, 1) * 20.0 - 10
    assert float(loss(right, targets)) < 1e-3
    assert float(loss(-right, targets)) > 0.5


@all_losses
def test_low_precision_and_missing_classes_are_finite(name: Name, weights: list[float] | None) -> None:
    logits, targets = case()
    targets[0] = IGNORE
    targets[1][targets[1] != IGNORE] = 1
    loss = loss_function(name, 2.0, weights)
    low = (logits * 50).bfloat16().requires_grad_()
    value = loss(low, targets)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert low.grad is not None
    assert torch.isfinite(low.grad).all()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(low.detach(), targets)
    assert float(mixed) == pytest.approx(value.item(), rel=1e-5)


def test_focal_loss_equals_the_paper() -> None:
    """Lin et al., 2017, equation 4, one class against all others."""
    logits, targets = case()
    labelled = targets != IGNORE
    truth = F.one_hot(targets.where(labelled, 0), K).movedim(-1, 1)
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
def test_larger_class_weight_gives_a_larger_gradient(name: Name) -> None:
    logits, targets = case()
    shares = []
    for weight in (1.0, 10.0):
        given = logits.clone().requires_grad_()
        loss_function(name, 2.0, [1.0, 1.0, weight])(given, targets).backward()
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
