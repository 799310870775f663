"""Params files are validated strictly; each error names the key, the problem and the remedy."""

import importlib.util
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.root import ROOT
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from landseg.core.errors import LandsegError
from landseg.core.params import dataset_name, read_section
from landseg.datasets.folder.params import FolderParams
from landseg.datasets.sample.params import SampleParams
from landseg.schema import AnyDataset, Params, check_params, params_schema
from landseg.split.params import SplitParams
from landseg.tile.params import TileParams

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
RECORDED = sorted((ROOT / "docs/results").rglob("params.yaml"))
FOLDER = (ROOT / "presets/folder.yaml").read_text()


def fault(folder: Path, was: str, now: str) -> str:
    """Check presets/folder.yaml with one change; return the error message without the file name."""
    assert was in FOLDER
    path = folder / "params.yaml"
    path.write_text(FOLDER.replace(was, now, 1))
    with pytest.raises(LandsegError) as caught:
        check_params(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("was", "now", "unknown", "nearest"),
    [
        ("masks_rgb: true", "mask_rgb: true", "convert.mask_rgb", "convert.masks_rgb"),
        ("encoder: resnet18", "encoder_name: resnet34", "model.encoder_name", "model.encoder"),
        ("model:", "modell:", "modell", "model"),
        ("edge: pad", "edge: pad\n  max_cloud_share: 0.1", "tile.max_cloud_share", "filter.max_cloud_share"),
        ("licence: not", "license: not", "dataset.license", "dataset.licence"),
        ("color: [80", "colour: [80", "dataset.classes.1.colour", "dataset.classes.color"),
        ("seed: 0", "sede: 0", "split.sede", "split.seed"),
    ],
)
def test_unknown_key(tmp_path: Path, was: str, now: str, unknown: str, nearest: str) -> None:
    assert fault(tmp_path, was, now).startswith(f"{unknown}: unknown key; did you mean {nearest}?")


