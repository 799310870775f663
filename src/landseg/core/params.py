"""Reading params.yaml: strictly, and with the nearest name where a key is unknown."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.core.errors import LandsegError

PARAMS = Path("params.yaml")


class Section(BaseModel):
    """A section of params.yaml. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S")

_COPY_SECTION = "copy its section from one of presets/*.yaml"


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read a params file (YAML 1.2, as DVC does).

    Raises:
        LandsegError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; copy one of presets/*.yaml to it") from None
    except IsADirectoryError:
        raise LandsegError(f"{path}: is a folder; name a params file") from None
    except UnicodeDecodeError:
        raise LandsegError(f"{path}: is not text in UTF-8; save it as such, or copy one of presets/*.yaml") from None
    except YAMLError as error:
        raise LandsegError(f"{path}: {_problem(error)}; mend it, or copy one of presets/*.yaml") from None
    if not isinstance(content, dict):
        raise LandsegError(f"{path}: holds no sections; copy one of presets/*.yaml to it")
    return content


def _problem(error: YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    what = " ".join((problem or "not valid YAML").split())
    return f"line {mark.line + 1}: {what}" if mark else what


@overload
def read_section(kind: type[S], name: str, path: Path = PARAMS) -> S: ...
@overload
def read_section(kind: UnionType, name: str, path: Path = PARAMS) -> Any: ...
def read_section(kind: Any, name: str, path: Path = PARAMS) -> Any:
    """Read one section of a params file.

    Args:
        kind: the section's model, or a union of models.
        name: the section's key.
        path: the params file.

    Raises:
        LandsegError: the section is missing, or a key is unknown or has a wrong value.
    """
    content = read_params(path)
    if name not in content:
        raise LandsegError(f"{path}: section {name} is missing; {_COPY_SECTION}")
    return validate(kind, content[name], name, path)


class _Name(Section, extra="ignore"):
    name: str


def dataset_name(path: Path = PARAMS) -> str:
    """Read dataset.name alone: all that the stages after download need of that section.

    Raises:
        LandsegError: it is missing.
    """
    return read_section(_Name, "dataset", path).name


def validate(kind: type[S], content: Any, prefix: str, path: Path) -> S:
    """Check content against a model; `prefix` is the key under which it stands in `path`.

    Raises:
        LandsegError: one sentence on the first fault, and how many more there are.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        # A misspelt key is also a missing one: the spelling says more. Of the branches of a union, the one that
        # was followed the furthest is the one that was meant.
        faults = sorted(error.errors(), key=lambda fault: (fault["type"] != "extra_forbidden", -len(fault["loc"])))
        more = f" ({len(faults) - 1} more after this one)" if len(faults) > 1 else ""
        raise LandsegError(f"{path}: {_sentence(faults[0], content, kind, prefix)}{more}") from None


def _sentence(fault: Mapping[str, Any], content: Any, kind: Any, prefix: str) -> str:
    key = ".".join(filter(None, [prefix, *_location(fault["loc"], content)]))
    if fault["type"] == "extra_forbidden":
        near = _nearest(key, [".".join(filter(None, [prefix, path])) for path in _known(kind)])
        hint = f"did you mean {near}?" if near else "remove it, or see params.schema.json for the known keys"
        return f"{key} is not a known key; {hint}"
    message = fault["msg"].removeprefix("Value error, ").replace("Tuple", "list").replace("tuple", "list")
    if fault["type"] == "value_error":  # one of this package's own validators: it names the key itself
        return message if "." in message.split()[0] else f"{key}: {message}"
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{key.rpartition('.')[0]} has too few values; it needs at least {fault['loc'][-1] + 1}"
    if fault["type"] == "missing":
        return f"{key} is missing; add it, or {_COPY_SECTION}"
    if fault["type"] == "union_tag_not_found":
        return f"{key}.name is missing; add it, or {_COPY_SECTION}"
    if fault["type"] == "union_tag_invalid":
        tag, tags = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
        return f"{key}.name = {tag!r}: must be one of {tags}{_meant(tag, tags)}"
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"]
        return f"{key} = {fault['input']!r}: must be {expected}{_meant(fault['input'], expected)}"
    if fault["type"] in ("model_type", "model_attributes_type"):
        return f"{key} = {fault['input']!r}: needs keys of its own; {_COPY_SECTION}"
    return f"{key} = {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _meant(value: object, expected: str) -> str:
    """Return '; did you mean ...?' for the nearest of the quoted words of a message, or nothing."""
    near = difflib.get_close_matches(str(value), re.findall(r"'(.+?)'", expected), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _location(loc: Iterable[int | str], content: Any) -> list[str]:
    """Return the keys that lead to a fault, without the tags that pydantic puts between them for unions."""
    keys, parts = [], list(loc)
    for position, part in enumerate(parts):
        if not isinstance(content, dict | list):
            break
        try:
            content = content[part]  # type: ignore[index]  # an int for a list, a str for a mapping, else an error
        except TypeError:  # no list has a key that is a name: a tag
            continue
        except LookupError:  # a tag, or, at the end, the key that is missing
            if position < len(parts) - 1:
                continue
        keys.append(str(part))
    return keys


def _nearest(key: str, known: list[str]) -> str | None:
    """Return the known key that was probably meant: one of the same name elsewhere, or a neighbour spelt alike."""
    key = re.sub(r"\.\d+\b", "", key)  # the items of a list all know the same keys
    section, dot, leaf = key.rpartition(".")
    same = [path for path in known if path.rpartition(".")[2] == leaf]
    neighbours = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == section]
    alike = difflib.get_close_matches(leaf, neighbours, n=1)
    return next(iter(same + [f"{section}{dot}{name}" for name in alike]), None)


def _known(kind: Any) -> list[str]:
    """Return the dotted path of every key that a model, or a union of models, knows."""
    schema = TypeAdapter(kind).json_schema()

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for branch in (*node.get("oneOf", ()), *node.get("anyOf", ()), *filter(None, [node.get("items")])):
            yield from walk(branch, prefix)
        for name, child in node.get("properties", {}).items():
            yield f"{prefix}{name}"
            yield from walk(child, f"{prefix}{name}.")

    return sorted(set(walk(schema, "")))
