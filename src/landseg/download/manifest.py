"""Manifest of fetched files: one JSON line per file."""

import json
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from landseg.download.remote_file import ManifestEntry

_ENTRY = TypeAdapter(ManifestEntry)


class Manifest:
    """Manifest entries by key. Lines are only appended; the last line of a key counts.

    Unreadable lines, as a killed process or a full disk leaves them, are ignored.
    """

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, ManifestEntry] = {}
        self._path, self._lock = path, threading.Lock()
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            with suppress(ValidationError):
                entry = _ENTRY.validate_json(line)
                self.entries[entry.key] = entry
        self._incomplete_line = bool(content) and not content.endswith(b"\n")

    def add(self, entry: ManifestEntry) -> None:
        """Append an entry; thread-safe."""
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if self._incomplete_line:
                    file.write(b"\n")
                file.write(line.encode())
            self._incomplete_line = False
            self.entries[entry.key] = entry