def test_unknown_key_without_a_similar_one(tmp_path: Path) -> None:
    message = fault(tmp_path, "edge: pad", "edge: pad\n  quux: 1")
    assert message == "tile.quux: unknown key; remove it; params.schema.json lists the known keys"


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("size: 256", "size: 500", "tile.size = 500: must be a multiple of 32"),
        ("size: 256", "size: large", "tile.size = 'large': must be an integer"),
        ("edge: pad", "edge: padd", "tile.edge = 'padd': must be 'drop' or 'pad'; did you mean pad?"),
        ("background: background", "background: backgrund", "dataset.background = 'backgrund': unknown class"),
        ("ignore: []", "ignore: [[1, 2, 3]]", "dataset.ignore contains a colour, but dataset.mask_values is ids"),
        (
            "max_cloud_share: 0.2",
            "max_cloud_share: 0.2\n  method: scl",
            "filter.method = scl: no such cloud layer in this",
        ),
        ("gamma: 1.0", "gamma: 1.0\n  min_consensus: 5", "convert.min_consensus: only labels of landcovernet have a"),
        ("strategy: scene", "strategy: group", "split.strategy group needs scenes in groups, as landcovernet"),
        ("gamma: 1.0", "gamma: 0", "convert.gamma = 0: must be greater than 0"),
        ("max_cloud_share: 0.2", "max_cloud_share: 20", "filter.max_cloud_share = 20: must be at most 1"),
        ("workers: null", "workers: 0", "compute.workers = 0: must be at least 1"),
        ("engine: local", "engine: dask", "compute.engine = dask needs compute.address, of a running scheduler, or"),
        ("engine: local", "engine: ray", "compute.engine = 'ray': must be 'local' or 'dask'"),
        ("range: [0, 3000]", "range: [3000, 0]", "convert.range: the first value must be less than the second"),
        ("ratios: [0.8, 0.1, 0.1]", "ratios: [0.8, 0.1, 0.2]", "split.ratios sum to 1.1; write three shares"),
        ("ratios: [0.8, 0.1, 0.1]", "ratios: [1.2, -0.1, -0.1]", "split.ratios"),
        ("ratios: [0.8, 0.1, 0.1]", "ratios: [0.8, 0.2]", "split.ratios = [0.8, 0.2]: must have at least 3 value(s)"),
        (
            "ratios: [0.8, 0.1, 0.1]",
            "ratios: [0.7, 0.1, 0.1, 0.1]",
            "split.ratios = [0.7, 0.1, 0.1, 0.1]: must have at most 3 value(s)",
        ),
        ("{id: 1,", "{id: 0,", "dataset.classes: id 0 occurs 2 times; each class needs a unique id"),
        ("name: building", "name: road", "dataset.classes: name 'road' occurs 2 times"),
        ("[80, 0, 165]", "[0, 0, 0]", "dataset.classes: color (0, 0, 0) occurs 2 times"),
        ("{id: 4,", "{id: 256,", "dataset.classes.4.id = 256: must be at most 255"),
        ("[80, 0, 165]", "[80, 0, 265]", "dataset.classes.1.color.2 = 265: must be at most 255"),
        ("[80, 0, 165]", "'#5000ag'", "dataset.classes.1.color = '#5000ag': must be a list"),
        ("ignore: []", "ignore: [[0, 0, 300]]", "dataset.ignore.0.2 = 300: must be at most 255"),
        ("ignore: []", "ignore: 0", "dataset.ignore = 0: must be a list"),
        ("class_weights: null", "class_weights: [1, a]", "loss.class_weights.1 = 'a': must be a number"),
        ("  name: folder", "  name: foldr", "dataset.name = 'foldr': must be one of 'sample', 'landcoverai', 'folder'"),
        ("  name: folder", "  # name", "dataset.name: missing key; add it"),
        ("  edge: pad", "  # edge", "tile.edge: missing key; add it, or copy the section from one of presets/*.yaml"),
        (
            "download:\n  folder",
            "download:\n  # folder",
            "download = null: must be a section with keys; copy the section from one of presets/*.yaml",
        ),
        ("strategy: scene", "strategy: official", "split.strategy official needs the publisher's tiles"),
        ("edge: pad", "edge: pad\n  edge: drop", 'line NEXT: found duplicate key "edge"'),
        ("edge: pad", "edge: [pad", "line NEXT: expected ',' or ']'"),
        ("edge: pad", "\tedge: pad", "line HERE: found character '\\t' that cannot start any token; correct it"),
        ("edge: pad", "edge: \0", "not valid YAML; correct it or copy one of presets/*.yaml to it"),
    ],
)
def test_invalid_value(tmp_path: Path, was: str, now: str, message: str) -> None:
    line = (ROOT / "presets/folder.yaml").read_text().split(was)[0].count("\n") + 1
    for word, number in (("HERE", line), ("NEXT", line + 1)):
        message = message.replace(f"line {word}:", f"line {number}:")
    assert fault(tmp_path, was, now).startswith(message)


