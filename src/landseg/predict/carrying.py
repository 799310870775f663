"""A model made ready for other programs, with what is known of it beside it."""

from collections.abc import Iterator
from pathlib import Path

from landseg.errors import LandsegError
from landseg.files import atomic, require_new
from landseg.model_card import model_card
from landseg.predict.model_file import ModelFile, model_file
from landseg.predict.opening import info_of, load_model
from landseg.revisions import load


def carry(name: str, path: Path, program: bool, overwrite: bool) -> Iterator[str]:
    """Write a model as ONNX and, beside it, as a program of torch.export and with its card; yield a sentence on each.

    Args:
        name: the model (see landseg.predict.model_file).
        path: of the ONNX file.
        program: whether the program is wanted, too.
        overwrite: whether files that are there are replaced.

    Raises:
        LandsegError: there is no such model, it cannot be exported, or a file is there.
    """
    if path.suffix != ".onnx":
        raise LandsegError(f"{path}: is to be an .onnx file; give it that suffix")
    beside, card = path.with_suffix(".pt2") if program else None, path.with_suffix(".md")
    require_new([path, card, *([beside] if beside else [])], overwrite)
    with model_file(name) as model:
        network = load_model(model)
        from landseg.export import export  # needs torch, which is known by now to be there

        difference = export(network, path, beside)
        yield f"{path}: ONNX Runtime differs from PyTorch by {difference:.1e} at most"
        if beside:
            yield f"{beside}: a program of torch.export; load none from strangers, for it may run code"
        if model.run is None:
            yield "no model card: no commit here is known to have made this file"
            return
        text = card_of(model)
    with atomic(card) as temporary:
        temporary.write_text(text, encoding="utf-8")
    yield f"{card}: the model card"


def card_of(model: ModelFile) -> str:
    """Return the card of a model, by the results of the run that made it.

    Raises:
        LandsegError: no run is known to have made it, or its results are missing.
    """
    if model.run is None:
        raise LandsegError(f"{model.name}: no commit here is known to have made it; name a revision or an experiment")
    return model_card(load(model.run), info_of(model), model.digest)
