"""What an exception says about a run: its status, and a reason in one line."""

from __future__ import annotations

import traceback

import torch

from otbench.errors import DivergedError, OtbenchError
from otbench.harness.messages import Failure
from otbench.names import plain, plain_lines
from otbench.records.record import LONGEST_REASON, Status


def failure(error: BaseException) -> Failure:
    """Return how a run failed that raised `error`: whatever a plugin raises is its row, `sys.exit()` and the like too.

    Called where the error is handled: errors of plugins come with their traceback.
    """
    status, reason, trace = Status.ERROR, message(error), ""
    if isinstance(error, DivergedError):
        status = Status.DIVERGED
    elif not isinstance(error, OtbenchError):
        trace = traceback.format_exc()
        # torch reports the host's lack of memory as a RuntimeError
        reason = first_line(error).partition("DefaultCPUAllocator: ")[2] or first_line(error)
        full = isinstance(error, RuntimeError) and "t allocate memory" in message(error)
        if full or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            status = Status.OOM
        else:
            reason = f"{type(error).__name__}: {reason}"
    # messages can be a plugin's: no process hands on what another cannot read
    return Failure(status=status, reason=plain(reason, LONGEST_REASON), traceback=plain_lines(trace))


def message(error: BaseException) -> str:
    """Return the words of `error`; empty where it has none, or fails even at that."""
    try:
        return str(error).strip()
    except BaseException:  # a plugin's own __str__
        return ""


def first_line(error: BaseException) -> str:
    """Return the first line of the words of `error`, or the name of its type."""
    return (message(error) or type(error).__name__).splitlines()[0]
