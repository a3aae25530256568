"""Renews a baseline: the records that `compare` is given as BASE, kept in the repository."""

from __future__ import annotations

from dataclasses import dataclass

from otbench.errors import StoreError, UsageError
from otbench.files import write_whole
from otbench.names import few
from otbench.records.record import Status
from otbench.records.series import newest, series_of
from otbench.records.store import Store
from otbench.records.words import counted


@dataclass(frozen=True)
class Accepted:
    """What became of a baseline: numbers of files."""

    written: int
    replaced: int
    pruned: int
    kept: int


def accept(new: Store, into: Store, *, prune: bool = False) -> Accepted:
    """Put the records of `new` into `into`, each in the place of the same series and seed.

    Accuracy curves and pictures are left out, and so are runs that a solver declined: nobody compares them, and a
    baseline is committed. Files keep their names, never those that a record claims for itself. New records are written
    before old ones go, so that an interruption loses nothing. Files that are no records stay.

    Args:
        new: where the records are.
        into: the baseline; created if it is not there.
        prune: remove records of runs that `new` does not have.

    Raises:
        UsageError: `new` is the baseline itself, is empty, or holds a run that failed, none that ended, or a file that
            is no record: its run would count as one that `new` does not have.
        StoreError: a folder cannot be read or written.
    """
    if new.folder.resolve() == into.folder.resolve():
        raise UsageError(f"{new.folder} is the baseline itself")
    found = new.files()
    if new.passed_over:
        raise UsageError(
            f"{new.folder}: {counted(len(new.passed_over), 'file')} cannot be used, so nothing was accepted; repair or"
            f" move away: {few(new.passed_over, 3)}"
        )
    if not found:
        raise UsageError(f"no records in {new.folder}")
    failed = [record for _, record in found if record.status not in (Status.OK, Status.SKIPPED)]
    if failed:
        first = failed[0]
        what = f"{first.label or first.spec.solver}, seed {first.spec.seed}: {first.status}"
        raise UsageError(
            f"{new.folder}: {len(failed)} of {counted(len(found), 'run')} failed ({what}); a baseline must be sound"
        )
    paths = {id(record): path for path, record in found}
    series = newest((record for _, record in found if record.status is Status.OK), series_of)
    kept = {paths[id(record)].name: record for runs in series.values() for record in runs.values()}
    if not kept:
        raise UsageError(
            f"{new.folder}: nothing to accept: {counted(len(found), 'run')}, declined by the solver each time"
        )
    old = into.files() if into.folder.is_dir() else []
    into.prepare("--into")
    for name, record in kept.items():
        content = record.model_copy(update={"curve": [], "pictures": []}).model_dump_json(indent=1) + "\n"
        write_whole(into.folder / name, content.encode())
    replaced = [path for path, record in old if record.spec.seed in series.get(series_of(record), ())]
    pruned = [path for path, _ in old if prune and path not in replaced]
    for path in (*replaced, *pruned):
        gone = [path.with_suffix(".npz")] + ([path] if path.name not in kept else [])
        for file in gone:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"cannot remove '{file}': {error.strerror or error}") from error
    return Accepted(len(kept), len(replaced), len(pruned), len(old) - len(replaced) - len(pruned))
