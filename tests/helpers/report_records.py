"""Records for the tests of reports: a small store of several solvers and dimensions, and records from hell."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

METRICS = [
    {"name": "uvp_fwd", "label": "UVP fwd", "unit": "%", "primary": True, "marked": True},
    {"name": "uvp_bwd", "label": "UVP bwd", "unit": "%", "primary": True, "marked": True},
    {"name": "cosine", "label": "cosine", "higher_is_better": True},
]
HOSTILE = [
    r"\input{/etc/passwd}\write18{touch pwned}",
    "$x_1^2$ & 100% #1 ~tilde {brace} \\\\ \\end{tabular}",
    "<script>document.title='pwned'</script><img src=x onerror=document.title='pwned'>",
    "]]></svg><script>document.title='pwned'</script>",
    "\" onclick=\"document.title='pwned'\" x='",
    "{{ 7 * 7 }}{% raw %}",
    "../../../tmp/escape",
    "/etc/passwd\0.tex",
    "=cmd|'/C calc'!A0",
    "_hidden",
    "a|b `code` [link](javascript:alert(1)) **bold** https://example.org",
    "line one\nline two\r\n\\end{document}",
    "\x1b[31mred\x1b]0;title\x07",
    "中文 ☃ 😀 \u202egnol",
    "x" * 5000,
    "Ünï çødé ßæ Ð þ \u00d7 ÷ « » €",
    "-",
    " ",
    "$\\frac{$",
    "^^4d--,,?`!`''\"\"",
]


def spec(solver: str, dim: object, seed: int, **changes: object) -> dict[str, object]:
    return {
        "kind": "baseline" if solver in ("identity", "linear") else "solver",
        "solver": solver,
        "solver_config": {},
        "task": "gaussian",
        "task_config": {"dim": dim, "pair": "released"},
        "preset": "full",
        "seed": seed,
        "steps": None if solver in ("identity", "linear") else 100,
        "time_limit": None,
        "device": "cpu",
        "threads": 1,
        "hard_limit": 60.0,
    } | changes


def record(solver: str, dim: object, seed: int, value: float, **changes: object) -> dict[str, object]:
    """Return a record as it stands in its file."""
    metrics = {"uvp_fwd": value, "uvp_bwd": 1.2 * value, "cosine": 1 - value / 100}
    curve = [
        {"step": 2**k, "train_s": 0.1 * 2**k, "metrics": {name: v + 5 / 4**k for name, v in metrics.items()}}
        for k in range(8)
    ]
    return {
        "schema_version": 1,
        "id": f"gaussian-{solver}-{dim}-{seed}",
        "spec": spec(solver, dim, seed),
        "status": "ok",
        "label": solver,
        "instance": f"d = {dim}, released pair",
        "metrics": metrics,
        "start": {"uvp_fwd": 5.0, "uvp_bwd": 6.0},
        "curve": curve,
        "metric_info": METRICS,
        "published": {"table": "gaussian", "where": {"dim": dim}},
        "times": {"warmup_s": 0.1, "train_s": 12.8, "step_ms": 100.0, "infer_fwd_s": 0.01, "infer_bwd_s": 0.02},
        "memory": {"rss_above_imports": 50_000_000},
        "counts": {"steps": 100, "samples": 1000, "parameters": 10, "stored_bytes": 40},
        "environment": {"device": "cpu"},
        "command": "python bench.py --solvers x --task gaussian",
        "created": "2026-01-01T00:00:00+00:00",
    } | changes


def small() -> list[dict[str, object]]:
    """Return three dimensions, two sanity rows, three solvers, three seeds; one run failed, one row is bad."""
    rng = random.Random(0)
    made = []
    for dim in (2, 8, 32):
        for solver, value in (("identity", 5.0), ("linear", 0.006)):
            made.append(record(solver, dim, 0, value, curve=[]))
        for seed in range(3):
            for solver, value in (("fixedpoint", 0.01), ("ncf", 0.02), ("a_plugin", 7.0)):
                made.append(record(solver, dim, seed, value * dim**0.3 * rng.uniform(0.9, 1.1)))
    made[-1] |= {"status": "diverged", "reason": "the loss is nan at step 40", "metrics": {}}
    return made


def hostile() -> list[dict[str, object]]:
    """Return `small` with records beside it that try to break out of every format."""
    made = small()
    for index, text in enumerate(HOSTILE):
        bad = record(f"bad{index}", 8, 0, 0.5)
        bad |= {"label": text, "command": text, "reason": text, "created": text, "id": text}
        bad["spec"] = spec(text, 8, 0, preset="full", solver_config={"text": text})
        bad["metric_info"] = [{**METRICS[0], "label": text, "unit": text}, *METRICS[1:]]
        made.append(bad)
        task = record(f"task{index}", 8, 0, 0.5)
        task |= {"spec": spec("ncf", 8, 0, task=text, device=text), "instance": text, "environment": {"device": text}}
        made.append(task)
        failed = record(f"failed{index}", 8, 0, 0.5, status="error", reason=text, label=text + "f")
        made.append(failed)
    odd: list[Mapping[str, object]] = [
        record("nan", 8, 0, float("nan")),
        record("inf", 8, 0, float("inf")),
        *(record("infs", 8, seed, (-1) ** seed * float("inf")) for seed in range(2)),
        *(record("huge", 8, seed, 1e308) for seed in range(3)),
        record("tiny", 8, 0, 1e-300),
        record("negative", 8, 0, -1.0),
        record("many", 8, 0, 0.1, counts={"steps": 10**400, "samples": 10**400}),
        record("no_numbers", 8, 0, 0.1, metrics={}, start={}, curve=[], times={}, memory={}, counts={}),
        record("table", 8, 0, 0.1, published={"table": "../../../etc/passwd", "where": {"no": "column"}}),
        record("where", 64, 0, 0.1, published={"table": "gaussian", "where": {"no": "column"}}),
        record("nantime", 8, 0, 0.1, times={"train_s": float("nan"), "step_ms": float("-inf")}),
        record("other_metrics", 8, 0, 0.1, metrics={"something": 1.0}, start={}),
        *(record("ncf", dim, 0, 0.1) for dim in ("eight", True, 0, -3, None, 1e300, 8.0, float("nan"))),
    ]
    old = record("old", 8, 0, 0.1)
    for name in ("curve", "start", "metric_info", "published", "times", "memory", "counts", "command", "created"):
        del old[name]
    old["schema_version"] = 0
    made += [dict(one) for one in odd]
    return [*made, old]


def write(folder: Path, records: list[dict[str, object]]) -> Path:
    """Write `records` as a store; file names are safe whatever the records say."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, one in enumerate(records):
        (folder / f"{index:05d}.json").write_text(json.dumps(one), encoding="utf-8")
    return folder
