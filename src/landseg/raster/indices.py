"""Spectral indices by name, such as NDVI, computed from the bands of an image.

Names, formulas and constants are those of the library spyndex, which contains the catalogue of Montero et al.,
A standardized catalogue of spectral indices to advance the use of remote sensing in Earth system research, Scientific
Data 10, 197 (2023), doi:10.1038/s41597-023-02096-0. The formulas use its short names of bands, called roles here, such
as N for near infrared and S1 for short-wave infrared at 1.6 µm.

A formula combines values of several bands, so these must have the same scale and no offset. Values with an offset,
such as those of Sentinel-2 products since processing baseline 04.00, give a wrong index even where `Index.scale_free`
is true: (N - R) / (N + R) of values to which 1,000 was added is too near to 0. The caller must scale them first.

Radar indices need backscatter as linear power, not in dB; nothing in the values tells which it is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import numpy as np

from landseg.core.arrays import Floats32, Image
from landseg.core.errors import ParamsError
from landseg.raster.bands import plain_name

# Roles: what they are, and the names of bands that have them, as `plain_name` spells them, the usual one first. A name
# that is used for bands of several roles, such as swir, is not among them.
_ROLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "A": ("coastal aerosol", ("coastal", "aerosol", "aerosols", "coastalaerosol", "coastalblue")),
    "B": ("blue", ("blue",)),
    "G": ("green", ("green",)),
    "G1": ("green at 530 nm", ("green1", "greeni", "green5")),
    "Y": ("yellow", ("yellow",)),
    "R": ("red", ("red",)),
    "RE1": ("red edge at 705 nm", ("rededge1", "rededge71")),
    "RE2": ("red edge at 740 nm", ("rededge2", "rededge75")),
    "RE3": ("red edge at 783 nm", ("rededge3", "rededge78")),
    "N": ("near infrared", ("nir",)),
    "N2": ("narrow near infrared at 865 nm", ("rededge4", "narrownir", "nirnarrow", "nir8", "nir8a")),
    "WV": ("water vapour at 945 nm", ("watervapour", "watervapor", "nir9")),
    "S1": ("short-wave infrared at 1.6 µm", ("swir1", "swir16")),
    "S2": ("short-wave infrared at 2.2 µm", ("swir2", "swir22")),
    "T": ("thermal infrared", ("thermal", "lwir")),
    "T1": ("thermal infrared at 10.9 µm", ("lwir11",)),
    "T2": ("thermal infrared at 12 µm", ("lwir12",)),
    "VV": ("radar, VV", ("vv",)),
    "VH": ("radar, VH", ("vh",)),
    "HV": ("radar, HV", ("hv",)),
    "HH": ("radar, HH", ("hh",)),
}
_RADAR = frozenset({"VV", "VH", "HV", "HH"})
_THERMAL = frozenset({"T", "T1", "T2"})
_BY_NAME = {name: role for role, (_, names) in _ROLES.items() for name in names}

# Codes of bands. Only Sentinel-2 has a band B8A.
_CODE = re.compile(r"b\d+a?")
_ONLY_SENTINEL2, _NO_ROLE = "b8a", "b10"
# Constants that spyndex gives a default, although its description says to compute them from each image.
_PER_IMAGE = frozenset({"n"})
# Constants of single indices that spyndex describes in words, beside a default that holds for others.
_CONSTANTS: Mapping[str, Mapping[str, float]] = {"WCI1": {"epsilon": 1e-10}, "WCI2": {"epsilon": 1e-10}}
# Factor, range and number of the random values by which formulas are tested for a common factor.
_FACTOR, _LOW, _HIGH, _COUNT = 10_000, 0.02, 0.6, 1000


class _Checked(np.ndarray[Any, Any]):
    """Array of which division by zero is NaN, within a formula, too: a / (b / 0) is NaN instead of 0."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [each.view(np.ndarray) if isinstance(each, _Checked) else each for each in inputs]
        if ufunc is np.true_divide and isinstance(plain[1], np.ndarray):
            plain[1] = np.where(plain[1] == 0, plain[1].dtype.type(np.nan), plain[1])
        return getattr(ufunc, method)(*plain, **options).view(_Checked)


