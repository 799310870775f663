"""The code that a stage really runs: its script and the landseg modules it imports, transitively."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def module_file(name: str) -> Path | None:
    """Return the file of a landseg module, or None where the name is no module."""
    base = ROOT / "src" / Path(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(file: Path) -> set[str]:
    """Return the names that a file imports, wherever in it: `from a import b` may mean the module a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "landseg"}


def closure(script: Path, *more: str) -> list[str]:
    """Return the files that a script depends on, itself and the assets of packages included, relative to the project.

    Args:
        script: the file to start from.
        more: modules that it imports by a name which is not in its text.
    """
    found = {script}
    open_files = [script, *(file for file in map(module_file, more) if file)]
    while open_files:
        file = open_files.pop()
        found.add(file)
        names = {parent for name in imports(file) for parent in _parents(name)}
        open_files += [path for path in map(module_file, sorted(names)) if path and path not in found]
        found |= set(open_files)
    found |= {asset for file in found for asset in (file.parent / "assets").glob("*") if file.name == "__init__.py"}
    if more:  # importing a module imports its packages
        found |= {path for name in more for parent in _parents(name) if (path := module_file(parent))}
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]
