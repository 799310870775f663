"""Checksums: what the bytes of a file are, and what they should be."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def digests(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the hex digests of a file by hashlib's names of the algorithms, reading it once."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
    return {name: each.hexdigest() for name, each in hashes.items()}


def compare(found: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Say which digest is not the expected one, or None."""
    for name, digest in expected.items():
        if found[name] != digest.lower():
            return f"its {name} is {found[name]} and should be {digest}"
    return None


def difference(path: Path, expected: Mapping[str, str]) -> str | None:
    """Say which checksum of a file differs, or None.

    Raises:
        ValueError: there is nothing to compare with.
    """
    if not expected:
        raise ValueError("give at least one checksum")
    return compare(digests(path, expected), expected)