@pytest.mark.parametrize(
    ("preset", "was", "now", "message"),
    [
        (
            "landcovernet",
            "region: af",
            "region: asia",
            "dataset.region = 'asia': must be one of af (Africa), as (Asia)",
        ),
        ("landcovernet", "region: af", "region: asia", "; did you mean as?"),
        ("landcovernet", "region: af", "region: EU", "; did you mean eu?"),
        ("landcovernet", "region: af", "region: oceania", "; did you mean au?"),
        ("landcovernet", "name: landcovernet", "name: landcovernett", "; did you mean landcovernet?"),
        (
            "landcovernet",
            "chips: 120",
            "chips: 0",
            "dataset.chips = 0: must be a positive number, a list of ids such as",
        ),
        (
            "landcovernet",
            "chips: 120",
            "chips: []",
            "dataset.chips = []: must be a positive number, a list of ids such as",
        ),
        ("landcovernet", "chips: 120", "chips: true", "dataset.chips = True: must be a positive number"),
        (
            "landcovernet",
            "chips: 120",
            "chips: [29NMG21]",
            "dataset.chips: '29NMG21' is not a chip id; write ids in quo",
        ),
        (
            "ghana",
            "chips: 400",
            'chips: "002990"',
            "dataset.chips = '002990': must be a positive number, a list of ids",
        ),
        (
            "ghana",
            "chips: 400",
            "chips: [2990]",
            'dataset.chips: 2990 is not a chip id; write ids in quotes, as in ["0',
        ),
        (
            "landcoverai",
            "  url: null",
            "  source: mlhub\n  url: null",
            "download.source = mlhub: only landcovernet and g",
        ),
        ("landcovernet", "bbox: null", "bbox: [9, 5, 8, 6]", "dataset.bbox must be [west, south, east, north] in degr"),
        (
            "landcovernet",
            '"2018-12-31"]',
            '"2017-12-31"]',
            "dataset.dates: the first date must not be later than the last",
        ),
        (
            "landcovernet",
            '"2018-12-31"]',
            '"2018-31-12"]',
            "dataset.dates.1 = '2018-31-12': must be a valid date",
        ),
        (
            "landcovernet",
            "bands: [red, green, blue]  # c",
            "bands: [red, red]  # c",
            "dataset.bands: contains duplicates",
        ),
        ("landcovernet", "bands: [red, green, blue]  # c", "bands: [redd]  # c", "; did you mean red?"),
        (
            "landcovernet",
            "bands: [red, green, blue]  # bands",
            "bands: [nir, green, blue]  # bands",
            "convert.bands: 'nir' is neither a band of this dataset nor a spectral index; choose from red, green, "
            "blue, or add it to dataset.bands",
        ),
        (
            "landcovernet",
            "show: null",
            "show: [nir, red, green]  #",
            "convert.show: 'nir' is neither a band of this dataset nor a spectral index; choose from red, green, blue, "
            "or add it to dataset.bands",
        ),
        (
            "landcovernet",
            "resolution: null",
            "resolution: nir  #",
            "convert.resolution = nir: not a band of this dataset; choose from red, green, blue, or give a pixel size "
            "in units of the CRS",
        ),
        (
            "landcovernet",
            "method: scl",
            "method: mask",
            "filter.method = mask: no such cloud layer in this dataset; choose",
        ),
        (
            "landcovernet",
            "scl: [1, 3, 8, 9, 10]",
            "scl: [12]",
            "filter.scl.0 = 12: must be at most 11",
        ),
        ("landcovernet", "source: source-coop", "source: mlhup", "; did you mean mlhub?"),
        (
            "landcovernet",
            "strategy: group",
            "strategy: official",
            "split.strategy official needs the publisher's tiles",
        ),
        (
            "ghana",
            "strategy: official",
            "strategy: random",
            "split.strategy random: chip positions of this dataset are",
        ),
        (
            "ghana",
            "  lists: ",
            "  lists: null #",
            "split.strategy official needs the publisher's lists; set dataset.lists",
        ),
        (
            "ghana",
            "  seed: 0               # random seed of the chip",
            "  bbox: null #",
            "dataset.bbox: unknown key",
        ),
    ],
)
def test_invalid_value_of_a_chip_dataset(tmp_path: Path, preset: str, was: str, now: str, message: str) -> None:
    text = (ROOT / f"presets/{preset}.yaml").read_text()
    assert was in text
    (tmp_path / "params.yaml").write_text(text.replace(was, now, 1))
    with pytest.raises(LandsegError) as caught:
        check_params(tmp_path / "params.yaml")
    assert message in str(caught.value)


def test_ids_to_ignore_in_colour_masks(tmp_path: Path) -> None:
    text = FOLDER.replace("mask_values: ids", "mask_values: rgb").replace("ignore: []", "ignore: [1]")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(
        LandsegError, match=r"dataset\.ignore contains an id, but dataset\.mask_values is rgb; list colours"
    ):
        check_params(tmp_path / "params.yaml")


