"""Parameters of training that contradict one another."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from landseg.core.errors import LandsegError
from landseg.core.params import validate
from landseg.schema import params_schema
from landseg.train.params import LOSSES, LossParams

CHOICES = "focal, dice, jaccard, tversky, lovasz, cross_entropy"
UNKNOWN = f"must be one of {CHOICES}, or several joined by + without spaces, as in dice+cross_entropy"


def loss_params(**changes: Any) -> LossParams:
    return validate(LossParams, {"gamma": 2.0, "class_weights": None, **changes}, "loss", Path("params.yaml"))


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": name} for name in [*LOSSES, "dice+cross_entropy", "+".join(LOSSES)]),
        {"name": "tversky", "alpha": 0.3, "beta": 0.7},
        {"name": "focal+tversky", "alpha": 1},
        {"name": "dice+cross_entropy", "label_smoothing": 0.1},
        {"name": "dice", "alpha": 0.5, "beta": 0.5, "label_smoothing": 0},
    ],
)
def test_losses_and_sums_of_losses(changes: dict[str, Any]) -> None:
    assert loss_params(**changes).name == changes["name"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "fokal"}, f"loss.name = 'fokal': {UNKNOWN}; did you mean focal?"),
        ({"name": "fokal+tversky"}, f"loss.name = 'fokal+tversky': {UNKNOWN}; did you mean focal+tversky?"),
        ({"name": "dice+xyz"}, f"loss.name = 'dice+xyz': {UNKNOWN}"),
        ({"name": "dice + lovasz"}, f"loss.name = 'dice + lovasz': {UNKNOWN}; did you mean dice+lovasz?"),
        ({"name": "dice+"}, f"loss.name = 'dice+': {UNKNOWN}"),
        (
            {"name": "dice+focal+dice"},
            f"loss.name = 'dice+focal+dice': has dice twice; name each of {CHOICES} at most once",
        ),
        (
            {"name": "dice+focal", "alpha": 0.3},
            "loss.alpha = 0.3: only tversky uses this key; set it to 0.5, or add tversky to loss.name = dice+focal",
        ),
        (
            {"name": "jaccard", "beta": 1},
            "loss.beta = 1: only tversky uses this key; set it to 0.5, or add tversky to loss.name = jaccard",
        ),
        (
            {"name": "focal", "label_smoothing": 0.1},
            "loss.label_smoothing = 0.1: only cross_entropy uses this key; set it to 0, or add cross_entropy to "
            "loss.name = focal",
        ),
        ({"name": "tversky", "alpha": 0}, "loss.alpha = 0: must be greater than 0.0"),
        ({"name": "cross_entropy", "label_smoothing": 1}, "loss.label_smoothing = 1: must be less than 1.0"),
    ],
)
def test_losses_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LandsegError) as caught:
        loss_params(**changes)
    assert str(caught.value) == f"params.yaml: {message}"


def test_the_schema_has_a_pattern_for_sums() -> None:
    pattern = json.loads(params_schema())["$defs"]["LossParams"]["properties"]["name"]["pattern"]
    assert all(re.search(pattern, name) for name in [*LOSSES, "dice+cross_entropy", "lovasz+focal+tversky"])
    assert not any(re.search(pattern, name) for name in ["", "fokal", "dice+", "+dice", "dice + focal", "dicefocal"])
