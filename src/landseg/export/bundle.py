"""A model made ready for other programs, with what is known of it beside it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.files import atomic, require_new
from landseg.export.model_card import model_card
from landseg.predict.load import info_of, load_model
from landseg.predict.model_file import REVISION, SCORED, SOURCE, ModelFile, digest, model_file
from landseg.results.revisions import load_run


def carry(name: str, path: Path, program: bool, overwrite: bool) -> Iterator[str]:
    """Write a model as ONNX and, beside it, as a program of torch.export and with its card; yield a sentence on each.

    All of them get their names, or none does.

    Args:
        name: the model (see landseg.predict.model_file).
        path: of the ONNX file.
        program: whether the program is wanted, too.
        overwrite: whether files that are there are replaced.

    Raises:
        LandsegError: there is no such model, it cannot be exported, what its card needs is missing, or a file is there.
    """
    if path.suffix != ".onnx":
        raise LandsegError(f"{path}: must end in .onnx; give it that suffix")
    beside, card = path.with_suffix(".pt2") if program else None, path.with_suffix(".md")
    require_new([path, card, *([beside] if beside else [])], overwrite)
    with model_file(name) as model:
        difference = _write(model, path, beside, card if model.run else None)
        yield f"{path}: ONNX Runtime differs from PyTorch by {difference:.1e} at most"
        if beside:
            yield f"{beside}: a program of torch.export; load none from strangers, for it may run code"
        if model.run:
            yield f"{card}: the model card"
        else:
            yield "no model card: no commit here is known to have made and scored this file"


def _write(model: ModelFile, path: Path, program: Path | None, card: Path | None) -> float:
    """Write what `carry` does, and return how far ONNX Runtime is from PyTorch."""
    network = load_model(model)
    if card:
        card_of(model)  # what it lacks is told now, not after the minutes of an export
    from landseg.export.onnx import export  # needs torch, which is known by now to be there

    with ExitStack() as stack:
        onnx = stack.enter_context(atomic(path))
        beside, text = (each and stack.enter_context(atomic(each)) for each in (program, card))
        difference = export(network, onnx, beside, origin=_origin(model))
        if text:
            made = replace(model, digest=digest(onnx), source=model.digest)
            text.write_text(card_of(made), encoding="utf-8")
    return difference


def _origin(model: ModelFile) -> dict[str, str]:
    return {
        SOURCE: model.digest,
        **({REVISION: model.revision} if model.revision else {}),
        **({SCORED: "yes"} if model.run else {}),
    }


def card_of(model: ModelFile) -> str:
    """Return the card of a model, by the results of the run that made it.

    Raises:
        LandsegError: no run is known to have made it, or its results are missing.
    """
    if model.run is None:
        raise LandsegError(
            f"{model.name}: no commit here is known to have made and scored it; name a revision or an experiment"
        )
    return model_card(load_run(model.run), info_of(model), model.digest, model.source)
