"""Small rasters, and a small project of them, for tests."""

import copy
import io
import os
import runpy
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
from helpers.root import ROOT
from helpers.schedules import fit_schedule
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning
from ruamel.yaml import YAML

from landseg.core import tables
from landseg.core.classes import LandClass
from landseg.core.data_card import DataCard

TRANSFORM = Affine(0.5, 0, 500_000, 0, -0.5, 400_000)
CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=1, name="building", color=(80, 0, 165)),
    LandClass(id=2, name="woodland", color=(255, 204, 0)),
    LandClass(id=7, name="water", color=(0, 244, 244)),
)
IDS = np.array([each.id for each in CLASSES], np.uint8)

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


def card(**changes: Any) -> DataCard:
    plain: dict[str, Any] = {
        "name": "test", "title": "Test", "licence": "CC0-1.0", "classes": CLASSES, "bands": ("red", "green", "blue"),
    }  # fmt: skip
    return DataCard(**plain | changes)


def random_image(height: int, width: int, seed: int = 0) -> Bytes:
    """Return random pixels, (3, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)


def random_labels(height: int, width: int, seed: int = 0, patch: int = 16) -> Bytes:
    """Return random class ids in square patches, (H, W)."""
    rows, cols = -(-height // patch), -(-width // patch)
    chosen = np.random.default_rng(seed).choice(IDS, (rows, cols))
    return chosen.repeat(patch, axis=0).repeat(patch, axis=1)[:height, :width]


def class_colours(ids: Bytes) -> Bytes:
    """Convert class ids (H, W) to class colours, (H, W, 3)."""
    colours = np.zeros((*ids.shape, 3), np.uint8)
    for each in CLASSES:
        colours[ids == each.id] = each.color
    return colours


def write_tif(
    path: Path,
    pixels: Array,
    crs: str | None = "EPSG:2180",
    transform: Affine | None = TRANSFORM,
    colormap: Mapping[int, tuple[int, ...]] | None = None,
    **options: Any,
) -> Path:
    """Write (bands, H, W) or (H, W) of any dtype as a GeoTIFF."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    georeference = {"crs": crs, "transform": transform} if transform else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **georeference, **options) as raster:
            raster.write(bands)
            if colormap:
                raster.write_colormap(1, colormap)
    return path


def write_image(path: Path, pixels: Array, colours: Bytes | None = None) -> Path:
    """Write (H, W) or (H, W, 3) as PNG or JPEG, by the suffix, with an optional palette of colours (256, 3)."""
    image = Image.fromarray(pixels)
    if colours is not None:
        image.putpalette(colours.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Keep the first share of the bytes of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def scene_table(*scenes: tuple[str, str, str]) -> pd.DataFrame:
    """Return a scene table from (scene, image, mask) rows."""
    return tables.scene_table(dict(zip(("scene", "image", "mask"), scene, strict=True)) for scene in scenes)


class Project:
    """A project folder with a params.yaml, in which stages run as with `dvc repro`."""

    def __init__(self, folder: Path, preset: str = "folder", classes: bool = True) -> None:
        self.folder = folder
        self.local = folder / "data/local"
        self.local.mkdir(parents=True)
        self.params: dict[str, Any] = YAML(typ="safe").load((ROOT / f"presets/{preset}.yaml").read_text())
        self.change(
            dataset={"classes": [each.model_dump(mode="json") for each in CLASSES]} if classes else {},
            tile={"size": 32, "edge": "drop"},
            compute={"workers": 1},
        )

    def at(self, folder: Path) -> "Project":
        """Return the same project in another folder, to which the caller copied its files."""
        other = copy.deepcopy(self)
        other.folder, other.local = folder, folder / "data/local"
        return other

    def only(self, scene: str) -> None:
        """Keep one row of the scene table."""
        path = self.folder / f"data/tables/{self.params['dataset']['name']}/scenes.csv"
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(row for row in rows if row.startswith(f"{scene},"))]) + "\n")

    def change(self, **sections: dict[str, Any]) -> None:
        for name, values in sections.items():
            self.params[name].update(values)
        fit_schedule(self.params)
        with (self.folder / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(self.params, file)

    def add(
        self, scene: str, image: Array | None = None, mask: Array | None = None, cloud: Array | None = None
    ) -> None:
        """Write a scene to data/local: the given arrays, or random ones of 64 x 96 px."""
        write_tif(self.local / f"images/{scene}.tif", random_image(64, 96) if image is None else image)
        write_tif(self.local / f"masks/{scene}.tif", random_labels(64, 96) if mask is None else mask)
        if cloud is not None:
            write_tif(self.local / f"clouds/{scene}.tif", cloud)

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, path: str) -> Path:
        return self.folder / path

    def run(self, *stages: str) -> None:
        """Run stages that must succeed, in this process, because starting Python takes longer than the stages.

        `download` includes `card`.
        """
        for stage in stages:
            if stage == "download":
                self.run("card")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(self.folder)
                runpy.run_path(str(ROOT / f"pipeline/{stage}.py"), run_name="__main__")

    def fails(self, stage: str, limit: int | None = None) -> str:
        """Run a stage that must fail without leaving files, and return its one line on standard error.

        Args:
            stage: name of the stage.
            limit: maximum file size in bytes, to simulate a full disk.
        """
        if stage == "download":
            with suppress(SystemExit), _standard_error():
                self.run("card")
        before = self.files()
        with max_file_size(limit), _standard_error() as errors, pytest.raises(SystemExit) as ended:
            self.run(stage)
        message = errors.getvalue()
        assert ended.value.code == 1, message
        self.has_one_line(message)
        assert self.files() == before
        return message

    @staticmethod
    def has_one_line(message: str) -> None:
        assert message.startswith("error: "), message
        assert message.count("\n") == 1, message

    def files(self) -> set[str]:
        """Return the paths of all files, without what a failed stage keeps for its next run."""
        paths = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        return {path for path in paths if not path.startswith((".landseg/filter/", ".landseg/convert/"))}


@contextmanager
def max_file_size(size: int | None) -> Iterator[None]:
    """Limit the file size, in bytes, in this process and its child processes."""
    if size is None:
        yield
        return
    import resource  # not available on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    get_reusable_executor().shutdown()  # joblib reuses its processes, which keep the limit they started with
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with redirect_stdout(io.StringIO()):  # pytest captures standard output in a file
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        get_reusable_executor().shutdown()


@contextmanager
def _standard_error() -> Iterator[io.StringIO]:
    """Capture standard error of Python, and then of C libraries and child processes."""
    caught, kept = io.StringIO(), os.dup(2)
    with tempfile.TemporaryFile("w+") as errors:
        os.dup2(errors.fileno(), 2)
        try:
            with redirect_stderr(caught):
                yield caught
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            errors.seek(0)
            caught.write(errors.read())
