"""Inspected folders, as projects in which the stages up to the split run."""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
