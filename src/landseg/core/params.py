"""Reading and validation of params.yaml. Unknown keys are errors that suggest the nearest known key."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.core.errors import LandsegError

PARAMS = Path("params.yaml")

#: Names of encoders: no addresses, from which some libraries would load code or weights.
PLAIN_NAME = r"^[A-Za-z0-9_.-]{1,100}$"
#: Largest height and width of tiles, px.
MAX_TILE = 1 << 14
#: Largest random seed: NumPy accepts 32 bits.
MAX_SEED = (1 << 32) - 1

# Largest integer that every program reads from YAML and JSON without rounding.
_MAX_INTEGER = 1 << 53
# Size of a params file, bytes, and its number of values with anchors expanded, above which it is no params file.
_MAX_BYTES, _MAX_VALUES = 1 << 20, 100_000


class Section(BaseModel):
    """Base model of a section of params.yaml; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


S = TypeVar("S")

_COPY_FILE = "correct it or copy one of presets/*.yaml to it"
_COPY_SECTION = "copy the section from one of presets/*.yaml"


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read a params file (YAML 1.2, as DVC does).

    Raises:
        LandsegError: the file is missing, not valid YAML, or not a mapping of sections.
    """
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise LandsegError(f"{path}: over {_MAX_BYTES >> 20} MiB, too long for a params file; {_COPY_FILE}")
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        _require_size(content, path)
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; copy one of presets/*.yaml to it") from None
    except IsADirectoryError:
        raise LandsegError(f"{path}: expected a file, found a folder; give the path of a params file") from None
    except UnicodeDecodeError:
        raise LandsegError(f"{path}: not UTF-8 text; save it as UTF-8 or copy one of presets/*.yaml to it") from None
    except YAMLError as error:
        raise LandsegError(f"{path}: {_problem(error)}; {_COPY_FILE}") from None
    except RecursionError:
        raise LandsegError(f"{path}: nested too deeply for a params file; {_COPY_FILE}") from None
    except (ValueError, OverflowError) as error:  # numbers that Python does not convert
        raise LandsegError(f"{path}: a number is too long ({str(error).partition(';')[0]}); {_COPY_FILE}") from None
    if not isinstance(content, dict):
        raise LandsegError(f"{path}: no sections found; copy one of presets/*.yaml to it")
    return content


def _require_size(content: object, path: Path) -> None:
    """Refuse files whose anchors expand to far more values than a params file has."""
    count, values = 0, [content]
    while values:
        value = values.pop()
        count += 1
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            raise LandsegError(f"{path}: a number is too long ({str(value)[:20]}...); {_COPY_FILE}")
        if count > _MAX_VALUES:
            raise LandsegError(f"{path}: has over {_MAX_VALUES:,} values with its anchors expanded; {_COPY_FILE}")
        if isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value


def _problem(error: YAMLError) -> str:
    """Return the line and the problem of a YAML error."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    text = " ".join((problem or "not valid YAML").split())
    return f"line {mark.line + 1}: {text}" if mark else text


@overload
def read_section(kind: type[S], name: str, path: Path = PARAMS) -> S: ...
@overload
def read_section(kind: UnionType, name: str, path: Path = PARAMS) -> Any: ...
def read_section(kind: Any, name: str, path: Path = PARAMS) -> Any:
    """Read one section of a params file.

    Args:
        kind: model of the section, or a union of models.
        name: key of the section.
        path: params file.

    Raises:
        LandsegError: the section is missing, a key is unknown, or a value is invalid.
    """
    content = read_params(path)
    if name not in content:
        raise LandsegError(f"{path}: {name}: missing section; copy it from one of presets/*.yaml")
    return validate(kind, content[name], name, path)


#: Pixel size to which images are resampled: in units of the CRS, or that of a band by its name; None: the smallest of
#: all bands.
Resolution = Annotated[float, Field(gt=0)] | str | None


class _Name(Section, extra="ignore"):
    name: str


class _PixelSize(Section, extra="ignore"):
    resolution: Resolution = None


def dataset_name(path: Path = PARAMS) -> str:
    """Read dataset.name, the only key of `dataset` that the stages after download use.

    Raises:
        LandsegError: it is missing.
    """
    return read_section(_Name, "dataset", path).name


def pixel_size(path: Path = PARAMS) -> Resolution:
    """Read convert.resolution, the only key of `convert` that the tile stage uses.

    Raises:
        LandsegError: it is invalid, or the section is missing.
    """
    return read_section(_PixelSize, "convert", path).resolution


