"""Checkpoints: an interrupted run goes on where it stood, and nothing stale is ever taken for new.

They lie outside DVC's outputs, which it deletes before a stage starts, in a folder named by a hash of
all that the run depends on. A run that ends well deletes its own.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from landseg.core.files import atomic

#: How many interrupted runs with other parameters, data or code to keep.
KEPT = 3


def code_fingerprint() -> str:
    """Return a hash of the script that runs and of every module of this package that is loaded."""
    names = [name for name in sys.modules if name == "__main__" or name.partition(".")[0] == "landseg"]
    digest = hashlib.sha256()
    for name in sorted(names):
        file = getattr(sys.modules[name], "__file__", None)
        digest.update(name.encode() + (Path(file).read_bytes() if file else b""))
    return digest.hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    | file | |
    |---|---|
    | ingredients.json | all that the run depends on, by name |
    | last.ckpt | the whole state of the run after its last finished epoch |
    | best-<epoch>.safetensors | the weights of the best epoch that the state knows of |
    """

    def __init__(self, state: Path, ingredients: Mapping[str, Any]) -> None:
        """Name the folder; nothing is written.

        Args:
            state: folder for the state of unfinished work.
            ingredients: all that the run depends on, by name; flat, and fit for JSON.
        """
        self.ingredients = json.loads(json.dumps(ingredients))
        key = hashlib.sha256(json.dumps(self.ingredients, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = state / "checkpoints" / key

    @property
    def last(self) -> Path:
        """The whole state of the run after its last finished epoch."""
        return self.folder / "last.ckpt"

    def best(self, epoch: int) -> Path:
        """Return the place of an epoch's weights.

        Each epoch has its own, so that weights are never taken for those of the epoch before when an
        interruption falls between them and the state that says which epoch is the best.
        """
        return self.folder / f"best-{epoch}.safetensors"

    def keep(self, save_state: Callable[[Path], None], best_epoch: int) -> None:
        """Write the state after an epoch; the weights of the best one must be there.

        Those of other epochs are dropped, and what interrupted writes have left.
        """
        ingredients = self.folder / "ingredients.json"
        with atomic(ingredients) as temporary:
            temporary.write_text(json.dumps(self.ingredients, indent=2))
        with atomic(self.last) as temporary:
            save_state(temporary)
        for file in set(self.folder.iterdir()) - {ingredients, self.last, self.best(best_epoch)}:
            file.unlink()

    def stale(self) -> list[str]:
        """Say of interrupted runs with other ingredients what differs, a sentence each, the newest first.

        None of them is resumed; the newest few are kept, should their parameters come back.
        """
        others = [last for last in self.folder.parent.glob("*/last.ckpt") if last != self.last]
        others.sort(key=lambda last: last.stat().st_mtime, reverse=True)
        for last in others[KEPT:]:
            shutil.rmtree(last.parent)
        return [f"not resuming from {last.parent}: {self._differences(last.parent)}" for last in others[:KEPT]]

    def _differences(self, folder: Path) -> str:
        theirs, ours = json.loads((folder / "ingredients.json").read_text()), self.ingredients
        values = [(name, theirs.get(name), ours.get(name)) for name in sorted(set(theirs) | set(ours))]
        differing = [(name, json.dumps(was), json.dumps(now)) for name, was, now in values if was != now]
        return ", ".join(f"{name} was {was}, is {now}" for name, was, now in differing)

    def close(self) -> None:
        """Delete the folder: the run has ended, and its outputs are written."""
        shutil.rmtree(self.folder)
