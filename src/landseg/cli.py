"""`landseg …`: what a person does beside `dvc repro`."""

from pathlib import Path
from typing import Annotated

import typer

from landseg.errors import LandsegError, reporting
from landseg.files import atomic
from landseg.params.base import PARAMS

app = typer.Typer(
    help="Land-cover maps from satellite and aerial imagery. The pipeline itself runs by `dvc repro`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ParamsFile = Annotated[Path, typer.Argument(help="The params file.")]


@app.command()
def check(path: ParamsFile = PARAMS) -> None:
    """Check a whole params file: unknown keys, wrong values, sections that disagree."""
    from landseg.params.everything import check as check_params

    with reporting():
        check_params(path)
        typer.echo(f"{path}: in order")


@app.command()
def schema(path: Annotated[Path, typer.Argument(help="Where to write.")] = Path("params.schema.json")) -> None:
    """Write the JSON Schema of params.yaml, which editors complete and check it by."""
    from landseg.params.everything import schema as params_schema

    with reporting(), atomic(path) as temporary:
        temporary.write_text(params_schema(), encoding="utf-8")


@app.command()
def unpack(
    tiles: Annotated[Path, typer.Argument(help="A folder of tile archives, such as data/tiles/sample.")],
    out: Annotated[Path, typer.Argument(help="Where to lay the files out: images/, masks/ and masks_rgb/.")],
) -> None:
    """Lay the PNG files of tile archives out loose, for whoever wants a folder."""
    from landseg.sources.archive import unpack as unpack_archive

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
