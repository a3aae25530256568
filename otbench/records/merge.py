"""Puts records of several folders into one: what several machines did of one campaign."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from otbench.errors import UsageError
from otbench.files import read_regular, write_whole, writing
from otbench.names import few
from otbench.records.record import Record
from otbench.records.store import MAX_RECORD, Store
from otbench.records.verified import keep_verified, read_verified

MAX_BESIDE = 2**31
"""What lies beside a record has at most this many bytes."""


@dataclass
class Merged:
    """What became of the records.

    Attributes:
        added: records that were not there.
        same: records that were there, with the same numbers.
        conflicts: what was left alone because something else is there, one line each.
        passed_over: files that are no records, one line each.
    """

    added: int = 0
    same: int = 0
    conflicts: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def merge(sources: Sequence[Store], into: Store) -> Merged:
    """Copy the records of `sources`, with what lies beside them, to where they are not yet; overwrite nothing.

    Two records of one run are the same if they ended the same way with the same numbers: clocks and machine may differ.
    What `otbench verify` found comes along. Folders inside are not entered.

    Raises:
        UsageError: a folder holds no record; nothing was written.
        StoreError: a folder cannot be read or written; what was copied until then is whole.
    """
    merged = Merged()
    found = [source.files() for source in sources]
    for source, files in zip(sources, found, strict=True):
        if not files:
            why = f": {few(source.passed_over, 3)}" if source.passed_over else ""
            raise UsageError(f"no records in {source.folder}{why}")
    into.prepare("--into")
    for source, files in zip(sources, found, strict=True):
        for path, record in files:
            if path.stem != record.id:
                merged.passed_over.append(f"{path}: passed over (it is the record of {record.id})")
                continue
            _merge_one(path, record, into, merged)
        _merge_verified(source, into, merged)
        merged.passed_over += source.passed_over
    return merged


def _merge_one(path: Path, record: Record, into: Store, merged: Merged) -> None:
    target = into.path(record.id)
    if target.exists():
        there = into.read(record.id)
        difference = "a file that is no record" if there is None else first_difference(there, record)
        if difference:
            merged.conflicts.append(f"{path}: {target} is there and has {difference}")
        else:
            merged.same += 1
        return
    for beside in (into.pictures(record.id), into.map_path(record.id)):
        if (file := path.with_name(beside.name)).is_file():
            _copy(file, beside, MAX_BESIDE)
    _copy(path, target, MAX_RECORD)  # last, so that a record never lacks what it names
    merged.added += 1


def _copy(path: Path, target: Path, most: int) -> None:
    with writing(target):
        write_whole(target, read_regular(path, most))


def _merge_verified(source: Store, into: Store, merged: Merged) -> None:
    have = {(v.id, v.code): v for v in read_verified([into.folder])}
    for verification in read_verified([source.folder]):
        there = have.get((verification.id, verification.code))
        if there is None:
            keep_verified(into.folder, verification)
        elif there.outcome != verification.outcome:
            merged.conflicts.append(
                f"{source.folder}: verified {verification.id} as {verification.outcome}, and {into.folder} as"
                f" {there.outcome}"
            )


def first_difference(one: Record, other: Record) -> str:
    """Return how `one` differs from `other` in how it ended or in a number; "" if it does not."""
    if one.status != other.status:
        return f"status {one.status}, not {other.status}"
    if one.spec != other.spec.model_copy(update={"hard_limit": one.spec.hard_limit}):
        return "another specification"
    for name in sorted(one.metrics.keys() | other.metrics.keys()):
        if repr(one.metrics.get(name)) != repr(other.metrics.get(name)):  # nan is not equal to itself
            return f"{name} {one.metrics.get(name)!r}, not {other.metrics.get(name)!r}"
    points = {point.step: point for point in other.curve}
    for point in one.curve:  # committed curves are thinned: what one of the two lacks is no difference
        there = points.get(point.step, point)
        if point.digest != there.digest or json.dumps(point.metrics, sort_keys=True) != json.dumps(
            there.metrics, sort_keys=True
        ):
            return f"another curve at step {point.step}"
    return ""
