"""Cells of a study on the workers of a Dask scheduler, which see the folder of the project at the same path.

As on one machine, a cell is a DVC experiment in a temporary checkout. It ends with its worker.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from landseg.core.compute import ComputeParams
from landseg.core.dask_engine import DaskEngine, open_dask_engine  # first: says so if Dask is not installed
from landseg.core.errors import LandsegError
from landseg.core.params import read_section
from landseg.studies.runner import Inputs, NumberedCell, Outcome, finished_experiments, run_cell, stop_cells

import distributed  # isort: skip

Log = Callable[[str], None]


class _StopCells(distributed.WorkerPlugin):
    """Ends the cells of a worker when the worker closes, or when the study ends."""

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        stop_cells()


def run_on_workers(
    address: str | None, resources: Sequence[str], cells: Sequence[NumberedCell], inputs: Inputs, log: Log
) -> Iterator[Outcome]:
    """Run cells as `landseg.studies.runner.RunCells` does, on workers.

    Args:
        address: address of the scheduler; None: section `compute` of params.yaml names it, or the workers to start.
        resources: what a cell takes of the resources of a worker, `NAME=AMOUNT`; none: one of its threads.
        cells: the cells.
        inputs: what they must run with.
        log: called with each line of output.

    Raises:
        LandsegError: workers cannot run cells, or three of them were killed while they ran the same cell.
    """
    compute, amounts = read_section(ComputeParams, "compute"), _parse_resources(resources)
    chosen, cluster = (address, None) if address else (compute.address, compute.cluster)
    if chosen is None and cluster is None:
        raise LandsegError("--engine dask: no scheduler; add --address, or set compute.address or compute.cluster")
    compute.state.mkdir(parents=True, exist_ok=True)
    with open_dask_engine(chosen, cluster, len(cells), [compute.state], log) as engine:
        engine.resources = amounts
        _require_resources(engine)
        with _attended(engine, log) as topic:
            yield from engine.map(partial(_run_on_worker, topic, inputs), cells, name=lambda cell: cell.cell.title)


def _parse_resources(texts: Sequence[str]) -> dict[str, float]:
    amounts = {}
    for text in texts:
        found = re.fullmatch(r"([^=]+)=(\d*\.?\d+)", text)
        if not found or not float(found[2]):
            raise LandsegError(f"--resources {text}: not a name and a positive number; write for example GPU=1")
        amounts[found[1]] = float(found[2])
    return amounts


def _require_resources(engine: DaskEngine) -> None:
    """Refuse resources that no worker has: tasks would wait for ever."""
    workers = engine.client.run(lambda dask_worker: dict(dask_worker.state.total_resources)).values()
    if not any(all(has.get(name, 0) >= amount for name, amount in engine.resources.items()) for has in workers):
        named = " ".join(f"{name}={amount:g}" for name, amount in engine.resources.items())
        raise LandsegError(
            f'--resources {named}: no worker has this; start some with `dask worker --resources "{named}"`'
        )


@contextmanager
def _attended(engine: DaskEngine, log: Log) -> Iterator[str]:
    """Log what cells print, and end those that still run at the end; yields the topic of their lines."""
    topic = f"landseg-{secrets.token_hex(8)}"
    engine.client.subscribe_topic(topic, lambda event: log(event[1]))
    engine.client.register_plugin(_StopCells(), name=topic)
    try:
        yield topic
    finally:
        if engine.client.status == "running":
            engine.client.unregister_worker_plugin(topic)
            engine.client.unsubscribe_topic(topic)


def _run_on_worker(topic: str, inputs: Inputs, cell: NumberedCell) -> Outcome:
    """Run a cell on a worker, unless a worker that was lost has finished it."""
    worker = distributed.get_worker()
    if finished_experiments([cell.cell]):
        return Outcome(cell.cell, None)
    return run_cell(cell, inputs, 1, lambda line: worker.log_event(topic, line), attached=True)
