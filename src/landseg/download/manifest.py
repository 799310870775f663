"""What was fetched into a folder: a file with a line of JSON a file."""

import json
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from landseg.download.remote_file import Entry

_ENTRY = TypeAdapter(Entry)


class Manifest:
    """Entries by key. Lines are only ever appended; the last one of a key counts.

    A line that cannot be read, which a killed process or a full disk may leave, counts for nothing.
    """

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, Entry] = {}
        self._path, self._lock = path, threading.Lock()
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            with suppress(ValidationError):
                entry = _ENTRY.validate_json(line)
                self.entries[entry.key] = entry
        self._torn = bool(content) and not content.endswith(b"\n")

    def add(self, entry: Entry) -> None:
        """Note a file; any thread may."""
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"\n" * self._torn + line.encode())
            self._torn = False
            self.entries[entry.key] = entry
