"""Tiny project: tiles, tables and params.yaml, written with landseg's own functions.

Its images are patches in one colour per class, which a model learns within a few epochs.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import rasterio
from helpers.converting import convert_rows
from helpers.root import ROOT
from helpers.schedules import fit_schedule
from PIL import Image
from rasterio import Affine
from ruamel.yaml import YAML

from landseg.core.arrays import Pixels
from landseg.core.classes import IGNORE, LandClass, class_ids
from landseg.core.data_card import DataCard, MaskEncoding, write_card
from landseg.core.paths import RESULTS, Paths
from landseg.core.rendering import Rendering
from landseg.core.tables import extend_parquet, scene_table
from landseg.loader.tile_set import TileSet, split_tiles
from landseg.model.info import ModelInfo
from landseg.split.summary import class_shares
from landseg.tile.plan import plan_tiles, write_plan

SIZE = 32
#: Ids with gaps, so ids and channels differ.
CLASSES = (
    LandClass(id=0, name="field", color=(120, 160, 60)),
    LandClass(id=3, name="wood", color=(20, 80, 30)),
    LandClass(id=9, name="water", color=(30, 60, 150)),
)
CARD = DataCard(
    name="tiny",
    title="Patches",
    licence="CC0-1.0",
    classes=CLASSES,
    background="field",
    bands=("red", "green", "blue"),
    mask=MaskEncoding(ignore=(IGNORE,)),
)
RENDERING = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1)
PATHS = Paths(CARD.name)
#: Split of each scene; a scene has four tiles. Test has no water.
SCENES = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "test"}

#: Parameters that differ from presets/sample.yaml. The encoder is small and uses stochastic depth.
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "dataset": {"name": CARD.name},
    "tile": {"size": SIZE},
    "model": {"encoder": "mit_b0", "encoder_depth": 3},
    "loss": {"name": "focal", "gamma": 2.0, "class_weights": None},
    "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 0.0},
    "scheduler": {"step": 2, "factor": 0.5},
    "augment": {"d4": True, "brightness": 0.1, "contrast": 0.1},
    "train": {"epochs": 4, "batch_size": 4, "precision": "32", "monitor": "val/macro_miou", "early_stopping": None},
    "evaluate": {"batch_size": 3, "n_examples": 3},
    "compute": {"device": "cpu"},
}


def land(seed: int, classes: int = len(CLASSES)) -> tuple[Pixels, Pixels]:
    """Return an image (64, 64, 3) of noisy patches and its class ids (64, 64), with one corner ignored."""
    generator = np.random.default_rng(seed)
    rough = generator.standard_normal((5, 5, classes)).astype(np.float32)
    channels = cv2.resize(rough, (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_CUBIC).argmax(axis=2)
    colours = np.array([land_class.color for land_class in CLASSES])
    image = np.clip(colours[channels] + generator.normal(0, 12, (2 * SIZE, 2 * SIZE, 3)), 0, 255)
    labels = class_ids(CLASSES)[channels]
    labels[:4, :4] = IGNORE
    return image.astype(np.uint8), labels


def make_project(folder: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write the inputs of the train and evaluate stages, as the stages before them do.

    Args:
        folder: root of the project.
        changes: values that differ from PARAMS, by section and key.
    """
    write_params(folder, changes or {})
    raw, tables = folder / PATHS.raw, folder / PATHS.table("")
    raw.mkdir(parents=True)
    for seed, scene in enumerate(SCENES):
        image, labels = land(seed, len(CLASSES) - (SCENES[scene] == "test"))
        _write_raster(raw / f"{scene}.tif", image.transpose(2, 0, 1), seed)
        _write_raster(raw / f"{scene}_mask.tif", labels[None], seed)
    write_card(CARD, tables / "card.json")
    scenes = scene_table({"scene": s, "image": f"{s}.tif", "mask": f"{s}_mask.tif"} for s in SCENES)
    tiles = plan_tiles(scenes, raw, CARD, SIZE, "drop")
    write_plan(tiles, SIZE, CARD.bands, tables / "plan.parquet")
    pixels = pd.concat(
        [
            convert_rows(of, raw, folder / PATHS.tiles, CARD, RENDERING, SIZE, masks_rgb=False, workers=1)
            for _, of in tiles.groupby("archive", sort=False)
        ]
    )
    splits = tiles["scene"].map(SCENES).to_numpy()
    extend_parquet(
        tables / "plan.parquet",
        tables / "split.parquet",
        {**{str(name): of for name, of in pixels.items()}, "split": splits},
        {"rendering": RENDERING.to_json()},
    )
    shares = {name: asdict(of) for name, of in class_shares(tiles.join(pixels), splits, CLASSES).items()}
    content = {
        "strategy": "scene",
        "splits": shares,
        "leakage": {"test": {"edge": 0.0}},
        "distance": {},
        "warnings": [],
    }
    (folder / RESULTS).mkdir()
    (folder / RESULTS / "split.json").write_text(json.dumps(content))


def tile_set(folder: Path, split: str) -> TileSet:
    """Return the tiles of a split of a tiny project."""
    return TileSet(
        folder / PATHS.tiles, split_tiles(folder / PATHS.table("split.parquet"), split, CLASSES), CLASSES, RENDERING
    )


def model_info(**changes: Any) -> ModelInfo:
    """Return the model info of a tiny project, with changes."""
    defaults = {
        "architecture": "Unet",
        "encoder": "mit_b0",
        "encoder_depth": 3,
        "classes": CLASSES,
        "rendering": RENDERING,
        "image_bands": CARD.bands,
        "dtypes": ("uint8",),
        "gsd": 0.5,
        "tile": SIZE,
        "dataset": CARD.name,
        "licence": CARD.licence,
        "params": {},
    }
    return ModelInfo.model_validate(defaults | changes)


def equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two state dicts have the same keys and bit-identical tensors."""
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def write_params(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write params.yaml of a tiny project, with changes by section and key."""
    params = YAML(typ="safe").load(ROOT / "presets/sample.yaml")
    for sections in (PARAMS, changes):
        for name, values in sections.items():
            params[name] |= values
    fit_schedule(params)
    YAML(typ="safe").dump(params, folder / "params.yaml")


def change_pixel(path: Path, name: str) -> None:
    """Rewrite an archive with one pixel of one member changed."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with Image.open(io.BytesIO(members[name])) as image:
        value = image.getpixel((5, 5))
        image.putpixel((5, 5), (*value[:2], value[2] ^ 1) if isinstance(value, tuple) else 3 - int(value or 0))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (members | {name: buffer.getvalue()}).items():
            archive.writestr(member, content)


def _write_raster(path: Path, bands: Pixels, column: int) -> None:
    """Write (bands, H, W) as a GeoTIFF; scenes are side by side, in order of `column`."""
    count, height, width = bands.shape
    georeference = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000 + SIZE * column, 0, -0.5, 500_000)}
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype="uint8", **georeference) as target:
        target.write(bands)