def test_missing_section(tmp_path: Path) -> None:
    begin, end = FOLDER.index("tile:"), FOLDER.index("convert:")
    message = fault(tmp_path, FOLDER[begin:end], "")
    assert message == "tile: missing key; add it, or copy the section from one of presets/*.yaml"
    with pytest.raises(LandsegError, match=r"^.*params.yaml: tile: missing section; copy it from one of presets/"):
        read_section(TileParams, "tile", tmp_path / "params.yaml")


def test_further_faults_are_counted(tmp_path: Path) -> None:
    message = fault(
        tmp_path,
        "size: 256             # tile height and width in pixels; a multiple of 32\n  edge: pad",
        "size: 500\n  edge: x",
    )
    assert message.endswith("(1 more after this one)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "file not found; copy one of presets/"),
        (b"", "no sections found; copy one of presets/"),
        (b"- 1\n", "no sections found"),
        (b"\xff\xfe\x00", "not UTF-8 text; save it as UTF-8 or copy one of presets/"),
    ],
)
def test_unreadable_params_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LandsegError, match=f"^{path}: {message}"):
        check_params(path)


def test_folder_instead_of_params_file(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=f"^{tmp_path}: expected a file, found a folder"):
        check_params(tmp_path)


def test_read_one_section(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "dataset: {name: landcoverai, and: more}\nsplit: {strategy: block, ratios: [.5, .25, .25], seed: 1, block: 3, "
        "train_tiles: null, skew: {class: null, share: 1, over: 0.5, control: false}}"
    )
    assert dataset_name(path) == "landcoverai"
    assert read_section(SplitParams, "split", path).ratios == (0.5, 0.25, 0.25)
    with pytest.raises(LandsegError, match=r"dataset\.and: unknown key"):
        read_section(AnyDataset, "dataset", path)


def test_sample_needs_three_clear_scenes(tmp_path: Path) -> None:
    text = (ROOT / "presets/sample.yaml").read_text()
    scenes = check_params(ROOT / "presets/sample.yaml").dataset
    assert isinstance(scenes, SampleParams)
    (tmp_path / "params.yaml").write_text(text.replace(f"cloudy: {scenes.cloudy}", f"cloudy: {scenes.scenes}"))
    with pytest.raises(LandsegError, match=r"dataset\.cloudy leaves fewer than three clear scenes"):
        check_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(path: Path) -> None:
    assert check_params(path).dataset.name == path.stem.partition("-")[0]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_recorded_params_run(path: Path) -> None:
    """Params files of docs/results are valid, and have the single keys that dvc.yaml lists: DVC requires these."""
    check_params(path)
    values, stages = (YAML(typ="safe").load(file.read_text()) for file in (path, ROOT / "dvc.yaml"))
    keys = {key for stage in stages["stages"].values() for key in stage["params"] if "." in key}
    assert {"convert.resolution", "loss.name"} <= keys
    assert [key for key in keys if key.split(".")[1] not in values[key.split(".")[0]]] == []


def test_hex_colours(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        FOLDER.replace("[80, 0, 165]", "'#5000A5'")
        .replace("ignore: []", "ignore: [9, '#ffffff']")
        .replace("mask_values: ids", "mask_values: palette")
    )
    dataset = check_params(tmp_path / "params.yaml").dataset
    assert isinstance(dataset, FolderParams)
    assert dataset.classes[1].color == (80, 0, 165)
    assert dataset.ignore == (9, (255, 255, 255))


