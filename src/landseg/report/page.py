"""The report page: one HTML document with embedded styles, scripts and data that makes no network requests."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from landseg.core.classes import class_names
from landseg.core.errors import LandsegError
from landseg.plotting import COLOURS, INK, LINE, PALE
from landseg.report import content
from landseg.report.leaflet import leaflet_script, leaflet_style
from landseg.report.viewer import viewer_data
from landseg.results.run import Run
from landseg.results.wording import confidence_text, macro_interval_text

_ASSETS = files("landseg.report") / "assets"
# Colours of figures, and the variables of the style sheet that replace them.
_COLOURS = {INK: "var(--ink)", PALE: "var(--pale)", LINE: "var(--line)", "#ffffff": "var(--paper)"}
_COLOURS |= {colour: f"var(--run-{n})" for n, colour in enumerate(COLOURS)}


@dataclass(frozen=True)
class PageFigure:
    """A figure of a study, as SVG of matplotlib in the colours of landseg.plotting, on a transparent background."""

    title: str
    caption: str
    svg: str


def render_page(
    title: str,
    runs: Sequence[Run],
    *,
    about: str = "",
    findings: Sequence[str] = (),
    figures: Sequence[PageFigure] = (),
    paper: Mapping[str, float] | None = None,
) -> str:
    """Return the report of runs as one HTML document.

    Args:
        title: heading of the page.
        runs: one run, or the runs of a study, which all have the same classes.
        about: introduction, as paragraphs separated by blank lines.
        findings: sentences, such as differences between runs.
        figures: further figures.
        paper: scores reported by a paper, by run name.

    Raises:
        LandsegError: there are no runs, a result is missing, or runs have different classes.
    """
    _check_classes(runs)
    scripts = [leaflet_script(), _asset("page.js"), _asset("viewer.js")]
    rows, viewer = content.score_rows(runs, paper), viewer_data(runs)
    return _template().render(
        title=title,
        policy=_policy(scripts),
        styles=[Markup(leaflet_style()), Markup(_asset("page.css"))],  # noqa: S704 - our own files
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        data=Markup(_json(viewer)),  # noqa: S704 - contains no '<'
        labels=[run.name for run in runs],
        single=len(runs) == 1,
        headline=runs[0].scores,
        interval=macro_interval_text(runs[0]),
        metrics=runs[0].metrics,
        summary=content.summary(runs[0]) if len(runs) == 1 else "",
        about=[paragraph for paragraph in about.split("\n\n") if paragraph.strip()],
        findings=findings,
        warnings=content.split_warnings(runs),
        facts=content.run_facts(runs),
        rows=rows,
        groups=content.score_groups(runs[0], rows[0]),
        has_tiles=bool(viewer["tiles"]),
        pictures=content.picture_captions(runs),
        curves=content.learning_curves(runs),
        classes=content.class_rows(runs),
        confidence=confidence_text(runs[0]),
        calibrations=[run.calibration for run in runs],
        diagrams=content.reliability_diagrams(runs),
        confusions=content.confusion_tables(runs),
        figures=[(figure, _inline(figure)) for figure in figures],
    )


def _check_classes(runs: Sequence[Run]) -> None:
    if not runs:
        raise LandsegError("the report has no runs; name at least one finished run")
    for run in runs[1:]:
        if run.classes != runs[0].classes:
            raise LandsegError(
                f"{runs[0].name} and {run.name} have different classes ({', '.join(class_names(runs[0].classes))}; "
                f"{', '.join(class_names(run.classes))}); report them separately"
            )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("landseg.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy that blocks all requests, and all scripts but these."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"


def _json(data: Any) -> str:
    """Return JSON that is safe in a <script> element: it contains no '<'."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _inline(figure: PageFigure) -> Markup:
    """Return a figure as an element of the page, in the colours of its style sheet, for light and dark pages.

    The SVG's own style sheet would apply to the whole page, and its ids of groups would not be unique.
    """
    drawn = figure.svg[figure.svg.index("<svg") + 4 :]
    drawn = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|(?<=<g) id="[^"]*"', "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"(?<=: )#[0-9a-f]{6}", lambda found: _COLOURS.get(found[0], found[0]), drawn)
    return Markup('<svg role="img" aria-label="{}"').format(figure.title) + Markup(drawn)  # noqa: S704 - escaped there
