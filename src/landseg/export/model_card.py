"""Model card: training data, scores, intended use, limitations and licence of a model, in Markdown.

Follows Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019). Every number comes from the results of a run.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import ValidationError
from ruamel.yaml import YAML

from landseg.core.classes import as_hex, class_names
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.evaluate.intervals import count_units, missing_interval
from landseg.export.inputs import band_values, mean_and_std
from landseg.model.info import ModelInfo
from landseg.results.revisions import committed_revision
from landseg.results.run import RERUN, WORKSPACE, Run
from landseg.results.wording import (
    confidence_text,
    describe_strategy,
    distance_sentence,
    leakage_sentence,
    macro_interval_text,
    unit_noun,
)

# IoU below which a class is listed under limitations.
_LOW_IOU = 0.5
# Effective number of units below which scores are said to be of a small sample.
_SMALL_SAMPLE = 10
# Share of the training pixels below which a class is listed under limitations as rare.
_RARE_SHARE = 0.02
# Sections of params.yaml that describe the sources of files and the machine, not the model.
_OMITTED_SECTIONS = ("download", "compute")
# Keys that the card needs, by the file of the run and the attribute that reads it.
_REQUIRED = {
    ("results/metrics.json", "metrics"): (
        "dataset",
        "split",
        "tiles",
        "locations",
        "scenes",
        "interval_over",
        "strategy",
        "leakage",
        "calibration",
    ),
    ("results/split.json", "split"): ("strategy", "seed", "splits"),
    ("results/train/metrics.json", "training"): ("step", "best_epoch", "parameters"),
}


def render_model_card(run: Run, info: ModelInfo, digest: str, source: str | None = None) -> str:
    """Render the model card as Markdown.

    Args:
        run: the run that trained and scored the model.
        info: metadata of the model file.
        digest: SHA-256 of the model file, in hex.
        source: SHA-256 of the file that it was exported from; None: not exported, or unknown.

    Raises:
        LandsegError: a result is missing, or the results are of another model.
    """
    _check(run, info)
    card, params = _data_card(run), {**run.params, **info.params}
    return _template().render(
        architecture=params["model"]["architecture"],
        encoder=params["model"]["encoder"],
        depth=params["model"]["encoder_depth"],
        title=card.title if card else run.metrics["dataset"],
        headline=_headline(run),
        run="the workspace" if run.name == "workspace" else run.name,
        revision_name=run.revision,
        revision=_revision(run),
        model=[*_model(run, info, params), *_hashes(digest, source)],
        classes=_classes(run),
        data=list(_data(run, info, card)),
        leakage_effect=_leakage_effect(run),
        warnings=[warning.rstrip(".") for warning in run.metrics.get("warnings", [])],
        split=run.metrics["split"],
        sample_size=_sample_size(run),
        scores=list(_scores(run)),
        intervals=_intervals(run),
        confidence=confidence_text(run),
        calibration=list(_calibration(run)),
        units=unit_noun(run),
        imagery=_imagery(info, card),
        synthetic=run.metrics["dataset"] == "sample",
        gsd=info.gsd,
        few=_few(run),
        class_limits=list(_class_limits(run)),
        bias=_bias(run),
        training=_training(run, params),
        params=_yaml({name: section for name, section in params.items() if name not in _OMITTED_SECTIONS}),
        licence=info.licence,
        spdx=_spdx(info.licence),
        citation=card.citation if card else "",
        imagenet=params["model"]["encoder_weights"] == "imagenet",
    )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("landseg.export", "assets"),
        autoescape=False,  # noqa: S701  # Markdown, not HTML; text from outside is escaped by `md`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _escaped
    return environment.get_template("model_card.md.jinja")


def _check(run: Run, info: ModelInfo) -> None:
    for (file, attribute), keys in _REQUIRED.items():
        for key in keys:
            if key not in getattr(run, attribute):
                raise LandsegError(f"{run.name}: {file} has no {key}; {RERUN}")
    if info.dataset != run.metrics["dataset"] or class_names(info.classes) != class_names(run.classes):
        scored, trained = ", ".join(class_names(run.classes)), ", ".join(class_names(info.classes))
        raise LandsegError(
            f"{run.name}: its results are of {run.metrics['dataset']} with {scored}, but the model was trained on "
            f"{info.dataset} with {trained}; give the run that trained it"
        )


def _data_card(run: Run) -> DataCard | None:
    """Return the data card; None if neither the workspace nor DVC's cache has it."""
    try:
        return DataCard.model_validate_json(run.read(Paths(run.metrics["dataset"]).table("card.json").as_posix()))
    except (FileNotFoundError, LandsegError, ValidationError):
        return None


