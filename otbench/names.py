"""Names as users type them, what is said about a name that nobody knows, and text that strangers wrote."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from itertools import islice


def listed(text: str) -> list[str]:
    """Return the names in `text`, separated by commas; empty ones do not count."""
    return [name for part in text.split(",") if (name := part.strip())]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def hint(name: str, known: Collection[str], heading: str, *, most: int | None = None) -> str:
    """Return how a message about the unknown `name` ends: the nearest known name, or `"; heading: "` and all of them.

    Args:
        name: what was typed.
        known: what could have been typed.
        heading: what `known` are.
        most: how many of them are named; None = all.
    """
    return did_you_mean(name, known) or f"; {heading}: {', '.join(islice(known, most)) or 'nothing'}"


def few(values: Sequence[str], most: int) -> str:
    """Return the first `most` of `values` in words, and how many more there are."""
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def plain(text: str, limit: int = 200) -> str:
    """Return `text` on one line, cut at `limit`, without control characters and turns of the reading direction."""
    clean = " ".join(_printable(text[: 4 * limit]).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def plain_lines(text: str, limit: int = 8000) -> str:
    """Return the last `limit` characters of `text`, its lines cut and cleaned as by `plain`, indentation kept."""
    return "\n".join(_printable(line[:500]).rstrip() for line in text.splitlines())[-limit:].strip("\n")


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
