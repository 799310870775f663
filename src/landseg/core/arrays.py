"""Type aliases for NumPy arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

#: Raster values of any dtype, (bands, H, W) or (H, W).
Image = npt.NDArray[Any]
#: 8-bit values: an RGB image (H, W, 3), or class ids or channels (H, W).
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
#: Mask of pixels with data, (H, W); None if all pixels have data.
ValidMask = Mask | None
#: Pixel counts, such as confusion matrices (..., K, K).
Counts = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Strings = npt.NDArray[np.str_]
