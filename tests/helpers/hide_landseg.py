import sys

sys.modules["landseg"] = None  # type: ignore[assignment]
