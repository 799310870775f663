"""The printed report of an inspection."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from landseg.inspection.roles import counted, in_words
from landseg.inspection.settings import Inspection, georeference, overlapping

_MAX_CLASSES = 12


def print_report(found: Inspection, out: Path) -> None:
    """Print what was found, the questions that are left, and how to go on."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(found):
        table.add_row(name, escape(text))
    files = found.files
    console.print(
        f"[bold]{escape(str(files.folder))}[/bold]: {files.count:,} files, {counted(len(files.rasters), 'raster')}"
    )
    console.print(table)
    settings = found.settings
    if settings.questions:
        console.print("\n[bold]ASK[/bold]: what the files do not say, as comments in the file")
        asked = Table.grid(padding=(0, 2))
        for key, texts in settings.questions.items():
            for text in texts:
                asked.add_row(key, escape(text))
        console.print(asked)
    for fault in settings.faults:
        console.print(f"[bold]to correct[/bold]: {escape(fault)}", soft_wrap=True)
    correct = "correct this, then " if settings.faults else ""
    command = "landseg check" if out == Path("params.yaml") else f"landseg check {out}"
    console.print(
        f"\nwrote {escape(str(out))}; {correct}go on with `{command}`, then `uv run dvc repro`", soft_wrap=True
    )


def _rows(found: Inspection) -> Iterator[tuple[str, str]]:
    roles, labels, layout = found.roles, found.labels, found.layout
    headers = roles.images.headers
    yield "images", in_words(roles.images)
    for each in roles.extra:
        yield "further files", in_words(each)
    yield "georeference", georeference(headers)
    yield "bands", f"{', '.join(found.names.names)} ({found.names.evidence})"
    low, high = found.statistics.levels[:, 0].min(), found.statistics.levels[:, 3].max()
    sample = (
        f", sample of {found.statistics.files} of {len(headers)} images"
        if len(headers) > found.statistics.files
        else ""
    )
    yield "values", f"{low:.5g} to {high:.5g}, {found.statistics.valid:.1%} of the pixels with data (windows{sample})"
    if roles.layer:
        yield "labels", roles.layer.text
    elif roles.masks:
        yield "labels", f"{in_words(roles.masks)}, {labels.kind}"
    for land_class in labels.classes[:_MAX_CLASSES]:
        yield "", f"{land_class.id}: {land_class.name} ({land_class.note})"
    if len(labels.classes) > _MAX_CLASSES:
        yield "", f"and {len(labels.classes) - _MAX_CLASSES} more classes"
    if overlap := overlapping(headers):
        yield "overlaps", f"{counted(overlap, 'pair')} of images overlap on the ground"
    if found.copies is None:
        yield "copies", "not searched: too many pixels; the split stage searches"
    elif found.copies:
        yield (
            "copies",
            f"{sum(map(len, found.copies)):,} images in {counted(len(found.copies), 'group')} show the same ground",
        )
    yield "tiles", f"{layout.size} px, split by {layout.strategy}: {layout.why['strategy']}"
