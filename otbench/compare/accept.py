"""Renews a baseline: the records that `compare` is given as BASE, kept in the repository."""

from __future__ import annotations

from dataclasses import dataclass

from otbench.compare.series import Cell, cell_of
from otbench.errors import StoreError, UsageError
from otbench.records.record import Record, Status
from otbench.records.store import Store, write_output


@dataclass(frozen=True)
class Accepted:
    """What became of a baseline: numbers of files."""

    written: int
    replaced: int
    pruned: int
    kept: int


def accept(new: Store, into: Store, *, prune: bool = False) -> Accepted:
    """Put the records of `new` into `into`, each in the place of the same cell and seed.

    Accuracy curves and pictures are left out: nobody compares them, and a baseline is committed. Files keep their
    names, never those that a record claims for itself. New records are written before old ones go, so that an
    interruption loses nothing. Files that are no records stay.

    Args:
        new: where the records are.
        into: the baseline; created if it is not there.
        prune: remove records of runs that `new` does not have.

    Raises:
        UsageError: `new` is the baseline itself, is empty, or holds a run that failed.
        StoreError: a folder cannot be read or written.
    """
    if new.folder.resolve() == into.folder.resolve():
        raise UsageError(f"{new.folder} is the baseline itself")
    found = new.files()
    if not found:
        raise UsageError(f"no records in {new.folder}")
    failed = [record for _, record in found if record.status not in (Status.OK, Status.SKIPPED)]
    if failed:
        first = failed[0]
        what = f"{first.label or first.spec.solver}, seed {first.spec.seed}: {first.status}"
        raise UsageError(f"{new.folder}: {len(failed)} of {len(found)} runs failed ({what}); a baseline must be sound")
    newest = {_run(record): (path, record) for path, record in sorted(found, key=lambda pair: pair[1].created)}
    old = into.files() if into.folder.is_dir() else []
    into.prepare()
    for path, record in newest.values():
        content = record.model_copy(update={"curve": [], "pictures": []}).model_dump_json(indent=1) + "\n"
        write_output(into.folder / path.name, content.encode())
    written = {path.name for path, _ in newest.values()}
    replaced = [path for path, record in old if _run(record) in newest]
    pruned = [path for path, record in old if prune and _run(record) not in newest]
    for path in (*replaced, *pruned):
        gone = [path.with_suffix(".npz")] + ([path] if path.name not in written else [])
        for file in gone:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"cannot remove '{file}': {error.strerror or error}") from error
    return Accepted(len(newest), len(replaced), len(pruned), len(old) - len(replaced) - len(pruned))


def _run(record: Record) -> tuple[Cell, int]:
    return cell_of(record), record.spec.seed
