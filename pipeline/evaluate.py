"""Evaluate: calibrate the model and score a split; write the model, scores, tables and example tiles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.core.compute import ComputeParams
from landseg.core.data_card import read_card
from landseg.core.errors import STAGE_INTERRUPTED, reporting
from landseg.core.parallel import cores
from landseg.core.params import dataset_name, read_section
from landseg.core.paths import RESULTS, Paths
from landseg.evaluate.examples import choose_examples, write_examples
from landseg.evaluate.params import EvaluateParams
from landseg.evaluate.predict import evaluate_tiles, load_trained, predict_examples
from landseg.evaluate.tables import print_scores, score_split, write_results
from landseg.evaluate.temperature import calibrate
from landseg.loader.tile_set import split_tiles


def main() -> None:
    paths, params = Paths(dataset_name()), read_section(EvaluateParams, "evaluate")
    compute, card = read_section(ComputeParams, "compute"), read_card(paths.table("card.json"))
    tiles, workers = split_tiles(paths.table("split.parquet"), params.split, card.classes), compute.workers or cores()
    model, bf16 = load_trained(paths.model(params.weights), card, compute.device)

    fitted = calibrate(model, bf16, paths, params, workers)
    counted = evaluate_tiles(model, bf16, tiles, paths.tiles, params.batch_size, workers)
    scored = score_split(counted, tiles, card, params, fitted)
    warnings = write_results(scored, card, params, model.info.rendering, RESULTS)
    chosen = choose_examples(counted.matrices, list(tiles["scene"]), params.n_examples)
    examples = predict_examples(model, bf16, paths.tiles, tiles, counted.matrices, chosen)
    write_examples(paths.examples, examples, card.classes)
    print_scores(scored, params.split)
    for warning in warnings:
        print(f"warning: {warning}")


if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        main()
