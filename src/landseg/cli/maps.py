"""The commands of `landseg` on maps: what a person does with a trained model."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from landseg.core.errors import LandsegError, reporting
from landseg.core.files import atomic, require_new

ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A .safetensors or .onnx file, a git revision, a DVC experiment or `workspace`."
    ),
]
OtherModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Map two scenes first, by this model; else both are maps.")
]
Points = Annotated[
    Path | None,
    typer.Option(help="Reference points: x, y (or lon, lat) and class, as CSV or anything that geopandas reads."),
]
PointsOfChange = Annotated[
    Path | None,
    typer.Option(help="Reference points: x, y (or lon, lat), before and after, as CSV or what geopandas reads."),
]
Matrix = Annotated[
    str | None,
    typer.Option(help="Test confusion matrices of the model: a git revision, a DVC experiment, `workspace`, or a CSV."),
]
Out = Annotated[Path, typer.Option(help="The folder to write into.")]
Bands = Annotated[
    str | None, typer.Option(help="Which bands are the model's three, by number or name: 3,2,1 or B04,B03,B02.")
]
Dataset = Annotated[str | None, typer.Option(help="A data set whose scene table has the scenes, such as landcovernet.")]
Resample = Annotated[
    bool, typer.Option("--resample", help="Bring scenes to the resolution that the model was trained on.")
]
Window = Annotated[
    int | None, typer.Option(min=32, help="Height and width of a window, px; by default that of the model's tiles.")
]
Overlap = Annotated[
    float | None, typer.Option(min=0, max=0.9, help="Share of a window that the next sees, too; by default 0.25.")
]
Turned = Annotated[
    bool, typer.Option("--d4", help="Look at windows turned and mirrored in all eight ways; eight times slower.")
]
Batch = Annotated[int | None, typer.Option(min=1, help="Windows at a time; by default as suits the device.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option(help="Where to compute; by default auto.")
]
MinArea = Annotated[float | None, typer.Option(min=0, help="Smallest patch, m²; by default a few pixels.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]

_OF_SCENES = ("--bands", "--dataset", "--resample", "--window", "--overlap", "--d4", "--batch", "--device")


def predict(
    scenes: Annotated[
        list[str], typer.Argument(help="Rasters, by path or address; with --dataset, scenes by their names.")
    ],
    model: ModelName,
    out: Out,
    bands: Bands = None,
    dataset: Dataset = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes that the map must have: water,road. Another model is refused.")
    ] = None,
    resample: Resample = False,
    window: Window = None,
    overlap: Overlap = None,
    d4: Turned = False,
    batch: Batch = None,
    device: Device = None,
    confidence: Annotated[bool, typer.Option("--confidence", help="Write how likely the class of a pixel is.")] = False,
    probability: Annotated[bool, typer.Option("--probability", help="Write how likely every class is.")] = False,
    vector: Annotated[
        Literal["gpkg", "parquet"] | None, typer.Option(help="Write polygons, too: a GeoPackage or a GeoParquet file.")
    ] = None,
    min_area: MinArea = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Corners that cut off less than this squared, px, go; by default 1.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Map whole scenes with a trained model."""
    from landseg.predict.command import PredictOptions, predict_scenes
    from landseg.predict.outputs import OutputOptions

    with _tidily():
        look = PredictOptions(model, _split(bands), _split(classes), resample, window, overlap, batch, d4, device)
        wanted = OutputOptions(out, overwrite, confidence, probability, vector, min_area, tolerance)
        for sentence in predict_scenes(scenes, dataset, look, wanted, _aside):
            typer.echo(sentence)


def area(
    maps: Annotated[list[str], typer.Argument(help="Maps of classes, by path or address.")],
    points: Points = None,
    matrix: Matrix = None,
    csv: Annotated[Path | None, typer.Option(help="Write the figures as a table, too.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure the area of classes, with its error where a reference is given (Olofsson et al., 2014)."""
    from landseg.maps.area.measure import measure_areas, write_areas
    from landseg.maps.area.report import area_report
    from landseg.maps.sources import require_inputs_kept
    from landseg.raster.io import raster

    with _tidily():
        written = [csv] if csv else []
        require_inputs_kept([Path(name) for name in (*maps, points, matrix) if name], written)
        require_new(written, overwrite)
        found = measure_areas([raster(location) for location in maps], points, matrix)
        typer.echo(area_report(found))
        if csv:
            write_areas(found, csv)


def change(
    before: Annotated[str, typer.Argument(help="A map of classes; with --model, a scene.")],
    after: Annotated[str, typer.Argument(help="The later one.")],
    out: Out,
    model: OtherModel = None,
    points: PointsOfChange = None,
    matrix: Matrix = None,
    min_area: MinArea = None,
    bands: Bands = None,
    dataset: Dataset = None,
    resample: Resample = False,
    window: Window = None,
    overlap: Overlap = None,
    d4: Turned = False,
    batch: Batch = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what became what between two maps, or two scenes and a model, with its error where a reference is given."""
    from landseg.maps.change.outputs import change_outputs, require_change_inputs, require_change_maps, write_change
    from landseg.raster.io import raster

    with _tidily():
        maps: Sequence[Path | str] = []
        if not model:
            _require_scenes(bands, dataset, resample, window, overlap, d4, batch, device)
            maps = [raster(location) for location in (before, after)]
        require_change_inputs(maps, out, points, matrix, overwrite)
        if model:
            from landseg.predict.command import PredictOptions, map_pair

            look = PredictOptions(model, _split(bands), (), resample, window, overlap, batch, d4, device)
            require = partial(require_change_maps, points=points, matrix=matrix, min_area=min_area)
            maps = map_pair((before, after), dataset, look, out, overwrite, change_outputs(out), require, _aside)
        typer.echo(write_change(maps[0], maps[1], out, points, matrix, min_area))


def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    program: Annotated[bool, typer.Option(help="Write the program of torch.export beside it, as .pt2.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs: ONNX, a program of torch.export, and the model card."""
    from landseg.export.bundle import export_model

    with _tidily():
        for sentence in export_model(model, out, program, overwrite):
            typer.echo(sentence)


def card(
    model: Annotated[
        str, typer.Argument(help="A git revision, a DVC experiment, `workspace`, or the file of a model.")
    ] = "workspace",
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; by default it is printed.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what is known of a model: data, split, scores with intervals, licence, intended use, limits."""
    from landseg.export.bundle import model_card_for
    from landseg.predict.model_file import find_model

    with _tidily():
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
def _tidily() -> Iterator[None]:
    """Report a user's mistake, and clear temporary files away where the process is asked to end, too."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    # SIGHUP comes when a terminal closes; where it is ignored (nohup), it stays so. Windows has none.
    asked = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    before = {number: signal.getsignal(number) for number in asked}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        with reporting():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_scenes(*given: object) -> None:
    """Refuse options that say how to look at scenes, where there are none."""
    for name, value in zip(_OF_SCENES, given, strict=True):
        if value is not None and value is not False:
            raise LandsegError(f"{name}: is of scenes, and without --model both are maps; say --model, or leave it out")


def _split(listed: str | None) -> list[str]:
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def _aside(sentence: str) -> None:
    typer.echo(sentence, err=True)
