"""The commands check, schema and unpack, and the help pages."""

import os
import re
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import landseg
from helpers.root import ROOT
from ruamel.yaml import YAML
from typer.main import get_command

from landseg.cli import app


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("landseg"), "--help"], capture_output=True, text=True, check=True
    )
    for command in ("check", "schema", "unpack"):
        assert command in done.stdout


def commands(command: Any) -> Iterator[Any]:
    """Yield a command and all commands below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from commands(each)


@pytest.mark.parametrize("command", list(commands(get_command(app))), ids=lambda command: command.name)
def test_every_command_and_option_has_a_help_sentence(command: Any) -> None:
    summary = command.help.split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*\.", summary)
    for parameter in command.params:
        assert re.fullmatch(r"[A-Z][^\n]*\.", parameter.help or ""), parameter.name


@pytest.mark.parametrize("command", list(commands(get_command(app))), ids=lambda command: command.name)
def test_every_command_has_an_example_that_parses(command: Any) -> None:
    example = re.fullmatch("Example: (landseg .+)", command.epilog)
    assert example
    for line in example[1].split(" && "):
        _, *arguments = shlex.split(line)
        group = get_command(app)
        while arguments and hasattr(group, "commands"):
            group = group.commands[arguments.pop(0)]
        group.make_context(group.name, arguments)


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("study",), ("study", "-h"), ("predict", "-h")])
def test_help(arguments: tuple[str, ...]) -> None:
    done = landseg(*arguments)
    assert done.exit_code == 0
    assert "Usage: " in done.stdout


def test_version() -> None:
    assert landseg("--version").output == f"landseg {version('landseg')}\n"


def test_help_is_fast() -> None:
    """It imports nothing heavy; the margin is for busy machines."""
    started = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("landseg"), "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 3


class TestCheck:
    @pytest.fixture
    def params(self, tmp_path: Path) -> dict[str, Any]:
        """Valid parameters of a folder with one image."""
        for kind in ("images", "masks"):
            (tmp_path / "local" / kind).mkdir(parents=True)
            (tmp_path / "local" / kind / "a.tif").touch()
        params: dict[str, Any] = YAML(typ="safe").load((ROOT / "presets/folder.yaml").read_text())
        params["download"]["folder"] = str(tmp_path / "local")
        params["model"]["encoder_weights"] = None
        return params

    def check(self, folder: Path, params: dict[str, Any]) -> tuple[int, list[str]]:
        """Return the exit code and the lines on standard error, without the name of the params file."""
        path = folder / "params.yaml"
        with path.open("w") as file:
            YAML(typ="safe").dump(params, file)
        done = landseg("check", path)
        assert (done.stdout == f"{path}: OK\n") == (done.exit_code == 0)
        return done.exit_code, done.stderr.replace(f"{path}: ", "").splitlines()

    def test_valid_parameters(self, tmp_path: Path, params: dict[str, Any]) -> None:
        assert self.check(tmp_path, params) == (0, [])

    @pytest.mark.faults
    def test_all_faults_of_keys_and_values(self, tmp_path: Path, params: dict[str, Any]) -> None:
        params["convert"]["mask_rgb"] = params["convert"].pop("masks_rgb")
        params["tile"] = {"size": 500, "edge": "x"}
        params["train"]["epochs"] = 0
        code, lines = self.check(tmp_path, params)
        assert code == 1
        assert sorted(lines) == [
            "error: convert.mask_rgb: unknown key; did you mean convert.masks_rgb?",
            "error: tile.edge = 'x': must be 'drop' or 'pad'",
            "error: tile.size = 500: must be a multiple of 32",
            "error: train.epochs = 0: must be at least 1",
        ]

    @pytest.mark.faults
    def test_all_contradictions(self, tmp_path: Path, params: dict[str, Any]) -> None:
        params["convert"]["bands"] = ["red", "green", "nir"]
        params["filter"]["method"] = "scl"
        params["loss"]["class_weights"] = [1, 2, 3]
        params["train"]["epochs"] = 5
        assert self.check(tmp_path, params)[1] == [
            "error: convert.bands: 'nir' is neither a band of this dataset nor a spectral index; choose from red, "
            "green, blue",
            "error: filter.method = scl: no such cloud layer in this dataset; choose mask",
            "error: loss.class_weights: has 3 numbers, but the dataset has 5 classes; give one per class",
            "error: scheduler.step = 15: longer than the run (train.epochs = 5), so the learning rate would never "
            "fall; lower it, set scheduler.factor to 1 for a constant rate, or raise train.epochs",
        ]

    @pytest.mark.faults
    def test_names_weights_and_files(self, tmp_path: Path, params: dict[str, Any]) -> None:
        params["model"] |= {"architecture": "Unett", "encoder_weights": "weights.pth"}
        params["dataset"] |= {"images": "images/c.tif", "clouds": "clouds/*", "locations": {"pattern": "x(.)"}}
        folder = tmp_path / "local"
        assert self.check(tmp_path, params)[1] == [
            "error: model.architecture = Unett: unknown; did you mean Unet?",
            "error: model.encoder_weights = weights.pth: file not found; correct the path",
            "error: dataset.images = 'images/c.tif': must contain a * for the name; write for example images/*.tif",
            f"error: {folder}: no file matches 'clouds/*'; add files, or correct dataset.clouds",
        ]
        params["dataset"] |= {"images": "images/*", "clouds": None}
        (folder / "masks/b.tif").touch()
        params["model"] |= {"architecture": "Unet", "encoder": "resnet19", "encoder_weights": None}
        assert self.check(tmp_path, params)[1] == [
            "error: model.encoder = resnet19: unknown; did you mean resnet18?",
            f"error: {folder}/masks/b.tif: mask without image; add the image, or remove the mask",
            "error: dataset.locations: pattern 'x(.)' gives no name for 1 images, first 'a'; correct the pattern, or "
            "set dataset.locations to null",
        ]

    @pytest.mark.faults
    def test_folder_that_is_not_there(self, tmp_path: Path, params: dict[str, Any]) -> None:
        params["download"]["folder"] = str(tmp_path / "nowhere")
        assert self.check(tmp_path, params)[1] == [
            f"error: download.folder = '{tmp_path}/nowhere': not a folder; set it to the folder of your images"
        ]

    def test_subfolder_of_a_project(
        self, tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.check(tmp_path, params)
        (tmp_path / "dvc.yaml").touch()
        (tmp_path / "some/where").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "some/where")
        assert landseg("check").output == "params.yaml: OK\n"

    @pytest.mark.faults
    @pytest.mark.parametrize(
        "config", ["", "[core]\n    analytics = false\n[cache]\n    dir = ../elsewhere\n    type = copy\n"]
    )
    def test_empty_folder_in_the_run_cache(
        self, tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch, config: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        runs = tmp_path / ("elsewhere" if config else ".dvc/cache") / "runs/ab"
        for name, file in (("abc", True), ("abd", False)):
            (runs / name).mkdir(parents=True)
            if file:
                (runs / name / "run").touch()
        (tmp_path / ".dvc").mkdir(exist_ok=True)
        (tmp_path / ".git").mkdir()
        (tmp_path / ".dvc/config").write_text(config)
        code, lines = self.check(tmp_path, params)
        shown = ".dvc/../elsewhere" if config else ".dvc/cache"
        assert (code, lines) == (
            1,
            [
                f"error: {shown}/runs/ab/abd: an empty folder, left by a dvc that was killed, with which DVC fails; "
                "remove it"
            ],
        )

    @pytest.mark.faults
    def test_copy_without_git(self, tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
        assert self.check(tmp_path, params) == (
            1,
            [
                f"error: {tmp_path}: not in a git repository, which DVC expects; run `git init`, or, to do without "
                "experiments, `dvc config core.no_scm true`"
            ],
        )
        (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
        assert self.check(tmp_path, params)[0] == 0

    def test_weights_that_cannot_be_downloaded(
        self, tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        params["model"]["encoder_weights"] = "imagenet"
        code, lines = self.check(tmp_path, params)
        assert code == 1
        assert len(lines) == 1
        assert re.match(
            r"error: model.encoder_weights = imagenet: download of the weights of resnet18 failed \(.*\); check the "
            "network connection, or set it to null or to a local file",
            lines[0],
        )


def test_report(tmp_path: Path) -> None:
    """The page opens in the browser that the environment names."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text("<p>scores</p>")
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > opened\n')
    browser.chmod(0o755)
    environment = os.environ | {"BROWSER": f"{browser} %s"}
    command = [str(Path(sys.executable).with_name("landseg")), "report"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "results/report.html\n"
    assert (tmp_path / "opened").read_text().strip() == (tmp_path / "results/report.html").as_uri()


def test_report_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = landseg("report")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: results/report.html: file not found; run `dvc repro` first, or name a page\n",
    )


