"""What the page says of inputs, and of pictures of bands other than red, green and blue."""

import json
from dataclasses import replace
from typing import Any

from landseg.core.rendering import Rendering
from landseg.report.page import render_page
from landseg.results.run import Run

PICTURES = (
    "swir1, nir, red as red, green and blue, 2 to 98 % of the values of the training tiles, band by band, as 0 to 255"
)


def with_inputs(run: Run, name: str, inputs: dict[str, Any]) -> Run:
    def read(path: str) -> bytes:
        content = run.read(path)
        if path == "results/metrics.json":
            return json.dumps({**json.loads(content), "inputs": inputs}).encode()
        return content

    return replace(run, name=name, read=read)


def test_of_one_run(run: Run) -> None:
    of = with_inputs(run, "six", {"bands": ["red", "nir", "swir1"], "dtype": "uint16", "pictures": PICTURES})
    page = render_page("Page", [of])
    assert f'<p class="note">Images show {PICTURES}.</p>' in page
    assert "<dt>Inputs</dt><dd>red, nir, swir1 (uint16)</dd>" in page


def test_of_rgb_need_no_words(run: Run) -> None:
    page = render_page("Page", [run])
    assert "Images show" not in page
    assert "<dt>Inputs</dt>" not in page


def test_of_several_runs(run: Run) -> None:
    inputs = {"bands": ["vv"], "dtype": "float32", "pictures": "vv, vv, vv as red, green and blue"}
    one = with_inputs(run, "<b>radar</b>", inputs)
    page = render_page("Page", [one, run])
    assert "Images show &lt;b&gt;radar&lt;/b&gt;: vv, vv, vv as red, green and blue." in page
    assert "Images show one: red, green and blue as they are." in page
    page = render_page("Page", [one, with_inputs(run, "other", inputs)])
    assert page.count("Images show vv, vv, vv as red, green and blue.") == 1


def test_words() -> None:
    bands = ("nir", "red", "green")
    false_colour = Rendering(bands, "fixed", (0, 3000), 1, read_dtype="uint16")
    assert false_colour.pictures == "nir, red, green as red, green and blue, 0 to 3000 as 0 to 255"
    assert replace(false_colour, read_dtype="uint8").pictures == "nir, red, green as red, green and blue"
    local = replace(false_colour, stretch="per_chip_minmax", format="tif", dtype="uint8", show=("nir", "nir", "red"))
    assert local.pictures == (
        "nir, nir, red as red, green and blue, the minimum to the maximum of each tile, band by band, as 0 to 255"
    )
    assert not false_colour.is_plain_rgb
    assert replace(false_colour, bands=("Red", "green", "blue")).is_plain_rgb
    assert not replace(false_colour, bands=("red", "green", "blue"), format="tif").is_plain_rgb
