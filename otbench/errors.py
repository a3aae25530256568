"""Errors that are shown to a user as one message, without a traceback; and warnings.

Every message says what is wrong, where, and what to do next.
"""

from __future__ import annotations


class OtbenchError(Exception):
    """Base of all errors that otbench raises on purpose; the program exits with code 2."""


class UsageError(OtbenchError):
    """The request itself is wrong: an unknown name, a value out of range, a missing device."""


class PluginError(OtbenchError):
    """A solver, baseline or task file cannot be found, read or imported."""


class DataError(OtbenchError):
    """Input data are missing, corrupt, or not of the form that the task needs."""


class StoreError(OtbenchError):
    """A result cannot be read or written: no permission, no space left, a foreign file."""


class DivergedError(OtbenchError):
    """Training left the finite numbers. The harness turns it into a row with status `diverged`."""


class OtbenchWarning(UserWarning):
    """What a user of the Python interface should know, and what the program says on standard error."""
