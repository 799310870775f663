"""Files of a commit that git does not hold: from DVC's cache, or from its remote storage."""

from contextlib import suppress

from landseg.core.errors import LandsegError


def read_dvc_file(commit: str, path: str) -> bytes:
    """Return a file that DVC tracks. From the remote, this file alone is fetched, and not kept in the cache.

    Args:
        commit: full commit hash.
        path: of the file, relative to the project.

    Raises:
        FileNotFoundError: DVC tracks no such file in this commit.
        LandsegError: it does, but neither the cache nor the remote has the content, or the remote cannot be read.
    """
    from dvc.api import DVCFileSystem  # takes a second to import
    from dvc.exceptions import DvcException

    try:  # without the remote first, whose package need not be installed to read the cache
        cached = DVCFileSystem(rev=commit, config={"core": {"remote": ""}})
        found = cached.info(path)["type"] == "file"
    except (DvcException, OSError):
        found = False  # for example an invalid dvc.yaml: the file cannot be read, whatever the reason
    if not found:
        raise FileNotFoundError(path)
    with suppress(OSError):
        return bytes(cached.read_bytes(path))
    try:
        return bytes(DVCFileSystem(rev=commit).read_bytes(path))
    except Exception as error:  # every kind of remote raises exceptions of its own library
        fault = _fault(error, _remote_url())
        raise LandsegError(f"{path} of {commit[:7]}: not in DVC's cache, and {fault}") from None


def _fault(error: Exception, url: str | None) -> str:
    """Return why a file cannot be fetched, and what to do.

    Args:
        error: raised by DVC or the library of the remote.
        url: address of the default remote; None: there is none.
    """
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if isinstance(error, IndexError) and isinstance(error.__context__, Exception):
        error = error.__context__  # s3fs 2026.9 looks at the first argument of errors, which a timeout lacks
    text = "timeout" if isinstance(error, TimeoutError) else str(error).strip()
    reason = next(iter(text.splitlines()), type(error).__name__).rstrip(".")
    if url is None:
        return "there is no default remote; add one (`dvc remote add -d`), or run `dvc repro` on that revision"
    if isinstance(error, ImportError):
        return f"the remote {url} needs a package that is not installed ({reason}); for S3, install landseg[s3]"
    if isinstance(error, FileNotFoundError):
        return f"the remote {url} does not have it; run `dvc push` where it was made, or `dvc repro` on that revision"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"the remote {url} needs credentials ({reason}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use "
            "`dvc remote modify --local`"
        )
    if isinstance(error, PermissionError):
        return f"the remote {url} refuses the credentials ({reason}); correct them, or ask its owner for access"
    return f"the remote {url} cannot be read ({reason}); check its settings in .dvc/config and the network"


def _remote_url() -> str | None:
    """Return the address of the default remote of the project in the working directory."""
    from dvc.config import Config

    config = Config.from_cwd()
    name = config["core"].get("remote")
    return str(config["remote"].get(name, {}).get("url", name)) if name else None
