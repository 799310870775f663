"""Spectral indices by name: the bands they need, their values, and whether they need reflectance."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spyndex

from landseg.core.arrays import Floats32
from landseg.core.errors import ParamsError
from landseg.datasets.ghana.params import BANDS as GHANA
from landseg.datasets.landcovernet.card import CODES
from landseg.raster.indices import Index, require_reflectance, resolve_index

LANDCOVERNET = tuple(CODES)
LANDSAT = ("blue", "green", "red", "nir", "swir1", "swir2")
SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
EVERYTHING = (*LANDCOVERNET, "green1", "yellow", "thermal", "lwir11", "lwir12", "VV", "VH", "HV", "HH")
Bands = dict[str, Floats32]


def resolved(name: str, bands: Sequence[str] = LANDSAT) -> Index:
    index = resolve_index(name, bands)
    assert index is not None
    return index


def refused(name: str, bands: Sequence[str]) -> str:
    with pytest.raises(ParamsError) as error:
        resolve_index(name, bands)
    return str(error.value)


def column(*values: float) -> Floats32:
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("name", "bands", "expected"),
    [
        ("NDVI", LANDSAT, ("nir", "red")),
        ("ndvi", GHANA, ("nir", "red")),
        ("NDBI", LANDCOVERNET, ("swir1", "nir")),
        ("NBRplus", LANDCOVERNET, ("swir2", "rededge4", "green", "blue")),
        ("IRECI", GHANA, ("rededge3", "red", "rededge1", "rededge2")),
        ("NPCI", LANDCOVERNET, ("red", "coastal")),
        ("NDVI", ("Near Infrared", "RED", "alpha"), ("Near Infrared", "RED")),
        ("NDCI", ("red", "red_edge_1"), ("red_edge_1", "red")),
        ("RFDI", ("HH", "hv"), ("HH", "hv")),
        ("NDVI", SENTINEL2, ("B8", "B4")),
        ("NDVI", ("VV", "VH", "alpha", *CODES.values()), ("B08", "B04")),
        ("NDMI", ("B08", "B8A", "B10", "B11"), ("B08", "B11")),
        ("SeLI", SENTINEL2, ("B8A", "B5")),
        ("NDVI_q1", ("red_q1", "nir_q1", "red_q2", "nir_q2"), ("nir_q1", "red_q1")),
        ("ndvi_d2", ("red", "nir", "red_d2", "nir_d2"), ("nir_d2", "red_d2")),
        ("NDVI", ("red", "nir", "red_d2", "nir_d2"), ("nir", "red")),
        ("NDVI_2018_q1", ("red_2018_q1", "nir_2018_q1"), ("nir_2018_q1", "red_2018_q1")),
        ("NDVI_q1", ("B04_q1", "B08_q1", "B8A_q1", "B04_q2"), ("B08_q1", "B04_q1")),
    ],
)
def test_bands_of_an_index(name: str, bands: Sequence[str], expected: tuple[str, ...]) -> None:
    assert resolved(name, bands).bands == expected


@pytest.mark.parametrize("name", ["red", "Red", "nirr", "NDVIs", "", "_q1", "red_q1", "alpha"])
def test_what_is_no_index(name: str) -> None:
    assert resolve_index(name, LANDSAT) is None


@pytest.mark.parametrize("name", ["NDVI", "ndvi"])
def test_bands_win(name: str) -> None:
    assert resolve_index(name, ("red", "nir", "NDVI")) is None


def test_case_that_tells_indices_apart() -> None:
    assert resolved("BAI").roles == ("R", "N")
    assert resolved("BaI").roles == ("R", "S1", "N")
    assert refused("bai", LANDSAT) == ("convert.bands: 'bai' may be the index BAI or BaI; write one of these names")


def test_missing_bands_are_named() -> None:
    assert refused("ndbi", ("red", "green", "blue")) == (
        "convert.bands: NDBI needs swir1 (short-wave infrared at 1.6 µm) and nir (near infrared), which dataset.bands "
        "does not name; it names red, green, blue, so choose another index, or add what is missing if the images "
        "have it"
    )
    assert "needs nir_q2 (near infrared), which" in refused("NDVI_q2", ("red_q2", "nir", "nir_q1"))
    assert "needs nir (near infrared) and red, which" in refused("NDVI", ("red_q2", "nir_q2"))
    assert "needs swir2 (short-wave infrared at 2.2 µm), which" in refused("NBR", ("B8", "B8A"))
    assert "needs swir1 (" in refused("NDMI", ("nir", "swir"))


@pytest.mark.parametrize(
    "bands",
    [
        ("B1", "B2", "B3", "B4", "B5", "B7"),  # Landsat 7: B4 is near infrared
        ("B02", "B03", "B04", "B08"),  # B08 is panchromatic on Landsat 8
        ("B4", "B8", "B8A", "B13"),
        ("blue", "green", "red", "B8A"),
        ("red", "B8"),
    ],
)
def test_codes_that_mean_several_bands(bands: tuple[str, ...]) -> None:
    message = refused("NDVI", bands)
    assert f"has codes ({', '.join(bands)}) that mean other bands on other sensors; use names such as red" in message


def test_codes_do_not_matter_where_names_suffice() -> None:
    assert resolved("NDVI", ("red", "nir", "B5")).bands == ("nir", "red")


def test_two_bands_of_one_kind() -> None:
    bands = ("red", "nir", "near_infrared")
    assert refused("NDVI", bands) == (
        "convert.bands: NDVI needs one band of near infrared, but dataset.bands names nir and near_infrared; give all "
        "but one of them another name"
    )
    assert resolved("RCC", ("green", "blue", *bands)).bands == ("red", "green", "blue")


@pytest.mark.parametrize(("name", "needs"), [("kNDVI", "kNN and kNR"), ("NIRvP", "PAR"), ("RWI", "n")])
def test_other_parameters(name: str, needs: str) -> None:
    assert refused(name, EVERYTHING) == (
        f"convert.bands: {name} needs {needs} beside bands, which landseg does not compute; choose another index"
    )


def test_constants() -> None:
    assert str(resolved("SAVI")) == "SAVI = (1.0+L)*(N-R)/(N+R+L) with N = nir, R = red, L = 1"
    assert dict(resolved("EVI").constants) == {"g": 2.5, "C1": 6, "C2": 7.5, "L": 1}
    assert dict(resolved("WCI1", LANDCOVERNET).constants) == {"epsilon": 1e-10}
    assert str(resolved("ndvi_q1", ("nir_q1", "red_q1"))) == "NDVI_q1 = (N-R)/(N+R) with N = nir_q1, R = red_q1"


def test_every_index_of_the_library() -> None:
    values = np.random.default_rng(1).uniform(0.02, 0.6, (len(EVERYTHING), 8, 8)).astype(np.float32)
    others = []
    for name in spyndex.indices:
        try:
            index = resolved(name, EVERYTHING)
        except ParamsError as error:
            others.append(str(error))
            continue
        result = index.compute(dict(zip(EVERYTHING, values, strict=True)))
        assert type(result) is np.ndarray, name
        assert (result.dtype.name, result.shape) == ("float32", (8, 8)), name
        assert np.isfinite(result).mean() > 0.3, name
    assert 0 < len(others) < 20
    assert all("beside bands" in each for each in others)


def test_values_are_not_changed_or_shared() -> None:
    nir = column(0.5, np.inf)
    result = resolved("CSIwoSWIR").compute({"nir": nir})  # its formula is N
    result[:] = 7
    np.testing.assert_array_equal(nir, column(0.5, np.inf))


@pytest.mark.parametrize(
    ("name", "bands", "expected"),
    [
        (
            "NDVI",
            {"nir": column(3, 0, 0, -1, np.nan, np.inf), "red": column(1, 0, 1, 1, 1, 1)},
            (0.5, None, -1) + 3 * (None,),
        ),
        ("SR", {"nir": column(1, 0, 1), "red": column(2, 0, 0)}, (0.5, None, None)),
        ("CRI550", {"blue": column(2, 0, 0), "green": column(4, 4, 0)}, (0.25, None, None)),
        # rededge2 is the divisor of a divisor: infinity there would make the index 0
        (
            "IRECI",
            {"rededge3": column(3, 3), "red": column(1, 1), "rededge1": column(1, 1), "rededge2": column(2, 0)},
            (4, None),
        ),
        ("TVI", {"nir": column(1, 0), "red": column(1, 1)}, (0.5**0.5, None)),  # a root of -0.5
        ("RI4XS", {"red": column(1, 1e30), "green": column(1, 1)}, (1, None)),  # more than float32 has
    ],
)
def test_pixels_without_a_value(name: str, bands: Bands, expected: tuple[float | None, ...]) -> None:
    values = [np.nan if value is None else value for value in expected]
    np.testing.assert_allclose(resolved(name, tuple(bands)).compute(bands)[0], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("NDVI", True), ("NDWI", True), ("NDBI", True), ("SR", True), ("MSR", True), ("GDVI", True), ("WCI1", True),
        ("VHVVR", True), ("EVI", False), ("EVI2", False), ("SAVI", False), ("OSAVI", False), ("DVI", False),
        ("NIRv", False), ("SI", False), ("AVI", False), ("NDSInw", False), ("VHVVD", False),
        # A common factor changes nothing, but thermal bands have none in common with others.
        ("DBI", False), ("NDBaI", False),
    ],
)  # fmt: skip
def test_common_factor(name: str, free: bool) -> None:
    assert resolved(name, EVERYTHING).scale_free == free


@pytest.mark.parametrize("name", ["NDVI", "SR", "VHVVD", "VHVVR"])
def test_what_needs_no_reflectance(name: str) -> None:
    require_reflectance(resolved(name, EVERYTHING), scaled=False)


def test_what_needs_reflectance() -> None:
    index = resolved("savi_q1", ("red_q1", "nir_q1"))
    require_reflectance(index, scaled=True)
    with pytest.raises(ParamsError) as error:
        require_reflectance(index, scaled=False)
    assert str(error.value) == (
        "convert.bands: SAVI_q1 needs reflectance from 0 to 1, but convert.values = stored reads values as they are; "
        "set convert.values = scaled, with dataset.scaling where files have no scale and offset (1 and 0 if they "
        "contain reflectance)"
    )


BY_HAND: dict[str, Callable[[Bands], Floats32]] = {
    "NDVI": lambda b: (b["nir"] - b["red"]) / (b["nir"] + b["red"]),
    "NDWI": lambda b: (b["green"] - b["nir"]) / (b["green"] + b["nir"]),
    "NDBI": lambda b: (b["swir1"] - b["nir"]) / (b["swir1"] + b["nir"]),
    "EVI": lambda b: 2.5 * (b["nir"] - b["red"]) / (b["nir"] + 6 * b["red"] - 7.5 * b["blue"] + 1),
    "SAVI": lambda b: 2 * (b["nir"] - b["red"]) / (b["nir"] + b["red"] + 1),
}


def read(path: Path, scale: float) -> tuple[Floats32, np.ndarray]:
    """Bands of a file as reflectance, and its mask of pixels with data."""
    with rasterio.open(path) as source:
        return source.read().astype(np.float32) * np.float32(scale), source.dataset_mask() > 0


@pytest.mark.parametrize("name", BY_HAND)
def test_landsat(real_data: Path, name: str) -> None:
    values, valid = read(real_data / "gewata_landsat7" / "gewata_l7_6band.tif", 1e-4)
    bands = dict(zip(LANDSAT, values[:, valid], strict=True))
    result = resolved(name).compute(bands)
    np.testing.assert_allclose(result, BY_HAND[name](bands), rtol=1e-5, atol=1e-6)
    stored = resolved(name).compute({band: value * 1e4 for band, value in bands.items()})
    assert resolved(name).scale_free == np.allclose(result, stored, atol=1e-5)


@pytest.mark.parametrize("name", BY_HAND)
def test_sentinel2(real_data: Path, name: str) -> None:
    values, _ = read(real_data / "rstoolbox_s2_polygons" / "s2_12band_reflectance.tif", 1)
    bands = dict(zip(SENTINEL2, values, strict=True))
    of = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "swir1": "B11"}
    expected = BY_HAND[name]({word: bands[code] for word, code in of.items()})
    np.testing.assert_allclose(resolved(name, SENTINEL2).compute(bands), expected, rtol=1e-5, atol=1e-6)


_OFFLINE = """
import sys
sys.addaudithook(lambda event, _: event in ("socket.connect", "socket.getaddrinfo") and sys.exit(event))
from landseg.raster.indices import resolve_index
assert "spyndex" not in sys.modules  # imported where it is used
resolve_index("NDVI", ["red", "nir"])
sys.exit(" ".join({"ee", "dask", "xarray", "pandas", "matplotlib"} & sys.modules.keys()) or 0)
"""


def test_the_library_needs_no_network() -> None:
    ended = subprocess.run([sys.executable, "-c", _OFFLINE], capture_output=True, text=True)
    assert (ended.stderr.strip(), ended.returncode) == ("", 0)
