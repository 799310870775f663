"""`landseg predict`, `area` and `change` on several workers: the same files as on one, and faults of workers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio
from helpers.commands import landseg
from helpers.engines import DaskCluster, cluster, dask_cluster, kill_tree, wait_until
from helpers.scenes import synthetic_image, unet, write_identity_model, write_image
from rasterio import Affine
from typer.testing import Result

from landseg.core.parallel import LocalEngine
from landseg.maps.area.measure import measure_areas
from landseg.maps.task_runner import TaskRunner
from landseg.model.segmenter import save_model
from landseg.predict.model_file import find_model
from landseg.predict.options import PredictOptions
from landseg.predict.outputs import OutputOptions
from landseg.predict.scenes import InputScene
from landseg.predict.tasks import PredictJob, check_task

__all__ = ["cluster"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SCENES = [f"s{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a model and six scenes, of which the second has another resolution."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for folder in ("scenes", "dask", "again"):
        Path(folder).mkdir()
    write_identity_model(Path("model.onnx"))
    for number, name in enumerate(SCENES):
        pixel = 1 if number == 1 else 0.5
        corner = Affine(pixel, 0, 500_000 + 100 * number, 0, -pixel, 500_000)
        write_image(Path(f"scenes/{name}.tif"), synthetic_image(700, 200, seed=number), transform=corner)


def predict(out: str, *options: object, model: str = "model.onnx") -> Result:
    return landseg("predict", "scenes/*.tif", "-m", model, "--out", out, "--device", "cpu", *options)


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def listing(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def assert_same(folder: str, local: str = "local") -> None:
    """Assert that a folder has the files of another one, bit for bit, and no leftovers."""
    assert files(folder) == files(local)
    assert listing(folder) == listing(local)


def names(result: Result) -> list[str]:
    """Return the names of the maps, in the order in which they were reported."""
    return [Path(line.partition(":")[0]).stem for line in result.stdout.splitlines()]


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Run an action in a thread until the block ends."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class TestSameMaps:
    def test_two_workers_of_dask(self, cluster: DaskCluster) -> None:
        save_model(unet(gsd=0.5, tile=64, params={"train": {"precision": "32"}}), Path("model.safetensors"))
        options = ["--confidence", "--vector", "gpkg", "--min-area", 20, "--mosaic", "cog", "--resample"]
        options += ["--stac", "--date", "2024"]
        local = predict("local", *options, model="model.safetensors")
        assert local.exit_code == 0, local.output
        done = predict("far", *options, "--address", cluster.address, model="model.safetensors")
        assert done.exit_code == 0, done.output
        assert names(done) == names(local) == [*SCENES, "mosaic", "collection"]
        workers = f"{cluster.address}: 2 workers with 2 threads\n"
        assert done.stderr == workers + local.stderr  # notices come home, in order
        assert "s1.tif: pixels are 1 m wide" in done.stderr
        made, expected = files("far"), files("local")
        geopackages = [
            name for name in made if name.endswith(".gpkg")
        ]  # which hold the time at which they were written
        assert len(geopackages) == 6
        for name in geopackages:
            del made[name], expected[name]
        assert made == expected
        assert listing("far") == listing("local")
        again = predict("far", *options, "--address", cluster.address, model="model.safetensors")
        assert names(again) == ["mosaic", "collection"]
        assert "6 of 6 maps are finished and kept" in again.stderr

    def test_two_processes_of_this_machine(self) -> None:
        assert predict("local").exit_code == 0
        done = predict("two", "--workers", 2)
        assert done.exit_code == 0, done.output
        assert names(done) == SCENES
        assert_same("two")

    def test_workers_that_the_command_starts(self) -> None:
        assert predict("local").exit_code == 0
        done = predict("far", "--cluster", "local", "--workers", 2)
        assert done.exit_code == 0, done.output
        assert_same("far")

    def test_areas(self, cluster: DaskCluster) -> None:
        assert predict("local").exit_code == 0
        points = [
            "x,y,class",
            *(f"{500_010 + 7 * n % 600},{499_990 - 3 * n % 200},{(0, 3, 9)[n % 3]}" for n in range(200)),
        ]
        Path("points.csv").write_text("\n".join(points))
        choices: list[tuple[object, ...]] = [(), ("--workers", 2), ("--address", cluster.address)]
        for number, options in enumerate(choices):
            name = f"{number}.csv"
            done = landseg("area", "local/*.tif", "--points", "points.csv", "--csv", name, *options)
            assert done.exit_code == 0, done.output
            assert Path(name).read_bytes() == Path("0.csv").read_bytes()

    def test_change_between_mosaics(self, cluster: DaskCluster) -> None:
        for date, first in (("before", 0), ("after", 10)):
            Path(f"scenes/{date}").mkdir()
            for number in range(4):
                corner = Affine(0.5, 0, 500_000 + 350 * number, 0, -0.5, 500_000)
                image = synthetic_image(700, 200, seed=first + number)
                write_image(Path(f"scenes/{date}/{number}.tif"), image, transform=corner)
            done = landseg("predict", f"scenes/{date}/*.tif", "-m", "model.onnx", "--out", date, "--mosaic", "vrt")
            assert done.exit_code == 0, done.output
        choices: list[tuple[object, ...]] = [(), ("--workers", 2), ("--address", cluster.address)]
        printed = []
        for number, options in enumerate(choices):
            done = landseg("change", "before/mosaic.vrt", "after/mosaic.vrt", "--out", f"change{number}", *options)
            assert done.exit_code == 0, done.output
            printed.append(done.stdout)
            made = files(f"change{number}")
            assert len(gpd.read_file(f"change{number}/change.gpkg", layer="change")) > 10
            del made["change.gpkg"]  # holds the time at which it was written
            assert made.keys() == {"change.tif", "change.qml", "change.tif.aux.xml", "change.csv", "change.png"}
            assert made.items() <= files("change0").items()
        assert printed[0] == printed[1] == printed[2]
        assert "560,000 pixels with a class on both maps" in printed[0]

    def test_areas_do_not_depend_on_the_number_of_processes(self) -> None:
        assert predict("local").exit_code == 0
        maps = sorted(Path("local").glob("*.tif"))
        one, two = measure_areas(maps), measure_areas(maps, run=TaskRunner(LocalEngine(2), 2))
        assert one.hectares is not None
        assert two.hectares is not None
        assert one.hectares.tobytes() == two.hectares.tobytes()
        assert one.pixels.tolist() == two.pixels.tolist()


@pytest.mark.faults
class TestFaults:
    def test_killed_worker(self, tmp_path: Path) -> None:
        assert predict("local").exit_code == 0

        with dask_cluster(tmp_path / "dask") as started:

            def kill() -> None:
                wait_until(lambda: any(Path("far").glob("s*.tif")))
                kill_tree(started.workers[0])

            with meanwhile(kill):
                done = predict("far", "--address", started.address)
        assert done.exit_code == 0, done.output
        assert names(done) == SCENES
        assert " died while it had " in done.stderr
        assert_same("far")

    def test_scheduler_that_dies_and_the_next_run(self, tmp_path: Path) -> None:
        assert predict("local").exit_code == 0
        with dask_cluster(tmp_path / "dask") as started:

            def kill() -> None:
                wait_until(lambda: any(Path("far").glob("s*.tif")))
                assert started.scheduler
                kill_tree(started.scheduler)

            with meanwhile(kill):
                done = predict("far", "--address", started.address)
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-1] == (
            f"error: {started.address}: the scheduler does not answer any more; start it and its workers, and run "
            "again, which goes on with what is not finished"
        )
        with dask_cluster(tmp_path / "again") as started:
            again = predict("far", "--address", started.address)
        assert again.exit_code == 0, again.output
        assert " of 6 maps are finished and kept" in again.stderr
        assert len(names(again)) < 6
        assert_same("far")

    def test_scene_that_kills_its_workers_is_named_and_the_others_are_mapped(self, tmp_path: Path) -> None:
        """A row of windows of a scene of three million columns needs more memory than a worker may use."""
        georeference = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 500_000)}
        options = {"dtype": "uint8", "photometric": "RGB", "sparse_ok": True, **georeference}
        with rasterio.open("scenes/s3.tif", "w", "GTiff", 3_000_000, 32, 3, **options):
            pass
        with dask_cluster(tmp_path / "dask", options=("--nanny", "--memory-limit=1200MiB")) as started:
            done = predict("far", "--address", started.address)
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-1] == (
            "error: scenes/s3.tif: 3 workers were killed while each of them was processed, probably because memory ran "
            "out; give workers more memory, or remove it; all other items are finished"
        )
        assert sorted(path.stem for path in Path("far").glob("*.tif")) == [name for name in SCENES if name != "s3"]

    def test_no_scheduler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("landseg.core.dask_workers.ANSWER", 1.0)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
            done = predict("far", "--address", address)
            assert done.stderr == (
                f"error: --address {address}: no Dask scheduler answers within 1 s; start one with `dask scheduler`, "
                "correct the address, or leave out --address\n"
            )
            Path("params.yaml").write_text(
                f"compute: {{workers: null, engine: dask, address: '{address}', device: cpu, micro_batch: null, "
                "state: .landseg}\n"
            )
            done = predict("far")
            assert done.stderr.startswith(f"error: params.yaml: compute.address = {address}: no Dask scheduler answers")
            assert not Path("far").exists()
            assert predict("far", "--workers", 1).exit_code == 0

    def test_scene_that_a_worker_does_not_see(self) -> None:
        with find_model("model.onnx") as model:
            job = PredictJob(model, PredictOptions("model.onnx"), 1)
            found = check_task(job, (InputScene("x", Path("there/x.tif")), OutputOptions(Path("maps"))))
        assert found.fault is not None
        assert found.fault.startswith("there/x.tif: ")
        assert " does not see it; put it on a file system that all machines mount at the same path" in found.fault
