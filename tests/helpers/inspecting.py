"""Inspected folders, as projects in which the stages up to the split run."""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.check import find_faults
from landseg.inspection.folder import inspect_folder
from landseg.inspection.settings import Inspection

STAGES = ("card", "download", "filter", "tile", "convert", "split")


@dataclass
class Inspected:
    """A project with the params.yaml of an inspection."""

    folder: Path
    found: Inspection

    @property
    def text(self) -> str:
        return (self.folder / "params.yaml").read_text(encoding="utf-8")

    @property
    def params(self) -> dict[str, Any]:
        content: dict[str, Any] = YAML(typ="safe").load(self.text)
        return content

    @property
    def questions(self) -> str:
        """Keys and questions, one a line."""
        asked = self.found.settings.questions
        return "\n".join(f"{key}: {text}" for key, texts in asked.items() for text in texts)

    def run_to_split(self) -> dict[str, Any]:
        """Check the parameters, run the stages, and return the summary of the split, in which no split is empty."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            assert find_faults() == []
            for stage in STAGES:
                runpy.run_path(str(ROOT / f"pipeline/{stage}.py"), run_name="__main__")
        summary: dict[str, Any] = json.loads((self.folder / "results/split.json").read_text())
        assert all(summary["splits"][split]["tiles"] > 0 for split in ("train", "val", "test"))
        return summary


def inspected(folder: Path, project: Path) -> Inspected:
    """Inspect a folder from a project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return Inspected(project, inspect_folder(folder, Path("params.yaml")))


def picture(seed: int, height: int = 64, width: int = 96) -> npt.NDArray[np.uint8]:
    """Return smooth random colours, (H, W, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def bands(seed: int, height: int = 64, width: int = 96) -> npt.NDArray[np.uint16]:
    """Return three bands, (3, H, W)."""
    return picture(seed, height, width).transpose(2, 0, 1).astype(np.uint16) * 10


def labels(seed: int, height: int = 64, width: int = 96, count: int = 4) -> npt.NDArray[np.uint8]:
    """Return values from 0 in squares of 16 px, (H, W)."""
    squares = np.random.default_rng(seed).integers(0, count, (height // 16, width // 16)).astype(np.uint8)
    return squares.repeat(16, axis=0).repeat(16, axis=1)
