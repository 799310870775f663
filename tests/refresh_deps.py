"""Write the code that every stage runs into dvc.yaml: `uv run python tests/refresh_deps.py`."""

import re

from closure import ROOT, closure

DATASETS = ("sample", "landcoverai", "folder", "landcovernet", "ghana")
CODE = re.compile(r"      - (pipeline|src)/\S+\n")


def refreshed(text: str) -> str:
    """Return dvc.yaml with the code dependencies of every stage as its imports say."""
    stages = re.split(r"(?m)^(?=  \w+:$)", text)
    return "".join(_stage(block) for block in stages)


def _stage(block: str) -> str:
    script = re.search(r"python pipeline/(\w+)\.py", block)
    if script is None:
        return block
    files = stage_code(script[1])
    lines = "".join(f"      - {file}\n" for file in files)
    return CODE.sub("", block).replace("    deps:\n", f"    deps:\n{lines}", 1)


def stage_code(stage: str) -> list[str]:
    """Return what a stage runs, as dvc.yaml writes it.

    Download imports the module of the data set in use by its name, so of these modules it lists only
    that one; what they lean on in turn it lists for all of them.
    """
    script = ROOT / f"pipeline/{stage}.py"
    if stage != "download":
        return closure(script)
    modules = [f"landseg.datasets.{name}" for name in DATASETS]
    shared = set(closure(script, *modules)) - {f"src/{module.replace('.', '/')}.py" for module in modules}
    return [*sorted(shared), "src/landseg/datasets/${dataset.name}.py"]


if __name__ == "__main__":
    path = ROOT / "dvc.yaml"
    path.write_text(refreshed(path.read_text()))
