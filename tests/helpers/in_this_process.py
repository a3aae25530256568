"""All roles of a run in the process of the test: the judge's hands, without a guard."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from otbench.harness import applier, trainer
from otbench.harness.messages import Ask, Ended, Report, Training


class InThisProcess:
    """Trains and applies when asked."""

    def run(self, ask: Ask, hear: Callable[[Report], None]) -> Ended:
        begin = perf_counter()

        def said(report: Report) -> None:
            hear(Report.model_validate_json(report.model_dump_json()))

        if isinstance(ask.work, Training):
            trainer.work(ask.work, said)
        else:
            applier.work(ask.work, said)
        return Ended(run=ask.run, role=ask.role, code=0, wall_s=perf_counter() - begin, cpu_s=0.0)