def test_schema(tmp_path: Path) -> None:
    assert landseg("schema", tmp_path / "s.json").exit_code == 0
    assert (tmp_path / "s.json").read_bytes() == (ROOT / "params.schema.json").read_bytes()


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A folder with two archives of two tiles."""
    (tmp_path / "tiles").mkdir()
    for scene in "ab":
        with zipfile.ZipFile(tmp_path / f"tiles/{scene}.zip", "w") as archive:
            for k in range(2):
                archive.writestr(f"images/{scene}_{k}.png", f"image {scene}{k}")
                archive.writestr(f"masks/{scene}_{k}.png", f"mask {scene}{k}")
    return tmp_path / "tiles"


def check_failure(tiles: Path, out: Path, sentence: str) -> None:
    before = sorted(tiles.parent.rglob("*"))
    done = landseg("unpack", tiles, out)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert sorted(tiles.parent.rglob("*")) == before


def test_unpack(tiles: Path, tmp_path: Path) -> None:
    done = landseg("unpack", tiles, tmp_path / "new/files")
    assert done.exit_code == 0
    assert done.stdout == f"8 files in {tmp_path}/new/files\n"
    assert (tmp_path / "new/files/masks/b_1.png").read_text() == "mask b1"


def test_unpack_into_an_existing_folder(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    check_failure(tiles, tmp_path / "files", f"{tmp_path}/files: already exists; choose a new folder")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_no_archives_to_unpack(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    check_failure(tmp_path / folder, tmp_path / "files", f"{tmp_path}/{folder}: no tile archives found")


def test_member_outside_the_folder(tiles: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tiles / "c.zip", "w") as archive:
        archive.writestr("../../evil.png", "!")
    check_failure(tiles, tmp_path / "files", f"{tiles}/c.zip: member '../../evil.png' leads out of the folder")


def test_truncated_archive(tiles: Path, tmp_path: Path) -> None:
    (tiles / "b.zip").write_bytes((tiles / "b.zip").read_bytes()[:200])
    check_failure(tiles, tmp_path / "files", f"{tiles}/b.zip: damaged or not a ZIP")


def test_unpack_below_a_file(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_failure(tiles, tmp_path / "file/files", f"{tmp_path}/file: expected a folder, found a file")
