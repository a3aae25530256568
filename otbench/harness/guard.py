"""The first process of a worker: it does the run in a child, and ends everything that the run leaves behind.

The run's code may end its process in any way and start others that leave the process group. So the guard stays out of
it, imports nothing of the run, and adopts what loses its parent (Linux). When the worker has ended, all others are
ended too, and the guard ends as the worker did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

END_NOW = signal.SIGUSR1
"""What the guard is sent to end the worker at once; SIGTERM is passed on, and lets it write its checkpoint."""
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run a worker in a child of its own; return its exit code, once nothing that it started is left."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, which is inherited, no child can be waited for
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    worker = os.fork()
    if not worker:
        from otbench.harness.worker import main as work  # heavy: in the child alone

        return work()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(worker, signal.SIGTERM))
    signal.signal(END_NOW, lambda *_: os.kill(worker, signal.SIGKILL))
    process = status = 0
    while process != worker:  # orphans end in between
        process, status = os.wait()
    for number in (signal.SIGTERM, END_NOW):  # the process id may be another's from now on
        signal.signal(number, signal.SIG_IGN)
    _end_children()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _end_children() -> None:
    """End all children; theirs become ours, and end in the next round."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            os.wait()


def _children() -> list[int]:
    """Return the process ids of all children; empty where there is no /proc, and so no adopted ones."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found
