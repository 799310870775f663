"""Checkpoints: an interrupted run goes on where it stood, and nothing stale is ever taken for new.

They lie outside DVC's outputs, which it deletes before a stage starts, in a folder named by a hash of
all that the run depends on. A run that ends well deletes its own.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landseg.files import atomic

#: How many interrupted runs with other parameters, data or code to keep.
KEPT = 3


def code_fingerprint() -> str:
    """Return a hash of the sources of every module of this package that is loaded."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("landseg")}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(name.encode() + Path(file).read_bytes() if file else b"")
    return digest.hexdigest()


class Checkpoints:
    """The folder of one run's checkpoints."""

    def __init__(self, state: Path, ingredients: Mapping[str, Any]) -> None:
        """Name the folder.

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

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.folder / "best.safetensors"

    def open(self) -> list[str]:
        """Make the folder; return what to tell about checkpoints that are there, a sentence each."""
        if self.last.is_file():
            return [f"resuming from {self.last}"]
        others = sorted(self.folder.parent.glob("*/ingredients.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        for stale in others[KEPT:]:
            shutil.rmtree(stale.parent)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / "ingredients.json") as temporary:
            temporary.write_text(json.dumps(self.ingredients, indent=2))
        return [f"not resuming from {file.parent}: {self._differences(file)}" for file in others[:KEPT]]

    def _differences(self, file: Path) -> str:
        other = json.loads(file.read_text())
        names = sorted(set(other) | set(self.ingredients))
        changed = [(name, other.get(name), self.ingredients.get(name)) for name in names]
        return ", ".join(f"{name} was {_short(was)}, is {_short(now)}" for name, was, now in changed if was != now)

    def close(self) -> None:
        """Delete the folder: the run has ended, and its outputs are written."""
        shutil.rmtree(self.folder)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…\""