YEAR = ["dates_per_chip: 4", "dates_per_chip: null"]
SEASONAL, STACK = ["composite: median", "composite: seasonal"], ["dates: each", "dates: stack 5"]
NONE, QUARTERS = ["composite: median", "composite: none"], ["one_per_quarter: false", "one_per_quarter: true"]
USED = "bands: [red, green, blue]  # bands"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([SEASONAL], ""),
        ([SEASONAL, [USED, "bands: [red_q1, green, blue_q4]  # bands"]], ""),
        ([NONE, STACK, YEAR, [USED, "bands: [red_d1, red_d2, red_d5]  # bands"]], ""),
        # One date in each quarter of two years.
        ([NONE, STACK, YEAR, QUARTERS, ["2018-01-01", "2017-01-01"]], ""),
        (
            [[USED, "bands: [red_q1, green, blue]  # bands"]],
            "convert.bands: 'red_q1' is neither a band of this dataset nor a spectral index; choose from red, green, ",
        ),
        (
            [SEASONAL, [USED, "bands: [red_q5, green, blue]  # bands"]],
            "convert.bands: 'red_q5' is neither a band of this dataset nor a spectral index; choose from red_q1, ",
        ),
        (
            [SEASONAL, ["dates_per_chip: 4", "dates_per_chip: 3"]],
            "filter.composite = seasonal: needs 4 dates per location, but dataset.dates_per_chip allows 3; change it",
        ),
        (
            [SEASONAL, ["2018-12-31", "2018-09-30"]],
            "filter.composite = seasonal: needs 4 dates per location, but dataset.dates allows 3; change it",
        ),
        (
            [NONE, STACK],
            "filter.dates = stack 5: needs 5 dates per location, but dataset.dates_per_chip allows 4; change it",
        ),
        (
            [NONE, STACK, YEAR, QUARTERS],
            "filter.dates = stack 5: needs 5 dates per location, but filter.one_per_quarter allows 4; change it",
        ),
        (
            [NONE, STACK, YEAR, ["dates_per_quarter: null", "dates_per_quarter: 1"]],
            "filter.dates = stack 5: needs 5 dates per location, but dataset.dates_per_quarter allows 4; change it",
        ),
        ([STACK], "filter.dates = stack 5: stacks single dates, so it needs filter.composite = none, not median"),
    ],
)
def test_stacked_dates_of_a_chip_dataset(tmp_path: Path, changes: list[list[str]], message: str) -> None:
    text = (ROOT / "presets/landcovernet.yaml").read_text()
    for was, now in changes:
        assert was in text
        text = text.replace(was, now, 1)
    (tmp_path / "params.yaml").write_text(text)
    if not message:
        check_params(tmp_path / "params.yaml")
        return
    with pytest.raises(LandsegError) as caught:
        check_params(tmp_path / "params.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'params.yaml'}: {message}")


@pytest.mark.parametrize(
    ("key", "other"),
    [("composite: seasonal", "filter.composite to median or none"), ("dates: stack 2", "filter.dates to each")],
)
def test_a_dataset_without_dates_has_none_to_stack(tmp_path: Path, key: str, other: str) -> None:
    name, value = key.split(": ")
    assert fault(tmp_path, "max_cloud_share: 0.2", f"max_cloud_share: 0.2\n  {key}") == (
        f"filter.{name} = {value}: scenes of this dataset have no dates; set {other}"
    )


