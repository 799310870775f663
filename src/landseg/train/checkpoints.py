"""Checkpoints of unfinished training runs.

They lie outside the outputs, which DVC deletes before a stage starts, in a folder named by a hash of everything the run
depends on, so a run resumes from its own checkpoint only. A finished run deletes its checkpoints.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from landseg.core.files import atomic, locked

#: How many interrupted runs with other ingredients to keep.
KEPT = 3


def code_fingerprint() -> str:
    """Return a hash of the running script and of all loaded modules of this package."""
    names = [name for name in sys.modules if name == "__main__" or name.partition(".")[0] == "landseg"]
    digest = hashlib.sha256()
    for name in sorted(names):
        file = getattr(sys.modules[name], "__file__", None)
        digest.update(name.encode() + (Path(file).read_bytes() if file else b""))
    return digest.hexdigest()[:16]


class Checkpoints:
    """The checkpoint folder of one run.

    | file | content |
    |---|---|
    | ingredients.json | everything the run depends on, by name |
    | last.ckpt | state of the run after its last finished epoch, or within the next one |
    | best-<epoch>.safetensors | weights of the best epoch so far |
    """

    def __init__(self, state: Path, ingredients: Mapping[str, Any]) -> None:
        """Set the folder; nothing is written.

        Args:
            state: folder for the state of unfinished runs.
            ingredients: everything the run depends on, by name; flat, and serialisable as JSON.
        """
        self.ingredients = json.loads(json.dumps(ingredients))
        key = hashlib.sha256(json.dumps(self.ingredients, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = state / "checkpoints" / key

    @property
    def last(self) -> Path:
        """State of the run after its last finished epoch, or within the next one."""
        return self.folder / "last.ckpt"

    def locked(self) -> AbstractContextManager[None]:
        """Return a context in which no other process may train the same run.

        Raises:
            LandsegError: another process trains it.
        """
        return locked(
            self.folder.with_suffix(".lock"),
            f"{self.folder}: another process is training this run; wait for it, or stop it and run again",
        )

    def best(self, epoch: int) -> Path:
        """Return the path of the weights of an epoch.

        The epoch is part of the name because an interruption between writing the weights and writing the state must
        not change the best weights of the earlier state.
        """
        return self.folder / f"best-{epoch}.safetensors"

    def keep(self, save_state: Callable[[Path], None], best_epoch: int | None) -> None:
        """Write the state, and delete all files but the state and the weights of the best epoch, if one is finished."""
        ingredients = self.folder / "ingredients.json"
        with atomic(ingredients) as temporary:
            temporary.write_text(json.dumps(self.ingredients, indent=2))
        with atomic(self.last) as temporary:
            save_state(temporary)
        best = set() if best_epoch is None else {self.best(best_epoch)}
        for file in set(self.folder.iterdir()) - {ingredients, self.last} - best:
            file.unlink()

    def prune(self) -> list[str]:
        """Delete all but the latest interrupted runs with other ingredients.

        Returns:
            A message per remaining run, the latest first: its folder, and which ingredients differ.
        """
        others = [last for last in self.folder.parent.glob("*/last.ckpt") if last != self.last]
        others.sort(key=lambda last: last.stat().st_mtime, reverse=True)
        for last in others[KEPT:]:
            shutil.rmtree(last.parent)
        return [f"not resuming from {last.parent}: {self._differences(last.parent)}" for last in others[:KEPT]]

    def _differences(self, folder: Path) -> str:
        before, now = json.loads((folder / "ingredients.json").read_text()), self.ingredients
        names = [name for name in sorted(set(before) | set(now)) if before.get(name) != now.get(name)]
        return ", ".join(f"{name} was {json.dumps(before.get(name))}, is {json.dumps(now.get(name))}" for name in names)

    def close(self) -> None:
        """Delete the folder, after the run has finished and its outputs are written."""
        shutil.rmtree(self.folder)
