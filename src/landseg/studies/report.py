"""The report of a study: a folder with its table, its differences, its figures and one page."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.report.page import PageFigure, render_page
from landseg.results.comparison import SCORE_TITLES, ScoreDifference
from landseg.results.comparison import paired_differences as paired
from landseg.results.revisions import load_run
from landseg.results.run import Run
from landseg.results.score_table import PAPER, CellValue, ScoreColumn, as_csv, as_markdown, score_columns, score_values
from landseg.studies import figures as drawing
from landseg.studies.forest_plot import forest
from landseg.studies.leakage_figure import ends, gap_sentence, leakage
from landseg.studies.panel import panel
from landseg.studies.plan import Cell, Plan
from landseg.studies.runner import finished

Runs = Mapping[str, Sequence[Run]]


def write_report(plan: Plan, folder: Path) -> Iterator[str]:
    """Write the report of a study; yield sentences on what was found and written.

    Cells that have not run are left out, and said to be. Whatever stood in the folder before is replaced as a whole.

    Raises:
        LandsegError: no cell has run, no cell has the metric, or cells that are to be compared cannot be.
    """
    _check_folder(folder)
    experiments = finished(plan.cells)
    runs = load_runs(plan.cells, experiments)
    if not runs:
        raise LandsegError(
            f"{plan.path}: none of its {len(plan.cells)} cells has run with the present code and parameters; "
            f"run `landseg study run {plan.asked}`"
        )
    missing = [cell.title for cell in plan.cells if cell.fingerprint not in experiments]
    check_metric(plan, runs)
    found = differences(plan, runs)
    drawn = figures(plan, runs, found)
    findings = [*([f"Not run yet: {'; '.join(missing)}."] if missing else []), *sentences(plan, runs, found)]
    yield from findings
    with atomic(folder) as temporary:
        temporary.mkdir()
        reported = plan.study.paper.scores if plan.study.paper else {}
        paper = {run.name: reported[label] for label, of in runs.items() if label in reported for run in of} or None
        write_tables(plan, runs, paper, temporary)
        if found:
            (temporary / "differences.csv").write_text(differences_csv(found), encoding="utf-8")
        for name, _, _, figure in drawn:
            drawing.save(figure, temporary, name)
        every = [run for of in runs.values() for run in of]
        # The page draws classes and curves of its own, a line a run: too many, where there are several seeds.
        own = {"classes", "curves"} if len(every) == len(runs) else set()
        shown = [
            PageFigure(title, caption, (temporary / f"{name}.svg").read_text(encoding="utf-8"))
            for name, title, caption, _ in drawn
            if name not in own
        ]
        about = "\n\n".join(filter(None, [plan.study.about, settings_note(plan), paper_note(plan)]))
        html = render_page(plan.study.title, every, about=about, findings=findings, figures=shown, paper=paper)
        (temporary / "index.html").write_text(html, encoding="utf-8")
    yield f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}"


def _check_folder(folder: Path) -> None:
    """Check that nothing but an earlier report would be replaced."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or folder.resolve() == Path.cwd() or (there and not {"index.html", "table.csv"} <= there):
        raise LandsegError(f"{folder}: holds other things than a report; name a new folder")


def load_runs(planned: Sequence[Cell], experiments: Mapping[str, str]) -> dict[str, list[Run]]:
    """Return the runs of the cells that have run: by label, one a seed.

    Args:
        planned: the cells.
        experiments: names of experiments by the fingerprint of their cell.
    """
    seeded = len({cell.seed for cell in planned}) > 1
    runs: dict[str, list[Run]] = {}
    for cell in planned:
        if cell.fingerprint in experiments:
            called = cell.title if seeded else cell.label
            runs.setdefault(cell.label, []).append(load_run(experiments[cell.fingerprint], called))
    return runs


def check_metric(plan: Plan, runs: Runs) -> None:
    """Check that some run has the study's metric.

    Raises:
        LandsegError: none has.
    """
    for run in (run for of in runs.values() for run in of):
        try:
            run.score(plan.study.metric)
        except KeyError:
            continue
        return
    raise LandsegError(
        f"{plan.path}: metric {plan.study.metric}: no cell has it; choose from {', '.join(SCORE_TITLES)} or "
        "per_class.<class>.iou"
    )


def differences(plan: Plan, runs: Runs) -> list[ScoreDifference]:
    """Return the paired differences of the study's pairs: of its metric, then of the IoU of every class."""
    if "differences" not in plan.study.draw:
        return []
    first, *others = runs
    pairs = [(other, first) for other in others] if plan.study.pairs is None else plan.study.pairs
    wanted = [plan.study.metric, *(f"per_class.{each.name}.iou" for each in runs[first][0].classes)]
    return [
        each
        for one, other in pairs
        if one in runs and other in runs
        for each in paired(runs[one], runs[other], [*dict.fromkeys(wanted)], called=(one, other))
    ]


