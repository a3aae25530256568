"""What `otbench tune` keeps of one solver, in one file: the protocol, all trials, and the preset that they propose."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from otbench.config import Value
from otbench.errors import StoreError
from otbench.files import read_regular, shown, unreadable, write_whole
from otbench.records.record import Status

SCHEMA = 1
"""Version of the file's form; raise it when a field changes its meaning."""
MAX_STUDY = 2**24
"""A file has at most this many bytes."""
_THEN = "finished trials are kept; free space or permissions, or choose another folder with --out"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="strings")


class Pair(_Model):
    """An instance that solvers are tuned on, and the seed of the runs there.

    Attributes:
        task: registered name.
        config: its parameters that differ from the defaults.
        seed: of the run: pool and solver's randomness.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    config: dict[str, Value]
    seed: int

    @property
    def name(self) -> str:
        """The instance in a few words."""
        if "dim" in self.config:
            return f"{self.config.get('family', self.task)} d={self.config['dim']}"
        return f"{self.task} {self.config.get('pair', '')}".rstrip()


class Protocol(_Model):
    """What all trials of a study have in common; studies with different protocols are never compared.

    Attributes:
        preset: where parameters come from that are not searched.
        cpu_seconds: training of one run, in CPU seconds.
        threads: CPU threads of a run.
        pairs: what each trial runs on.
        score: what is minimised, in words.
        sampler: how trials are chosen, in words.
    """

    preset: str
    cpu_seconds: float
    threads: int
    pairs: list[Pair]
    score: str
    sampler: str


class PairRun(_Model):
    """One run of a trial.

    Attributes:
        pair: its name.
        status: how it ended.
        reason: why, where it did not end well.
        score: what it adds to the score of the trial, in %.
        metrics: those that the score is made of, in %.
        steps: of training.
        cpu_s: CPU seconds in training.
        train_s: the same seconds on the wall's clock.
    """

    pair: str
    status: Status
    reason: str = ""
    score: float
    metrics: dict[str, float] = {}
    steps: int = 0
    cpu_s: float | None = None
    train_s: float | None = None


class Trial(_Model):
    """One choice of values, and how it did on all pairs.

    Attributes:
        number: from 0, which is the preset as it stands.
        values: of the searched parameters; none = left to the solver.
        score: geometric mean over the pairs, in %; lower is better.
        runs: one for each pair.
    """

    number: int
    values: dict[str, Value]
    score: float
    runs: list[PairRun]


class Proposal(_Model):
    """What a study proposes for the preset.

    Attributes:
        trial: the best one; 0 = leave the values as they are.
        steps: as many as fit `seconds` of one core on the slowest pair; None where no trial ended well.
        seconds: of one core.
        preset: the preset to write, `steps` included.
    """

    trial: int
    steps: int | None
    seconds: float
    preset: dict[str, Value]


class Study(_Model):
    """All that is kept of tuning one solver.

    Attributes:
        solver: registered name.
        protocol: what all trials have in common.
        code: hash of the code that made the numbers.
        space: values that were tried, by parameter.
        environment: commit, versions and machine of the first trial.
        proposal: what the trials so far propose.
        trials: in the order in which they were run.
    """

    schema_version: int = SCHEMA
    solver: str
    protocol: Protocol
    code: str
    space: dict[str, list[Value]]
    environment: dict[str, Value] = {}
    proposal: Proposal | None = None
    trials: list[Trial] = []

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest score, the earliest of equals; None without trials."""
        return min(self.trials, key=lambda trial: trial.score, default=None)

    def continues(self, other: Study) -> bool:
        """Say whether trials of `other` can be added to this one: same code, protocol and space."""
        return (self.solver, self.protocol, self.code, self.space) == (
            other.solver,
            other.protocol,
            other.code,
            other.space,
        )


def study_path(folder: Path, solver: str) -> Path:
    """Return where the study of `solver` is, or would be."""
    return folder / f"{solver}.json"


def read_study(path: Path) -> Study | None:
    """Return the study in `path`; None if there is no file.

    Raises:
        StoreError: it cannot be read, or `otbench tune` did not write it.
    """
    if not path.exists():
        return None
    try:
        return Study.model_validate_json(read_regular(path, MAX_STUDY))
    except OSError as error:
        raise StoreError(str(unreadable(path, error))) from None
    except ValidationError:
        raise StoreError(f"{shown(path)}: not written by `otbench tune`, or torn; move it away") from None


def write_study(path: Path, study: Study) -> None:
    """Write `study` to `path` as a whole.

    Raises:
        StoreError: it cannot be written; what is there is untouched.
    """
    write_whole(path, (study.model_dump_json(indent=1) + "\n").encode(), _THEN)


def set_aside(path: Path, study: Study) -> Path:
    """Rename the file of `study`, so that another can take its place; return where it is now.

    Raises:
        StoreError: it cannot be renamed.
    """
    kept = path.with_name(f"{path.stem}.{study.code[:8]}-{study.protocol.cpu_seconds:g}s.json")
    number = 1
    while kept.exists():
        number += 1
        kept = kept.with_name(f"{path.stem}.{study.code[:8]}-{study.protocol.cpu_seconds:g}s-{number}.json")
    try:
        path.rename(kept)
    except OSError as error:
        raise StoreError(f"{shown(path)}: cannot be renamed ({error.strerror}); move it away") from None
    return kept
