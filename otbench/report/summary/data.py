"""The summary as data: plain lists and numbers, for other programs."""

from __future__ import annotations

import json
import math

from otbench.report.rows import Number
from otbench.report.summary.contests import Contest, Entry
from otbench.report.summary.scopes import Profile, Scope
from otbench.report.summary.summary import Summary


def as_json(summary: Summary) -> str:
    """Return the summary as JSON; numbers that JSON does not have are null."""
    return json.dumps(as_data(summary), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_data(summary: Summary) -> dict[str, object]:
    """Return the summary as dictionaries, lists, texts and finite numbers; errors are in the units of records."""
    return {
        "records": summary.records,
        "remarks": summary.remarks,
        "guide": [
            {
                "need": advice.need,
                "where": advice.detail,
                "answer": advice.answer,
                "why": advice.text,
                "instances": advice.instances,
                "solvers": list(advice.solvers),
            }
            for advice in summary.guide
        ],
        "contests": [_contest(contest) for contest in summary.contests],
        "scopes": [_scope(scope) for scope in summary.scopes],
    }


def _contest(contest: Contest) -> dict[str, object]:
    section, terms = contest.section, contest.terms
    return {
        "task": section.task,
        "instance": section.instance,
        "config": {name: _finite(value) for name, value in section.config.items()},
        "preset": terms.preset,
        "device": terms.device,
        "dtype": terms.dtype,
        "time_limit": terms.time_limit,
        "cpu_limit": terms.cpu_limit,
        "standardise": terms.standardise,
        "metric": contest.metric.name,
        "unit": contest.metric.unit,
        "higher_is_better": contest.metric.higher_is_better,
        "clock": contest.clock,
        "entries": [_entry(entry) for entry in contest.entries],
        "yardsticks": {
            row.label: _number(row.numbers[contest.metric.name])
            for row in contest.yardsticks
            if contest.metric.name in row.numbers
        },
        "remarks": contest.remarks,
    }


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "solver": entry.label,
        "rank": entry.rank,
        "error": _number(entry.error),
        "backward": _number(entry.back),
        "training_s": _number(entry.train),
        "apply_ms": _number(entry.apply_ms),
        "apply_backward_ms": _number(entry.apply_back_ms),
        "both_maps": entry.both,
        "runs": entry.runs,
        "failed": entry.failed,
        "on_front": entry.on_front,
    }


def _scope(scope: Scope) -> dict[str, object]:
    return {
        "title": scope.title,
        "terms": scope.terms,
        "instances": [contest.title for contest in scope.counted],
        "mean_ranks": {label: scope.mean_ranks[label] for label in scope.solvers},
        "friedman_p": scope.friedman,
        "critical_difference": scope.critical_difference,
        "not_told_apart": scope.groups,
        "profile": _profile(scope.profile),
        "time_target": scope.target,
        "time_profile": _profile(scope.time_profile),
        "front": sorted(scope.front),
        "remarks": scope.remarks,
    }


def _profile(profile: Profile) -> dict[str, list[list[float]]]:
    return {label: [[ratio, share] for ratio, share in steps] for label, steps in profile.items()}


def _number(value: Number | None) -> dict[str, object] | None:
    if value is None:
        return None
    return {"mean": _finite(value.mean), "half": _finite(value.half), "n": value.n}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
