"""A model for other programs: ONNX, and beside it a program of torch.export."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from math import ceil
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch.export import Dim, ExportedProgram

from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.model.info import KEY, ModelInfo
from landseg.model.segmenter import Segmenter

#: How far the logits of ONNX Runtime may be from PyTorch's: of the largest logit, but of 1 where that is less.
TOLERANCE = 1e-4

# What ONNX Runtime 1.18 and later, of 2024, all compute; torch's exporter translates into it directly.
_OPSET = 18
# A file of protocol buffers ends here; larger models would need a second file beside it.
_LARGEST = 2**31 - 2**20


def export(model: Segmenter, path: Path, program: Path | None = None, *, origin: Mapping[str, str] = {}) -> float:
    """Write a model as ONNX, and check that ONNX Runtime computes what PyTorch does.

    One file holds all: weights, normalisation, and in its metadata what the model says of itself, as JSON under
    `landseg.model.info.KEY` and in plain words. Input `images`: uint8 (N, 3, H, W), RGB, H and W multiples of
    `ModelInfo.stride`; output `logits`: float32 (N, K, H, W). Reading it runs no code.

    The program of torch.export has the same input and output, and its metadata in the extra file `landseg.json`; other
    code loads it by `torch.export.load(path).module()`, without this package. It is no file to take from strangers:
    what is written here holds numbers and a graph, but `torch.export.load` unpickles what else a file holds, which can
    run any code. landseg never loads one.

    Args:
        model: the model; it stays as it is.
        path: of the ONNX file.
        program: of the program of torch.export, a .pt2 file; None: none.
        origin: what the metadata of the ONNX file are to say of where the model comes from, by key.

    Returns:
        The largest difference between logits of the two, on noise of two sizes, alone and two at a time.

    Raises:
        LandsegError: the model cannot be exported, or ONNX Runtime computes something else; no file is written.
    """
    _check_weight(model)
    # A copy, with weights in rows as programs of torch.export have them, whose own layout is channels_last.
    model = copy.deepcopy(model).cpu().eval().to(memory_format=torch.contiguous_format)
    exported = _exported(model)
    with atomic(path) as temporary, atomic(program) if program else nullcontext() as beside:
        if beside:
            _write_program(exported, model.info, beside)
        _write_onnx(exported, model.info, temporary, origin)
        return _check(model, temporary)


def _exported(model: Segmenter) -> ExportedProgram:
    """Trace a model for any number of images and any height and width that are multiples of its stride."""
    stride = model.info.stride
    # Sides that differ, and that no layer sees as 1, which would be taken for a constant: some divide them by 32.
    side = ceil(max(model.info.tile, 4 * 32) / stride)
    images = torch.zeros(2, 3, stride * side, stride * (side + 2), dtype=torch.uint8)
    sizes = {0: Dim("batch"), 2: stride * Dim("height"), 3: stride * Dim("width")}
    with _quiet(), _failing(model.info):
        exported = torch.export.export(model, (images,), dynamic_shapes=(sizes,))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # where on this machine the code lies is nobody's matter
    return exported


def _write_program(exported: ExportedProgram, info: ModelInfo, path: Path) -> None:
    with path.open("wb") as file:  # which, unlike a path, leaves no temporary name in the archive
        torch.export.save(exported, file, extra_files={f"{KEY}.json": info.model_dump_json()})


def _write_onnx(exported: ExportedProgram, info: ModelInfo, path: Path, origin: Mapping[str, str]) -> None:
    with _quiet(), _failing(info):
        translated = torch.onnx.export(
            exported, input_names=["images"], output_names=["logits"], opset_version=_OPSET, dynamo=True, verbose=False
        )
        if translated is None:
            raise TypeError("torch returned no program")
        model = translated.model_proto
    _describe(model, info, origin)
    onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)


def _describe(model: onnx.ModelProto, info: ModelInfo, origin: Mapping[str, str]) -> None:
    """Say in a file what it is, and drop what the exporter noted for itself."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # sizes in between, by other names; whoever loads it infers them
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    model.graph.name = "landseg"
    model.graph.input[0].doc_string = f"RGB, 0 to 255; height and width are multiples of {info.stride}"
    model.graph.output[0].doc_string = "one channel a class, in the order of the classes; argmax is the map"
    model.doc_string = f"Land-cover segmentation: {info.architecture} with {info.encoder}, trained on {info.dataset}"
    onnx.helper.set_model_props(model, {KEY: info.model_dump_json(), **_in_words(info), **origin})


