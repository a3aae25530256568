"""`otbench campaign`: what a file asks for, in order of worth, in as many sittings as it takes."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from otbench.cli.common import EXIT_FAILED_ROWS, EXIT_INTERRUPTED, AddCommand, registry_of, warn
from otbench.cli.console import console, plain_table, say
from otbench.cli.request import config_values, read_toml, request_of
from otbench.cli.worktree import commit_of, worktree
from otbench.errors import DataError, UsageError
from otbench.files import read_regular, results_folder, shown, typed_path, write_whole
from otbench.names import plain

if TYPE_CHECKING:
    from otbench.harness.campaign import Campaign
    from otbench.harness.messages import Planned
    from otbench.records.record import Record
    from otbench.records.store import Store

COMMIT = "COMMIT"
"""File in the folder of records that says which commit makes them."""
TIMING = "timing"
"""Folder beside the records for those of the timing pass, one folder a repetition."""
IDLE = 0.5
"""Load of a machine on which times are measured, at most."""
_WHOLE = ("out", "jobs", "data-dir")
"""Options that hold for the whole of a campaign."""
_DEFAULTS: dict[str, str | int | float] = {"threads": 1, "device": "cpu"}
"""Not those of the machine, which another one would answer otherwise: they name runs."""


@dataclass(frozen=True)
class _File:
    """What a campaign's file says: options of each part by name, and of the whole."""

    commit: str
    parts: list[dict[str, str | int | float]]
    whole: dict[str, str | int | float]


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("campaign", campaign, "do the runs of a file in order of worth, as far as a budget goes, and go on")
    parser.add_argument("file", metavar="FILE", help="TOML file with the runs, see docs/campaigns.md")
    parser.add_argument("--budget", metavar="TIME", help="stop after 170m, 2h or 1h30m (default: when all is done)")
    parser.add_argument("--jobs", metavar="N", type=int, help="runs at a time (default: the file's, or 1)")
    parser.add_argument("--timing", action="store_true", help="measure times instead: short runs, nothing beside them")
    parser.add_argument("--dry-run", action="store_true", help="say what is done, what is left and what it will cost")
    parser.add_argument("--commit", metavar="REV", help="the commit to run (default: the file's, the records', HEAD)")
    parser.add_argument("--here", action="store_true", help="run the code as it is here, not that of a commit")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")
    parser.add_argument("--out", metavar="DIR", help="where records go (default: results/local/campaigns/FILE's name)")


def campaign(options: argparse.Namespace) -> int:
    """Hand over to the campaign's commit, or do what is left of it."""
    begin = perf_counter()
    path = typed_path(options.file, "FILE")
    seconds = None if options.budget is None else _seconds(options.budget)
    file = _read(path)
    typed = {"out": options.out, "jobs": options.jobs, "data-dir": options.data_dir}
    whole = file.whole | {name: value for name, value in typed.items() if value is not None}
    out = typed_path(str(whole.get("out", results_folder() / "campaigns" / path.stem)), "--out")
    if not options.here:
        _hand_over(options, file, path, out)
    deadline = None if seconds is None else begin + seconds
    return _Sitting(options, file, whole, out, deadline).run()


def _read(path: Path) -> _File:
    content = read_toml(path, "FILE")
    commit = content.pop("commit", "")
    tables = content.pop("runs", [{}])
    if not isinstance(commit, str):
        raise UsageError(f"{path}: 'commit' must be text, not {commit!r}")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: 'runs' must be tables, each headed [[runs]]")
    shared = _DEFAULTS | config_values(content, str(path))
    whole = {name: shared.pop(name) for name in _WHOLE if name in shared}
    parts = []
    for number, table in enumerate(tables, 1):
        part = shared | config_values(table, f"{path}, part {number}", without=_WHOLE)
        for name in ("solvers", "task"):
            if name not in part:
                raise UsageError(f"{path}, part {number}: '{name}' is missing")
        parts.append(part)
    return _File(commit, parts, whole)


