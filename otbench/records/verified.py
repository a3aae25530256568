"""What `otbench verify` found, in one file beside the records that it ran again."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from otbench.config import Value
from otbench.errors import StoreError
from otbench.files import write_whole

VERIFIED = "verified.json"


class Outcome(StrEnum):
    """What running a record again showed."""

    EQUAL = "bit-equal"
    WITHIN = "within the spread"
    DIFFERENT = "different"
    UNKNOWN = "cannot be verified"


class Verification(BaseModel):
    """One record, run again.

    Attributes:
        id: of the record.
        solver: registered name.
        task: registered name.
        outcome: what it showed.
        difference: first point of the curve that differs; empty where none does.
        reason: the numbers behind the outcome, or why there is none.
        until_step: step up to which it was run; None = to the end.
        recorded: hash of the code that made the record.
        code: hash of the code that it ran under.
        environment: commit, versions and device that it ran under.
        created: UTC, ISO 8601.
    """

    model_config = ConfigDict(extra="ignore")

    id: str
    solver: str
    task: str
    outcome: Outcome
    difference: str = ""
    reason: str = ""
    until_step: int | None = None
    recorded: str
    code: str
    environment: dict[str, Value] = {}
    created: str


class _File(BaseModel):
    verifications: list[Verification] = []


def read_verified(folders: Sequence[Path]) -> list[Verification]:
    """Return what is kept in `folders`; a folder without the file has nothing.

    Raises:
        StoreError: a file cannot be used.
    """
    found = []
    for path in (folder / VERIFIED for folder in folders):
        try:
            found += _File.model_validate_json(path.read_bytes()).verifications if path.is_file() else []
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "not written by `otbench verify`"
            raise StoreError(f"cannot read '{path}': {why}; move it away") from error
    return found


def keep_verified(folder: Path, verification: Verification) -> None:
    """Add `verification` to the file in `folder`, in place of an older one of the same record and code.

    Raises:
        StoreError: it cannot be written.
    """
    key = (verification.id, verification.code)
    others = [v for v in read_verified([folder]) if (v.id, v.code) != key]
    file = _File(verifications=sorted([*others, verification], key=lambda v: (v.id, v.created)))
    write_whole(folder / VERIFIED, (file.model_dump_json(indent=1) + "\n").encode())
