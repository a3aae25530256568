"""From a reference in words to an entry of BibTeX: `references.bib` has the works that come with the program.

Words of a plugin or of a record that name no such work become an entry of their own, with the words as its note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from otbench.names import plain

_ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_PLACE = re.compile(
    r"\b(?:Table|sec\.|Figure) [\w.]+|\bposter\b|\bcamera-ready\b|\breleased notebook\b|\bauthors' reply to reviewers\b"
)


@dataclass(frozen=True)
class Work:
    r"""One entry.

    Attributes:
        key: what `\cite` takes.
        text: the entry, BibTeX.
        words: what names it in a reference, beside its arXiv number.
    """

    key: str
    text: str
    words: tuple[str, ...] = ()


@cache
def works() -> Mapping[str, Work]:
    """Return the works that are known here, by arXiv number, or by key where they have none."""
    text = resources.files("otbench.report").joinpath("references.bib").read_text(encoding="utf-8")
    found = {}
    for part in re.split(r"\n(?=@)", text)[1:]:
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", part, re.MULTILINE))
        key = part.partition("{")[2].partition(",")[0]
        words = tuple(fields.get("cited", "").split("|")) if "cited" in fields else ()
        kept = "".join(line for line in part.strip().splitlines(keepends=True) if not line.startswith("  cited = "))
        eprint = f"  archivePrefix = {{arXiv}},\n  note = {{arXiv:{fields.get('eprint')}}},\n}}"
        shown = kept.rstrip().removesuffix("}") + eprint if "eprint" in fields else kept.rstrip()
        found[fields.get("eprint", key)] = Work(key, shown, words)
    return found


def named(reference: str) -> list[tuple[Work | None, str]]:
    """Return the works that a reference names, each with the place in it; None where a part names none.

    Args:
        reference: works in words, separated by semicolons.
    """
    found: list[tuple[Work | None, str]] = []
    for part in (part.strip() for part in reference.split(";")):
        place = ", ".join(_PLACE.findall(part))
        numbers = _ARXIV.findall(part)
        work = next((works()[number] for number in numbers if number in works()), None)
        if work is None:
            work = next((w for w in works().values() for words in w.words if words in part), None)
        if part:
            found.append((work, place))
    return found


def cited(reference: str) -> list[tuple[Work, str]]:
    """Return the works that a reference names, each with the place in it.

    One that is not known here becomes an entry, if there is a year in its words; other words name no work.
    """
    parts = [part.strip() for part in reference.split(";") if part.strip()]
    found = zip(parts, named(reference), strict=True)
    return [(work or _unknown(part), place) for part, (work, place) in found if work or _YEAR.search(part)]


def bibliography(found: Iterable[Work], command: str) -> str:
    """Return a file of BibTeX with the works in `found`, each once, by key."""
    entries = {work.key: work.text for work in found}
    return (
        "\n\n".join([f"% Made by otbench; made again by: {command}", *(entries[key] for key in sorted(entries))]) + "\n"
    )


def _unknown(words: str) -> Work:
    text = plain(words, 300)
    safe = re.sub(r"[^A-Za-z0-9 .,:;()/+=?!-]", " ", text)
    name = "-".join(re.findall(r"[a-z0-9]+", safe.lower())[:3]) or "work"
    key = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return Work(key, f"@misc{{{key},\n  note = {{{safe}}},\n}}")
