"""What an exception says about a run: its status, and a reason in one line."""

from __future__ import annotations

import traceback

import torch

from otbench.errors import DivergedError, OtbenchError
from otbench.harness.messages import Failure
from otbench.records.record import Status


def failure(error: BaseException) -> Failure:
    """Return how a run failed that raised `error`: whatever a plugin raises is its row, `sys.exit()` and the like too.

    Called where the error is handled: errors of plugins come with their traceback.
    """
    if isinstance(error, DivergedError):
        return Failure(status=Status.DIVERGED, reason=message(error))
    if isinstance(error, OtbenchError):
        return Failure(status=Status.ERROR, reason=message(error))
    trace = traceback.format_exc()
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Failure(status=Status.OOM, reason=first_line(error), traceback=trace)
    # torch reports the host's lack of memory as a RuntimeError
    reason = first_line(error).partition("DefaultCPUAllocator: ")[2] or first_line(error)
    if isinstance(error, RuntimeError) and "t allocate memory" in message(error):
        return Failure(status=Status.OOM, reason=reason, traceback=trace)
    return Failure(status=Status.ERROR, reason=f"{type(error).__name__}: {reason}", traceback=trace)


def message(error: BaseException) -> str:
    """Return the words of `error`; empty where it has none, or fails even at that."""
    try:
        return str(error).strip()
    except BaseException:  # a plugin's own __str__
        return ""


def first_line(error: BaseException) -> str:
    """Return the first line of the words of `error`, or the name of its type."""
    return (message(error) or type(error).__name__).splitlines()[0]