def _hand_over(options: argparse.Namespace, file: _File, path: Path, out: Path) -> None:
    """Become the same program at the campaign's commit: signals, exit code and terminal are its own from here."""
    pinned = _pinned(out)
    asked = commit_of(options.commit or file.commit or pinned or "HEAD")
    if pinned and pinned != asked:
        raise UsageError(
            f"{shown(out)} has records of commit {pinned[:8]}, and {asked[:8]} is asked for; choose another --out"
        )
    folder = worktree(asked)
    if not (folder / "otbench" / "cli" / "campaign.py").is_file():
        raise UsageError(f"commit {asked[:8]} is older than this command; name a later one")
    if not pinned and not options.dry_run:
        write_whole(out / COMMIT, f"{asked}\n".encode())
    words = [str(folder / "bench.py"), "campaign", str(path.resolve()), "--here", "--out", str(out.resolve())]
    for name in ("budget", "jobs", "data_dir"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in ("timing", "dry_run") if getattr(options, name)]
    words += [word for plugin in options.plugin for word in ("--plugin", plugin)]
    say(f"commit {asked[:8]}, in {folder}")
    sys.stdout.flush()
    # with the folder of the program first on its path, whatever else is installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    os.execve(sys.executable, [sys.executable, *words], environment)


def _pinned(out: Path) -> str:
    path = out / COMMIT
    try:
        text = read_regular(path, 1000).decode().strip() if path.exists() else ""
    except (OSError, UnicodeDecodeError):
        text = "?"
    if text and not re.fullmatch("[0-9a-f]{40,64}", text):
        raise UsageError(f"{shown(path)}: no name of a commit; move it away")
    return text


def _seconds(text: str) -> float:
    """Return the seconds that `1h30m` and the like say."""
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text.replace(" ", ""))
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0
    if not seconds:
        raise UsageError(f"--budget {plain(text, 40)}: write hours, minutes and seconds like 170m, 2h or 1h30m")
    return float(seconds)


