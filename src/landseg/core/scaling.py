"""Scale and offset of stored raster values, by which they become physical ones: stored × scale + offset.

Headers of rasters may contain them. Sentinel-2 products of processing baseline 04.00 and later (since 25 January 2022)
have 1,000 added to every value, so reflectance is 0.0001 × stored - 0.1, and 0.0001 × stored before. Their files seldom
say so, and some catalogues take the 1,000 off: the baseline is known from the name of the product, the scaling is not.

Tables and model files contain a text per band: scale and offset; BASELINE_04 for a product of a later baseline without
them; or '', if nothing is known.
"""

import re
from collections.abc import Sequence

BASELINE_04 = "baseline 04.00"
# Baseline and relative orbit in the name of a product, such as S2A_MSIL2A_20220301T102021_N0400_R065_T33UUP_...
_BASELINE = re.compile(r"_N(\d{4})_R\d{3}_")


def describe_scaling(scale: float, offset: float, path: str) -> str:
    """Return the text of a band with a scale and an offset in its header; 1 and 0 mean that there are none.

    A scale alone does not say whether a product of a later baseline still contains the 1,000.

    Args:
        scale: scale of the header.
        offset: offset of the header.
        path: path of the file, which may contain the name of a Sentinel-2 product.
    """
    found = _BASELINE.search(path)
    if offset == 0 and found and int(found[1]) >= 400:
        return BASELINE_04
    return "" if (scale, offset) == (1, 0) else scaling_text(scale, offset)


def scaling_text(scale: float, offset: float) -> str:
    """Return the text of a scale and an offset that are known."""
    return f"{float(scale)!r} {float(offset)!r}"


#: Text of values that are stored as they are, such as reflectance in files of floats.
UNSCALED = scaling_text(1, 0)


def parse_scaling(text: str) -> tuple[float, float] | None:
    """Return scale and offset; None if they are unknown."""
    if text in ("", BASELINE_04):
        return None
    scale, offset = text.split()
    return float(scale), float(offset)


def scaling_words(text: str) -> str:
    """Return the text of a band in words, for messages."""
    known = parse_scaling(text)
    if known:
        return f"scale {known[0]:g} and offset {known[1]:g}"
    return "no scale and offset" + (", although Sentinel-2 products like it have 1,000 added" if text else "")


def join_bands(texts: Sequence[str]) -> str:
    """Return the texts of all bands as one, for tables: a single one if all are the same."""
    return texts[0] if len(set(texts)) == 1 else "; ".join(texts)


def split_bands(text: str, bands: int) -> list[str]:
    """Return the texts of all bands from the output of `join_bands`."""
    return text.split("; ") if "; " in text else [text] * bands
