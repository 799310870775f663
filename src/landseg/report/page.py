"""The page put together: one HTML document with its style, scripts and data, that fetches nothing."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from landseg.core.classes import names
from landseg.core.errors import LandsegError
from landseg.report import content, leaflet
from landseg.report.viewer import viewer_data
from landseg.results.run import Run

_ASSETS = files("landseg.report") / "assets"


@dataclass(frozen=True)
class PageFigure:
    """A figure of a study, as the text of an <svg> for a white page."""

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
        title: its heading.
        runs: one, or those of a study; all have the same classes.
        about: what a reader has to know: paragraphs, parted by blank lines.
        findings: sentences, such as the differences between runs.
        figures: what else is drawn.
        paper: what a paper reports, by the names of runs.

    Raises:
        LandsegError: there is no run, a result is missing, or two runs differ in their classes.
    """
    called = [run.name for run in runs]
    _check(runs)
    scripts = [leaflet.leaflet_script(), _asset("page.js"), _asset("viewer.js")]
    scores, tiles = content.score_rows(runs, called, paper), viewer_data(runs, called)
    return _template().render(
        title=title,
        policy=_policy(scripts),
        styles=[Markup(leaflet.leaflet_style()), Markup(_asset("page.css"))],  # noqa: S704 - our own files
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        data=Markup(_json(tiles)),  # noqa: S704 - no '<' is left in it
        labels=called,
        single=len(runs) == 1,
        metrics=runs[0].metrics,
        about=[paragraph for paragraph in about.split("\n\n") if paragraph.strip()],
        findings=findings,
        warnings=content.split_warnings(runs, called),
        facts=content.run_facts(runs),
        scores=scores,
        groups=content.score_groups(runs[0], scores[0]),
        tiles=tiles["tiles"],
        curves=content.learning_curves(runs, called),
        classes=content.class_rows(runs, called),
        confusions=content.confusion_tables(runs, called),
        figures=[(figure, _data_url(figure.svg)) for figure in figures],
    )


def _check(runs: Sequence[Run]) -> None:
    if not runs:
        raise LandsegError("the report has no runs; name one that is finished")
    for run in runs[1:]:
        if run.classes != runs[0].classes:
            raise LandsegError(
                f"{runs[0].name} and {run.name}: have other classes ({', '.join(names(runs[0].classes))}; "
                f"{', '.join(names(run.classes))}); report them apart"
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
    """Return a Content-Security-Policy under which nothing is fetched and no script runs but these."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"


def _json(data: Any) -> str:
    """Return JSON that may stand in a <script>: nothing in it can end the element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _data_url(svg: str) -> str:
    """Return an SVG as an address: as a picture it runs no script, and its ids meet no others."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
