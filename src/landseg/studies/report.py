"""Report of a study: a folder with tables, figures and an HTML page."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.report.page import PageFigure, render_page
from landseg.results.comparison import paired_differences
from landseg.results.difference import SCORE_TITLES, ScoreDifference, correct_for_many, format_points
from landseg.results.revisions import load_run
from landseg.results.run import Run
from landseg.results.score_table import (
    PAPER,
    CellValue,
    ScoreColumn,
    as_csv,
    as_markdown,
    score_columns,
    score_values,
)
from landseg.studies.figures import StudyFigure, save_figure, seed_sentence, study_figures
from landseg.studies.plan import Cell, StudyPlan
from landseg.studies.runner import finished_experiments
from landseg.studies.style import Runs


def write_study_report(plan: StudyPlan, folder: Path) -> Iterator[str]:
    """Write the report of a study, and yield its findings and the files written, as sentences.

    Unfinished cells are left out and listed. An earlier report in the folder is replaced as a whole.

    Raises:
        LandsegError: no cell has finished, no cell has the metric, or cells cannot be compared.
    """
    _check_folder(folder)
    experiments = finished_experiments(plan.cells)
    runs = load_cells(plan.cells, experiments)
    if not runs:
        raise LandsegError(
            f"{plan.path}: none of the {len(plan.cells)} cells has run with the current code and parameters; "
            f"run `landseg study run {plan.arguments}`"
        )
    check_metric(plan, runs)
    differences = study_differences(plan, runs)
    figures = list(study_figures(plan.study.draw, runs, differences))
    missing = [cell.title for cell in plan.cells if cell.fingerprint not in experiments]
    findings = [*([f"Not run yet: {'; '.join(missing)}."] if missing else []), *study_findings(plan, runs, differences)]
    yield from findings
    with atomic(folder) as temporary:
        temporary.mkdir()
        paper = _paper_scores(plan, runs)
        write_tables(plan, runs, paper, temporary)
        if differences:
            (temporary / "differences.csv").write_text(differences_csv(differences), encoding="utf-8")
        for figure in figures:
            save_figure(figure.figure, temporary, figure.name)
        every = [run for group in runs.values() for run in group]
        about = "\n\n".join(filter(None, [plan.study.about, settings_note(plan), paper_note(plan)]))
        shown = _page_figures(figures, runs, temporary)
        html = render_page(plan.study.title, every, about=about, findings=findings, figures=shown, paper=paper)
        (temporary / "index.html").write_text(html, encoding="utf-8")
    yield f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}"


def _check_folder(folder: Path) -> None:
    """Check that the folder is empty or new, or contains an earlier report."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or folder.resolve() == Path.cwd() or (names and not {"index.html", "table.csv"} <= names):
        raise LandsegError(f"{folder}: exists and is not a study report; choose a new folder")


def _paper_scores(plan: StudyPlan, runs: Runs) -> dict[str, float] | None:
    """Return the scores that the paper reports, by name of the run; None if it reports none of them."""
    reported = plan.study.paper.scores if plan.study.paper else {}
    return {run.name: reported[label] for label, group in runs.items() if label in reported for run in group} or None


def _page_figures(figures: Sequence[StudyFigure], runs: Runs, folder: Path) -> list[PageFigure]:
    """Return the figures of the HTML page."""
    # The page has its own class and curve charts, one line per run. With several seeds they are too crowded.
    seeded = any(len(group) > 1 for group in runs.values())
    skipped = () if seeded else ("classes", "curves")
    return [
        PageFigure(figure.title, figure.caption, (folder / f"{figure.name}.svg").read_text(encoding="utf-8"))
        for figure in figures
        if figure.name not in skipped
    ]


def load_cells(planned: Sequence[Cell], experiments: Mapping[str, str]) -> dict[str, list[Run]]:
    """Return the runs of finished cells by label, one per seed.

    Args:
        planned: the cells.
        experiments: names of experiments by fingerprint.
    """
    seeded = len({cell.seed for cell in planned}) > 1
    runs: dict[str, list[Run]] = {}
    for cell in planned:
        if cell.fingerprint in experiments:
            title = cell.title if seeded else cell.label
            runs.setdefault(cell.label, []).append(load_run(experiments[cell.fingerprint], title))
    return runs


def check_metric(plan: StudyPlan, runs: Runs) -> None:
    """Check that at least one run has the study's metric.

    Raises:
        LandsegError: no run has it.
    """
    for run in (run for group in runs.values() for run in group):
        try:
            run.score(plan.study.metric)
        except KeyError:
            continue
        return
    raise LandsegError(
        f"{plan.path}: metric = {plan.study.metric}: no cell has this score; choose from {', '.join(SCORE_TITLES)} or "
        "per_class.<class>.iou"
    )


