"""Filter: which scenes are clear enough, why the others fell, and what is made of those of one place."""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import pandas as pd

from landseg.clouds import CloudRule, Coverage, cloud_rule, coverage, judge
from landseg.composites import compose, imagery
from landseg.datasets.card import Card, read_card
from landseg.errors import reporting
from landseg.files import atomic
from landseg.imagery import opened_image
from landseg.parallel import cores, each
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.filter import FilterParams
from landseg.paths import Paths
from landseg.progress import track
from landseg.tables import read_csv, write_csv

REASONS_SHOWN = 20
# Of small layers half the work is opening them, under Python's lock, which threads share. Processes do not, but take
# seconds to start, in which threads judge some thousand layers.
PROCESSES_FROM = 4000
# Scenes in a job, at most: of small ones, handing out single ones takes a good part of the time.
AT_ONCE = 32


def main() -> None:
    paths = Paths(dataset_name())
    params = section(FilterParams, "filter")
    workers = section(ComputeParams, "compute").workers or cores()

    card = read_card(paths.table("card.json"))
    rule = cloud_rule(params.method, params.scl, params.cld, card.clouds)
    scenes = read_csv(paths.table("scenes.csv"))
    layered = scenes[scenes["cloud"] != ""]
    files = layered[["image", "cloud"]].to_numpy().tolist()
    count = partial(covered, raw=paths.raw, rule=rule, card=card)
    at_once = max(1, min(AT_ONCE, len(files) // (8 * workers)))
    jobs = [files[start : start + at_once] for start in range(0, len(files), at_once)]
    kind: Literal["processes", "threads"] = "processes" if len(files) >= PROCESSES_FROM else "threads"
    measured = ((len(found), found) for found in each(count, jobs, workers, kind))
    found = chain.from_iterable(track(measured, len(files), "filter", "scenes"))
    coverages = dict(zip(layered["scene"], found, strict=True))
    limits = (params.max_cloud_share, params.max_nodata_share, params.keep, params.one_per_quarter)
    scenes = judge(scenes, coverages, *limits)
    kept = scenes[scenes["kept"]]
    with atomic(paths.imagery) as folder:
        folder.mkdir()
        if params.composite == "median":
            write_composites(kept, paths.raw, folder, rule, card, workers)
        write_csv(imagery(kept, params.composite, paths.dataset), folder / "imagery.csv")
        write_csv(scenes, paths.table("kept.csv"))
    composed = f", one composite each of {kept['place'].nunique():,} places" if params.composite == "median" else ""
    print(f"kept {len(kept):,} of {len(scenes):,} scenes{composed}")
    show_fallen(scenes[~scenes["kept"]], paths.table("kept.csv"))


def covered(files: list[tuple[str, str]], raw: Path, rule: CloudRule, card: Card) -> list[Coverage]:
    """Count the sky of some scenes; an image is opened only where its cloud layer cannot tell what has no data."""
    found = []
    for image, cloud in files:
        if rule.knows_nodata:
            found.append(coverage(raw, cloud, rule))
        else:
            with opened_image(raw, image, card.bands, card) as source:
                found.append(coverage(raw, cloud, rule, source))
    return found


def write_composites(kept: pd.DataFrame, raw: Path, folder: Path, rule: CloudRule, card: Card, workers: int) -> None:
    places = [dates for _, dates in kept.groupby("place", sort=False)]

    def write(dates: pd.DataFrame) -> None:
        compose(dates, raw, folder / f"{dates['place'].iloc[0]}.tif", rule, card)

    done = ((1, nothing) for nothing in each(write, places, workers, "threads"))
    for _ in track(done, len(places), "compose", "places"):
        pass


def show_fallen(fallen: pd.DataFrame, table: Path) -> None:
    for scene in fallen[:REASONS_SHOWN].itertuples():
        print(f"  without {scene.scene}: {scene.reason}")
    if len(fallen) > REASONS_SHOWN:
        print(f"  ... and {len(fallen) - REASONS_SHOWN:,} more, see {table}")


if __name__ == "__main__":
    with reporting():
        main()
