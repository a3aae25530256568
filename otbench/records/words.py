"""Counts in words, and why a file cannot be read."""

from __future__ import annotations

import errno
import os

_WHY = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EISDIR: "is a folder",
    errno.EACCES: "no permission to read it",
    errno.ELOOP: "a link that leads to itself",
}


def counted(n: int, thing: str) -> str:
    """Return `n` and the noun `thing`, which takes an s in the plural."""
    return f"{n} {thing}" + ("" if n == 1 else "s")


def why_unread(error: Exception) -> str:
    """Return why a file cannot be read, without numbers of errors and names of codecs."""
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    if isinstance(error, OSError) and error.errno is not None:
        return _WHY.get(error.errno) or os.strerror(error.errno)
    return str(error) or type(error).__name__
