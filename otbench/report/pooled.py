"""Generated pairs of one kind as one section: a number of a pooled row is a mean over pairs.

Tasks that generate their problems number them (`pair=0`, `pair=1`, ...). What a reader wants to know is how a solver
does on such a problem, not on the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from otbench.names import plain
from otbench.report.rows import Row, Section, number

PAIR = "pair"
"""The task parameter that numbers pairs; a pair with a name, such as a released one, is never pooled."""
MANY = 4
"""From so many pairs on, files have one table and one figure of a pool."""


@dataclass
class Pool(Section):
    """Sections that differ in the number of the pair alone, as one.

    Attributes:
        members: the sections, by pair.
    """

    members: list[Section] = field(default_factory=list)

    @property
    def pairs(self) -> str:
        """The numbers of the pairs in words."""
        return _words([int(str(section.config[PAIR])) for section in self.members])


def pooled(sections: Iterable[Section]) -> list[Section]:
    """Return `sections`, those that differ in the number of the pair alone as one `Pool` in the place of the first."""
    groups: dict[tuple[object, ...], list[Section]] = {}
    for index, section in enumerate(sections):
        groups.setdefault(_kind_of(section) if _numbered(section) else (index,), []).append(section)
    return [_pool(members) if len(members) > 1 else members[0] for members in groups.values()]


def for_files(sections: Iterable[Section]) -> list[Section]:
    """Return `sections`, some of them pools, with the members of pools of few pairs in their place."""
    found: list[Section] = []
    for section in sections:
        if isinstance(section, Pool) and len(section.members) < MANY:
            found += section.members
        else:
            found.append(section)
    return found


def _kind_of(section: Section) -> tuple[object, ...]:
    """Return what `section` has in common with those that differ from it in the number of the pair alone."""
    rest = sorted((name, repr(value)) for name, value in section.config.items() if name != PAIR)
    return section.task, section.preset, section.device, *rest


def _numbered(section: Section) -> bool:
    value = section.config.get(PAIR)
    return not isinstance(value, bool) and re.fullmatch(r"\d{1,9}", str(value), re.ASCII) is not None


def _pool(sections: Sequence[Section]) -> Pool:
    members = sorted(sections, key=lambda section: int(str(section.config[PAIR])))
    first = members[0]
    names = [str(section.config[PAIR]) for section in members]
    words = _words(list(map(int, names)))
    keys = dict.fromkeys(row.key for section in members for row in section.rows)
    by_pair = [{row.key: row for row in section.rows} for section in members]
    metrics = {metric.name: metric for section in members for metric in section.metrics}
    return Pool(
        task=first.task,
        instance=_instance(first, words),
        preset=first.preset,
        device=first.device,
        metrics=list(metrics.values()),
        rows=[
            _row([(name, rows[key]) for name, rows in zip(names, by_pair, strict=True) if key in rows], names)
            for key in keys
        ],
        config={**first.config, PAIR: words},
        members=members,
    )


def _instance(first: Section, words: str) -> str:
    """Return the pairs in words, from those of the first."""
    told, found = re.subn(rf"\bpair {first.config[PAIR]}\b", f"pairs {words}", first.instance)
    return told if found else f"pairs {words}; the first is {first.instance}"


def _words(pairs: Sequence[int]) -> str:
    """Return numbers of pairs in words, without a comma: those part the words of an instance."""
    if list(pairs) == list(range(pairs[0], pairs[-1] + 1)) and len(pairs) > 2:
        return f"{pairs[0]} to {pairs[-1]}"
    return " and ".join(map(str, pairs))


def _row(parts: Sequence[tuple[str, Row]], pairs: Sequence[str]) -> Row:
    """Return one row of those of several pairs; a number is shown where all pairs that have the row have it."""
    first = parts[0][1]
    rows = [row for _, row in parts]
    shared = [key for key in first.numbers if all(key in row.numbers for row in rows)]
    failures = [plain(f"pair {name}, {failure}", 400) for name, row in parts for failure in row.failures]
    missing = [name for name in pairs if name not in {name for name, _ in parts}]
    if missing and first.kind == "solver":
        failures.append(f"pair {', '.join(missing)}: not run, so that this is a mean over other pairs than other rows'")
    return replace(
        first,
        numbers={key: number([row.numbers[key].mean for row in rows]) for key in shared},
        blocks={key: {k: v for row in rows for k, v in row.blocks.get(key, {}).items()} for key in shared},
        marks="".join(dict.fromkeys("".join(row.marks for row in rows))),
        failures=failures,
        stale=list(dict.fromkeys(words for row in rows for words in row.stale)),
        verified=list(dict.fromkeys(words for row in rows for words in row.verified)),
        records=[record for row in rows for record in row.records],
    )
