"""`otbench campaign`: what a file asks for, in order of worth, in as many sittings as it takes."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from otbench.cli.common import AddCommand, out_folder, registry_of
from otbench.cli.console import say
from otbench.cli.executor import executor_of
from otbench.cli.request import config_values, read_toml, request_of
from otbench.cli.worktree import commit_of, worktree
from otbench.errors import UsageError
from otbench.files import read_regular, results_folder, shown, typed_path, write_whole
from otbench.names import plain

COMMIT = "COMMIT"
"""File in the folder of records that says which commit makes them."""
_WHOLE = ("out", "jobs", "data-dir", "executor", "slurm")
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
    parser.add_argument("--executor", metavar="NAME", help="local (default) or slurm, see docs/clusters.md")
    parser.add_argument("--slurm", metavar="LIST", help="options of sbatch: partition=gpu,gpus=1,time=2h")
    parser.add_argument(
        "--retry-cancelled", action="store_true", help="do runs that were cancelled in the queue of a cluster"
    )
    parser.add_argument("--timing", action="store_true", help="measure times instead: short runs, nothing beside them")
    parser.add_argument("--dry-run", action="store_true", help="say what is done, what is left and what it will cost")
    parser.add_argument("--commit", metavar="REV", help="the commit to run (default: the file's, the records', HEAD)")
    parser.add_argument("--here", action="store_true", help="run the code as it is here, not that of a commit")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")
    parser.add_argument("--out", metavar="DIR", help="where records go (default: results/local/campaigns/FILE's name)")


def campaign(options: argparse.Namespace) -> int:
    """Hand over to the campaign's commit, or do what is left of it."""
    from otbench.cli.sitting import Sitting

    begin = perf_counter()
    if options.here and options.commit is not None:
        raise UsageError("--here runs the code as it is here, --commit that of a commit; give one of the two")
    path = typed_path(options.file, "FILE")
    seconds = None if options.budget is None else _seconds(options.budget)
    file = _read(path)
    typed = {name: getattr(options, name.replace("-", "_")) for name in _WHOLE}
    whole = file.whole | {name: value for name, value in typed.items() if value is not None}
    out = out_folder(str(whole.get("out", results_folder() / "campaigns" / path.stem)), "--out")
    if not options.here:
        _hand_over(options, file, path, out)
    deadline = None if seconds is None else begin + seconds
    shared = {name: value for name, value in whole.items() if name != "out"}
    made = [executor_of(part | shared, dry_run=options.dry_run) for part in file.parts]
    requests = [request_of(values) for _, values in made]
    registry = registry_of(options)
    registry.load_plugins()
    executor, requests = made[0][0].with_cards(requests, out, dry_run=options.dry_run)
    sitting = Sitting(requests, out, deadline, executor, retry=options.retry_cancelled)
    return sitting.run(registry, timing=options.timing, dry_run=options.dry_run)


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
    for name in ("budget", "jobs", "data_dir", "executor", "slurm"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    flags = ("timing", "dry_run", "retry_cancelled")
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(options, name)]
    words += [word for plugin in options.plugin for word in ("--plugin", plugin)]
    say(f"commit {asked[:8]}, in {folder}")
    sys.stdout.flush()
    # with the folder of the program first on its path, whatever else is installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    os.execve(sys.executable, [sys.executable, *words], environment)


def _pinned(out: Path) -> str:
    """Return the commit that the records in `out` began with; "" where nothing was begun."""
    path = out / COMMIT
    if not any(out.glob("*.json")) and not (out / "checkpoints").exists():
        return ""
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