@dataclass(frozen=True)
class Index:
    """A spectral index of the bands of a dataset.

    `str` gives the formula with its bands and constants, for notes to the user: many constants depend on the place or
    on the sensor, and L of SAVI is 1 in spyndex, but often 0.5 elsewhere.
    """

    #: Name, with the suffix of the bands, such as 'NDVI' or 'NDVI_q1'.
    name: str
    #: Name in spyndex.
    short_name: str
    #: Roles of the bands in the formula, such as ('N', 'R').
    roles: tuple[str, ...]
    #: Names of these bands in the dataset, in the same order.
    bands: tuple[str, ...]
    formula: str
    #: Names and values of the constants in the formula.
    constants: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        values = [*zip(self.roles, self.bands, strict=True), *((key, f"{value:g}") for key, value in self.constants)]
        return f"{self.name} = {self.formula} with {', '.join(f'{key} = {value}' for key, value in values)}"

    @property
    def scale_free(self) -> bool:
        """Whether a common factor in all bands changes nothing, so that stored values give the same as reflectance.

        It is found from random values. Indices with thermal bands never are, since these have another scale.
        """
        return _is_scale_free(self.short_name, self.roles, self.constants)

    def compute(self, values: Mapping[str, Floats32]) -> Floats32:
        """Compute the index, float32 (H, W).

        Pixels are NaN where the formula divides by zero, also if only in a part of it, has no real value, such as the
        root of a negative number, or exceeds float32, and where a band is NaN or infinite. The caller must treat NaN as
        no data. Values are not clipped: the range of most indices holds for positive values only.

        Args:
            values: float32 arrays (H, W), by band name; bands that the index does not need are ignored.
        """
        inputs = {role: values[band] for role, band in zip(self.roles, self.bands, strict=True)}
        return _evaluate(self.short_name, inputs, self.constants).astype(np.float32, copy=False)


def resolve_index(name: str, bands: Sequence[str]) -> Index | None:
    """Return the index with a name, with the bands of a dataset that it needs.

    Case does not matter, unless it tells two indices apart, such as BAI and BaI. Bands that are stacked from several
    dates have the date after an underscore, such as red_q1 and nir_q1; NDVI_q1 is the index of these bands.

    Args:
        name: name of a band or an index.
        bands: names of all bands of the dataset. Codes of Sentinel-2 (B02 or B2, B8A) are understood if all codes are
            such codes, and B8A is one of them. Other sensors use the codes without B8A for other bands.

    Returns:
        The index; None if a band has this name, in any case, or no index has it.

    Raises:
        ParamsError: there is such an index, but bands that it needs are missing, known by a code only or named twice;
            or it needs parameters that are not bands; or several indices have this name in other case.
    """
    stem, mark, suffix = name.partition("_")
    if name.casefold() in {band.casefold() for band in bands} or not (short_name := _short_name(stem)):
        return None
    roles, constants = _parameters(short_name)
    named, has_codes = _bands_by_role(bands, mark + suffix)
    name = f"{short_name}{mark}{suffix}"
    if missing := [role for role in roles if role not in named]:
        _refuse_missing(name, missing, bands, mark + suffix, has_codes=has_codes)
    for role in roles:
        if len(named[role]) > 1:
            raise ParamsError(
                f"convert.bands: {name} needs one band of {_ROLES[role][0]}, but dataset.bands names "
                f"{' and '.join(named[role])}; give all but one of them another name"
            )
    formula = _library().indices[short_name].formula
    return Index(name, short_name, roles, tuple(named[role][0] for role in roles), formula, constants)


def require_reflectance(index: Index, *, scaled: bool) -> None:
    """Require that an index that is not scale free gets reflectance instead of stored values, such as 0 to 10,000.

    Radar indices need none: backscatter is stored as such.

    Args:
        index: the index.
        scaled: whether values are read as stored × scale + offset.

    Raises:
        ParamsError: it gets stored values.
    """
    if not (scaled or index.scale_free or _RADAR.issuperset(index.roles)):
        raise ParamsError(
            f"convert.bands: {index.name} needs reflectance from 0 to 1, but convert.values = stored reads values as "
            "they are; set convert.values = scaled, with dataset.scaling where files have no scale and offset (1 and 0 "
            "if they contain reflectance)"
        )


@cache
def _library() -> Any:
    import spyndex  # here, because it takes up to 0.1 s, and few projects use indices

    return spyndex


