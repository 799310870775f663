import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from landseg.train.checkpoints import KEPT, Checkpoints, code_fingerprint

INGREDIENTS = {"code": "0a1b", "model.encoder": "resnet18", "loss.class_weights": None, "train.epochs": 4}


def writer(text: str) -> Callable[[Path], None]:
    """Return a function that writes a text to a path."""

    def write(path: Path) -> None:
        path.write_text(text)

    return write


def interrupted(state: Path, at: float = 0, **changes: object) -> Checkpoints:
    """Return the checkpoints of a run interrupted after its first epoch."""
    checkpoints = Checkpoints(state, INGREDIENTS | changes)
    checkpoints.best(0).parent.mkdir(parents=True)
    checkpoints.best(0).write_text("weights")
    checkpoints.keep(writer("state"), best_epoch=0)
    os.utime(checkpoints.last, (at, at))
    return checkpoints


def test_nothing_is_written_before_the_first_epoch_ends(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "state", INGREDIENTS)
    assert checkpoints.prune() == []
    assert not checkpoints.last.is_file()
    assert not (tmp_path / "state").exists()


def test_the_same_ingredients_find_their_checkpoint(tmp_path: Path) -> None:
    kept = interrupted(tmp_path)
    again = Checkpoints(tmp_path, dict(reversed(INGREDIENTS.items())))
    assert again.last == kept.last
    assert again.last.read_text() == "state"
    assert again.prune() == []
    again.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"model.encoder": "resnet34"}, 'model.encoder was "resnet18", is "resnet34"'),
        ({"code": "2c3d"}, 'code was "0a1b", is "2c3d"'),
        ({"loss.class_weights": (1, 2.5)}, "loss.class_weights was null, is [1, 2.5]"),
        ({"class 3": "9 water"}, 'class 3 was null, is "9 water"'),
        ({"train.epochs": 5, "code": "x"}, 'code was "0a1b", is "x", train.epochs was 4, is 5'),
    ],
)
def test_runs_with_other_ingredients_are_named_and_not_resumed(
    tmp_path: Path, changes: dict[str, object], difference: str
) -> None:
    old = interrupted(tmp_path)
    new = Checkpoints(tmp_path, INGREDIENTS | changes)
    assert not new.last.is_file()
    assert new.prune() == [f"not resuming from {old.folder}: {difference}"]
    assert old.last.is_file()  # resumed if its parameters are restored


def test_latest_runs_are_kept(tmp_path: Path) -> None:
    runs = [
        interrupted(tmp_path, at, **{"train.epochs": epochs})
        for at, epochs in ((3, 10), (1, 11), (5, 12), (4, 13), (2, 14))
    ]
    sentences = Checkpoints(tmp_path, INGREDIENTS).prune()
    assert KEPT == 3
    assert [sentence.partition("was ")[2] for sentence in sentences] == ["12, is 4", "13, is 4", "10, is 4"]
    assert [run.folder.exists() for run in runs] == [True, False, True, True, False]


def test_run_without_a_finished_epoch_is_not_mentioned(tmp_path: Path) -> None:
    other = Checkpoints(tmp_path, INGREDIENTS | {"train.epochs": 9})
    other.folder.mkdir(parents=True)
    other.best(0).write_text("weights")  # killed between writing weights and state
    assert Checkpoints(tmp_path, INGREDIENTS).prune() == []


def test_only_the_best_weights_and_the_last_state_are_kept(tmp_path: Path) -> None:
    checkpoints = interrupted(tmp_path)
    (checkpoints.folder / ".last.ckpt.x7.ckpt").write_text("half")
    checkpoints.best(1).write_text("better")
    checkpoints.keep(writer("later"), best_epoch=1)
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {"ingredients.json", "last.ckpt", "best-1.safetensors"}
    assert checkpoints.last.read_text() == "later"


def test_interruption_between_weights_and_state_changes_neither(tmp_path: Path) -> None:
    checkpoints = interrupted(tmp_path)

    def killed(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    checkpoints.best(1).write_text("weights of an unfinished epoch")
    with pytest.raises(KeyboardInterrupt):
        checkpoints.keep(killed, best_epoch=1)
    assert checkpoints.last.read_text() == "state"
    assert checkpoints.best(0).read_text() == "weights"


def test_code_fingerprint_depends_on_loaded_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = code_fingerprint()
    assert before == code_fingerprint()
    module = types.ModuleType("landseg.new")
    module.__file__ = str(tmp_path / "new.py")
    (tmp_path / "new.py").write_text("x = 1")
    monkeypatch.setitem(sys.modules, "landseg.new", module)
    first = code_fingerprint()
    (tmp_path / "new.py").write_text("x = 2")
    assert len({before, first, code_fingerprint()}) == 3
