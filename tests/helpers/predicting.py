"""`landseg predict`, run in this process, and what it leaves in maps/."""

from pathlib import Path

from helpers.commands import landseg
from typer.testing import Result


def predict(*arguments: object, model: str = "model.safetensors") -> Result:
    return landseg("predict", *arguments, "--model", model, "--out", "maps", "--device", "cpu")


def assert_refused(result: Result, message: str) -> None:
    """Assert that a command failed with this message, and wrote nothing."""
    assert result.exit_code == 1, result.output
    assert result.stderr.strip().splitlines()[-1] == f"error: {message}"
    assert "Traceback" not in result.output
    assert map_folder() == []


def map_folder() -> list[str]:
    """Return the names of the files in maps/, hidden files included."""
    return sorted(path.name for path in Path("maps").iterdir()) if Path("maps").is_dir() else []