def sentences(plan: Plan, runs: Runs, found: Sequence[ScoreDifference]) -> list[str]:
    """Say in sentences what was found."""
    said = [f"{each.sentence()}." for each in found if each.metric == plan.study.metric or each.reliable]
    if "seeds" in plan.study.draw:
        said += [f"{drawing.seeds_sentence(label, of)}." for label, of in runs.items() if len(of) > 1]
    if "leakage" in plan.study.draw and len(runs) > 1:
        _, least = ends(runs)
        said += [f"{gap_sentence(label, of, least, runs[least])}." for label, of in runs.items() if label != least]
    return said


def figures(plan: Plan, runs: Runs, found: Sequence[ScoreDifference]) -> list[tuple[str, str, str, Figure]]:
    """Draw what the study asks for: file names, titles, captions and figures."""
    draw: dict[str, tuple[str, str, Callable[[], Figure]]] = {
        "leakage": (
            "What the split hides",
            "The same model on every split. Parts differ, so the gap between two splits is not a paired difference.",
            lambda: leakage(runs),
        ),
        "differences": (
            "Differences",
            "Paired over places; filled: shown, by places enough. "
            f"Of {len(found)} comparisons at 95 %, about {0.05 * len(found):.0f} would be filled by chance alone.",
            lambda: forest(found),
        ),
        "seeds": ("Spread over seeds", "One dot a seed; the line is the mean.", lambda: drawing.seeds(runs)),
        "classes": ("IoU by class", drawing.class_bars_caption(runs), lambda: drawing.class_bars(runs)),
        "curves": ("Learning curves", "Of the validation part, after every epoch.", lambda: drawing.curves(runs)),
        "panel": (
            "The same tiles, as each sees them",
            "Chosen by their targets alone, as those that hold most classes; of several seeds the first.",
            lambda: panel(runs),
        ),
    }
    wanted = [name for name in draw if name in plan.study.draw and (name != "differences" or found)]
    return [(name, *draw[name][:2], draw[name][2]()) for name in wanted]


def settings_note(plan: Plan) -> str:
    """Say what all cells set besides what the study says."""
    return f"All cells were run with {', '.join(plan.settings)}." if plan.settings else ""


def paper_note(plan: Plan) -> str:
    """Say what the paper's numbers are."""
    paper = plan.study.paper
    return f"'Paper reports' is {paper.definition} ({paper.source})." if paper else ""


def write_tables(plan: Plan, runs: Runs, paper: Mapping[str, float] | None, folder: Path) -> None:
    """Write table.csv and table.md: a row a run, and below, where settings have several seeds, a row a setting."""
    every = [run for of in runs.values() for run in of]
    of = score_columns(every, paper)
    rows = [score_values(run, paper) for run in every]
    (folder / "table.csv").write_text(as_csv(rows, of), encoding="utf-8")
    text = [f"# {plan.study.title}", plan.study.about.strip(), settings_note(plan)]
    text += [as_markdown(rows, of).rstrip(), paper_note(plan)]
    if len(every) > len(runs):
        over_seeds = list(seed_rows(runs, rows, of))
        shown = [ScoreColumn(key, key, "", "text" if key == "run" else "score") for key in over_seeds[0]]
        text += ["Mean and standard deviation over seeds:", as_markdown(over_seeds, shown).rstrip()]
    (folder / "table.md").write_text("\n\n".join(filter(None, text)) + "\n", encoding="utf-8")


def seed_rows(
    runs: Runs, rows: Sequence[Mapping[str, CellValue]], of: Sequence[ScoreColumn]
) -> Iterator[dict[str, str]]:
    """Yield the mean and the standard deviation of every score over the seeds of a setting."""
    left_out = ("macro_miou_low", "macro_miou_high", PAPER)
    scores = [column for column in of if column.kind == "score" and column.key not in left_out]
    remaining = iter(rows)
    for label, group in runs.items():
        mine = [next(remaining) for _ in group]
        row = {"run": label, "seeds": str(len(mine))}
        for column in scores:
            known = [value for each in mine if isinstance(value := each.get(column.key), float)]
            spread = f" ± {stdev(known):.3f}" if len(known) > 1 else ""
            row[column.title] = f"{mean(known):.3f}{spread}" if known else "–"
        yield row


def differences_csv(found: Sequence[ScoreDifference]) -> str:
    """Return differences as CSV: a row a pair and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["one", "other", "metric", "difference", "low", "high", "units", "sentence"])
    for each in found:
        writer.writerow(
            [each.one, each.other, each.metric, each.value, each.low, each.high, each.units, each.sentence()]
        )
    return text.getvalue()
