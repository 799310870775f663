"""Projects of real imagery, for tests."""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
from helpers.predicting import map_folder
from helpers.rasters import Project
from rasterio.errors import NotGeoreferencedWarning

from landseg.core.tables import read_parquet

Array = npt.NDArray[Any]

COLOURS = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180))


def classes(*names: str, first: int = 1) -> list[dict[str, Any]]:
    """Return classes with ids from the first."""
    return [{"id": first + n, "name": name, "color": list(COLOURS[n])} for n, name in enumerate(names)]


def new_project(folder: Path, files: Mapping[str, Path], **sections: dict[str, Any]) -> Project:
    """Return a project with copies of files and folders in data/local, and a tiny network."""
    project = Project(folder)
    for name, source in files.items():
        target = project.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    project.change(
        dataset={"background": None},
        tile={"size": 64, "edge": "pad", "min_share": 0.1},
        convert={"stretch": "percentiles", "masks_rgb": False},
        model={"encoder_weights": None, "encoder_depth": 3},
        loss={"name": "cross_entropy"},
        optimizer={"lr": 1e-3},
        train={"epochs": 1, "precision": "32", "compile": False},
        evaluate={"n_examples": 2},
    )
    project.change(**sections)
    return project


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            yield raster


def read(path: Path | str, **options: Any) -> Array:
    with opened(path) as raster:
        pixels: Array = raster.read(**options)
        return pixels


def table(project: Project, name: str = "tiles") -> pd.DataFrame:
    return read_parquet(project / f"data/tables/folder/{name}.parquet")


def predict(project: Project, *arguments: object, fails: bool = False) -> str:
    """Run `landseg predict` in the folder of a project, and return what it prints."""
    from helpers.commands import landseg

    model = project / "models/folder/model.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        done = landseg("predict", *arguments, "--model", model, "--out", "maps", "--device", "cpu")
        assert done.exit_code == int(fails), done.output
        assert map_folder()
    return done.output