def _in_words(info: ModelInfo) -> Mapping[str, str]:
    """Return what a person looks for who opens the file in a viewer."""
    low, high = (f"{value:g}" for value in info.rendering.range)
    span = f"from {low} to {high}" if info.rendering.stretch == "fixed" else "from the darkest to the brightest pixel"
    return {
        "classes": ", ".join(f"{of.id} {of.name}" for of in info.classes),
        "bands": ", ".join(info.rendering.bands),
        "stretch": f"values that are not uint8 become 0 to 255 {span}, with gamma {info.rendering.gamma:g}, before",
        "mean": f"{', '.join(f'{value:g}' for value in info.mean)} of values from 0 to 1; in the graph",
        "std": f"{', '.join(f'{value:g}' for value in info.std)} of values from 0 to 1; in the graph",
        "gsd": "unknown" if info.gsd is None else f"{info.gsd:g} m",
        "dataset": info.dataset,
        "licence": f"{info.licence} (of the training data)",
    }


def _check(model: Segmenter, path: Path) -> float:
    """Return the largest difference between the logits of a file and those of its model.

    Raises:
        LandsegError: it is larger than rounding explains, or the file cannot be computed.
    """
    info, noise, largest = model.info, torch.Generator().manual_seed(0), 0.0
    with _failing(info):  # on the CPU, where both compute in full 32 bits
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = ceil(info.tile / info.stride) * info.stride
    for count, height, width in ((1, side, side), (2, side + info.stride, side + 3 * info.stride)):
        images = torch.randint(256, (count, 3, height, width), generator=noise, dtype=torch.uint8)
        with torch.inference_mode():
            expected = model(images)
        with _failing(info):
            found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
            difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE * max(1, float(expected.abs().max())):
            raise LandsegError(
                f"{info.architecture} with {info.encoder}: ONNX Runtime's logits differ from PyTorch's by "
                f"{difference:.2g}; use the model as it is, or train another: Unet and UnetPlusPlus can be exported"
            )
        largest = max(largest, difference)
    return largest


def _check_weight(model: Segmenter) -> None:
    size = sum(of.numel() * of.element_size() for of in model.state_dict().values())
    if size > _LARGEST:
        raise LandsegError(
            f"{model.info.encoder}: has {size / 1e9:.1f} GB of weights, and one ONNX file takes 2.1 GB; "
            "choose a smaller encoder"
        )


@contextmanager
def _failing(info: ModelInfo) -> Iterator[None]:
    """Say of whatever goes wrong here that the model cannot be exported: the exporters' errors have no parent."""
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while first.__cause__:  # what they wrap it in speaks to the exporters' own developers
            first = first.__cause__
        lines = str(first).strip().splitlines() or [type(first).__name__]
        raise LandsegError(
            f"{info.architecture} with {info.encoder}: cannot be exported for all sizes ({lines[0].rstrip(' .:')}); "
            "Unet and UnetPlusPlus can"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say to their own developers."""
    talkers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [of.level for of in talkers]
    with warnings.catch_warnings():
        # torch, up to 2.11, uses a class of its own that it is about to retire.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            for of in talkers:
                of.setLevel(logging.ERROR)
            yield
        finally:
            for of, level in zip(talkers, levels, strict=True):
                of.setLevel(level)
