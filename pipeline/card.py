"""Card: the data card, and the parameters that the raw files depend on."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.data_card import write_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.files import atomic
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import Paths
from landseg.download.dataset_module import dataset_module
from landseg.download.params import DownloadParams


def main() -> None:
    paths = Paths(dataset_name())
    module = dataset_module(paths.dataset, "card")
    dataset = read_section(module.Params, "dataset")

    card = module.card(dataset, read_section(DownloadParams, "download"))
    write_card(card, paths.table("card.json"))
    source = dataset.model_dump(mode="json", exclude=set(dataset.card_keys))
    with atomic(paths.table("source.json")) as temporary:
        temporary.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    print(f"{card.title}: {len(card.classes)} classes, bands {', '.join(card.bands)}")


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