@dataclass
class _Sitting:
    """One call of the command, with the code that makes the numbers."""

    options: argparse.Namespace
    file: _File
    whole: dict[str, str | int | float]
    out: Path
    deadline: float | None
    jobs: int = 1
    data_dir: Path | None = None
    left_out: list[str] = field(default_factory=list)

    def run(self) -> int:
        from otbench.harness.campaign import campaign_of
        from otbench.harness.plan import make_plan
        from otbench.records.store import Store

        registry = registry_of(self.options)
        registry.load_plugins()
        shared = {name: value for name, value in self.whole.items() if name != "out"}
        requests = [request_of({**part, **shared}) for part in self.file.parts]
        plans = []
        for request in requests:
            title = f"{request.solvers} on {request.task}"
            try:
                plans.append((title, make_plan(request, registry)))
            except DataError as error:  # the other parts can do without
                self.left_out.append(f"left out, {title}: {error}")
        warn(self.left_out)
        if not plans:
            raise UsageError("nothing is left of the campaign without the data that its parts need")
        warn(list(dict.fromkeys(note for _, plan in plans for note in plan.notes)))
        made, store = campaign_of(plans), Store(self.out)
        self.jobs, self.data_dir = requests[0].jobs, requests[0].data_dir
        if self.options.timing:
            return self._time(made, store)
        self._say_progress(made, store)
        if self.options.dry_run:
            return 0
        store.prepare()
        interrupted = self._do(made, store)
        warn(store.passed_over)
        return self._end(made, store, interrupted=interrupted)

    def _do(self, made: Campaign, store: Store) -> bool:
        """Do what is left; what fails is tried again after all others. Return whether that was cut short."""
        from otbench.harness.campaign import TRIES, is_left, records_of

        for _ in range(TRIES):
            have = records_of(made.runs, store)
            left = [run for run in made.runs if is_left(run, have.get(run.id))]
            if left and self._execute(made, left, store, repeat=set(have), jobs=self.jobs):
                return True
        return False

    def _execute(
        self,
        made: Campaign,
        runs: Sequence[Planned],
        store: Store,
        *,
        repeat: set[str],
        jobs: int,
        until_step: int | None = None,
    ) -> bool:
        from otbench.cli.display import make_display
        from otbench.harness.execute import execute

        with make_display(console(), runs) as display:
            outcome = execute(
                made.plan(runs),
                store,
                jobs=jobs,
                data_dir=self.data_dir,
                listen=display.show,
                until_step=until_step,
                repeat=repeat,
                in_order=True,
                deadline=self.deadline,
            )
        return outcome.interrupted

    def _say_progress(self, made: Campaign, store: Store) -> None:
        """Print what is done, what is left and what it will cost."""
        from rich.text import Text

        from otbench.cli.estimate import estimates, recorded
        from otbench.harness.campaign import is_left, records_of

        have = records_of(made.runs, store)
        cost = estimates(made.runs, recorded([store.folder, results_folder().parent / "reference"]))
        table = plain_table("part", "seeds", "runs", "done", "failed", "left", "core-hours")
        total, unknown, counts = 0.0, 0, Counter[str]()
        for part in made.parts:
            seeds = ",".join(map(str, sorted({run.spec.seed for run in part.runs})))
            left = [run for run in part.runs if is_left(run, have.get(run.id))]
            settled = {run.id for run in part.runs} - {run.id for run in left}
            failed = sum(_failed(have[run]) for run in settled)
            hours = sum(cost[run.id][0] for run in left if run.id in cost) / 3600
            blank = sum(run.id not in cost for run in left)
            said = f"{hours:.2f}" + (f" + {blank} of unknown cost" if blank else "") if left else ""
            numbers = (len(part.runs), len(settled) - failed, failed, len(left))
            table.add_row(*map(Text, (part.title, seeds, *map(str, numbers), said)))
            counts.update(done=len(settled) - failed, failed=failed, left=len(left))
            total, unknown = total + hours, unknown + blank
        console().print(table)
        more = f", and {unknown} runs whose cost is not known yet" if unknown else ""
        say(
            f"{len(made.runs)} runs: {counts['done']} done, {counts['failed']} failed, {counts['left']} left;"
            f" about {total:.2f} core-hours to go{more}; records in {store.folder}"
        )

    def _end(self, made: Campaign, store: Store, *, interrupted: bool) -> int:
        """Say how the sitting ended; return the exit code."""
        from otbench.harness.campaign import records_of

        self._say_progress(made, store)
        if interrupted:
            return self._cut_short()
        have = records_of(made.runs, store)
        failed = [have[run.id] for run in made.runs if run.id in have and _failed(have[run.id])]
        for record in failed:
            say(f"{record.id}: {record.status}: {record.reason}")
        return EXIT_FAILED_ROWS if failed or self.left_out else 0

    def _cut_short(self) -> int:
        if self.deadline is not None and perf_counter() > self.deadline:
            say("the budget is spent; the same command goes on from here")
            return 0
        warn(["interrupted: the same command goes on from here"])
        return EXIT_INTERRUPTED

    def _time(self, made: Campaign, store: Store) -> int:
        """Measure times: a few short runs of each solver on each instance, one at a time."""
        from otbench.harness.campaign import LENGTHS, REPETITIONS, TIMED_SECONDS, is_left, records_of, timed_runs
        from otbench.records.store import Store

        by_length = timed_runs(made.runs, records_of(made.runs, store))
        runs = [run for length in by_length.values() for run in length]
        stores = [Store(store.folder / TIMING / str(number)) for number in range(1, REPETITIONS + 1)]
        if not runs:
            raise UsageError(f"{shown(store.folder)}: no run of the campaign has ended well, so nothing can be timed")
        steps = f"{min(by_length)} to {max(by_length)}" if len(by_length) > 1 else str(*by_length)
        say(f"{len(runs)} runs of {steps} steps, {REPETITIONS} times each, about {TIMED_SECONDS:g} s of training a run")
        if self.options.dry_run:
            return 0
        if (load := os.getloadavg()[0]) > IDLE:
            warn([f"the machine is not idle (load {load:.1f}): times of this sitting measure the other work, too"])
        interrupted = False
        for one in stores:  # a repetition after the other: what drifts touches all solvers
            one.prepare()
            for length in (length for length in LENGTHS if length in by_length and not interrupted):
                have = records_of(by_length[length], one)
                left = [r for r in by_length[length] if is_left(r, have.get(r.id)) or have[r.id].loaded]
                if left:
                    interrupted = self._execute(made, left, one, repeat=set(have), jobs=1, until_step=length)
        self._print_times(runs, [records_of(runs, one) for one in stores])
        say(f"records in {store.folder / TIMING}")
        return self._cut_short() if interrupted else 0

    def _print_times(self, runs: Sequence[Planned], repetitions: Sequence[dict[str, Record]]) -> None:
        from rich.text import Text

        table = plain_table("solver", "task", "step (ms)", "least", "most", "repetitions", "machine under load")
        for run in runs:
            found = [have[run.id] for have in repetitions if run.id in have and have[run.id].times.step_ms]
            times = [record.times.step_ms or 0.0 for record in found if not record.loaded]
            numbers = [f"{value:.4g}" for value in (statistics.median(times), min(times), max(times))] if times else []
            config = ",".join(f"{name}={value}" for name, value in run.spec.task_config.items() if value is not None)
            cells = [run.label, f"{run.spec.task}[{config}]", *(numbers or ["-"] * 3)]
            table.add_row(*map(Text, [*cells, str(len(times)), str(len(found) - len(times))]))
        console().print(table)


def _failed(record: Record) -> bool:
    from otbench.records.record import Status

    return record.status not in (Status.OK, Status.SKIPPED)