def study_differences(plan: StudyPlan, runs: Runs) -> list[ScoreDifference]:
    """Return the paired differences between the study's pairs of settings: in its metric, and in the IoU of classes.

    P-values are corrected for the number of pairs, and for that of pairs and classes. Runs with different split seeds
    have different test tiles, so they are compared split by split.
    """
    if "differences" not in plan.study.draw:
        return []
    first, *others = runs
    pairs = [(other, first) for other in others] if plan.study.pairs is None else plan.study.pairs
    classes = [f"per_class.{each.name}.iou" for each in runs[first][0].classes]
    sides = [side for one, other in pairs if one in runs and other in runs for side in _sides(plan, runs, one, other)]

    def family(keys: Sequence[str]) -> list[ScoreDifference]:
        found = [each for a, b, titles in sides for each in paired_differences(a, b, keys, titles=titles)]
        return correct_for_many(found)

    overall, by_class = family([plan.study.metric]), family([key for key in classes if key != plan.study.metric])
    step = len(by_class) // max(len(overall), 1)
    return [each for n, one in enumerate(overall) for each in (one, *by_class[n * step : (n + 1) * step])]


def _sides(plan: StudyPlan, runs: Runs, one: str, other: str) -> Iterator[tuple[list[Run], list[Run], tuple[str, str]]]:
    """Yield the runs to compare and their titles: all seeds together, or those of each split."""
    if plan.study.seed != "split.seed":
        yield list(runs[one]), list(runs[other]), (one, other)
        return
    by_seed = [{int(run.params["split"]["seed"]): run for run in runs[label]} for label in (one, other)]
    for seed in sorted(by_seed[0].keys() & by_seed[1].keys()):
        yield [by_seed[0][seed]], [by_seed[1][seed]], (f"{one} (split {seed})", f"{other} (split {seed})")


def study_findings(plan: StudyPlan, runs: Runs, differences: Sequence[ScoreDifference]) -> list[str]:
    """Return the findings of a study as sentences: differences, and spread over seeds."""
    overall = [each for each in differences if each.metric == plan.study.metric]
    findings = [f"{each.sentence()}." for each in differences if each in overall or each.reliable]
    if plan.study.seed == "split.seed" and overall:
        findings.append(_over_splits(overall))
    if "seeds" in plan.study.draw:
        findings += [f"{seed_sentence(label, group)}." for label, group in runs.items() if len(group) > 1]
    return findings


def _over_splits(differences: Sequence[ScoreDifference]) -> str:
    """Describe the differences of several splits together. Their test tiles overlap, so there is no joint interval."""
    values = [each.value for each in differences if each.value is not None]
    listed = ", ".join(format_points(value) for value in values)
    return (
        f"Over {len(values)} splits, the difference is {format_points(mean(values))} points on average ({listed}); the "
        "splits share ground and each has one training seed, so the average has no interval."
    )


def settings_note(plan: StudyPlan) -> str:
    """Return a note on the parameters set on the command line."""
    return f"All cells were run with {', '.join(plan.settings)}." if plan.settings else ""


def paper_note(plan: StudyPlan) -> str:
    """Return a note on the definition and source of the paper's scores."""
    paper = plan.study.paper
    return f"'Reported by the paper' is {paper.definition} ({paper.source})." if paper else ""


def write_tables(plan: StudyPlan, runs: Runs, paper: Mapping[str, float] | None, folder: Path) -> None:
    """Write table.csv and table.md: one row per run, and in table.md also one per setting with several seeds."""
    every = [run for group in runs.values() for run in group]
    columns = score_columns(every, paper)
    rows = [score_values(run, paper) for run in every]
    (folder / "table.csv").write_text(as_csv(rows, columns), encoding="utf-8")
    text = [f"# {plan.study.title}", plan.study.about.strip(), settings_note(plan)]
    text += [as_markdown(rows, columns).rstrip(), paper_note(plan)]
    if len(every) > len(runs):
        means = list(seed_means(runs, rows, columns))
        mean_columns = [ScoreColumn(key, key, "", "text" if key == "run" else "score") for key in means[0]]
        text += ["Mean and standard deviation over seeds:", as_markdown(means, mean_columns).rstrip()]
    (folder / "table.md").write_text("\n\n".join(filter(None, text)) + "\n", encoding="utf-8")


def seed_means(
    runs: Runs, rows: Sequence[Mapping[str, CellValue]], columns: Sequence[ScoreColumn]
) -> Iterator[dict[str, str]]:
    """Yield one row per setting: mean and standard deviation of every score over its seeds."""
    left_out = ("macro_miou_low", "macro_miou_high", PAPER)
    scores = [column for column in columns if column.kind == "score" and column.key not in left_out]
    remaining = iter(rows)
    for label, group in runs.items():
        own = [next(remaining) for _ in group]
        row = {"run": label, "seeds": str(len(own))}
        for column in scores:
            known = [value for each in own if isinstance(value := each.get(column.key), float)]
            spread = f" ± {stdev(known):.3f}" if len(known) > 1 else ""
            row[column.title] = f"{mean(known):.3f}{spread}" if known else "–"
        yield row


def differences_csv(differences: Sequence[ScoreDifference]) -> str:
    """Return differences as CSV, one row per pair and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["difference", "low", "high", "p", "corrected_p", "detectable", "units", "effective_units"]
    writer.writerow(["one", "other", "metric", *columns, "sentence"])
    for each in differences:
        values = [each.value, each.low, each.high, each.p_value, each.adjusted_p, each.detectable, each.units]
        writer.writerow([each.one, each.other, each.metric, *values, round(each.effective_units, 2), each.sentence()])
    return text.getvalue()