def _headline(run: Run) -> str:
    title = f"Macro mIoU {_score(run.scores.macro_miou)} on the {run.metrics['split']} split"
    return f"**{title}** ({macro_interval_text(run)})."


def _sample_size(run: Run) -> str:
    counts = ((run.metrics[noun], noun) for noun in ("tiles", "scenes", "locations"))
    return ", ".join(f"{count:,} {noun[:-1] if count == 1 else noun}" for count, noun in counts)


def _model(run: Run, info: ModelInfo, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{run.training['parameters']:,}"
    yield "input bands", ", ".join(info.rendering.bands)
    if info.rendering.format == "tif":
        yield from _band_inputs(info)
    elif info.dtypes != ("uint8",):
        yield "scaling of values that are not uint8", _scaling(params["convert"])
    yield "ground sampling distance", f"{info.gsd:g} m" if info.gsd else "unknown: the training scenes have no CRS"
    yield "image height and width", f"multiples of {info.stride} px"
    yield "training tile size", f"{info.tile} px"


def _band_inputs(info: ModelInfo) -> Iterator[tuple[str, str]]:
    """Yield data type, values and normalisation of bands in their own data type, and what pictures show."""
    mean, std = mean_and_std(info)
    yield "data type and values", band_values(info)
    yield "normalisation, in the model", f"mean {mean}; standard deviation {std}; both of the training split"
    yield "pictures", info.rendering.pictures


def _hashes(digest: str, source: str | None) -> Iterator[tuple[str, str]]:
    yield "SHA-256 of the file", digest
    if source:
        yield "SHA-256 of the file that it was exported from", source


def _scaling(convert: Mapping[str, Any]) -> str:
    if convert["stretch"] != "fixed":
        return f"each tile from the minimum to the maximum of each band, gamma {convert['gamma']:g}"
    low, high = convert["range"]
    values = "stored × scale + offset" if convert.get("values") == "scaled" else "stored values"
    return f"{low:g} to {high:g} ({values}) are mapped to 0 to 255, gamma {convert['gamma']:g}"


def _classes(run: Run) -> list[dict[str, object]]:
    shares, mapped = _training_shares(run), run.confusion.sum(axis=0)
    rows: list[dict[str, object]] = []
    for each, mapped_pixels in zip(run.classes, mapped, strict=True):
        scores = run.scores.per_class[each.name]
        rows.append(
            {
                "id": each.id,
                "name": each.name,
                "colour": as_hex(each.color),
                "share": _percent(shares.get(each.name)),
                "iou": _score(scores.iou),
                "interval": _interval(scores.iou_low, scores.iou_high),
                "precision": _score(scores.precision),
                "recall": _score(scores.recall),
                "f1": _score(scores.f1),
                "labelled": f"{scores.pixels:,}",
                "mapped": f"{mapped_pixels:,}",
                "units": f"{scores.units:,} ({scores.effective_units:.1f})",
            }
        )
    return rows


def _training_shares(run: Run) -> Mapping[str, float]:
    """Return the share of each class among the training pixels, by name."""
    shares: Mapping[str, float] = run.split["splits"]["train"].get("share", {})
    return shares


def _data(run: Run, info: ModelInfo, card: DataCard | None) -> Iterator[tuple[str, str]]:
    yield "dataset", f"{card.title} ({card.name})" if card else f"{run.metrics['dataset']} (data card not found)"
    yield "licence", info.licence
    if card and card.citation:
        yield "citation", card.citation
    if card and card.url:
        yield "source", card.url
    yield "split", f"{describe_strategy(run.split['strategy'])} (seed {run.split['seed']})"
    yield "tiles", ", ".join(f"{summary['tiles']:,} {split}" for split, summary in run.split["splits"].items())
    skew = run.split.get("skew")
    if skew and not skew["control"]:
        yield "class skew", f"{skew['found']:.0%} of the training tiles are dominated by {skew['towards']}, on purpose"
    yield "leakage", leakage_sentence(run.metrics["leakage"] or {}, run.metrics["split"]) or "unknown"
    if distance := distance_sentence(run):
        yield "distance", distance


def _leakage_effect(run: Run) -> str:
    """Explain what the leakage means for the scores."""
    split, leakage = run.metrics["split"], run.metrics["leakage"] or {}
    touching = leakage.get("edge_or_corner", leakage.get("edge"))
    if split == "train":
        return (
            "The scores are of the training split: they show how well the model fits it, not how well it generalises."
        )
    selected = "The best epoch was selected on this split, which inflates its scores. " if split == "val" else ""
    if touching or leakage.get("duplicate"):
        return (
            f"{selected}Neighbouring tiles and copies are alike, so leakage inflates the scores: expect lower accuracy "
            "at locations outside the training split."
        )
    if leakage.get("same_location") or leakage.get("same_group"):
        return (
            f"{selected}No scored tile touches a training tile, but some share a location or group with one: the "
            "scores hold for unseen parts of known locations, and say little about new locations."
        )
    if touching is None:
        return (
            f"{selected}No scored location is in the training split by its name, but tiles without position may adjoin "
            "training tiles: leakage may inflate the scores."
        )
    return f"{selected}No scored location is in the training split: the scores hold for new locations in this dataset."


def _scores(run: Run) -> Iterator[dict[str, str]]:
    scores, majority = run.scores, run.metrics["majority"]
    ends = _interval(scores.macro_miou_low, scores.macro_miou_high)
    background = "" if scores.macro_miou_without_background is None else ", including background"
    batch = run.metrics.get("paper_iou_batch_size")
    rows = [
        ("macro mIoU", scores.macro_miou, ends, f"mean of the IoU over all classes{background}"),
        (
            "macro mIoU without background",
            scores.macro_miou_without_background,
            "",
            "mean of the IoU over all classes except background",
        ),
        (
            "scene mIoU",
            scores.scene_miou,
            _interval(scores.scene_miou_low, scores.scene_miou_high),
            f"mean over {unit_noun(run)} of their own macro mIoU; all of them count the same",
        ),
        ("macro F1", scores.macro_f1, "", "mean of the F1 over all classes"),
        ("micro IoU", scores.micro_iou, "", "IoU over the pixels of all classes; dominated by frequent classes"),
        ("pixel accuracy", scores.pixel_accuracy, "", "share of correct pixels; dominated by frequent classes"),
    ]
    rows = [row for row in rows if row[1] is not None]
    rows += [
        (
            "majority-class baseline",
            majority["macro_miou"],
            "",
            f"macro mIoU of a map that predicts {majority['class']} everywhere",
        ),
        (
            "paper IoU",
            run.metrics["paper_iou"],
            "",
            f"micro IoU of one-hot channels above 0.5, averaged over batches{f' of {batch}' if batch else ''}; "
            "some papers call it mean IoU; not comparable with macro mIoU",
        ),
    ]
    for title, value, interval, definition in rows:
        yield {"title": title, "value": _score(value), "interval": interval, "definition": definition}


def _intervals(run: Run) -> str:
    units = (run.scores.interval_units, run.scores.effective_units, unit_noun(run))
    if run.scores.macro_miou_low is None:
        return f"The macro mIoU has no interval: {missing_interval(*units)}."
    return (
        f"The intervals are jackknife intervals over {count_units(*units)}, because pixels of one location are not "
        "independent. They hold for similar locations, and do not include the variation between training seeds."
    )


def _calibration(run: Run) -> Iterator[dict[str, str]]:
    """Yield the calibration error of all pixels and of each class."""
    found = run.calibration
    for name, scores in (("all classes", found), *found.per_class.items()):
        yield {
            "name": name,
            "ece": _score(scores.ece),
            "interval": _interval(scores.ece_low, scores.ece_high),
            "before": _score(scores.ece_before),
            "units": f"{scores.units:,}",
            "confidence": _score(scores.confidence),
            "accuracy": _score(scores.accuracy),
        }


def _imagery(info: ModelInfo, card: DataCard | None) -> str:
    resolution = f" at about {info.gsd:g} m" if info.gsd else ""
    data_set = card.title if card else info.dataset
    return f"{', '.join(info.rendering.bands)}{resolution}, of landscapes and seasons similar to those of {data_set}"


def _few(run: Run) -> str:
    """Return the number of scored units if it is effectively small."""
    scores = run.scores
    few = scores.effective_units < _SMALL_SAMPLE
    return count_units(scores.interval_units, scores.effective_units, unit_noun(run)) if few else ""


def _class_limits(run: Run) -> Iterator[str]:
    """Yield the limitations of each class that has any."""
    shares, split, effective = _training_shares(run), run.metrics["split"], run.scores.effective_units
    for channel, each in enumerate(run.classes):
        scores, share = run.scores.per_class[each.name], shares.get(each.name)
        iou, limits = scores.iou, []
        if iou is None:
            limits.append(f"the {split} split has no pixels of this class, so its accuracy is unknown")
        elif iou < _LOW_IOU:
            limits.append(_low_iou(run, channel))
        if iou is not None and scores.effective_units < _SMALL_SAMPLE <= effective:
            counted = count_units(scores.units, scores.effective_units, unit_noun(run))
            limits.append(f"its pixels in the {split} split lie in {counted}, so its scores are imprecise")
        if share is not None and share < _RARE_SHARE:
            limits.append(f"it makes up only {_percent(share)} of the training pixels")
        if limits:
            yield f"**{_escaped(each.name)}:** {'; '.join(limits)}."


def _low_iou(run: Run, channel: int) -> str:
    """Describe a low IoU by recall, precision and the class that most missed pixels are mapped as."""
    name, row = run.classes[channel].name, run.confusion[channel].copy()
    scores = run.scores.per_class[name]
    row[channel] = 0
    missed = f", most of the others as {_escaped(run.classes[int(row.argmax())].name)}" if row.any() else ""
    precision = (
        f"; {_percent(scores.precision)} of the pixels mapped as {_escaped(name)} are correct"
        if scores.precision
        else ""
    )
    return f"IoU {_score(scores.iou)}: {_percent(scores.recall)} of its pixels are mapped correctly{missed}{precision}"


def _bias(run: Run) -> str:
    """Compare the pixels mapped as each class with its labelled pixels."""
    labelled, mapped = (run.confusion.sum(axis=axis).tolist() for axis in (1, 0))
    return ", ".join(
        f"{_percent(abs(found - true) / true)} {'less' if found < true else 'more'} {_escaped(each.name)}"
        for each, true, found in zip(run.classes, labelled, mapped, strict=True)
        if true
    )


def _revision(run: Run) -> str:
    """Return the commit of a run; the workspace is one if nothing differs from its last commit."""
    revision = committed_revision() if run.revision == WORKSPACE else run.revision
    return f"git revision {revision}" if revision else "not committed"


def _training(run: Run, params: Mapping[str, Any]) -> str:
    training, train = run.training, params["train"]
    weights = params["model"]["encoder_weights"]
    start = "random weights" if weights is None else f"an encoder pretrained on {_escaped(weights)}"
    seconds = training.get("speed", {}).get("seconds")
    duration = f" in {seconds:,.0f} s" if seconds is not None else ""
    scored = "best" if run.metrics.get("weights") == "best" else "last"
    return (
        f"Trained for {training['step'] + 1:,} epochs{duration}, from {start}, with seed {train['seed']}. The best "
        f"epoch by {_escaped(train['monitor'])} was epoch {training['best_epoch']:,}; the scores are of the {scored} "
        "weights. Parameters:"
    )


def _spdx(licence: str) -> str:
    """Return the SPDX identifier of a licence that may be written like 'CC BY 4.0'."""
    return re.sub(r"[\s_]+", "-", licence.strip().upper())


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"{_score(low)} to {_score(high)}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _escaped(text: object) -> str:
    """Escape text for one line of Markdown, so that it cannot add markup or end a table cell."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(str(text).split()))


def _yaml(content: Mapping[str, Any]) -> str:
    yaml: Any = YAML(typ="safe")
    text = io.StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = None, False, 88
    yaml.dump(dict(content), text)
    return text.getvalue().rstrip()
