"""Report: the results of the current run as figures and as one HTML page that opens offline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.classes import class_names
from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.files import atomic
from landseg.core.params import dataset_name
from landseg.core.paths import RESULTS, Paths
from landseg.plotting import missing_letters
from landseg.report.page import render_page
from landseg.report.panel import write_figures
from landseg.results.run import workspace_run


def main() -> None:
    card = read_card(Paths(dataset_name()).table("card.json"))
    run = workspace_run()
    model = run.params["model"]

    write_figures(run, RESULTS / "figures")
    text = render_page(f"{card.title or card.name}: {model['architecture']} {model['encoder']}", [run])
    with atomic(RESULTS / "report.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{RESULTS / 'report.html'}: {len(text.encode()) / 1e6:.1f} MB")
    if letters := missing_letters(class_names(card.classes)):
        print(f"warning: the font of figures lacks {letters}, which appear as boxes there; the page shows them")


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
