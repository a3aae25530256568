"""How time, memory and environment are read.

The clocks are bound here by name before any plugin is loaded: one that patches the module `time` changes no number.
CUDA steps are timed by events, and the device is synchronised only where the harness looks at the loss; CPU steps by
`perf_counter`. Peak memory is read for training alone: the mark is reset before training segments and read after them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import resource
import subprocess
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from otbench._links import checkout_root
from otbench.config import Config, Value
from otbench.records.record import Memory, Times
from otbench.solver import Solver, networks


@contextlib.contextmanager
def timed(times: Times, phase: str) -> Iterator[None]:
    """Add what is done inside to `phase` of `times`, also where it fails."""
    begin = perf_counter()
    try:
        yield
    finally:
        setattr(times, phase, (getattr(times, phase) or 0.0) + perf_counter() - begin)


class StepClock:
    """Durations of training steps, in seconds, without synchronising the device at each.

    `begin()` and `end()` stand around each step, so that nothing the harness does between steps is counted. On CUDA
    they record events; `flush()`, called where the device was waited for anyway, turns these into durations.
    """

    def __init__(self, device: torch.device) -> None:
        """Time steps on `device`."""
        self.durations = array("d")
        self._cuda = device.type == "cuda"
        self._device = device
        self._total = 0.0
        self._began = 0.0
        self._ended: float | None = None
        self._between = 0.0
        self._pending: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._pending_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far; on CUDA the part not flushed yet is the host's estimate."""
        return self._total + self._pending_seconds

    def begin(self) -> None:
        """Note the start of a step."""
        if self._cuda:
            self._event = self._record()
        self._began = perf_counter()
        if self._ended is not None:
            self._between += self._began - self._ended

    def end(self) -> None:
        """Note the end of a step."""
        self._ended = perf_counter()
        duration = self._ended - self._began
        if self._cuda:
            self._pending.append((self._event, self._record()))
            self._pending_seconds += duration
        else:
            self.durations.append(duration)
            self._total += duration

    def pause(self) -> float:
        """Flush at the end of a training segment; return the seconds of it that lay between steps."""
        self.flush()
        between = self._between + (perf_counter() - self._ended if self._ended is not None else 0.0)
        self._ended, self._between = None, 0.0
        return between

    def flush(self) -> None:
        """Turn recorded events into durations; waits for the last of them."""
        if self._pending:
            self._pending[-1][1].synchronize()
            self.extend(begin.elapsed_time(end) / 1000 for begin, end in self._pending)
            self._pending, self._pending_seconds = [], 0.0

    def extend(self, durations: Iterable[float]) -> None:
        """Add `durations` of steps timed before, in seconds."""
        for duration in durations:
            self.durations.append(duration)
            self._total += duration

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def synchronize(device: torch.device) -> None:
    """Wait for `device`; at once on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Peak memory of training segments alone.

    On Linux the kernel's high-water mark of the resident set can be reset, which keeps evaluation out of it; where it
    cannot, the peak covers evaluation too.
    """

    def __init__(self, device: torch.device) -> None:
        """Take the level after imports."""
        self._device = device
        self._imports = rss_now()
        self._peak = 0
        self._allocated = 0
        self._reserved = 0

    def start(self) -> None:
        """Begin a training segment."""
        with contextlib.suppress(OSError):  # not on Linux
            Path("/proc/self/clear_refs").write_text("5")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def stop(self) -> None:
        """End a training segment."""
        self._peak = max(self._peak, rss_high_water())
        if self._device.type == "cuda":
            self._allocated = max(self._allocated, torch.cuda.max_memory_allocated(self._device))
            self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))

    def read(self) -> Memory:
        """Return the peaks over all segments so far."""
        cuda = self._device.type == "cuda"
        return Memory(
            rss_imports=self._imports,
            rss_peak=self._peak,
            rss_above_imports=max(0, self._peak - self._imports),
            cuda_peak_allocated=self._allocated if cuda else None,
            cuda_peak_reserved=self._reserved if cuda else None,
        )


def rss_now() -> int:
    """Return the resident set of this process, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return rss_high_water()


def rss_high_water() -> int:
    """Return the high-water mark of the resident set since the last reset, in bytes."""
    if mark := _proc("/proc/self/status", "VmHWM"):
        return int(mark.split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def fingerprint(module: nn.Module) -> str:
    """Return a checksum of all parameters and buffers of `module`, bit by bit."""
    digest = hashlib.sha256()
    for tensor in (*module.parameters(), *module.buffers()):
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprints(solver: Solver[Config]) -> dict[str, str]:
    """Return the checksums of all networks of `solver`, by name."""
    return {name: fingerprint(module) for name, module in networks(solver).items()}


def weights_digest(solver: Solver[Config]) -> str:
    """Return one short checksum of all networks of `solver`, names included; empty where there are none."""
    found = sorted(fingerprints(solver).items())
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16] if found else ""


def environment(device: torch.device, threads: int) -> dict[str, Value]:
    """Return versions, device, driver, threads, precision flags and git state; no host or user names."""
    from otbench import __version__

    facts: dict[str, Value] = {
        "otbench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "pot": version("pot"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": "cpu",
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
        facts["driver"] = _first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return facts | git_state()


@cache
def git_state() -> dict[str, Value]:
    """Return commit and dirty flag of the checkout that this package is run from; None where there is no git.

    `OTBENCH_COMMIT` stands in where the code was copied without its history. Files under `results/` and `reports/` do
    not make a checkout dirty: they are what runs leave behind.
    """
    root = checkout_root()
    if root is None or not (root / ".git").exists():
        return {"commit": os.environ.get("OTBENCH_COMMIT"), "dirty": None}
    commit = _first_line(["git", "-C", str(root), "rev-parse", "HEAD"])
    status = ["git", "-C", str(root), "status", "--porcelain", "--", ":!results", ":!reports"]
    return {"commit": commit, "dirty": bool(_first_line(status)) if commit else None}


def cpu_name() -> str:
    """Return the processor's model name."""
    return _proc("/proc/cpuinfo", "model name") or platform.processor() or "unknown"


def _proc(path: str, name: str) -> str:
    """Return what a file of `name: value` lines says of `name`; empty where there is no such file or line."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().split("\n")[0]