def keys(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each section and key with its line and the line above."""
    content: CommentedMap = YAML().load(path.read_text())
    lines = path.read_text().splitlines()
    for name, values in content.items():
        for key in values:
            line = values.lc.key(key)[0]
            yield name, key, [lines[line], lines[line - 1]]


# Keys with defaults that matter for some datasets only, and the ones that each preset must contain.
FETCH = ["url", "timeout", "attempts"]
CHIPS = {
    "download": ["source", "max_gb", *FETCH],
    "filter": ["method", "max_nodata_share", "keep", "one_per_quarter", "composite", "dates"],
}
NEEDED: dict[str, dict[str, list[str]]] = {
    "sample": {},
    "folder": {},
    "landcoverai": {"download": ["sha256", *FETCH]},
    "landcovernet": {**CHIPS, "filter": [*CHIPS["filter"], "scl", "cld"], "convert": ["min_consensus"]},
    "ghana": CHIPS,
}
OPTIONAL = {(section, key) for needed in NEEDED.values() for section, keys_of in needed.items() for key in keys_of}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_have_every_key_with_a_comment(path: Path) -> None:
    there = {(name, key): lines for name, key, lines in keys(path)}
    params = check_params(path)
    left_out = OPTIONAL - {(name, key) for name, keys in NEEDED[params.dataset.name].items() for key in keys}
    for name in Params.model_fields:
        for key in type(getattr(params, name)).model_fields:
            if (name, key) in left_out:
                continue
            assert (name, key) in there, f"{path.name} lacks {name}.{key}"
            assert any("#" in line for line in there[name, key]), f"{path.name}: {name}.{key} has no comment"


def test_schema_is_up_to_date() -> None:
    assert (ROOT / "params.schema.json").read_text() == params_schema(), "run `landseg schema`"


def test_schema_describes_every_key() -> None:
    def undescribed(node: Any, path: str) -> Iterator[str]:
        for name, child in node.get("properties", {}).items():
            # Sections and discriminated unions have their description in the referenced definition.
            if "description" not in child and "$ref" not in child and "oneOf" not in child:
                yield f"{path}.{name}"
        for name, child in node.get("$defs", {}).items():
            yield from undescribed(child, name)

    assert list(undescribed(json.loads(params_schema()), "")) == []


@pytest.mark.skipif(importlib.util.find_spec("jsonschema") is None, reason="jsonschema is not installed")
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_schema_accepts_the_presets(path: Path) -> None:
    import jsonschema  # type: ignore[import-not-found, import-untyped, unused-ignore]

    validator = jsonschema.Draft202012Validator(json.loads(params_schema()))
    content: Mapping[str, Any] = YAML(typ="safe").load(path.read_text())
    assert list(validator.iter_errors(content)) == []
    assert list(validator.iter_errors({**content, "modle": {}}))


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("seed: 0", "seed: 100000000000000000000", "a number is too long (10000000000000000000...)"),
        ("seed: 0", f"seed: {'9' * 5000}", "a number is too long"),
        ("seed: 0", "seed: 4294967296", "split.seed = 4294967296: must be at most 4294967295"),
        ("epochs: 20", f"epochs: 1{'0' * 400}", "a number is too long"),
        ("epochs: 20", "epochs: 1000000", "train.epochs = 1000000: must be at most 100000"),
        ("lr: 1.0e-4", "lr: .inf", "optimizer.lr = inf: must be a finite number"),
        ("lr: 1.0e-4", "lr: .nan", "optimizer.lr = nan: must be "),
        ("range: [0, 3000]", "range: [0, .inf]", "convert.range.1 = inf: must be a finite number"),
        ("epochs: 20", f"epochs: {'[' * 3000}{']' * 3000}", "nested too deeply for a params file"),
        ("name: background", "name: 2018", "dataset.classes.0.name = 2018: must be a string; quote it: '2018'"),
        ("name: background", "name: true", "dataset.classes.0.name = true: must be a string; quote it: 'true'"),
        ("name: background", "name: 2018-01-01", "dataset.classes.0.name = "),
        ("name: background", 'name: "a\\e[31m"', "dataset.classes.0.name: name 'a\\x1b[31m' contains the control"),
        ("name: background", 'name: "a\\nb"', "dataset.classes.0.name: name 'a\\nb' contains the control character"),
        ("encoder: resnet18", "encoder: tu-hf-hub:x/y", "model.encoder = 'tu-hf-hub:x/y': must be a plain name"),
    ],
    ids=range(15),
)
@pytest.mark.faults
def test_hostile_values(tmp_path: Path, was: str, now: str, message: str) -> None:
    started = time.perf_counter()
    assert message in fault(tmp_path, was, now)
    assert time.perf_counter() - started < 5  # far less; the margin is for busy machines


@pytest.mark.faults
def test_anchors_that_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    with pytest.raises(LandsegError, match="has over 100,000 values with its anchors expanded"):
        check_params(tmp_path / "params.yaml")


@pytest.mark.faults
def test_file_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("# long\n" * 200_000)
    with pytest.raises(LandsegError, match="over 1 MiB, too long for a params file"):
        check_params(tmp_path / "params.yaml")
