"""`otbench verify`: recorded runs once more, and whether they come out the same."""

from __future__ import annotations

import argparse
import random
from collections import Counter

from otbench.cli.common import EXIT_FAILED_ROWS, AddCommand, data_folder, registry_of, warn
from otbench.cli.console import console, plain_table, say
from otbench.errors import UsageError
from otbench.files import typed_path
from otbench.records.words import counted


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("verify", verify, "run recorded runs again and say whether they come out the same")
    parser.add_argument("folder", metavar="FOLDER", help="folder with records; what is found is kept there, too")
    parser.add_argument("--sample", metavar="N", type=int, help="so many records, drawn at random (default: all)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of that draw (default: 0)")
    parser.add_argument(
        "--until-step", metavar="K", type=int, help="only the first K steps of the same budget: cheap on long runs"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")


def verify(options: argparse.Namespace) -> int:
    """Run records again, one after the other; 1 if one comes out different."""
    from rich.text import Text

    from otbench.harness.selection import check_number
    from otbench.harness.verify import Verifier
    from otbench.records.store import Store
    from otbench.records.verified import VERIFIED, Outcome
    from otbench.registration import MAX_STEPS

    limits = (("--sample", options.sample, 1), ("--seed", options.seed, 0), ("--until-step", options.until_step, 1))
    for option, value, least in limits:
        check_number(option, value, least, MAX_STEPS)
    data_dir = data_folder(options.data_dir)
    store = Store(typed_path(options.folder, "FOLDER"))
    records = store.all()
    warn(store.passed_over)
    if not records:
        raise UsageError(f"no records in {store.folder}")
    if options.sample is not None:
        records = random.Random(options.seed).sample(records, min(options.sample, len(records)))
    verifier = Verifier(store.folder, registry_of(options), until_step=options.until_step, data_dir=data_dir)
    out = console()
    table = plain_table("record", "outcome", "first difference", "why")
    counts: Counter[Outcome] = Counter()
    for number, record in enumerate(records, 1):
        out.print(f"[{number}/{len(records)}] {record.id}: ", end="", markup=False)
        found = verifier.verify(record)
        out.print(str(found.outcome), markup=False)
        table.add_row(*map(Text, (record.id, str(found.outcome), found.difference, found.reason)))
        counts[found.outcome] += 1
    out.print(table)
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    say(f"{counted(len(records), 'record')}: {said}; kept in {store.folder / VERIFIED}")
    return EXIT_FAILED_ROWS if counts[Outcome.DIFFERENT] else 0
