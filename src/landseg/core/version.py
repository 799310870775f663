"""Version of the code: equal digests mean equal results."""

import hashlib
from functools import cache
from pathlib import Path


@cache
def package_digest() -> str:
    """Return a hash of the source files of this package, 16 hex digits."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
