"""Check: the whole of params.yaml, before the first stage runs. No stage depends on this script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # this checkout's code, also in DVC's temporary ones

from landseg.check import find_faults
from landseg.core.errors import STAGE_INTERRUPTED, reporting

if __name__ == "__main__":
    with reporting("params.yaml", STAGE_INTERRUPTED):
        faults = find_faults()
        for fault in faults:
            print(f"error: {fault}", file=sys.stderr)
        sys.exit(1 if faults else 0)
