"""The code that a stage really runs: its script and the landseg modules it imports, transitively."""

import ast
from pathlib import Path

from helpers.root import ROOT


def module_file(name: str) -> Path | None:
    """Return the file of a landseg module, or None where the name is no module."""
    base = ROOT / "src" / Path(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(file: Path) -> set[str]:
    """Return the landseg names that a file imports, wherever in it: `from a import b` may mean the module a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "landseg"}


def closure(script: Path, *more: str) -> set[str]:
    """Return the files that a script depends on, itself and the packages above included, relative to the project.

    Args:
        script: the file to start from.
        more: modules that it imports by a name which is not in its text.
    """
    found: set[Path] = set()
    waiting = [script, *_files(set(more))]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _files(imports(file))
    return {path.relative_to(ROOT).as_posix() for path in found}


def _files(names: set[str]) -> list[Path]:
    """Return the files of modules and of the packages above them, which importing a module runs too."""
    parents = {".".join(parts[: n + 1]) for parts in (name.split(".") for name in names) for n in range(len(parts))}
    return [path for path in map(module_file, sorted(parents)) if path]


def is_docstring_only(file: str) -> bool:
    """Tell whether a file holds nothing but a docstring, so that a change to it changes nothing."""
    body = ast.parse((ROOT / file).read_text()).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