def _short_name(name: str) -> str | None:
    """Return the name of an index in spyndex; None if there is none.

    Raises:
        ParamsError: several differ from it in case only.
    """
    known = _library().indices
    found = [name] if name in known else [each for each in known if each.casefold() == name.casefold()]
    if len(found) > 1:
        raise ParamsError(f"convert.bands: {name!r} may be the index {' or '.join(found)}; write one of these names")
    return found[0] if found else None


def _parameters(short_name: str) -> tuple[tuple[str, ...], tuple[tuple[str, float], ...]]:
    """Return the roles and the constants of an index.

    Raises:
        ParamsError: it has other parameters.
    """
    library = _library()
    defaults = {key: constant.default for key, constant in library.constants.items() if key not in _PER_IMAGE}
    defaults |= _CONSTANTS.get(short_name, {})
    names = tuple(library.indices[short_name].bands)
    others = [name for name in names if name not in _ROLES and defaults.get(name) is None]
    if others:
        raise ParamsError(
            f"convert.bands: {short_name} needs {_listed(others)} beside bands, which landseg does not compute; choose "
            "another index"
        )
    roles = tuple(name for name in names if name in _ROLES)
    return roles, tuple((name, float(defaults[name])) for name in names if name not in _ROLES)


def _bands_by_role(bands: Sequence[str], suffix: str) -> tuple[dict[str, list[str]], bool]:
    """Return the names of bands with a suffix by role, and whether there are codes that are not understood."""
    stems = {band: band[: len(band) - len(suffix)] for band in bands if band.casefold().endswith(suffix.casefold())}
    words = {band: plain_name(stem) for band, stem in stems.items()}
    roles = {band: _BY_NAME[word] for band, word in words.items() if word in _BY_NAME}
    codes = {band: word for band, word in words.items() if _CODE.fullmatch(word)}
    understood = _are_sentinel2(codes.values()) and _RADAR.issuperset(roles.values())
    if understood:
        roles |= {band: _sentinel2_roles()[word] for band, word in codes.items() if word != _NO_ROLE}
    named: dict[str, list[str]] = {}
    for band, role in roles.items():
        named.setdefault(role, []).append(band)
    return named, bool(codes) and not understood


def _are_sentinel2(codes: Iterable[str]) -> bool:
    return {_ONLY_SENTINEL2} <= set(codes) <= {*_sentinel2_roles(), _NO_ROLE}


@cache
def _sentinel2_roles() -> dict[str, str]:
    """Return the role of each band of Sentinel-2 by code, such as b8a."""
    known = _library().bands
    return {known[role].sentinel2a.band.casefold(): role for role in known if hasattr(known[role], "sentinel2a")}


def _refuse_missing(
    name: str, missing: Sequence[str], bands: Sequence[str], suffix: str, *, has_codes: bool
) -> NoReturn:
    """Say that an index lacks bands.

    Raises:
        ParamsError: always.
    """
    usual = {_ROLES[role][1][0] + suffix: _ROLES[role][0] for role in missing}
    wanted = _listed([each if what == each else f"{each} ({what})" for each, what in usual.items()])
    if has_codes:
        raise ParamsError(
            f"convert.bands: {name} needs {wanted}, but dataset.bands has codes ({', '.join(bands)}) that mean other "
            "bands on other sensors; use names such as red and nir in dataset.bands"
        )
    raise ParamsError(
        f"convert.bands: {name} needs {wanted}, which dataset.bands does not name; it names {', '.join(bands)}, so "
        "choose another index, or add what is missing if the images have it"
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _evaluate(short_name: str, inputs: Mapping[str, Image], constants: Iterable[tuple[str, float]]) -> Image:
    """Return the values of a formula of spyndex, which are NaN where they are not finite, in the inputs' data type."""
    parameters = {role: np.asarray(values).view(_Checked) for role, values in inputs.items()} | dict(constants)
    with np.errstate(all="ignore"):
        result = np.asarray(_library().computeIndex(short_name, parameters)).view(np.ndarray)
    return np.where(np.isfinite(result), result, result.dtype.type(np.nan))


@cache
def _is_scale_free(short_name: str, roles: tuple[str, ...], constants: tuple[tuple[str, float], ...]) -> bool:
    values = np.random.default_rng(0).uniform(_LOW, _HIGH, (len(roles), _COUNT))
    one, other = (
        _evaluate(short_name, dict(zip(roles, values * factor, strict=True)), constants) for factor in (1, _FACTOR)
    )
    return _THERMAL.isdisjoint(roles) and np.allclose(one, other, rtol=1e-6, equal_nan=True)
