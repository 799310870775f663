"""Export a model with its model card."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.files import atomic, require_new
from landseg.export.model_card import render_model_card
from landseg.predict.load import load_torch_model, read_model_info
from landseg.predict.model_file import REVISION_KEY, SCORED_KEY, SOURCE_KEY, ModelFile, find_model, hash_file
from landseg.results.revisions import load_run


def export_model(name: str, path: Path, program: bool, overwrite: bool) -> Iterator[str]:
    """Export a model to ONNX, optionally to torch.export too, with its model card; yield a sentence for each file.

    Either all files are written or none.

    Args:
        name: the model (see landseg.predict.model_file).
        path: the ONNX file to write.
        program: whether to write the torch.export program, too.
        overwrite: whether to replace existing files.

    Raises:
        LandsegError: the model does not exist or cannot be exported, a result that its card needs is missing, or a
            file exists.
    """
    if path.suffix != ".onnx":
        raise LandsegError(f"{path}: does not end in .onnx; use that suffix")
    program_path, card_path = path.with_suffix(".pt2") if program else None, path.with_suffix(".md")
    require_new([path, card_path, *([program_path] if program_path else [])], overwrite)
    with find_model(name) as model:
        difference = _write_files(model, path, program_path, card_path if model.run else None)
        yield f"{path}: ONNX model; its logits differ from PyTorch's by at most {difference:.1e}"
        if program_path:
            yield f"{program_path}: torch.export program; never load one from an untrusted source, it can run code"
        if model.run:
            yield f"{card_path}: model card"
        else:
            yield "no model card: no commit in this repository is known to have trained and scored this file"


def _write_files(model: ModelFile, path: Path, program_path: Path | None, card_path: Path | None) -> float:
    """Write all files, and return the largest difference between the logits of ONNX Runtime and PyTorch."""
    segmenter = load_torch_model(model)
    if card_path:
        model_card_for(model)  # fail now if a result is missing, not after an export of minutes
    from landseg.export.onnx import export_onnx  # imports torch, which load_torch_model has found installed

    with ExitStack() as stack:
        onnx = stack.enter_context(atomic(path))
        program, card = (each and stack.enter_context(atomic(each)) for each in (program_path, card_path))
        difference = export_onnx(segmenter, onnx, program, origin=_origin(model))
        if card:
            exported = replace(model, digest=hash_file(onnx), source=model.digest)
            card.write_text(model_card_for(exported), encoding="utf-8")
    return difference


def _origin(model: ModelFile) -> dict[str, str]:
    return {
        SOURCE_KEY: model.digest,
        **({REVISION_KEY: model.revision} if model.revision else {}),
        **({SCORED_KEY: "yes"} if model.run else {}),
    }


def model_card_for(model: ModelFile) -> str:
    """Return the model card of a model file, from the results of the run that trained it.

    Raises:
        LandsegError: that run is not known, or a result is missing.
    """
    if model.run is None:
        raise LandsegError(
            f"{model.name}: no commit in this repository is known to have trained and scored this file; give a "
            "revision or an experiment"
        )
    return render_model_card(load_run(model.run), read_model_info(model), model.digest, model.source)
