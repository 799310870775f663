"""Export to ONNX and torch.export."""

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
from landseg.core.progress import working
from landseg.export.inputs import band_values, mean_and_std, stretch
from landseg.model.info import KEY, ModelInfo
from landseg.model.segmenter import Segmenter

# Largest allowed difference between the logits of ONNX Runtime and PyTorch, relative to the largest logit (at least 1).
_TOLERANCE = 1e-4
# Supported by ONNX Runtime 1.18 (2024) and later; torch's exporter writes it without a conversion.
_OPSET = 18
# Size limit of a protocol-buffer file, bytes; larger models would need a second file for the weights.
_MAX_SIZE = 2**31 - 2**20


def export_onnx(model: Segmenter, path: Path, program: Path | None = None, *, origin: Mapping[str, str] = {}) -> float:
    """Export a model to ONNX, and check that ONNX Runtime computes the same logits as PyTorch.

    The ONNX file contains the weights, the normalisation and the metadata (as JSON under `landseg.model.info.KEY`, and
    as readable properties). Input `images`: (N, bands, H, W) of the data type of tiles, which is uint8 for RGB; H and W
    are multiples of `ModelInfo.stride`. Output `logits`: float32 (N, K, H, W). Loading it runs no code.

    The torch.export program has the same input and output, and its metadata in the extra file `landseg.json`. Load it
    with `torch.export.load(path).module()`; this package is not needed. The file written here holds only numbers and a
    graph, but `torch.export.load` unpickles, so a file from an untrusted source can run code. landseg never loads one.

    Args:
        model: the model; it is not changed.
        path: the ONNX file to write.
        program: the torch.export program to write, a .pt2 file; None: none.
        origin: metadata of the ONNX file on the origin of the model, by key.

    Returns:
        The largest difference between the logits of both, on random images of two sizes and batch sizes.

    Raises:
        LandsegError: the model cannot be exported, or ONNX Runtime computes other logits; no file is written.
    """
    _check_size(model)
    # A copy in contiguous layout, the one of torch.export programs; the model itself is channels_last.
    model = copy.deepcopy(model).cpu().eval().to(memory_format=torch.contiguous_format)
    with working("export: tracing the network"):
        exported = _exported(model)
    with atomic(path) as temporary, atomic(program) if program else nullcontext() as beside:
        with working("export: writing the graph"):
            if beside:
                _write_program(exported, model.info, beside)
            _write_onnx(exported, model.info, temporary, origin)
        with working("export: comparing with PyTorch"):
            return _check_logits(model, temporary)


def _exported(model: Segmenter) -> ExportedProgram:
    """Trace a model for any batch size and any height and width that are multiples of its stride."""
    stride = model.info.stride
    # Height and width differ, and no layer reduces either to 1 (some divide by 32): tracing treats 1 as a constant.
    side = ceil(max(model.info.tile, 4 * 32) / stride)
    images = torch.zeros(
        2, len(model.info.rendering.bands), stride * side, stride * (side + 2), dtype=_dtype(model.info)
    )
    sizes = {0: Dim("batch"), 2: stride * Dim("height"), 3: stride * Dim("width")}
    with _silent_exporters(), _export_errors(model.info):
        exported = torch.export.export(model, (images,), dynamic_shapes=(sizes,))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return exported


def _dtype(info: ModelInfo) -> torch.dtype:
    """Return the data type of images."""
    dtype: torch.dtype = getattr(torch, info.rendering.dtype)
    return dtype


def _write_program(exported: ExportedProgram, info: ModelInfo, path: Path) -> None:
    with path.open("wb") as file:  # given a path, torch writes its temporary name into the archive
        torch.export.save(exported, file, extra_files={f"{KEY}.json": info.model_dump_json()})


