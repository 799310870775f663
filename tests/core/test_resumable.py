"""Finished items of an interrupted stage: which are taken over, and which are not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.core.parallel import LocalEngine
from landseg.core.resumable import resumable


class Stage:
    """A stage that writes a file for each item, counts its calls, and fails at one item."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inputs, self.calls = folder, folder / "inputs", list[int]()
        self.inputs.mkdir()
        (self.inputs / "a").write_text("a")

    def run(self, fails_at: int | None = None, ingredient: object = 1, items: int = 6) -> list[int]:
        """Run, and return the results; the outputs are moved to out/."""
        engine = LocalEngine(1)
        with resumable(engine, self.folder / "state", "stage", [ingredient], [self.inputs]) as resuming:
            work = partial(self.square, resuming.folder, fails_at)
            found = list(resuming.map(work, range(items), name=lambda item: f"item {item}"))
            out = self.folder / "out"
            out.mkdir(exist_ok=True)
            resuming.move_files(out)
        return found

    def square(self, folder: Path, fails_at: int | None, item: int) -> int:
        self.calls.append(item)
        if item == fails_at:
            raise LandsegError(f"item {item} fails")
        with atomic(folder / f"{item}.txt") as temporary:
            temporary.write_text(str(item))
        return item**2

    def fail(self, **options: object) -> None:
        with pytest.raises(LandsegError, match="fails"):
            self.run(**options)  # type: ignore[arg-type]

    @property
    def kept(self) -> list[Path]:
        return list(self.folder.glob("state/stage/*/*"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_finished_items_are_taken_over(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.fail(fails_at=3)
    assert capsys.readouterr().out == ""
    assert stage.run() == [0, 1, 4, 9, 16, 25]
    assert stage.calls == [0, 1, 2, 3, 3, 4, 5]
    assert capsys.readouterr().out == "stage: going on from an interrupted run, which finished 3 tasks\n"
    assert sorted(path.name for path in (stage.folder / "out").iterdir()) == [f"{item}.txt" for item in range(6)]
    assert not list(stage.folder.glob("state/*"))


def test_results_come_in_order_around_finished_ones(stage: Stage) -> None:
    stage.fail(fails_at=4)
    for path in list(stage.folder.glob("state/stage/*/*.result"))[:2]:  # whichever two these are
        path.unlink()
    assert stage.run(items=8) == [item**2 for item in range(8)]
    assert len(stage.calls) == 5 + 2 + 4


@pytest.mark.parametrize(
    "change",
    [
        lambda stage: (stage.inputs / "a").write_text("b"),  # of the same size
        lambda stage: (stage.inputs / "b").write_text(""),
        lambda stage: (stage.inputs / "a").rename(stage.inputs / "b"),
    ],
    ids=["content", "new file", "name"],
)
def test_changed_inputs_are_not_taken_for_the_same(stage: Stage, change: Callable[[Stage], object]) -> None:
    stage.fail(fails_at=3)
    change(stage)
    assert stage.run() == [0, 1, 4, 9, 16, 25]
    assert stage.calls == [0, 1, 2, 3, *range(6)]


def test_other_ingredients_start_anew_and_old_work_is_deleted(stage: Stage) -> None:
    stage.fail(fails_at=3, ingredient={"bands": ("red",), "range": frozenset({1, 2})})
    stage.fail(fails_at=0, ingredient={"bands": ("nir",), "range": frozenset({1, 2})})
    assert stage.calls == [0, 1, 2, 3, 0]
    assert stage.kept == []


@pytest.mark.parametrize("content", [b"", bytes(100)])
def test_result_that_a_power_failure_left_empty(stage: Stage, content: bytes) -> None:
    stage.fail(fails_at=2)
    next(iter(stage.folder.glob("state/stage/*/*.result"))).write_bytes(content)
    assert stage.run() == [0, 1, 4, 9, 16, 25]
    assert len(stage.calls) == 3 + 5


def test_two_runs_of_one_stage(stage: Stage) -> None:
    def again(item: int) -> int:
        with pytest.raises(LandsegError, match=r"another process runs this stage; wait for it, or stop it"):
            stage.run()
        return item

    with resumable(LocalEngine(1), stage.folder / "state", "stage", [1], [stage.inputs]) as engine:
        assert list(engine.map(again, [5])) == [5]


def test_work_of_a_run_in_progress_is_not_deleted(stage: Stage) -> None:
    with resumable(LocalEngine(1), stage.folder / "state", "stage", [2], [stage.inputs]) as engine:
        list(engine.map(abs, [-1]))
        stage.run()
        assert list(engine.folder.iterdir())


def test_half_written_files_are_not_moved(stage: Stage) -> None:
    with resumable(LocalEngine(1), stage.folder / "state", "stage", [1], [stage.inputs]) as engine:
        with atomic(engine.folder / "a.zip") as temporary:
            temporary.write_text("half")
            out = stage.folder / "out"
            out.mkdir()
            engine.move_files(out)
            assert list(out.iterdir()) == []
        engine.move_files(out)
        assert [path.name for path in out.iterdir()] == ["a.zip"]
