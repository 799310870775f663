"""`landseg …`: what a person does beside `dvc repro`."""

from pathlib import Path
from typing import Annotated

import typer

from landseg.cli import maps as cli_maps
from landseg.core.errors import LandsegError, reporting
from landseg.core.files import atomic
from landseg.core.params import PARAMS

app = typer.Typer(
    help="Land-cover maps from satellite and aerial imagery. The pipeline itself runs by `dvc repro`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

study_app = typer.Typer(
    help="Studies: a grid over params.yaml (studies/<name>.yaml), run as DVC experiments, and its report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(study_app, name="study")

for command in (cli_maps.predict, cli_maps.area, cli_maps.change, cli_maps.export, cli_maps.card):
    app.command()(command)

StudyName = Annotated[str, typer.Argument(help="A study in studies/, or the path of a study's file.")]
SetParams = Annotated[
    list[str], typer.Option("-S", "--set-param", help="A parameter that all cells set besides: section.key=value.")
]
ParamsFile = Annotated[Path, typer.Argument(help="The params file.")]


@app.command()
def check(path: ParamsFile = PARAMS) -> None:
    """Check a whole params file: unknown keys, wrong values, sections that disagree."""
    from landseg.schema import check_params

    with reporting():
        check_params(path)
        typer.echo(f"{path}: in order")


@app.command()
def schema(path: Annotated[Path, typer.Argument(help="Where to write.")] = Path("params.schema.json")) -> None:
    """Write the JSON Schema of params.yaml, which editors complete and check it by."""
    from landseg.schema import params_schema

    with reporting(), atomic(path) as temporary:
        temporary.write_text(params_schema(), encoding="utf-8")


@app.command()
def unpack(
    tiles: Annotated[Path, typer.Argument(help="A folder of tile archives, such as data/tiles/sample.")],
    out: Annotated[Path, typer.Argument(help="Where to lay the files out: images/, masks/ and masks_rgb/.")],
) -> None:
    """Lay the PNG files of tile archives out loose, for whoever wants a folder."""
    from landseg.download.zip_archive import unpack as unpack_archive

    with reporting():
        archives = sorted(tiles.glob("*.zip"))
        if not archives:
            raise LandsegError(f"{tiles}: holds no tile archives; name a folder such as data/tiles/sample")
        if out.exists():
            raise LandsegError(f"{out}: is already there; name a new folder, or remove it")
        with atomic(out) as temporary:
            temporary.mkdir()
            for path in archives:
                unpack_archive(path, temporary)
        typer.echo(f"{sum(1 for _ in out.rglob('*.png')):,} files in {out}")


@app.command()
def compare(
    one: Annotated[str, typer.Argument(help="A git revision, a DVC experiment, or `workspace`.")],
    other: Annotated[str, typer.Argument(help="The one that it is compared with.")],
    metric: Annotated[str, typer.Option(help="A score of results/metrics.json.")] = "macro_miou",
) -> None:
    """Say whether one run is better than another, by a paired difference with its interval, and what parts them."""
    from landseg.results.comparison import comparison_report
    from landseg.results.revisions import load_run

    with reporting():
        typer.echo(comparison_report(load_run(one), load_run(other), metric))


@study_app.command("run")
def study_run(
    name: StudyName,
    set_param: SetParams = [],  # noqa: B006  # typer's way; nothing changes it
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Cells to run at a time.")] = 1,
) -> None:
    """Run the cells of a study that have not run yet, each as a DVC experiment; one that fails is reported."""
    from landseg.studies.plan import plan
    from landseg.studies.runner import digest, run_cells

    with reporting():
        study = plan(name, set_param, digest())
        failed = 0
        for outcome in run_cells(study, jobs, typer.echo):
            if outcome.failure:
                failed += 1
                typer.echo(f"failed: {outcome.cell.title}: {outcome.failure}", err=True)
        if failed:
            raise LandsegError(f"{study.path}: {failed} of {len(study.cells)} cells failed; mend and run again")
        typer.echo(f"all {len(study.cells)} cells have run; `landseg study report {study.asked}` draws them")


@study_app.command("report")
def study_report(
    name: StudyName,
    set_param: SetParams = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default reports/<name>.")] = None,
) -> None:
    """Write the report of a study: table, figures and one page that opens offline."""
    from landseg.studies.plan import plan
    from landseg.studies.report import write_report
    from landseg.studies.runner import digest

    with reporting():
        study = plan(name, set_param, digest())
        folder = out or Path("reports", study.name)
        for sentence in write_report(study, folder):
            typer.echo(sentence)
