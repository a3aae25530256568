"""The reference set has a version and a change log, in one file that people read: `CHANGES.md`."""

from __future__ import annotations

import re

CHANGES = "CHANGES.md"
NEXT = "## Next"
"""Head of what the next version will have."""


def version(text: str) -> int:
    """Return the version that the change log `text` tells of last; 0 where there is none yet."""
    found = re.search(r"^## (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def with_line(text: str, line: str) -> str:
    """Return the change log `text` with `line` among what the next version will have; the same line only once."""
    item = f"* {line}"
    if item in text.splitlines():
        return text
    if not re.search(f"^{NEXT}$", text, re.MULTILINE):
        head, mark, rest = text.partition("\n## ")
        text = f"{head.rstrip()}\n\n{NEXT}\n" + (f"\n{mark.lstrip()}{rest}" if mark else "")
    head, _, rest = text.partition(f"{NEXT}\n")
    body, mark, older = rest.partition("\n## ")
    items = "\n".join([*body.strip().splitlines(), item])
    return f"{head}{NEXT}\n\n{items}\n{mark}{older}"
