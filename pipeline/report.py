"""Report: the results of the current run → one HTML page that opens from disk."""

from pathlib import Path

from landseg.datasets.card import read_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.page import page
from landseg.params.base import dataset_name
from landseg.paths import RESULTS, Paths
from landseg.results import Run


def main() -> None:
    run = Run("this run", "workspace", lambda path: Path(path).read_bytes())
    card = read_card(Paths(dataset_name()).table("card.json"))
    model = run.params["model"]
    text = page(f"{card.title or card.name}: {model['architecture']} {model['encoder']}", [run])
    with atomic(RESULTS / "report.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{RESULTS / 'report.html'}: {len(text.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    with reporting():
        main()
