"""Which GPUs the nodes of a cluster have: a short job looks, because the machine that plans runs may have none.

The name of a run says on which kind of card it is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep

from otbench.errors import UsageError
from otbench.files import read_regular, shown, write_whole
from otbench.harness.batch import FOLDER
from otbench.harness.execute import python_command
from otbench.harness.plan import gpus
from otbench.harness.slurm import Queue, SilentQueueError
from otbench.plugins.syntax import digest

POLL = 2.0
GRACE = 20.0
"""Seconds from the end of the job in which its answer may come: a shared disk may lag."""


def card_file(folder: Path, options: Sequence[str]) -> Path:
    """Return where it is kept which GPUs jobs with these options find, beside the records in `folder`."""
    return folder / FOLDER / f"cards-{digest(chr(10).join(sorted(options)).encode())}.json"


def known_cards(path: Path) -> tuple[str, ...] | None:
    """Return the names in such a file; None if nobody has looked yet."""
    try:
        found = json.loads(read_regular(path, 2**16))
    except (OSError, ValueError):
        return None
    return tuple(map(str, found)) if isinstance(found, list) else None


def find_cards(queue: Queue, path: Path, tell: Callable[[str], None] = lambda line: None) -> tuple[str, ...]:
    """Return the names of the GPUs that jobs find on a node; a job looks, where `path` does not hold them yet.

    Raises:
        UsageError: the queue refuses the job, or it ends without an answer.
    """
    name = f"otbench-{path.stem}"
    over_since: float | None = None
    asked = False
    while (cards := known_cards(path)) is None:
        try:
            job = queue.jobs([name]).get((name, 0))
        except SilentQueueError as error:
            raise UsageError(f"SLURM does not answer: {error}") from None
        if not asked and (job is None or not job.live):
            path.parent.mkdir(parents=True, exist_ok=True)
            words = python_command(f"from otbench.harness.cards import look; look({str(path.resolve())!r})")
            queue.submit(name, path.with_suffix("").resolve(), [words], threads=1, limit=1)
            tell("a short job looks which GPU the nodes have")
        elif job is None or not job.live:
            over_since = over_since or perf_counter()
            if perf_counter() - over_since > GRACE:
                state = job.state if job is not None else "unknown"
                raise UsageError(
                    f"the job that looks for the nodes' GPU ended ({state}) without an answer; see its log in"
                    f" {shown(path.with_suffix(''))}; do nodes share this folder?"
                )
        asked = True
        sleep(POLL)
    if not cards:
        raise UsageError("the nodes have no CUDA GPU that torch can use; ask for one (--slurm gpus=1), or --device cpu")
    return cards


def look(path: str) -> None:
    """Write the names of this machine's GPUs to `path`; what a job of `find_cards` does."""
    write_whole(Path(path), json.dumps(list(gpus())).encode())
