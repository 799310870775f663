"""The commands of `landseg` on maps: what a person does with a trained model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from landseg.errors import reporting

ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A .safetensors or .onnx file, a git revision, a DVC experiment or `workspace`."
    ),
]
Points = Annotated[
    Path | None,
    typer.Option(help="Reference points: x, y (or lon, lat) and class, as CSV or anything that geopandas reads."),
]
Matrix = Annotated[
    str | None,
    typer.Option(help="Test confusion matrices of the model: a git revision, a DVC experiment, `workspace`, or a CSV."),
]


def predict(
    scenes: Annotated[
        list[str], typer.Argument(help="Rasters, by path or address; with --dataset, scenes by their names.")
    ],
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    bands: Annotated[
        str, typer.Option(help="Which bands are the model's three, by number or name: 3,2,1 or B04,B03,B02.")
    ] = "",
    dataset: Annotated[
        str | None, typer.Option(help="A data set whose scene table has the scenes, such as landcovernet.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes that the map must have: water,road. Another model is refused.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring scenes to the resolution that the model was trained on.")
    ] = False,
    window: Annotated[
        int | None, typer.Option(min=32, help="Height and width of a window, px; by default that of the model's tiles.")
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.9, help="Share of a window that the next sees, too.")] = 0.25,
    d4: Annotated[
        bool, typer.Option("--d4", help="Look at windows turned and mirrored in all eight ways; eight times slower.")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Windows at a time; by default as suits the device.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")] = "auto",
    confidence: Annotated[bool, typer.Option("--confidence", help="Write how likely the class of a pixel is.")] = False,
    probability: Annotated[bool, typer.Option("--probability", help="Write how likely every class is.")] = False,
    vector: Annotated[
        Literal["gpkg", "parquet"] | None, typer.Option(help="Write polygons, too: a GeoPackage or a GeoParquet file.")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(min=0, help="Smaller patches join their largest neighbour, m²; default: 10 px.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How far outlines may leave pixels' edges, px.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace maps that are there.")] = False,
) -> None:
    """Map whole scenes with a trained model."""
    from landseg.predict.command import Look, predict_scenes
    from landseg.predict.mapping import Wanted

    with reporting():
        look = Look(model, _split(bands), _split(classes), resample, window, overlap, batch, d4, device)
        wanted = Wanted(out, overwrite, confidence, probability, vector, min_area, tolerance)
        for sentence in predict_scenes(scenes, dataset, look, wanted, _aside):
            typer.echo(sentence)


def area(
    maps: Annotated[list[str], typer.Argument(help="Maps of classes, by path or address.")],
    points: Points = None,
    matrix: Matrix = None,
    csv: Annotated[Path | None, typer.Option(help="Write the figures as a table, too.")] = None,
) -> None:
    """Measure the area of classes, with its error where a reference is given (Olofsson et al., 2014)."""
    from landseg.maps.area import areas, write_csv
    from landseg.maps.area_report import report
    from landseg.rasters import raster

    with reporting():
        found = areas([raster(location) for location in maps], points, matrix)
        typer.echo(report(found))
        if csv:
            write_csv(found, csv)


def _split(listed: str | None) -> list[str]:
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def _aside(sentence: str) -> None:
    typer.echo(sentence, err=True)
