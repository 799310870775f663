"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Panels of the help pages.
MODEL, INPUT, INFERENCE, REFERENCE, OUTPUT = "Model", "Input", "Inference", "Reference data", "Output"
WORKERS = "Workers"

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model file (.safetensors or .onnx), git revision, DVC experiment, or `workspace`.",
        rich_help_panel=MODEL,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Dataset whose scene table lists the scenes, such as landcovernet.", rich_help_panel=INPUT),
]
Bands = Annotated[
    str | None,
    typer.Option(
        help="Scene bands for those that the model reads, in its order, by number or name: 3,2,1 or B04,B03,B02.",
        rich_help_panel=INPUT,
    ),
]
Resample = Annotated[
    bool, typer.Option("--resample", help="Resample scenes to the model's resolution.", rich_help_panel=INPUT)
]
WindowSize = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=32,
        help="Window height and width in pixels (default: the model's tile size).",
        rich_help_panel=INFERENCE,
    ),
]
WindowOverlap = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        min=0,
        max=0.9,
        help="Overlap of adjacent windows, as a share of the window (default 0.25).",
        rich_help_panel=INFERENCE,
    ),
]
D4 = Annotated[
    bool,
    typer.Option(
        "--d4", help="Average over the 8 rotations and flips of each window; 8 times slower.", rich_help_panel=INFERENCE
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, help="Windows per batch (default: depends on the device).", rich_help_panel=INFERENCE
    ),
]
ComputeDevice = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | None,
    typer.Option("--device", help="Compute device (default auto).", rich_help_panel=INFERENCE),
]
MatrixSource = Annotated[
    str | None,
    typer.Option(
        "--matrix",
        help="Test confusion matrices of the model: git revision, DVC experiment, `workspace`, or CSV file.",
        rich_help_panel=REFERENCE,
    ),
]
OutputFolder = Annotated[Path, typer.Option("--out", help="Output folder.", rich_help_panel=OUTPUT)]
MinArea = Annotated[
    float | None,
    typer.Option(min=0, help="Minimum polygon area in m² (default: 10 pixels).", rich_help_panel=OUTPUT),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.", rich_help_panel=OUTPUT)]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Files, or strips of two maps, processed at a time on this machine, each with its share of the cores, or "
        "workers that --cluster starts (default: 1, with all cores, unless compute.engine is dask in params.yaml of "
        "the current folder).",
        rich_help_panel=WORKERS,
    ),
]
SchedulerAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of a running Dask scheduler, such as tcp://host:8786; its workers see the current folder and "
        "the output folder at the same path.",
        rich_help_panel=WORKERS,
    ),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Dask workers to start: a section of the jobqueue settings such as slurm, or local.",
        rich_help_panel=WORKERS,
    ),
]
