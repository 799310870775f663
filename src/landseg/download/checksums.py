"""Checksums of files."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def hex_digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Return the hex digests of a file by algorithm (hashlib's names); reads the file once."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in hashes.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def digest_mismatch(found: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Return a description of the first digest that differs, or None."""
    for name, digest in expected.items():
        if found[name] != digest.lower():
            return f"{name} is {found[name]}, expected {digest}"
    return None


def checksum_mismatch(path: Path, expected: Mapping[str, str]) -> str | None:
    """Return a description of the first checksum of a file that differs, or None.

    Raises:
        ValueError: no checksum is given.
    """
    if not expected:
        raise ValueError("give at least one checksum")
    return digest_mismatch(hex_digests(path, expected), expected)