def validate(kind: type[S], content: Any, prefix: str, path: Path) -> S:
    """Validate the content of a params file, or of a part of it.

    Args:
        kind: model, or union of models, to validate against.
        content: parsed YAML.
        prefix: key of the content in the file; '' for the whole file.
        path: params file, for messages.

    Raises:
        LandsegError: a key is unknown or missing, or a value is invalid. The message describes the first fault and
            counts the others.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise InvalidParamsError(_messages(error, content, kind, prefix), path) from None


class InvalidParamsError(LandsegError):
    """A params file has invalid keys or values. The message names the first fault and counts the others."""

    def __init__(self, faults: Sequence[str], path: Path) -> None:
        """Keep all faults; see `faults`."""
        more = f" ({len(faults) - 1} more after this one)" if len(faults) > 1 else ""
        super().__init__(f"{path}: {faults[0]}{more}")
        #: All faults, without the name of the file.
        self.faults = list(faults)


def _messages(error: ValidationError, content: Any, kind: Any, prefix: str) -> list[str]:
    """Return one message per key at fault, unknown keys first."""
    # A misspelt key is unknown, and the correct key is missing: report the former. If no member of a union matches,
    # report the one that validated the deepest.
    faults = sorted(error.errors(), key=lambda fault: (fault["type"] != "extra_forbidden", -len(fault["loc"])))
    messages: dict[str, str] = {}
    for fault in faults:
        key = ".".join(_location(fault["loc"], content))
        for line in _message(fault, content, kind, prefix).splitlines():
            messages.setdefault(key or line, line)
    meant = {match[1] for text in messages.values() if (match := re.search(r"did you mean (\S+)\?", text))}
    return [text for text in messages.values() if not any(text.startswith(f"{key}: missing key") for key in meant)]


def _message(fault: Mapping[str, Any], content: Any, kind: Any, prefix: str) -> str:
    """Return the message for a fault: key and value, what is wrong, what to do."""
    key = ".".join(filter(None, [prefix, *_location(fault["loc"], content)]))
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {_spelling_hint(key, kind, prefix)}"
        case "value_error":  # raised by a validator of this package, whose message may start with the key
            message = fault["msg"].removeprefix("Value error, ")
            return message if "." in message.split()[0] else f"{key}: {message}"
        case "missing" if isinstance(fault["loc"][-1], int):
            return f"{key.rpartition('.')[0]} = {fault['input']}: must have at least {fault['loc'][-1] + 1} value(s)"
        case "missing":
            return f"{key}: missing key; add it, or {_COPY_SECTION}"
        case "union_tag_not_found":
            return f"{key}.name: missing key; add it, or {_COPY_SECTION}"
        case "union_tag_invalid":
            tag, tags = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
            return f"{key}.name = {tag!r}: must be one of {tags}{_did_you_mean(tag, tags)}"
        case "model_type" | "model_attributes_type":
            return f"{key} = {_as_yaml(fault['input'])}: must be a section with keys; {_COPY_SECTION}"
    return f"{key} = {_as_yaml(fault['input'])}: {_requirement(fault)}"


#: What a value must be, by pydantic's error type; filled in from the error's context.
_REQUIREMENTS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    "string_pattern_mismatch": "must be a plain name of letters, digits, '_', '.' and '-'",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_long": "must have at most {max_length} value(s)",
    "too_short": "must have at least {min_length} value(s)",
}


def _requirement(fault: Mapping[str, Any]) -> str:
    """Return what a value must be, such as 'must be at least 1'."""
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"]
        return f"must be {expected}{_did_you_mean(fault['input'], expected)}"
    if fault["type"] == "string_type":
        is_scalar = isinstance(fault["input"], int | float | date)
        return "must be a string" + (f"; quote it: '{_as_yaml(fault['input'])}'" if is_scalar else "")
    if fault["type"] in _REQUIREMENTS:
        return _REQUIREMENTS[fault["type"]].format(**fault.get("ctx", {}))
    message: str = fault["msg"].replace("Input should be", "must be")
    return f"{message[0].lower()}{message[1:]}"


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)


def _did_you_mean(value: object, expected: str) -> str:
    """Return '; did you mean ...?' for the nearest quoted word in `expected`, or ''."""
    near = difflib.get_close_matches(str(value), re.findall(r"'(.+?)'", expected), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _spelling_hint(key: str, kind: Any, prefix: str) -> str:
    near = _nearest(key, [".".join(filter(None, [prefix, known])) for known in _known(kind)])
    return f"did you mean {near}?" if near else "remove it; params.schema.json lists the known keys"


def _location(loc: Iterable[int | str], content: Any) -> list[str]:
    """Return the keys that lead to a fault, without the tags that pydantic inserts for unions."""
    keys, steps = [], list(loc)
    for position, step in enumerate(steps):
        if not isinstance(content, dict | list):
            break
        try:
            content = content[step]  # type: ignore[index]  # int for a list, str for a mapping; else an error
        except TypeError:  # a name for a list: a tag
            continue
        except LookupError:  # a tag, or, in the last position, a missing key
            if position < len(steps) - 1:
                continue
        keys.append(str(step))
    return keys


def _nearest(key: str, known: list[str]) -> str | None:
    """Return the known key that was probably meant: the same name in another section, or a similar name in this one."""
    key = re.sub(r"\.\d+\b", "", key)  # all items of a list have the same keys
    section, dot, name = key.rpartition(".")
    same = [path for path in known if path.rpartition(".")[2] == name]
    neighbours = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == section]
    similar = difflib.get_close_matches(name, neighbours, n=1)
    return next(iter(same + [f"{section}{dot}{neighbour}" for neighbour in similar]), None)


def _known(kind: Any) -> list[str]:
    """Return the dotted paths of all keys of a model or a union of models."""
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
