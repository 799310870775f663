"""The command line, run in this process."""

from typer.testing import CliRunner, Result

from landseg.cli import app


def landseg(*arguments: object) -> Result:
    import dvc.api  # noqa: F401  # its log keeps the streams of its first import, and those of a runner are closed

    return CliRunner().invoke(app, [str(argument) for argument in arguments])
