"""Type aliases of arrays, named by what they hold."""

from typing import Any

import numpy as np
import numpy.typing as npt

#: Pixel values of any dtype, (bands, H, W) or (H, W).
Image = npt.NDArray[Any]
#: 8-bit values: an image (H, W, 3), RGB, or class ids or channels (H, W).
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
#: Pixels that have data, (H, W); None: all have.
ValidMask = Mask | None
#: Counts of pixels, such as confusion matrices (..., K, K).
Counts = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Strings = npt.NDArray[np.str_]
