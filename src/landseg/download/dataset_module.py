"""Access to the modules of a dataset by its name."""

import importlib
from typing import Any, Literal

from landseg.core.errors import ParamsError


def dataset_module(name: str, part: Literal["card", "fetch"]) -> Any:
    """Import a module of a dataset; it has the function of that name, and the class `Params` of its section `dataset`.

    No other dataset is imported, so dvc.yaml lists only the folder of the dataset in use.

    Raises:
        ParamsError: no dataset has this name.
    """
    module = f"landseg.datasets.{name}.{part}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.rpartition(".")[0]):
            raise
        raise ParamsError(f"dataset.name = {name}: unknown dataset; run `landseg check`") from None
