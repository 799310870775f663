"""Atomic writes: `landseg predict` leaves no map if it fails halfway."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.predicting import map_folder, predict
from helpers.scenes import run_with_memory_limit, synthetic_image, write_identity_model, write_image
from helpers.servers import FileServer, Status
from rasterio import Affine

pytestmark = [pytest.mark.usefixtures("folder", "one_thread"), pytest.mark.faults]


def test_truncated_scene() -> None:
    path = write_image(Path("cut.tif"), synthetic_image(600, 64), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = predict("cut.tif", "--confidence", "--vector", "gpkg")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: cut.tif: cannot read pixels, the file is truncated or damaged (")
    assert map_folder() == []


def test_server_that_goes_away(server: FileServer) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2048, 64, 3), np.uint8)
    path = write_image(Path("far.tif"), pixels, tiled=True, blockxsize=64, blockysize=64)
    file = server.add("/far.tif", path.read_bytes())

    def later() -> Iterator[Any]:
        for _ in range(3):
            yield None
        while True:
            yield Status(404)

    file.faults = later()
    done = predict(server.url("/far.tif"))
    assert done.exit_code == 1
    assert f"error: {server.url('/far.tif')}: cannot read pixels" in done.stderr
    assert map_folder() == []
    file.faults = iter(())
    assert predict(server.url("/far.tif")).exit_code == 0
    assert map_folder() == ["far.qml", "far.tif", "far.tif.aux.xml"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
@pytest.mark.parametrize(("suffix", "library"), [("safetensors", "torch"), ("onnx", "onnx")])
def test_out_of_memory_for_a_row_of_windows(suffix: str, library: str) -> None:
    write_identity_model(Path("model.onnx"))
    georeference = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 500_000)}
    options = {"dtype": "uint8", "photometric": "RGB", "sparse_ok": True, **georeference}
    with rasterio.open("wide.tif", "w", "GTiff", 3_000_000, 32, 3, **options):
        pass
    needed = 3 * 32 * 3_000_000 * 4  # bytes: the sums of all classes
    done = run_with_memory_limit(f"""
        import landseg.predict.command, landseg.predict.{library}_backend
        from landseg.cli import app
        limit_memory({needed * 3 // 4})
        app("predict wide.tif -m model.{suffix} --out maps --window 512 --device cpu".split())
    """)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --window: out of memory with a row of 512 px windows across the 3,000,000 px of wide.tif; "
        "choose a smaller window, or split the scene\n"
    )
    assert map_folder() == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_full_disk() -> None:
    write_identity_model(Path("model.onnx"))  # it starts seconds faster than a model that needs torch
    # Byte code would be cut off, too, and fail all later imports.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    program = f"{limit}; from landseg.cli import app; app()"
    arguments = ["predict", "scene.tif", "-m", "model.onnx", "--out", "maps", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-B", "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: maps/scene.tif: incomplete write, file discarded; free disk space" in done.stderr
    assert map_folder() == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_termination_signal(sent: signal.Signals) -> None:
    write_identity_model(Path("model.onnx"))
    with rasterio.open("scene.tif") as scene:
        profile, values = scene.profile, scene.read()
    with rasterio.open("large.tif", "w", **profile | {"width": 2048, "height": 2048}) as large:
        large.write(np.resize(values, (len(values), 2048, 2048)))
    command = [str(Path(sys.executable).parent / "landseg"), "predict", "large.tif", "-m", "model.onnx"]
    with subprocess.Popen([*command, "--out", "maps"], stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 120
            while not any(Path("maps").rglob("rows.tif")):  # the raster is being written
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(0.2)  # GDAL has opened it
            process.send_signal(sent)
            process.wait(60)
        finally:
            process.kill()
    assert process.returncode == 128 + sent
    assert map_folder() == []
