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


def _split(listed: str | None) -> list[str]:
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def _aside(sentence: str) -> None:
    typer.echo(sentence, err=True)
