"""Argument parsing and screens only; every command is a thin call into the library.

Nothing heavy is imported before a command needs it, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from otbench import __version__
from otbench.errors import OtbenchError, UsageError
from otbench.names import did_you_mean, hint, listed

if TYPE_CHECKING:
    from otbench.plan import Plan, Request
    from otbench.record import Record
    from otbench.registry import Registry
    from otbench.store import Store

EXIT_FAILED_ROWS = 1
EXIT_USAGE = 2
EXIT_NOTHING_COMPARED = 3
EXIT_INTERRUPTED = 130

_RUN_OPTIONS = (
    # name, metavar, help; every one can also stand in a --config file
    ("solvers", "LIST", "solvers by name, with parameters and grids: 'ncf[lr=1e-4|1e-3],fixedpoint'; or 'all'"),
    ("task", "TASK", "task by name, with parameters and grids: 'gaussian[dim=2|8]'"),
    ("dim", "LIST", "short for the task's parameter dim: 2,8,32"),
    ("seeds", "LIST", "run seeds: 0,1,2 or 0-2 (default: 0)"),
    (
        "preset",
        "NAME",
        "smoke (seconds), quick (default: about a minute a solver), full (our best), paper (the authors')",
    ),
    ("steps", "N", "training steps of every solver (default: the preset's)"),
    ("time-limit", "S", "training seconds of every solver, instead of the preset's steps"),
    ("hard-limit", "S", "wall-clock seconds after which a run is ended as `timeout`"),
    ("device", "NAME", "cpu, cuda, cuda:N or auto (default: a GPU if there is one)"),
    ("threads", "N", "CPU threads of each run (default: the cores, at most 4, shared by --jobs)"),
    ("jobs", "N", "runs at a time (default: 1; more makes times worthless, and records say so)"),
    ("data-dir", "DIR", "your own copies of data files (also: OTBENCH_DATA_DIR)"),
    ("out", "DIR", "where records go (default: results/local)"),
)
_NUMBERS: dict[str, type[int] | type[float]] = {
    "steps": int,
    "threads": int,
    "jobs": int,
    "time-limit": float,
    "hard-limit": float,
}
_MAKE_OPTIONS = (
    ("set", "LIST", "images: MNIST, FashionMNIST, digits (default: the first two, of a classifier the first)"),
    ("kind", "LIST", "of a VAE: conditional, unconditional (default: both)"),
    ("size", "NAME", "default (40 epochs), paper (the authors' 1000) or tiny"),
    ("device", "NAME", "cpu (default), cuda, cuda:N or auto"),
    ("threads", "N", "CPU threads (default: the cores, at most 4)"),
)


class _Parser(argparse.ArgumentParser):
    """One clear message for a mistake, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    0: all rows are ok or skipped. 1: a row failed, or `compare` found a regression. 2: wrong usage or input.
    3: `compare` could compare nothing. 130: interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except OtbenchError as error:
        sys.stderr.write(f"otbench: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("otbench: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `otbench table | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED_ROWS


def _dispatch(words: list[str]) -> int:
    parser, commands = parsers(_program())
    if not words:
        parser.print_help()
        return 0
    first = words[0]
    if first not in commands and first not in ("-h", "--help", "--version"):
        if not first.startswith("-"):
            raise UsageError(f"unknown command '{first}'{hint(first, commands, 'commands')}")
        words = ["run", *words]  # the default command
    options, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(unknown[0], words[0], commands[words[0]])
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _refuse(word: str, command: str, parser: argparse.ArgumentParser) -> NoReturn:
    """Say that `word` is nothing that `command` takes."""
    if not word.startswith("-"):
        raise UsageError(f"{command}: one argument too many: '{word}' (see {parser.prog} --help)")
    option = word.partition("=")[0]
    known = [text for action in parser._actions for text in action.option_strings]
    raise UsageError(f"{command}: unknown option '{option}'{did_you_mean(option, known)} (see {parser.prog} --help)")


def parsers(program: str) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of `program`, and those of its commands by name."""
    parser = _Parser(
        prog=program,
        description="Benchmark of neural optimal-transport solvers. Without a command: run.",
        epilog=f"example: {program} --solvers ncf,fixedpoint --task gaussian",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"otbench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        made.set_defaults(command=function)
        made.add_argument(
            "--plugin", metavar="FILE", action="append", default=[], help="a file that registers more names"
        )
        return made

    run = add("run", _run, "train solvers on a task and print the table (the default command)")
    for name, metavar, text in _RUN_OPTIONS:
        run.add_argument(f"--{name}", metavar=metavar, default=None, type=_NUMBERS.get(name, str), help=text)
    run.add_argument("--config", metavar="FILE", help="TOML file with any of these options; the command line wins")
    run.add_argument("--force", action="store_true", help="repeat runs that are already recorded")
    run.add_argument("--dry-run", action="store_true", help="print the planned runs and what they will cost")

    table = add("table", _table, "print recorded results again")
    _add_selection(table)

    listing = add("list", _list, "list solvers, baselines and tasks")
    listing.add_argument("kind", nargs="?", metavar="KIND", help="solvers, baselines or tasks (default: all)")

    show = add("show", _show, "say what a solver, baseline or task is, and its parameters")
    show.add_argument("name", metavar="NAME", help="its name, as `list` prints it")

    data = add("data", _data, "list, fetch, verify or make the data and networks that tasks need")
    data.add_argument(
        "action", metavar="ACTION", help="list, fetch (download, check, prepare), verify (checksums) or make (train)"
    )
    data.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="which data, as `data list` prints it (default: all); of make: vae or classifier",
    )
    for option, metavar, text in _MAKE_OPTIONS:
        data.add_argument(f"--{option}", metavar=metavar, help=f"make: {text}")
    data.add_argument("--force", action="store_true", help="make: make it again")
    data.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")

    check = add("check", _check, "test a solver against the contract, for its author")
    check.add_argument("name", metavar="NAME|FILE", help="a solver by name, or the file that registers it")
    check.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or cuda:N")

    compare = add("compare", _compare, "say what is better or worse in the records of NEW than in those of BASE")
    compare.add_argument("base", metavar="BASE", help="folder with the records to compare with")
    compare.add_argument("new", metavar="NEW", help="folder with the records to judge")
    compare.add_argument("--all", action="store_true", help="show what is the same, too")
    compare.add_argument("--metrics", metavar="LIST", help="metrics to judge (default: the primary ones of each task)")
    compare.add_argument(
        "--tolerance", metavar="F", type=float, help="relative change that never counts (default: 0.05)"
    )
    compare.add_argument(
        "--gate-time", metavar="K", type=float, help="fail on time, too: beyond K times its own noise (try 3)"
    )
    compare.add_argument("--require-all", action="store_true", help="fail (code 3) unless all of BASE was measured")
    compare.add_argument("--markdown", metavar="FILE", help="write it for a pull request")
    compare.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    compare.add_argument("--json", metavar="FILE", help="write NEW's numbers for github-action-benchmark")

    accept = add("accept", _accept, "make the records of NEW the ones that `compare` is given as BASE")
    accept.add_argument("new", metavar="NEW", help="folder with records, all of them ok or skipped")
    accept.add_argument("--into", metavar="DIR", help="the baseline (default: results/reference/ci)")
    accept.add_argument("--prune", action="store_true", help="remove runs of the baseline that NEW does not have")

    export = add("export", _export, "write records as one tidy table, one row per number")
    export.add_argument("folders", nargs="*", metavar="FOLDER", help="folders with records (default: results/local)")
    export.add_argument("--format", metavar="LIST", default="csv", help="csv (default), parquet, or both: csv,parquet")
    export.add_argument("--out", metavar="DIR", required=True, help="where metrics.csv, metrics.parquet go")

    report = add("report", _report, "write recorded results as tables, figures and a page")
    _add_selection(report)
    report.add_argument(
        "--format", metavar="LIST", help="latex,pdf,png,svg,markdown,csv,html, or some of these (default: all)"
    )
    report.add_argument("--out", metavar="DIR", help="where the report goes (default: reports)")
    return parser, commands.choices


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """Add what says which records are meant."""
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="folders with records (default: results/local)")
    for name, text in (("solvers", "only these solvers"), ("task", "only this task"), ("preset", "only this preset")):
        parser.add_argument(f"--{name}", metavar=name.upper(), help=text)


def _program() -> str:
    return "python bench.py" if Path(sys.argv[0]).name == "bench.py" else "otbench"


def _registry(options: argparse.Namespace) -> Registry:
    from otbench.registry import Registry

    return Registry([Path(path) for path in options.plugin])


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        sys.stderr.write(f"otbench: {line}\n")


# ------------------------------------------------------------------------------------------------------------- run


def _run(options: argparse.Namespace) -> int:
    from otbench.plan import make_plan
    from otbench.store import Store

    request, out = _request(options)
    store = Store(out)
    plan = make_plan(request, _registry(options))
    _warn(plan.notes)
    if options.dry_run:
        return _dry_run(plan, store)
    store.prepare()
    return _execute(plan, store, request, options)


def _execute(plan: Plan, store: Store, request: Request, options: argparse.Namespace) -> int:
    from otbench.display import make_display
    from otbench.record import Status
    from otbench.run import execute, settled
    from otbench.screen import console

    out = console()
    have = {} if options.force else settled(plan, store)
    waiting = [run for run in plan.runs if run.id not in have]
    known = f", {len(have)} already recorded (--force repeats them)" if have else ""
    out.print(
        f"{len(waiting)} run{'' if len(waiting) == 1 else 's'} to do{known}; records in {store.folder}", markup=False
    )
    with make_display(out, waiting) as display:
        outcome = execute(
            plan,
            store,
            jobs=request.jobs,
            force=options.force,
            data_dir=request.data_dir,
            plugins=[Path(path) for path in options.plugin],
            listen=display.show,
        )
    _warn(store.passed_over)
    _print_records(outcome.records, full_command=_full_command(plan, request, options))
    if outcome.interrupted:
        missing = len(plan.runs) - len(outcome.records)
        _warn([f"interrupted: {missing} of {len(plan.runs)} runs are not finished; the same command goes on from here"])
        return EXIT_INTERRUPTED
    good = all(record.status in (Status.OK, Status.SKIPPED) for record in outcome.records)
    return 0 if good else EXIT_FAILED_ROWS


def _request(options: argparse.Namespace) -> tuple[Request, Path]:
    """Return what is asked for: command line over configuration file over environment over defaults."""
    from otbench.plan import Request

    values: dict[str, object] = {}
    if options.config is not None:
        values |= _read_config(Path(options.config))
    typed = {name: getattr(options, name.replace("-", "_")) for name, _, _ in _RUN_OPTIONS}
    values |= {name: value for name, value in typed.items() if value is not None}
    for name in ("solvers", "task"):
        if name not in values:
            raise UsageError(f"--{name} is missing; example: {_program()} --solvers ncf,fixedpoint --task gaussian")
    out = Path(str(values.pop("out", default_out())))
    data_dir = values.pop("data-dir", os.environ.get("OTBENCH_DATA_DIR") or None)
    folder = Path(str(data_dir)) if data_dir is not None else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--data-dir {folder}: no such folder")
    fields = {name.replace("-", "_"): value for name, value in values.items()}
    return Request(**fields, data_dir=folder), out  # type: ignore[arg-type]


def _read_config(path: Path) -> dict[str, object]:
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the latter: nested without end
        raise UsageError(f"--config {path}: not valid TOML: {error}") from None
    known = [name for name, _, _ in _RUN_OPTIONS]
    values: dict[str, object] = {}
    for key, value in content.items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(f"--config {path}: unknown option '{key}'{hint(name, known, 'options')}")
        values[name] = _config_value(name, value, path)
    return values


def _config_value(name: str, value: object, path: Path) -> object:
    if isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        value = ",".join(str(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"--config {path}: '{name}' must be text, a number, or a list of them, not {value!r}")
    if name not in _NUMBERS:
        return str(value)
    try:
        number = _NUMBERS[name](value)
    except (ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value == value):  # 1.5 steps; nan is refused later
        kind = "a whole number" if _NUMBERS[name] is int else "a number"
        raise UsageError(f"--config {path}: '{name}' must be {kind}, not {value!r}")
    return number


def default_out() -> Path:
    """Return where records go unless the user says otherwise: results/local of the checkout, or of this folder."""
    root = Path(__file__).resolve().parent.parent
    return (root if (root / "bench.py").exists() else Path()) / "results" / "local"


def _full_command(plan: Plan, request: Request, options: argparse.Namespace) -> str | None:
    """Return the command for comparable numbers; None where a solver of the plan declares no such preset."""
    if not plan.has_full:
        return None
    words = [*_program().split(), "--solvers", request.solvers, "--task", request.task, "--preset", "full"]
    words += ["--seeds", "0,1,2"]
    for path in options.plugin:
        words += ["--plugin", path]
    return shlex.join(words)


def _dry_run(plan: Plan, store: Store) -> int:
    from rich.table import Table
    from rich.text import Text

    from otbench.cost import estimates
    from otbench.run import settled
    from otbench.screen import console

    have = settled(plan, store) if store.folder.is_dir() else {}
    known = estimates(plan.runs, [store.folder, default_out().parent / "reference"])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("run", "task", "seed", "budget", "expected"):
        table.add_column(head, overflow="fold")
    total, unknown = 0.0, 0
    for run in plan.runs:
        spec = run.spec
        budget = f"{spec.steps} steps" if spec.steps else "until done"
        if spec.time_limit:
            budget = f"{spec.time_limit:g} s" + (f" or {spec.steps} steps" if spec.steps else "")
        seconds = known.get(run.id)
        if run.id in have:
            cost = f"recorded: {have[run.id].status}"
        elif seconds is None:
            cost, unknown = f"not known, at most {spec.hard_limit:g} s", unknown + 1
        else:
            cost, total = f"about {seconds:.0f} s", total + seconds
        config = ",".join(f"{key}={value}" for key, value in spec.task_config.items() if value is not None)
        table.add_row(Text(run.label), Text(f"{spec.task}[{config}]"), str(spec.seed), budget, cost)
    out = console()
    out.print(table)
    more = f", and {unknown} whose cost is not known yet" if unknown else ""
    out.print(f"{len(plan.runs)} runs, {len(have)} of them recorded; about {total:.0f} s to go{more}", markup=False)
    return 0


# ----------------------------------------------------------------------------------------------------- other screens


def _print_records(records: Sequence[Record], *, full_command: str | None = None) -> None:
    from otbench.report.summary import sections
    from otbench.report.terminal import print_sections
    from otbench.screen import console

    print_sections(console(), sections(records), full_command=full_command)


def _table(options: argparse.Namespace) -> int:
    _print_records(_selected(options))
    return 0


def _selected(options: argparse.Namespace) -> list[Record]:
    """Return the records that `options` ask for; there is at least one."""
    records, folders = _recorded(options)
    where = ", ".join(str(folder) for folder in folders)
    for option, field in (("solvers", "solver"), ("task", "task"), ("preset", "preset")):
        if (typed := getattr(options, option)) is not None:
            have = sorted({str(getattr(record.spec, field)) for record in records})
            names = _known_names(option, typed, have, f"no such records in {where}")
            records = [record for record in records if getattr(record.spec, field) in names]
    if not records:
        raise UsageError(f"no records in {where}; make some with: {_program()} --solvers ... --task ...")
    return records


def _recorded(options: argparse.Namespace) -> tuple[list[Record], list[Path]]:
    """Return all records of the folders that `options` name, and these folders; warn of files passed over."""
    from otbench.store import read_all

    folders = _folders(options)
    records, notes = read_all(folders)
    _warn(notes)
    return records, folders


def _known_names(option: str, typed: str, have: Sequence[str], why: str, *, most: int | None = None) -> tuple[str, ...]:
    """Return the names in `typed`; one that the records do not `have` is refused, the empty one too."""
    names = tuple(name.strip() for name in typed.split(","))
    for name in names:
        if name not in have:
            raise UsageError(f"--{option} {name}: {why}{hint(name, have, 'there is', most=most)}")
    return names


def _folders(options: argparse.Namespace) -> list[Path]:
    return [Path(folder) for folder in options.folders] or [default_out()]


def _report(options: argparse.Namespace) -> int:
    from otbench.report.build import FORMATS, build, parse_formats
    from otbench.screen import console

    formats = parse_formats(options.format) if options.format is not None else list(FORMATS)
    out = Path(options.out) if options.out is not None else default_out().parent.parent / "reports"
    words = [*_program().split(), "report", *options.folders]
    for name in ("solvers", "task", "preset"):  # formats and place do not change what a table holds
        if (typed := getattr(options, name)) is not None:
            words += [f"--{name}", typed]
    made = build(_selected(options), out, formats, command=shlex.join(words), folders=_folders(options))
    _warn(made.notes)
    page = "; open index.html in a browser" if "index.html" in made.written else ""
    console().print(f"{len(made.written)} files in {out}{page}", markup=False)
    return 0


def _list(options: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from otbench.registration import Kind
    from otbench.screen import console

    kinds: Mapping[str, Kind] = {"solvers": "solver", "baselines": "baseline", "tasks": "task"}
    if options.kind is not None and options.kind not in kinds:
        raise UsageError(f"unknown kind '{options.kind}'{hint(options.kind, kinds, 'kinds')}")
    registry = _registry(options)
    out = console()
    for title, kind in kinds.items():
        if options.kind in (None, title):
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
            for entry in registry.entries(kind):
                origin = "" if entry.origin == "built in" else f"({entry.origin})"
                table.add_row(entry.name, Text(entry.summary), origin)
            out.print(title, style="bold")
            out.print(table)
    _warn([f"{problem.where}: left out: {problem.reason}" for problem in registry.problems])
    return 0


def _show(options: argparse.Namespace) -> int:
    from otbench.describe import describe
    from otbench.screen import console

    registry = _registry(options)
    entry = registry.find(options.name)
    describe(console(), entry, registry.load(entry))
    return 0


def _data(options: argparse.Namespace) -> int:
    from otbench.datasources import act
    from otbench.screen import console

    if options.action == "make":
        return _data_make(options)
    for option in (*(name for name, _, _ in _MAKE_OPTIONS), "force"):
        if getattr(options, option):
            raise UsageError(f"data {options.action}: --{option} is an option of make only")
    folder = options.data_dir or os.environ.get("OTBENCH_DATA_DIR") or None
    data_dir = None if folder is None else Path(folder)
    lines = act(options.action, options.name, registry=_registry(options), data_dir=data_dir)
    console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


def _data_make(options: argparse.Namespace) -> int:
    from otbench.plan import resolve_device
    from otbench.pretrained import make
    from otbench.pretraining import Progress
    from otbench.screen import console

    if options.name is None:
        raise UsageError("data make: say what: vae or classifier")
    device, _ = resolve_device(options.device or "cpu")
    threads = options.threads or str(min(4, os.cpu_count() or 1))
    if not (threads.isascii() and threads.isdigit() and 1 <= int(threads) <= 1024):
        raise UsageError(f"--threads {threads}: must be a whole number from 1 to 1024")
    folder = options.data_dir or os.environ.get("OTBENCH_DATA_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"--data-dir {folder}: no such folder")
    out = console()

    def show(progress: Progress) -> None:
        left = progress.seconds / progress.epoch * (progress.epochs - progress.epoch)
        out.print(
            f"{progress.name}: epoch {progress.epoch} of {progress.epochs}, {progress.text}, about {left:.0f} s to go",
            markup=False,
            soft_wrap=True,
        )

    paths = make(
        options.name,
        sets=_words(options.set) or None,
        kinds=_words(options.kind) or None,
        size=options.size or "default",
        data_dir=None if folder is None else Path(folder),
        device=device,
        threads=int(threads),
        force=options.force,
        listen=show,
    )
    for path in paths:
        out.print(f"ready: {path}", markup=False, soft_wrap=True)
    return 0


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _check(options: argparse.Namespace) -> int:
    from otbench.plan import resolve_device
    from otbench.screen import console

    device, _ = resolve_device(options.device)
    plugins = list(options.plugin)
    if options.name.endswith(".py"):
        plugins.append(options.name)
        options.plugin = plugins
    registry = _registry(options)
    if options.name.endswith(".py"):
        path = Path(options.name).resolve()
        entries = [e for e in registry.entries("solver", "baseline") if e.path is not None and e.path.resolve() == path]
    else:
        entries = [registry.find(options.name, "solver", "baseline")]
    if not entries:
        why = "; ".join(f"{p.where}: {p.reason}" for p in registry.problems) or "it registers no solver"
        raise UsageError(f"{options.name}: nothing to check: {why}")
    from otbench.check import check  # here, because it imports torch, which a misspelt name need not wait for

    results = [check(registry.load(entry), device=device, out=console()) for entry in entries]
    return 0 if all(results) else EXIT_FAILED_ROWS


# --------------------------------------------------------------------------------------------------------- regressions


def _compare(options: argparse.Namespace) -> int:
    from otbench.compare import compare
    from otbench.report import comparison
    from otbench.screen import console
    from otbench.store import read_all, write_output
    from otbench.verdict import Rules

    base, new = Path(options.base), Path(options.new)
    if base.resolve() == new.resolve():
        raise UsageError(f"BASE and NEW are the same folder, {base}")
    rules = Rules(gate_time=options.gate_time, require_all=options.require_all)
    for option, value, most in (("--gate-time", options.gate_time, 1e6), ("--tolerance", options.tolerance, 100.0)):
        if value is not None and not 0 <= value <= most:
            raise UsageError(f"{option} {value:g}: must be at least 0 and at most {most:g}")
    if options.tolerance is not None:
        rules = dataclasses.replace(rules, tolerance=options.tolerance)
    before, notes = read_all([base])
    now, more = read_all([new])
    _warn([*notes, *more])
    if options.metrics is not None:
        rules = dataclasses.replace(rules, metrics=_metric_names(options.metrics, [*before, *now]))
    outcome = compare(before, now, rules)
    comparison.print_comparison(console(), outcome, everything=options.all)
    if options.markdown is not None:
        write_output(Path(options.markdown), comparison.markdown(outcome).encode())
    if options.junit is not None:
        write_output(Path(options.junit), comparison.junit(outcome))
    if options.json is not None:
        write_output(Path(options.json), comparison.benchmark_json(outcome).encode())
    if outcome.regressed:
        return EXIT_FAILED_ROWS
    return 0 if outcome.compared else EXIT_NOTHING_COMPARED


def _metric_names(typed: str, records: Sequence[Record]) -> tuple[str, ...]:
    have = sorted({name for record in records for name in record.metrics})
    return _known_names("metrics", typed, have, "no record has it", most=30)


def _accept(options: argparse.Namespace) -> int:
    from otbench.accept import accept
    from otbench.screen import console
    from otbench.store import Store

    new = Store(Path(options.new))
    into = Store(Path(options.into) if options.into else default_out().parent / "reference" / "ci")
    done = accept(new, into, prune=options.prune)
    _warn([*new.passed_over, *into.passed_over])
    console().print(
        f"{done.written} runs accepted into {into.folder}; {done.replaced} replaced, {done.pruned} removed, "
        f"{done.kept} kept",
        markup=False,
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    from otbench.export import export
    from otbench.screen import console

    records, folders = _recorded(options)
    if not records:
        raise UsageError(f"no records in {', '.join(map(str, folders))}")
    for path in export(records, Path(options.out), listed(options.format)):
        console().print(f"{len(records)} records written to {path}", markup=False, soft_wrap=True)
    return 0
