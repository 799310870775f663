"""The model card: what a model is, how good it is, what it is fit for and what its data allow, in Markdown.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), from what a run left behind and nothing else.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from ruamel.yaml import YAML

from landseg.core.classes import as_hex, names
from landseg.core.data_card import Card
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.model.info import ModelInfo
from landseg.report.content import run_facts
from landseg.results.comparable import SPLIT_NAMES, unit_noun
from landseg.results.comparison import FEW_UNITS
from landseg.results.run import Run

#: IoU below which fewer than half of the pixels that are of a class, or are mapped as it, are both.
LOW = 0.5
#: Share of the training pixels below which a class is called rare.
RARE = 0.02

# Sections of params.yaml that say where files come from and what machine computes, not what the model is.
_ELSEWHERE = ("download", "compute")

_NEEDED = {
    "metrics": (
        "dataset",
        "split",
        "locations",
        "scenes",
        "interval_over",
        "interval_units",
        "strategy",
        "leakage",
        "per_class",
    ),
    "split": ("strategy", "seed", "splits"),
    "training": ("step", "best_epoch", "parameters"),
}


def model_card(run: Run, info: ModelInfo, digest: str, source: str | None = None) -> str:
    """Return the card of a model as Markdown.

    Args:
        run: the run that trained and scored it.
        info: what its file says of it.
        digest: SHA-256 of its file, in hex.
        source: that of the file that it was exported from; None: it is none, or that is not known.

    Raises:
        LandsegError: a result is missing, or the results are of another model.
    """
    _check(run, info)
    card, params = _data_card(run), {**run.params, **info.params}
    said = dict(run_facts([run]))
    environment = Environment(
        loader=PackageLoader("landseg.export", "assets"),
        autoescape=False,  # noqa: S701  # Markdown, not HTML; whatever others wrote goes through `md`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _md
    return environment.get_template("model_card.md.jinja").render(
        architecture=params["model"]["architecture"],
        encoder=params["model"]["encoder"],
        depth=params["model"]["encoder_depth"],
        title=card.title if card else run.metrics["dataset"],
        headline=_headline(run),
        run="the workspace" if run.name == "workspace" else run.name,
        revision_name=run.revision,
        revision="not committed" if run.revision == "workspace" else f"git revision {run.revision}",
        model=[*_model(run, info, params), *_hashes(digest, source)],
        classes=_classes(run),
        data=list(_data(run, info, card, said)),
        meaning=_meaning(run),
        warnings=[warning.rstrip(".") for warning in run.metrics.get("warnings", [])],
        scored=said["Scored on"],
        scores=list(_scores(run)),
        intervals=_intervals(run),
        imagery=_imagery(info, card),
        generated=run.metrics["dataset"] == "sample",
        gsd=info.gsd,
        few=_few(run),
        class_limits=list(_class_limits(run)),
        part=SPLIT_NAMES[run.metrics["split"]],
        bias=_bias(run),
        training=_training(run, params),
        params=_yaml({name: of for name, of in params.items() if name not in _ELSEWHERE}),
        licence=info.licence,
        spdx=_spdx(info.licence),
        citation=card.citation if card else "",
        imagenet=params["model"]["encoder_weights"] == "imagenet",
    )


def _check(run: Run, info: ModelInfo) -> None:
    for what, keys in _NEEDED.items():
        for key in keys:
            if key not in getattr(run, what):
                raise LandsegError(
                    f"{run.name}: its results hold no {key}; run `dvc repro` there, and commit what it writes"
                )
    if info.dataset != run.metrics["dataset"] or names(info.classes) != names(run.classes):
        raise LandsegError(
            f"{run.name}: its results are of {run.metrics['dataset']} with {', '.join(names(run.classes))}, but the "
            f"model was trained on {info.dataset} with {', '.join(names(info.classes))}; name the run that trained it"
        )


def _data_card(run: Run) -> Card | None:
    """Return what the data set says of itself; None where neither the workspace nor DVC's cache has it."""
    try:
        return Card.model_validate_json(run.read(Paths(run.metrics["dataset"]).table("card.json").as_posix()))
    except (FileNotFoundError, LandsegError, ValidationError):
        return None


def _headline(run: Run) -> str:
    scored = run.metrics
    return f"**Macro mIoU {_score(scored['macro_miou'])} on its {SPLIT_NAMES[scored['split']]}** ({_over(run)})."


def _over(run: Run) -> str:
    """Say between which values the macro mIoU lies, and what that is drawn over."""
    low, high, units = (run.metrics[key] for key in ("macro_miou_low", "macro_miou_high", "interval_units"))
    if low is None:
        return f"no interval: fewer than two {unit_noun(run)}"
    few = ": too few to rely on it" if units < FEW_UNITS else ""
    return f"95 % interval {_score(low)} to {_score(high)} over {units:,} {unit_noun(run)}{few}"


