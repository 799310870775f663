"""Command line of landseg."""

import os
import webbrowser
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from landseg.cli import maps
from landseg.core.errors import LandsegError, reporting
from landseg.core.files import atomic
from landseg.core.params import PARAMS

_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Land-cover maps from satellite and aerial imagery. Run the pipeline with `dvc repro`.",
    epilog="Example: landseg predict scene.tif --model workspace --out maps",
    invoke_without_command=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
)

study_app = typer.Typer(
    help="Run studies (grids of experiments, studies/<name>.yaml) and write their reports.",
    epilog="Example: landseg study run losses && landseg study report losses",
    invoke_without_command=True,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"landseg {version('landseg')}")
        raise typer.Exit


@app.callback()
def _landseg(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    _help_alone(context)


@study_app.callback()
def _study(context: typer.Context) -> None:
    _help_alone(context)


def _help_alone(context: typer.Context) -> None:
    """Print the help page of a group of commands that is called without one."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_MAPS, _PARAMS, _EXPERIMENTS = "Models and maps", "Parameters and tiles", "Experiments"

app.command(
    "predict",
    rich_help_panel=_MAPS,
    epilog="Example: landseg predict scene.tif --model workspace --out maps --confidence --vector gpkg",
)(maps.predict_command)
app.command("area", rich_help_panel=_MAPS, epilog="Example: landseg area maps/scene.tif --points points.csv")(
    maps.area_command
)
app.command("change", rich_help_panel=_MAPS, epilog="Example: landseg change maps/2018.tif maps/2024.tif --out change")(
    maps.change_command
)
app.command("export", rich_help_panel=_MAPS, epilog="Example: landseg export --model workspace --out model.onnx")(
    maps.export_command
)
app.command("card", rich_help_panel=_MAPS, epilog="Example: landseg card workspace --out card.md")(maps.card_command)

_UNPACK_ADVICE = "choose a folder such as data/tiles/sample"

StudyName = Annotated[str, typer.Argument(help="Study in studies/, or path of a study file.")]
_WORKERS = "Workers"
SetParams = Annotated[
    list[str], typer.Option("-S", "--set-param", help="Set a parameter in all cells: section.key=value.")
]


@app.command("check", rich_help_panel=_PARAMS, epilog="Example: landseg check presets/folder.yaml")
def check_command(path: Annotated[Path, typer.Argument(help="Params file.")] = PARAMS) -> None:
    """Check params.yaml: keys, values, contradictions, names of models, weights, and the files of a folder.

    In a subfolder of a project, the params.yaml of the project is checked.
    """
    from landseg.check import find_faults

    with reporting(str(path)):
        if path == PARAMS and not path.is_file():
            projects = (parent for parent in Path.cwd().parents if (parent / PARAMS).is_file())
            os.chdir(next((parent for parent in projects if (parent / "dvc.yaml").is_file()), Path.cwd()))
        if faults := find_faults(path):
            for fault in faults:
                typer.echo(f"error: {fault}", err=True)
            raise typer.Exit(1)
        typer.echo(f"{path}: OK")


@app.command("inspect", rich_help_panel=_PARAMS, epilog="Example: landseg inspect data/local --out params.yaml")
def inspect_command(
    folder: Annotated[Path, typer.Argument(help="Folder with your images and labels.")],
    out: Annotated[Path, typer.Option(help="Params file to write.")] = PARAMS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Look at a folder of images and labels, and write a params.yaml for it, with questions as comments."""
    from landseg.inspection.folder import inspect_folder
    from landseg.inspection.report import print_report

    with reporting():
        print_report(inspect_folder(folder, out, overwrite), out)


@app.command("report", rich_help_panel=_EXPERIMENTS, epilog="Example: landseg report results/report.html")
def report_command(
    page: Annotated[Path, typer.Argument(help="Page of a run or a study.")] = Path("results/report.html"),
) -> None:
    """Open the report of the last run in a browser. It needs no network."""
    with reporting():
        if not page.is_file():
            raise LandsegError(f"{page}: file not found; run `dvc repro` first, or name a page")
        typer.echo(page)
        webbrowser.open(page.resolve().as_uri())


@app.command("schema", rich_help_panel=_PARAMS, epilog="Example: landseg schema params.schema.json")
def schema_command(
    path: Annotated[Path, typer.Argument(help="Output file.")] = Path("params.schema.json"),
) -> None:
    """Write the JSON Schema of params.yaml, for completion and validation in editors."""
    from landseg.schema import params_schema

    with reporting(), atomic(path) as temporary:
        temporary.write_text(params_schema(), encoding="utf-8")


@app.command("unpack", rich_help_panel=_PARAMS, epilog="Example: landseg unpack data/tiles/sample tiles")
def unpack_command(
    tiles: Annotated[Path, typer.Argument(help="Folder of tile archives, such as data/tiles/sample.")],
    out: Annotated[Path, typer.Argument(help="Output folder, for images/, masks/ and masks_rgb/.")],
) -> None:
    """Extract tile archives into a folder."""
    from landseg.download.zip_archive import extract_archive

    with reporting():
        archives = sorted(tiles.glob("*.zip"))
        if not archives:
            below = sorted(path.name for path in tiles.glob("*/") if any(path.glob("*.zip"))) if tiles.is_dir() else []
            choice = f"choose {' or '.join(str(tiles / name) for name in below)}" if below else _UNPACK_ADVICE
            raise LandsegError(f"{tiles}: no tile archives found; {choice}")
        if out.exists():
            raise LandsegError(f"{out}: already exists; choose a new folder, or remove it")
        with atomic(out) as temporary:
            temporary.mkdir()
            for path in archives:
                extract_archive(path, temporary)
        typer.echo(f"{sum(1 for _ in out.rglob('*.png')):,} files in {out}")


@app.command("compare", rich_help_panel=_EXPERIMENTS, epilog="Example: landseg compare my-experiment workspace")
def compare_command(
    one: Annotated[str, typer.Argument(help="Git revision, DVC experiment, or `workspace`.")],
    other: Annotated[str, typer.Argument(help="Revision to compare with.")],
    metric: Annotated[str, typer.Option(help="Score in results/metrics.json to compare.")] = "macro_miou",
) -> None:
    """Compare two runs: paired score differences, first minus second, with intervals, and which parameters differ."""
    from landseg.results.comparison import comparison_report
    from landseg.results.revisions import load_run

    with reporting():
        typer.echo(comparison_report(load_run(one), load_run(other), metric))


app.add_typer(study_app, name="study", rich_help_panel=_EXPERIMENTS)


@study_app.command("run", epilog="Example: landseg study run losses -j 2 -S train.epochs=10")
def study_run_command(
    name: StudyName,
    set_param: SetParams = [],  # noqa: B006  # typer does not change the default
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Number of cells to run in parallel.")] = 1,
    engine: Annotated[
        Literal["local", "dask"],
        typer.Option(
            help="Run cells on this machine, or on the workers of a Dask scheduler.", rich_help_panel=_WORKERS
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of the scheduler (default: compute.address).", rich_help_panel=_WORKERS),
    ] = None,
    resources: Annotated[
        list[str],
        typer.Option(help="What a cell takes of a worker's resources: NAME=AMOUNT.", rich_help_panel=_WORKERS),
    ] = [],  # noqa: B006
) -> None:
    """Run the unfinished cells of a study, each as a DVC experiment.

    --address and --resources require --engine dask, and -j is for this machine.
    """
    from landseg.studies.plan import plan_study
    from landseg.studies.runner import input_digest, run_cells

    again = "interrupted; finished cells and epochs are kept, and the same command goes on from there"
    with reporting(str(PARAMS), again):
        if engine == "local" and (address or resources):
            raise LandsegError("--address and --resources: for workers; add --engine dask, or leave them out")
        elsewhere = None
        if engine == "dask":
            from landseg.studies.on_workers import run_on_workers

            elsewhere = partial(run_on_workers, address, resources)
        plan = plan_study(name, set_param, input_digest())
        failed = 0
        for outcome in run_cells(plan, jobs, typer.echo, elsewhere):
            if outcome.failure:
                failed += 1
                typer.echo(f"failed: {outcome.cell.title}: {outcome.failure}", err=True)
        if failed:
            raise LandsegError(f"{plan.path}: {failed} of {len(plan.cells)} cells failed; fix the cause and run again")
        typer.echo(f"all {len(plan.cells)} cells finished; for the report, run `landseg study report {plan.arguments}`")


@study_app.command("report", epilog="Example: landseg study report losses --out reports/losses")
def study_report_command(
    name: StudyName,
    set_param: SetParams = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Output folder (default: reports/<name>).")] = None,
) -> None:
    """Write the report of a study: tables, figures and an HTML page."""
    from landseg.studies.plan import plan_study
    from landseg.studies.report import write_study_report
    from landseg.studies.runner import input_digest

    with reporting(str(PARAMS)):
        plan = plan_study(name, set_param, input_digest())
        for sentence in write_study_report(plan, out or Path("reports", plan.name)):
            typer.echo(sentence)
