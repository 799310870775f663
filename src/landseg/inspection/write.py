"""Writing of params.yaml: the preset of folders with other values and comments."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from landseg.core.errors import LandsegError
from landseg.inspection.masks import Class
from landseg.inspection.settings import Settings

#: Start of the comments with questions.
ASK = "ASK:"

# Length of lines that are wrapped and of others, and column of comments, as in the presets.
_WIDTH, _MAX_WIDTH, _COLUMN = 120, 140, 24
_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: +(?P<value>[^#].*?|))??(?: +# (?P<comment>.*))?")
_PLAIN = re.compile(r"[A-Za-z/][\w./*-]*(?: [\w./*-]+)*")
_WORDS = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
# What the keys of dataset.labels mean, which the preset does not have.
_LABEL_MEANINGS = {
    "files": "vector file below download.folder, or glob of several",
    "layer": "layer of the files; null: the only one",
    "column": "attribute with the class",
    "values": "class id of each value of the attribute; null leaves objects out",
    "radius": "distance in metres around points that has their class; 0: the pixel of the point (points only)",
    "buffer": "distance in metres by which polygons grow, or shrink if negative (polygons only)",
    "all_touched": "true: polygons cover all pixels that they touch; false: those whose centres lie in them",
    "order": "ids in drawing order, the last on top; []: objects of different classes may not overlap",
    "area": "vector file of the polygons outside which pixels are ignored; null: none",
    "elsewhere": "class id of pixels of the area without an object; null: they are ignored",
    "unit": "what the split keeps together: null (each object) | an attribute | a distance in metres",
    "outside": "objects outside every image: error | skip",
}


def template() -> str:
    """Return the preset of folders.

    Raises:
        LandsegError: it is missing.
    """
    for path in (Path(__file__).with_name("folder.yaml"), Path(__file__).parents[3] / "presets/folder.yaml"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise LandsegError("presets/folder.yaml: file not found; install landseg again")


def params_text(settings: Settings, folder: Path) -> str:
    """Return the text of params.yaml.

    Args:
        settings: values and comments.
        folder: the folder, for the first line.
    """
    preset = template()
    lines: list[str] = [
        preset.splitlines()[0],
        *_wrapped(
            "", f"Written by `landseg inspect {folder}`. Answer the questions ({ASK} ...), then run `landseg check`."
        ),
    ]
    section, skipping = "", False
    for line in preset.splitlines()[2:]:
        match = _KEY.fullmatch(line)
        if match is None or (indent := len(match["indent"])) > 2:
            if not skipping:
                lines.append(line)
            continue
        section = match["key"] if not indent else section
        key = f"{section}.{match['key']}" if indent else section
        skipping = key in settings.values and match["value"] in (None, "")  # what follows belongs to the key
        lines += _entry(settings, key, match["comment"] or "", line)
    return "\n".join(lines) + "\n"


def _entry(settings: Settings, key: str, meaning: str, line: str) -> Iterator[str]:
    """Yield the lines of a key: comments with what it rests on and questions, then key, value and meaning."""
    for text in settings.notes.get(key, ()):
        yield from _wrapped("  ", text)
    for text in settings.questions.get(key, ()):
        yield from _wrapped("  ", f"{ASK} {text}")
    if key not in settings.values:
        text, _, comment = line.partition(" # ")
        yield from [line] if len(line) <= _MAX_WIDTH else [*_wrapped("  ", comment), text.rstrip()]
        return
    name, new = key.rpartition(".")[2], settings.values[key]
    if key == "dataset.classes":
        yield _commented(f"  {name}:", meaning)
        yield from _classes(new)
    elif key == "dataset.labels" and isinstance(new, Mapping):
        yield _commented(f"  {name}:", meaning)
        for own, each in new.items():
            yield from _value_lines("    ", own, each, _LABEL_MEANINGS[own])
    else:
        yield from _value_lines("  ", name, new, meaning)


def _classes(classes: Sequence[Class]) -> Iterator[str]:
    for each in classes:
        entry = {"id": each.id, "name": each.name, "color": list(each.color)}
        yield _commented(f"    - {flow(entry)}", each.note, 60)


def _value_lines(indent: str, name: str, value: Any, meaning: str) -> Iterator[str]:
    """Yield the lines of a value; a comment that does not fit stands above, and a long value is wrapped."""
    text = f"{indent}{name}: {flow(value)}"
    line = _commented(text, meaning)
    if len(line) <= _MAX_WIDTH:
        yield line
        return
    yield from _wrapped(indent, meaning)
    yield from textwrap.wrap(
        text,
        _WIDTH,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _commented(text: str, comment: str, column: int = _COLUMN) -> str:
    return f"{text:<{column - 2}}  # {comment}" if comment else text


def _wrapped(indent: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.casefold() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