def _model(run: Run, info: ModelInfo, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{run.training['parameters']:,}"
    yield "bands", ", ".join(info.rendering.bands)
    if info.dtypes != ("uint8",):
        yield "values that are not uint8", _stretch(params["convert"])
    ground = f"{info.gsd:g} m" if info.gsd else "not known: the scenes have no place on earth"
    yield "ground sampling distance", ground
    yield "sides of an image", f"multiples of {info.stride} px"
    yield "trained on tiles of", f"{info.tile} px"


def _hashes(digest: str, source: str | None) -> Iterator[tuple[str, str]]:
    yield "SHA-256 of the file", digest
    if source:
        yield "SHA-256 of the file that it was exported from", source


def _stretch(convert: Mapping[str, Any]) -> str:
    if convert["stretch"] != "fixed":
        return f"each tile by its own darkest and brightest pixel, gamma {convert['gamma']:g}"
    low, high = convert["range"]
    return f"{low:g} to {high:g} become 0 to 255, gamma {convert['gamma']:g}"


def _classes(run: Run) -> list[dict[str, object]]:
    share, mapped = run.split["splits"]["train"].get("share", {}), run.confusion.sum(axis=0)
    rows = []
    for each, pixels in zip(run.classes, mapped, strict=True):
        of = run.metrics["per_class"][each.name]
        scores = {key: _score(of[key]) for key in ("iou", "precision", "recall", "f1")}
        rows.append(
            {
                "id": each.id,
                "name": each.name,
                "colour": as_hex(each.color),
                "share": _percent(share.get(each.name)),
                "interval": _interval(of.get("iou_low"), of.get("iou_high")),
                "there": f"{of['pixels']:,}",
                "mapped": f"{pixels:,}",
                **scores,
            }
        )
    return rows


def _data(run: Run, info: ModelInfo, card: Card | None, said: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "data set", f"{card.title} ({card.name})" if card else f"{run.metrics['dataset']} (its data card is not here)"
    yield "licence", info.licence
    if card and card.citation:
        yield "cite", card.citation
    if card and card.url:
        yield "from", card.url
    yield "split", f"{said['Split']} (seed {run.split['seed']})"
    counts = {part: of["tiles"] for part, of in run.split["splits"].items()}
    yield "tiles", ", ".join(f"{count:,} {part}" for part, count in counts.items())
    skew = run.split.get("skew")
    if skew and not skew["control"]:
        yield "skew", f"{skew['found']:.0%} of the training tiles are dominated by {skew['towards']}, on purpose"
    yield "leakage", said.get("Leakage", "not known")


def _meaning(run: Run) -> str:
    """Say what leakage means for the scores."""
    part, leak = run.metrics["split"], run.metrics["leakage"] or {}
    near, known = leak.get("edge_or_corner", leak.get("edge")), [leak.get("same_location"), leak.get("same_group")]
    if part == "train":
        return "The scores are of the training set itself: they say what the model remembers, not how well it maps."
    chosen = "The best epoch was chosen by this very part, which flatters it. " if part == "val" else ""
    if near:
        return (
            f"{chosen}Neighbouring tiles look alike, so the scores are partly memory: expect less on ground that the "
            "model has not seen."
        )
    if any(known):
        return (
            f"{chosen}No scored tile touches a training tile, but their places also train: the scores speak of unseen "
            "parts of places that the model knows, and say little of new places."
        )
    if near is None:
        return f"{chosen}How near scored tiles lie to training tiles is not known: the scores may be partly memory."
    return f"{chosen}The scores speak of places that the model never saw, in the same data set."


def _scores(run: Run) -> Iterator[dict[str, str]]:
    scored, majority = run.metrics, run.metrics["majority"]
    interval = _interval(scored["macro_miou_low"], scored["macro_miou_high"])
    background = "" if scored["macro_miou_without_background"] is None else ", background included"
    batch = scored.get("paper_iou_batch_size")
    rows = [
        ("macro mIoU", "macro_miou", interval, f"mean of the IoU over classes{background}"),
        ("without background", "macro_miou_without_background", "", "the same without the background class"),
        ("macro F1", "macro_f1", "", "mean of the F1 over classes"),
        ("micro IoU", "micro_iou", "", "IoU over the pixels of all classes together; common classes rule it"),
        ("pixel accuracy", "pixel_accuracy", "", "share of labelled pixels that are right; common classes rule it"),
    ]
    for title, key, between, meaning in rows:
        if scored[key] is not None:
            yield {"title": title, "value": _score(scored[key]), "interval": between, "meaning": meaning}
    yield {
        "title": "to beat",
        "value": _score(majority["macro_miou"]),
        "interval": "",
        "meaning": f"macro mIoU of a map that shows {majority['class']} everywhere",
    }
    yield {
        "title": "paper IoU",
        "value": _score(scored["paper_iou"]),
        "interval": "",
        "meaning": "micro IoU of one-hot channels over 0.5, averaged over batches"
        f"{f' of {batch}' if batch else ''}; what some papers call mean IoU: never hold it beside a macro mIoU",
    }


def _intervals(run: Run) -> str:
    units = run.metrics["interval_units"]
    if run.metrics["macro_miou_low"] is None:
        return f"There is no interval: it is drawn over {unit_noun(run)}, and there are fewer than two."
    few = f"{units:,} are too few to rely on them" if units < FEW_UNITS else "They speak of places like these"
    return (
        f"Intervals resample {units:,} whole {unit_noun(run)} (percentile bootstrap), since pixels of one place are not "
        f"independent. {few}. Training with another seed gives other scores, of which no interval here tells."
    )


def _imagery(info: ModelInfo, card: Card | None) -> str:
    ground = f" at about {info.gsd:g} m" if info.gsd else ""
    what = card.title if card else info.dataset
    return f"{', '.join(info.rendering.bands)}{ground}, of landscapes and seasons like those of {what}"


def _few(run: Run) -> str:
    """Say over how few places it was scored; nothing where they are enough."""
    units = run.metrics["interval_units"]
    return f"{units:,} {unit_noun(run)}" if units < FEW_UNITS else ""


def _class_limits(run: Run) -> Iterator[str]:
    share, (_, matrices) = run.split["splits"]["train"].get("share", {}), run.units
    where = SPLIT_NAMES[run.metrics["split"]]
    for channel, each in enumerate(run.classes):
        of, seen = run.metrics["per_class"][each.name], int((matrices[:, channel].sum(axis=1) > 0).sum())
        said = []
        if of["iou"] is None:
            said.append(f"the {where} has no pixels of it: how well it is mapped is not known")
        elif of["iou"] < LOW:
            said.append(_low(run, channel))
        if of["iou"] is not None and seen < FEW_UNITS <= run.metrics["interval_units"]:
            said.append(f"only {seen:,} {unit_noun(run)} of the {where} hold it, too few to rely on its interval")
        if (part := share.get(each.name)) is not None and part < RARE:
            said.append(f"it has {_percent(part)} of the training pixels")
        if said:
            yield f"**{_md(each.name)}:** {'; '.join(said)}."


def _low(run: Run, channel: int) -> str:
    """Say of a class with a low IoU what is found of it, what is right of it, and where the rest goes."""
    name, row = run.classes[channel].name, run.confusion[channel].copy()
    of = run.metrics["per_class"][name]
    row[channel] = 0
    lost = f", and most of the rest as {_md(run.classes[int(row.argmax())].name)}" if row.any() else ""
    right = f"; {_percent(of['precision'])} of what it maps as {_md(name)} is right" if of["precision"] else ""
    return f"IoU {_score(of['iou'])}: it maps {_percent(of['recall'])} of its pixels as such{lost}{right}"


def _bias(run: Run) -> str:
    """Say by how much the map shows more or less of each class than there is."""
    there, mapped = (run.confusion.sum(axis=axis).tolist() for axis in (1, 0))
    return ", ".join(
        f"{_percent(abs(found - held) / held)} {'less' if found < held else 'more'} {_md(each.name)}"
        for each, held, found in zip(run.classes, there, mapped, strict=True)
        if held
    )


def _training(run: Run, params: Mapping[str, Any]) -> str:
    training, train = run.training, params["train"]
    weights = params["model"]["encoder_weights"]
    start = "random weights" if weights is None else f"an encoder with weights from {_md(weights)}"
    seconds = training.get("speed", {}).get("seconds")
    took = f" in {seconds:,.0f} s" if seconds is not None else ""
    which = "best" if run.metrics.get("weights") == "best" else "last"
    return (
        f"{training['step'] + 1:,} epochs{took}, from {start}, seed {train['seed']}. The best epoch by "
        f"{_md(train['monitor'])} was number {training['best_epoch']:,}; scored are the weights of the {which}. "
        "The parameters that it depends on:"
    )


def _spdx(licence: str) -> str:
    """Return a licence as SPDX spells it, where a person wrote 'CC BY 4.0'."""
    return re.sub(r"[\s_]+", "-", licence.strip().upper())


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"{_score(low)} to {_score(high)}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _md(text: object) -> str:
    """Return what others wrote as text on one line of Markdown, where it can neither mark up nor end a cell."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(str(text).split()))


def _yaml(content: Mapping[str, Any]) -> str:
    yaml: Any = YAML(typ="safe")
    text = io.StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = None, False, 88
    yaml.dump(dict(content), text)
    return text.getvalue().rstrip()
