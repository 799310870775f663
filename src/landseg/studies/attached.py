"""Run a command that ends with the process that started it: `python -m landseg.studies.attached COMMAND ...`.

That process holds the other end of the standard input of this one, which is closed when it dies, however it dies.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

# Seconds from Ctrl-C to kill.
_PATIENCE = 5.0


def _end_with_input(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of the standard input; then end the command and all that it started."""
    os.read(sys.stdin.fileno(), 1)  # not by the buffer, which has a lock at exit
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    threading.Thread(target=_end_with_input, args=[command], daemon=True).start()
    sys.exit(command.wait())