def _write_onnx(exported: ExportedProgram, info: ModelInfo, path: Path, origin: Mapping[str, str]) -> None:
    with _silent_exporters(), _export_errors(info):
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
    """Add the metadata to an ONNX model, and remove the exporter's notes."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # their dimensions have other names; programs infer them on loading
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    model.graph.name = "landseg"
    values = "RGB, 0 to 255" if info.rendering.format == "png" else ", ".join(info.rendering.bands)
    model.graph.input[0].doc_string = f"{values}; height and width are multiples of {info.stride}"
    model.graph.output[0].doc_string = (
        "one channel per class, in the order of the classes; argmax is the map, softmax(logits / temperature) the "
        "confidences"
    )
    model.doc_string = f"Land-cover segmentation: {info.architecture} with {info.encoder}, trained on {info.dataset}"
    onnx.helper.set_model_props(model, {KEY: info.model_dump_json(), **_properties(info), **origin})


def _properties(info: ModelInfo) -> Mapping[str, str]:
    """Return the metadata as readable properties, for model viewers."""
    mean, std = mean_and_std(info)
    gamma = f"gamma {info.rendering.gamma:g}"
    values = (
        {"stretch": f"map values that are not uint8 {stretch(info)}, {gamma}, before inference"}
        if info.rendering.format == "png"
        else {"values": band_values(info)}
    )
    return {
        "classes": ", ".join(f"{each.id} {each.name}" for each in info.classes),
        "bands": ", ".join(info.rendering.bands),
        **values,
        "mean": f"{mean}; applied in the graph",
        "std": f"{std}; applied in the graph",
        "temperature": f"{info.temperature:g}; divide the logits by it before softmax"
        if info.temperature != 1
        else "1; confidences are not calibrated",
        "gsd": "unknown" if info.gsd is None else f"{info.gsd:g} m",
        "dataset": info.dataset,
        "licence": f"{info.licence} (of the training data)",
    }


def _check_logits(model: Segmenter, path: Path) -> float:
    """Return the largest difference between the logits of an ONNX file and those of its model.

    Raises:
        LandsegError: it is larger than rounding explains, or ONNX Runtime cannot run the file.
    """
    info, noise, largest = model.info, torch.Generator().manual_seed(0), 0.0
    with _export_errors(info):  # on the CPU, where both compute in float32
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = ceil(info.tile / info.stride) * info.stride
    for count, height, width in ((1, side, side), (2, side + info.stride, side + 3 * info.stride)):
        images = _random_images(info, (count, height, width), noise)
        with torch.inference_mode():
            expected = model(images)
        with _export_errors(info):
            found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
            difference = float((found - expected).abs().max())
        if not difference <= _TOLERANCE * max(1, float(expected.abs().max())):
            raise LandsegError(
                f"{info.architecture} with {info.encoder}: ONNX Runtime's logits differ from PyTorch's by "
                f"{difference:.2g}, so it cannot be exported; train a Unet or UnetPlusPlus instead"
            )
        largest = max(largest, difference)
    return largest


def _random_images(info: ModelInfo, shape: tuple[int, int, int], noise: torch.Generator) -> torch.Tensor:
    """Return random images, (N, bands, H, W): any bytes, else values around the means of the bands."""
    count, height, width = shape
    size = (count, len(info.rendering.bands), height, width)
    if info.rendering.dtype == "uint8":
        return torch.randint(256, size, generator=noise, dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (info.mean, info.std))
    values = mean + std * torch.randn(size, generator=noise)
    if info.rendering.dtype == "float32":
        return values
    limits = torch.iinfo(_dtype(info))
    return values.round().clamp(limits.min, limits.max).to(_dtype(info))


def _check_size(model: Segmenter) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _MAX_SIZE:
        raise LandsegError(
            f"{model.info.encoder}: has {size / 1e9:.1f} GB of weights, but an ONNX file can hold 2.1 GB; "
            "choose a smaller encoder"
        )


@contextmanager
def _export_errors(info: ModelInfo) -> Iterator[None]:
    """Turn any error into a LandsegError: the exceptions of the exporters have no common base class."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__:  # exporters wrap the cause in reports for their own developers
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise LandsegError(
            f"{info.architecture} with {info.encoder}: cannot be exported for all image sizes "
            f"({lines[0].rstrip(' .:')}); train a Unet or UnetPlusPlus instead"
        ) from error


@contextmanager
def _silent_exporters() -> Iterator[None]:
    """Silence the exporters' logs and warnings, which address their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # torch up to 2.11 uses a class that it has deprecated itself.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
