"""Projects with a DVC remote on a local S3 server, and the environment of the processes that use them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from helpers.clones import commit, dvc
from helpers.root import ROOT

BUCKET = "landseg"
URL = f"s3://{BUCKET}/project"
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
#: Credentials for a server that accepts any.
ANYONE = dict.fromkeys(CREDENTIALS, "anyone")
_EMPTY = str(ROOT / "src/landseg/py.typed")
#: No credentials, nor those of the machine or its user.
NOBODY = {
    **dict.fromkeys(CREDENTIALS, ""),
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": _EMPTY,
    "AWS_CONFIG_FILE": _EMPTY,
}


def add_remote(project: Path, endpoint: str) -> None:
    """Make an S3 server the default remote of a project, and commit it."""
    dvc(project, "remote", "add", "-d", "storage", URL)
    dvc(project, "remote", "modify", "storage", "endpointurl", endpoint)
    commit(project)


def variables(credentials: Mapping[str, str] = ANYONE) -> dict[str, str]:
    """Return variables of the environment with these credentials and no proxy, for `helpers.clones.dvc`."""
    return {"NO_PROXY": "127.0.0.1", **NOBODY, **credentials}


def landseg_environment(credentials: Mapping[str, str] = ANYONE, packages: Sequence[Path] = ()) -> dict[str, str]:
    """Return the environment of a landseg with this working tree's code, these credentials and further packages."""
    return {
        **os.environ,
        **variables(credentials),
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "src", *packages])),
        "DVC_NO_ANALYTICS": "1",
    }


def landseg_command(*arguments: str, site: bool = True) -> list[str]:
    """Return the command line of landseg, with or without the packages of this environment."""
    return [sys.executable, *([] if site else ["-S"]), "-c", "from landseg.cli import app; app()", *arguments]


def landseg(
    project: Path, *arguments: str, credentials: Mapping[str, str] = ANYONE, without: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run landseg in a process of its own.

    Args:
        project: the folder to run it in.
        arguments: of the command line.
        credentials: variables of the environment.
        without: a folder that `site_without` made, in place of this environment's packages.
    """
    return subprocess.run(
        landseg_command(*arguments, site=without is None),
        cwd=project,
        env=landseg_environment(credentials, [without] if without else []),
        capture_output=True,
        text=True,
    )


def site_without(package: str, folder: Path) -> Path:
    """Link all packages of this environment into a folder, except one; for Python with -S, which sees no others."""
    folder.mkdir()
    [site] = [Path(path) for path in sys.path if path.endswith("site-packages")]
    for entry in site.iterdir():
        if not entry.name.startswith(package) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder
