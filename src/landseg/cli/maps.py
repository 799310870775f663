"""Commands for trained models and maps: predict, area, change, export and card."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from landseg.cli.options import (
    D4,
    INPUT,
    MODEL,
    OUTPUT,
    REFERENCE,
    Bands,
    BatchSize,
    ClusterName,
    ComputeDevice,
    Dataset,
    MatrixSource,
    MinArea,
    ModelName,
    OutputFolder,
    Overwrite,
    Resample,
    SchedulerAddress,
    WindowOverlap,
    WindowSize,
    WorkerCount,
)
from landseg.core.errors import LandsegError, reporting
from landseg.core.files import atomic, require_new


def predict_command(
    scenes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Raster files, quoted patterns such as 'scenes/**/*.tif', or URLs; with --dataset, names of scenes."
        ),
    ] = None,
    *,
    model: ModelName,
    scene_list: Annotated[
        Path | None,
        typer.Option(
            "--scenes",
            help="File that lists scenes: text with one per line, or CSV with the column scene and, optionally, date.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Require a model with these classes, such as water,road.", rich_help_panel=MODEL),
    ] = None,
    dataset: Dataset = None,
    bands: Bands = None,
    resample: Resample = False,
    window: WindowSize = None,
    overlap: WindowOverlap = None,
    d4: D4 = False,
    batch: BatchSize = None,
    device: ComputeDevice = None,
    out: OutputFolder,
    confidence: Annotated[
        bool,
        typer.Option("--confidence", help="Also write the softmax value of the mapped class.", rich_help_panel=OUTPUT),
    ] = False,
    probability: Annotated[
        bool,
        typer.Option("--probability", help="Also write the softmax values of all classes.", rich_help_panel=OUTPUT),
    ] = False,
    quicklook: Annotated[
        bool,
        typer.Option(
            "--quicklook",
            help="Also write a small picture of the scene, by convert.show, beside its map (PNG).",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    vector: Annotated[
        Literal["gpkg", "parquet"] | None,
        typer.Option(help="Also write polygons, as GeoPackage or GeoParquet.", rich_help_panel=OUTPUT),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Minimum polygon area in m² (default: 10 pixels, or less where this changes class areas by over 1 %).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Simplification tolerance in pixels (default: 1, or less likewise).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    mosaic: Annotated[
        Literal["vrt", "cog"] | None,
        typer.Option(
            help="Also write a mosaic of all maps: a virtual raster that refers to them, or a COG. Where maps overlap, "
            "later scenes lie on top.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    stac: Annotated[
        bool,
        typer.Option(
            "--stac",
            help="Also write a STAC collection of the maps, and their footprints as GeoPackage, to OUT/stac.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    date: Annotated[
        str | None,
        typer.Option(
            help="Date of scenes without one, for --stac: 2024-06-01, 2024-06, or 2024-06-01/2024-08-31.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    workers: WorkerCount = None,
    address: SchedulerAddress = None,
    cluster: ClusterName = None,
) -> None:
    """Map scenes with a trained model.

    Maps that the same model made from the same scenes with the same options are kept, so an interrupted command goes on
    where it stopped. --min-area and --tolerance require --vector.
    """
    from landseg.maps.task_runner import EngineChoice
    from landseg.predict.collection import CollectionOptions
    from landseg.predict.command import predict_scenes
    from landseg.predict.options import PredictOptions
    from landseg.predict.outputs import OutputOptions
    from landseg.predict.scene_list import list_scenes

    with _interruptible():
        locations, dates = list_scenes(scenes or [], scene_list, dataset)
        choice = EngineChoice(workers, address, cluster)
        options = PredictOptions(model, _split(bands), _split(classes), resample, window, overlap, batch, d4, device)
        outputs = OutputOptions(out, overwrite, confidence, probability, quicklook, vector, min_area, tolerance)
        together = CollectionOptions(mosaic, stac, date)
        for sentence in predict_scenes(locations, dataset, options, outputs, _notify, choice, dates, together):
            typer.echo(sentence)


def area_command(
    maps: Annotated[
        list[str], typer.Argument(help="Class maps, as files, quoted patterns such as 'maps/**/*.tif', or URLs.")
    ],
    points: Annotated[
        Path | None,
        typer.Option(
            help="Reference points drawn at random, with columns x, y (or lon, lat) and class; CSV or any format "
            "geopandas reads.",
            rich_help_panel=REFERENCE,
        ),
    ] = None,
    strata: Annotated[
        Path | None,
        typer.Option(
            help="Sizes of the strata that points were drawn from, if these are not the mapped classes: CSV with "
            "columns stratum and size. The points have a column stratum.",
            rich_help_panel=REFERENCE,
        ),
    ] = None,
    matrix: MatrixSource = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the table as CSV.", rich_help_panel=OUTPUT)] = None,
    overwrite: Overwrite = False,
    workers: WorkerCount = None,
    address: SchedulerAddress = None,
    cluster: ClusterName = None,
) -> None:
    """Compute the area of each class in maps.

    With --points: areas corrected for map errors, with confidence intervals (Olofsson et al. 2014, Stehman 2014).
    With --matrix: what the areas would be if the map erred as in the test scenes, where this helped at these scenes.
    """
    from landseg.maps.area.measure import measure_areas, write_areas
    from landseg.maps.area.report import area_report
    from landseg.maps.sources import expand, require_inputs_kept
    from landseg.maps.task_runner import EngineChoice, chosen_engine
    from landseg.raster.io import resolve_raster

    with _interruptible():
        written = [csv] if csv else []
        locations = [location for pattern in maps for location in expand(pattern)]
        require_inputs_kept([Path(name) for name in (*locations, points, strata, matrix) if name], written)
        require_new(written, overwrite)
        rasters = [resolve_raster(location) for location in locations]
        with chosen_engine(EngineChoice(workers, address, cluster), log=_notify) as run:
            areas = measure_areas(rasters, points, matrix, strata, run.limited(len(rasters)))
        typer.echo(area_report(areas))
        if csv:
            write_areas(areas, csv)


def change_command(
    before: Annotated[str, typer.Argument(help="Earlier map; with --model, earlier scene.")],
    after: Annotated[str, typer.Argument(help="Later map; with --model, later scene.")],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model to map both scenes with: model file, git revision, DVC experiment, or `workspace`.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    dataset: Dataset = None,
    bands: Bands = None,
    resample: Resample = False,
    window: WindowSize = None,
    overlap: WindowOverlap = None,
    d4: D4 = False,
    batch: BatchSize = None,
    device: ComputeDevice = None,
    points: Annotated[
        Path | None,
        typer.Option(
            help="Reference points with columns x, y (or lon, lat), before and after; CSV or any format geopandas "
            "reads.",
            rich_help_panel=REFERENCE,
        ),
    ] = None,
    matrix: MatrixSource = None,
    out: OutputFolder,
    min_area: MinArea = None,
    overwrite: Overwrite = False,
    workers: WorkerCount = None,
    address: SchedulerAddress = None,
    cluster: ClusterName = None,
) -> None:
    """Compute land-cover change between two maps.

    With --model: map two scenes first. With reference data: adjusted areas with confidence intervals.
    """
    from landseg.maps.change.outputs import change_outputs, require_change_inputs, require_change_maps, write_change
    from landseg.maps.task_runner import EngineChoice, chosen_engine
    from landseg.raster.io import resolve_raster

    with _interruptible():
        maps: Sequence[Path | str] = []
        choice = EngineChoice(workers, address, cluster)
        if not model:
            _require_model(
                bands=bands,
                dataset=dataset,
                resample=resample,
                window=window,
                overlap=overlap,
                d4=d4,
                batch=batch,
                device=device,
            )
            maps = [resolve_raster(location) for location in (before, after)]
        require_change_inputs(maps, out, points, matrix, overwrite)
        if model:
            from landseg.predict.command import map_pair
            from landseg.predict.options import PredictOptions

            options = PredictOptions(model, _split(bands), (), resample, window, overlap, batch, d4, device)
            check = partial(require_change_maps, points=points, matrix=matrix, min_area=min_area)
            outputs = change_outputs(out)
            maps = map_pair((before, after), dataset, options, out, overwrite, outputs, check, _notify, choice)
        with chosen_engine(choice, log=_notify) as run:
            typer.echo(write_change(maps[0], maps[1], out, points, matrix, min_area, run))


def export_command(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Output file (.onnx).", rich_help_panel=OUTPUT)],
    program: Annotated[
        bool, typer.Option(help="Also write a torch.export program (.pt2).", rich_help_panel=OUTPUT)
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Export a model to ONNX, with its model card."""
    from landseg.export.bundle import export_model

    with _interruptible():
        for sentence in export_model(model, out, program, overwrite):
            typer.echo(sentence)


def card_command(
    model: Annotated[
        str, typer.Argument(help="Model file, git revision, DVC experiment, or `workspace`.")
    ] = "workspace",
    out: Annotated[
        Path | None,
        typer.Option(help="Output file in Markdown (default: standard output).", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print the model card: data, split, scores with intervals, licence, intended use and limitations."""
    from landseg.export.bundle import model_card_for
    from landseg.predict.model_file import find_model

    with _interruptible():
        require_new([out] if out else [], overwrite)
        with find_model(model) as file:
            text = model_card_for(file)
        if out is None:
            typer.echo(text, nl=False)
            return
        with atomic(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        typer.echo(f"{out}: written")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Report errors, and exit on SIGTERM and SIGHUP in a way that removes temporary files."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    # SIGHUP is sent when a terminal closes; under nohup it is ignored and stays so. Windows does not have it.
    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        with reporting():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_model(**options: object) -> None:
    """Reject options that only apply to scenes."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise LandsegError(f"--{name} requires --model: without a model, both inputs are maps")


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _notify(sentence: str) -> None:
    typer.echo(sentence, err=True)
