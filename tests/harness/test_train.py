"""The loop: budget, schedules, curve with the clock stopped, divergence, bit-equal resume, little overhead."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

from otbench.errors import DivergedError, StoreError
from otbench.harness.measure import PeakMemory
from otbench.harness.train import (
    Budget,
    InterruptedTraining,
    Progress,
    Trainer,
    read_checkpoint,
    seed_everything,
)
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.records.record import CurvePoint
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Solver, StepInfo, Transport

CPU = torch.device("cpu")


class Walker(Solver[Config]):
    """Fits a shift with Adam on batches of an epoch sampler; noisy, so that order and generator matter."""

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        super().__init__(problem, config, context)
        self.net = nn.Linear(1, 2, bias=False)
        nn.init.zeros_(self.net.weight)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=0.1)
        self.batches = EpochSampler(problem.source, 7, context.generator)
        self.seen: list[float] = []

    def step(self) -> StepInfo:
        x = self.batches.next().x
        noise = torch.randn(2, generator=self.context.generator) + torch.randn(2)  # own and global randomness
        loss = (self.net.weight[:, 0] - 1 + 0.1 * noise + x.mean(0)).square().sum()
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = 0.1 * (1 - self.context.progress())
        self.optimiser.step()
        self.seen.append(self.context.progress())
        return StepInfo(loss.detach(), {"twice": 2 * loss.detach()})

    def transport(self) -> Transport:
        raise NotImplementedError  # the loop does not ask for it


def problem() -> Problem:
    generator = torch.Generator().manual_seed(1)
    pool = PoolMeasure(torch.randn(50, 2, generator=generator))
    return Problem(pool, PoolMeasure(torch.zeros(50, 2)), QuadraticCost(), CPU, torch.float32)


def make(cls: type[Walker], budget: Budget, **options: object) -> tuple[Walker, Trainer, Progress]:
    seed_everything(5)
    progress = Progress(budget)
    solver = cls(problem(), Config(), Context(CPU, torch.float32, torch.Generator().manual_seed(3), progress))
    trainer = Trainer(solver, progress, memory=PeakMemory(CPU), **options)  # type: ignore[arg-type]
    return solver, trainer, progress


def test_a_step_budget_gives_that_many_steps_and_a_schedule_from_0_to_1() -> None:
    solver, trainer, progress = make(Walker, Budget(steps=100))
    training = trainer.run()
    assert training.steps == len(solver.seen) == 100
    assert solver.seen == [i / 100 for i in range(100)]
    assert progress() == 1.0


def test_the_curve_begins_at_step_0_and_is_log_spaced() -> None:
    _, trainer, _ = make(Walker, Budget(steps=1000))
    steps = [point.step for point in trainer.run().curve]
    assert steps[:4] == [0, 1, 2, 4]
    assert steps == sorted(set(steps))
    ratios = [b / a for a, b in itertools.pairwise(steps[4:])]
    assert all(ratio == 2 for ratio in ratios)
    assert "twice" in trainer.training.curve[-1].scalars


def test_each_point_of_the_curve_has_what_was_used_until_then() -> None:
    solver, trainer, _ = make(Walker, Budget(steps=40))
    training = trainer.run()
    points = [*training.curve, trainer.point()]
    assert (points[0].train_s, points[0].train_cpu_s) == (0, 0)
    assert points[-1].train_cpu_s == training.times.train_cpu_s
    assert points[-1].samples == solver.problem.source.drawn + solver.problem.target.drawn > 0
    for one, next_one in itertools.pairwise(points):
        assert one.train_cpu_s is not None
        assert next_one.train_cpu_s is not None
        assert one.train_cpu_s <= next_one.train_cpu_s
    drawn = [point.samples - (points[0].samples or 0) for point in points if point.samples is not None]
    assert [count / drawn[1] for count in drawn] == [point.step for point in points]


def test_a_point_of_an_old_record_says_nothing_of_processor_and_samples() -> None:
    point = CurvePoint.model_validate({"step": 1, "train_s": 0.5, "metrics": {"uvp_fwd": 1.0}})
    assert (point.train_cpu_s, point.samples) == (None, None)


def test_keeping_maps_is_not_on_the_training_clock() -> None:
    def slow(point: CurvePoint) -> None:
        time.sleep(0.05)

    _, trainer, progress = make(Walker, Budget(steps=20), keep=slow)
    begin = time.perf_counter()
    training = trainer.run()
    wall = time.perf_counter() - begin
    points = len(training.curve)
    assert training.times.train_s is not None
    assert training.times.warmup_s is not None
    assert points >= 5
    assert training.times.train_s + training.times.warmup_s <= wall - 0.05 * points
    assert math.isclose(progress.seconds, training.times.train_s + training.times.warmup_s, rel_tol=1e-6)


def test_a_time_budget_ends_training_and_drives_the_schedule() -> None:
    class Slow(Walker):
        def step(self) -> StepInfo:
            time.sleep(0.01)
            return super().step()

    solver, trainer, progress = make(Slow, Budget(seconds=0.3))
    trainer.run()
    assert 5 <= len(solver.seen) <= 30
    assert solver.seen == sorted(solver.seen)
    assert 0.5 < solver.seen[-1] < 1.0
    assert progress() == 1.0
    assert 0.3 <= progress.seconds < 0.5


def test_done_ends_training() -> None:
    class Once(Walker):
        def step(self) -> StepInfo:
            return StepInfo(0.0, done=True)

    _, trainer, _ = make(Once, Budget())
    assert trainer.run().steps == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_divergence_and_the_curve_stays(bad: float) -> None:
    class Bad(Walker):
        def step(self) -> StepInfo:
            info = super().step()
            return StepInfo(bad) if len(self.seen) == 55 else info

    _, trainer, _ = make(Bad, Budget(steps=100))
    trainer._solver.problem.source.drawn = 0
    # seen at the next look, or not at all if the loss recovers by then: looks are every `check_every` steps
    trainer.training.check_every = 5
    with pytest.raises(DivergedError, match="step 55"):
        trainer.run()
    assert [point.step for point in trainer.training.curve][:3] == [0, 1, 2]
    assert trainer.training.steps == 55


def stop_at(step: int, progress: list[Progress]) -> Callable[[], bool]:
    return lambda: progress[0].step == step


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    whole, trainer, _ = make(Walker, Budget(steps=60))
    unbroken = trainer.run()

    checkpoint = tmp_path / "deep" / "run.pt"
    place: list[Progress] = []
    _, trainer, progress = make(Walker, Budget(steps=60), checkpoint=checkpoint, stop=stop_at(23, place))
    place.append(progress)
    with pytest.raises(InterruptedTraining):
        trainer.run()
    assert checkpoint.exists()
    torch.manual_seed(999)  # a new process has other global states
    saved = read_checkpoint(checkpoint, CPU)
    second, trainer, progress = make(Walker, Budget(steps=60), checkpoint=checkpoint, resume=saved)
    resumed = trainer.run()
    assert progress.step == 60
    assert torch.equal(second.net.weight, whole.net.weight)
    kept = [(p.step, p.digest, p.samples) for p in unbroken.curve]
    assert [(p.step, p.digest, p.samples) for p in resumed.curve] == kept
    used = [p.train_cpu_s for p in resumed.curve]
    assert None not in used
    assert used == sorted(used)  # type: ignore[type-var]
    assert second.problem.source.drawn == whole.problem.source.drawn
    assert resumed.resumed == 1


@pytest.mark.parametrize("content", [b"torn", b"", b"PK\x03\x04"])
def test_a_torn_checkpoint_is_removed_and_said_and_the_run_begins_again(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run.pt"
    checkpoint.write_bytes(content)
    assert read_checkpoint(checkpoint, CPU) is None
    assert not checkpoint.exists()
    assert "could not be read; the run begins again" in capsys.readouterr().err
    assert read_checkpoint(checkpoint, CPU) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("until", [0, 1, 23, 32])
def test_a_run_cut_short_has_the_points_and_weights_of_the_whole_run_up_to_there(until: int) -> None:
    _, trainer, _ = make(Walker, Budget(steps=60))
    whole = trainer.run()
    solver, trainer, _ = make(Walker, Budget(steps=60), until_step=until)
    part = trainer.run()
    assert part.cut
    assert not whole.cut
    assert part.steps == len(solver.seen) == part.curve[-1].step == until

    def points(curve: Iterable[CurvePoint]) -> list[tuple[int, str, object]]:
        return [(p.step, p.digest, p.scalars) for p in curve]

    until_then = [point for point in whole.curve if point.step <= until]
    assert points(part.curve)[: len(until_then)] == points(until_then)
    assert len({point.digest for point in whole.curve}) == len(whole.curve)  # Adam moves in every step


def test_a_budget_that_ends_before_the_cut_is_a_whole_run() -> None:
    _, trainer, _ = make(Walker, Budget(steps=10), until_step=10)
    assert not trainer.run().cut
    assert [point.step for point in trainer.training.curve] == [0, 1, 2, 4, 8]


def test_the_first_point_is_reported_before_the_first_step() -> None:
    """So that a step that hangs, however early, leaves a curve."""

    class Hanging(Walker):
        def step(self) -> StepInfo:
            raise TimeoutError

    heard: list[int] = []
    _, trainer, _ = make(Hanging, Budget(steps=10), report=lambda training, progress: heard.append(len(training.curve)))
    with pytest.raises(TimeoutError):
        trainer.run()
    assert heard == [1]


def test_a_checkpoint_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    _, trainer, _ = make(Walker, Budget(steps=5), checkpoint=tmp_path / "file" / "run.pt", stop=lambda: True)
    with pytest.raises(StoreError, match="checkpoint"):
        trainer.run()


def test_validation_can_stop_a_run_on_its_own_clock() -> None:
    class Validating(Walker):
        validate_every = 5

        def validate(self) -> StepInfo:
            time.sleep(0.02)
            return StepInfo(0.0, done=len(self.seen) >= 10)

    _, trainer, _ = make(Validating, Budget(steps=1000))
    training = trainer.run()
    assert training.steps == 10
    assert training.times.validate_s is not None
    assert training.times.validate_s >= 0.02


class Clock:
    """A clock of the processor, on which each step of the solver takes half a second."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def on_the_processor(clock: Clock, **options: object) -> tuple[Walker, Trainer, Progress]:
    class Timed(Walker):
        def step(self) -> StepInfo:
            clock.seconds += 0.5
            return super().step()

    return make(Timed, Budget(cpu_seconds=10.0), **options)


def test_a_budget_of_the_processor_ends_training_and_drives_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("otbench.harness.train.process_time", clock)

    def keep(point: CurvePoint) -> None:
        clock.seconds += 7.0  # evaluation is not training

    solver, trainer, progress = on_the_processor(clock, keep=keep)
    training = trainer.run()
    assert training.steps == 20
    assert solver.seen == [i / 20 for i in range(20)]
    assert progress() == 1.0
    assert training.times.train_cpu_s == 10.0


def test_a_resumed_run_has_the_rest_of_the_processors_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = Clock()
    monkeypatch.setattr("otbench.harness.train.process_time", clock)
    checkpoint = tmp_path / "run.pt"
    place: list[Progress] = []
    _, trainer, progress = on_the_processor(clock, checkpoint=checkpoint, stop=stop_at(8, place))
    place.append(progress)
    with pytest.raises(InterruptedTraining):
        trainer.run()
    solver, trainer, _ = on_the_processor(clock, resume=read_checkpoint(checkpoint, CPU))
    assert trainer.run().steps == 20
    assert solver.seen == [i / 20 for i in range(8, 20)]
