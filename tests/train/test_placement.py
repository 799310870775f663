"""Placement: where tiles are cached, by free memory."""

import os
import re
from pathlib import Path
from typing import Literal

import pytest

from landseg.core.errors import LandsegError
from landseg.loader.batches import Tier
from landseg.train.placement import choose_tier, free_memory


@pytest.mark.parametrize(
    ("cache", "needed", "tier", "reason"),
    [
        ("auto", 1, "memory", r"\d+\.\d GB of RAM free"),
        ("auto", 10**15, "stream", "too large for"),
        ("device", 1, "device", "set by train.cache"),
        ("stream", 1, "stream", "set by train.cache"),
    ],
)
def test_tier_on_a_cpu(
    cache: Literal["auto", "device", "memory", "stream"], needed: int, tier: Tier, reason: str
) -> None:
    found, why = choose_tier(cache, needed, "cpu")
    assert found == tier
    assert re.match(reason, why)


@pytest.mark.parametrize("cache", ["device", "memory"])
def test_too_little_memory_is_an_error(cache: Literal["device", "memory"]) -> None:
    with pytest.raises(
        LandsegError,
        match=rf"train.cache = {cache}: the tiles need 1000000.0 GB, but only .* GB are free; set it to auto",
    ):
        choose_tier(cache, 10**15, "cpu")


def test_free_memory_is_at_most_physical_memory() -> None:
    assert 0 < free_memory("cpu") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(("limit", "free"), [("1000000", 1_000_000 - 700_000 + 50_000), ("650000", 0), ("max", None)])
def test_free_memory_in_a_container_excludes_reclaimable_cache(tmp_path: Path, limit: str, free: int | None) -> None:
    stat = "anon 600000\nfile 100000\ninactive_file 50000\n"
    for name, content in (("memory.max", limit), ("memory.current", "700000"), ("memory.stat", stat)):
        (tmp_path / name).write_text(content + "\n" if name != "memory.stat" else content)
    found = free_memory("cpu", tmp_path)
    assert found == free if free is not None else found > 10**8


@pytest.mark.gpu
def test_auto_uses_the_gpu_if_the_tiles_fit() -> None:
    assert choose_tier("auto", 1, "cuda")[0] == "device"
    assert choose_tier("auto", 10**12, "cuda")[0] != "device"
