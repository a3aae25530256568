"""What a record says that must not depend on where and when its run was done."""

from __future__ import annotations

from otbench.records.record import Record


def lasting(record: Record) -> dict[str, object]:
    same = record.model_dump(exclude={"times", "account", "memory", "environment", "created", "curve", "counts"})
    curve = [(point.step, point.digest, point.metrics) for point in record.curve]
    return same | {"curve": curve, "steps": record.counts.steps, "samples": record.counts.samples}
