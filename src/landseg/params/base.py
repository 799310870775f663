"""Reading params.yaml: strictly, and with the nearest name where a key is unknown."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.errors import LandsegError

PARAMS = Path("params.yaml")


class Section(BaseModel):
    """A section of params.yaml. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S")


def read(path: Path = PARAMS) -> dict[str, Any]:
    """Read a params file (YAML 1.2, as DVC does).

    Raises:
        LandsegError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; copy one of presets/*.yaml to it") from None
    except YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise LandsegError(f"{path}: line {line} is no valid YAML; mend it, or copy one of presets/*.yaml") from None
    if not isinstance(content, dict):
        raise LandsegError(f"{path}: holds no sections; copy one of presets/*.yaml to it")
    return content


def section(kind: type[S], name: str, path: Path = PARAMS) -> S:
    """Read one section of a params file.

    Args:
        kind: the section's model, or a union of models.
        name: the section's key.
        path: the params file.

    Raises:
        LandsegError: the section is missing, or a key is unknown or has a wrong value.
    """
    content = read(path)
    if name not in content:
        raise LandsegError(f"{path}: section {name} is missing; copy it from one of presets/*.yaml")
    return validate(kind, content[name], name, path)


class _Name(Section, extra="ignore"):
    name: str


def dataset_name(path: Path = PARAMS) -> str:
    """Read dataset.name alone: all that the stages after download need of that section.

    Raises:
        LandsegError: it is missing.
    """
    return section(_Name, "dataset", path).name


def validate(kind: type[S], content: Any, prefix: str, path: Path) -> S:
    """Check content against a model; `prefix` is the key under which it stands in `path`.

    Raises:
        LandsegError: one sentence on the first fault, and how many more there are.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        # A misspelt key is also a missing one: the spelling says more.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        more = f" ({len(faults) - 1} more after this one)" if len(faults) > 1 else ""
        raise LandsegError(f"{path}: {_sentence(faults[0], content, kind, prefix)}{more}") from None


def _sentence(fault: Mapping[str, Any], content: Any, kind: Any, prefix: str) -> str:
    key = ".".join(filter(None, [prefix, *_location(fault["loc"], content)]))
    if fault["type"] == "extra_forbidden":
        near = _nearest(key, [".".join(filter(None, [prefix, path])) for path in _known(kind)])
        hint = f"did you mean {near}?" if near else "remove it, or see params.schema.json for the known keys"
        return f"{key} is not a known key; {hint}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":  # one of this package's own validators: it names the key itself
        return message if "." in message.split()[0] else f"{key}: {message}"
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{key.rpartition('.')[0]} has too few values; it needs at least {fault['loc'][-1] + 1}"
    if fault["type"] == "missing":
        return f"{key} is missing; add it, or copy its section from one of presets/*.yaml"
    if fault["type"] == "union_tag_invalid":
        return f"{key}.name = {fault['ctx']['tag']!r}: must be one of {fault['ctx']['expected_tags']}"
    return f"{key} = {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _location(loc: Iterable[int | str], content: Any) -> list[str]:
    """Return the keys that lead to a fault, without the tags that pydantic puts between them for unions."""
    keys, parts = [], list(loc)
    for position, part in enumerate(parts):
        if not isinstance(content, dict | list):
            break
        try:
            content = content[part]  # type: ignore[index]  # an int for a list, a str for a mapping, else an error
        except (LookupError, TypeError):
            if position < len(parts) - 1:
                continue
        keys.append(str(part))
    return keys


def _nearest(key: str, known: list[str]) -> str | None:
    """Return the known key that was probably meant: one of the same name elsewhere, or one spelt alike."""
    leaf = key.rpartition(".")[2]
    same = [path for path in known if path.rpartition(".")[2] == leaf]
    return next(iter(same or difflib.get_close_matches(key, known, n=1, cutoff=0.7)), None)


def _known(kind: Any) -> list[str]:
    """Return the dotted path of every key that a model, or a union of models, knows."""
    schema = TypeAdapter(kind).json_schema()

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for branch in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            yield from walk(branch, prefix)
        for name, child in node.get("properties", {}).items():
            yield f"{prefix}{name}"
            yield from walk(child, f"{prefix}{name}.")

    return sorted(set(walk(schema, "")))
