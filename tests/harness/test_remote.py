"""Jobs of a cluster, whatever becomes of them: a made-up queue, the real state machine, no process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import pytest

from otbench.errors import StoreError, UsageError
from otbench.harness import remote
from otbench.harness.batch import Batch, Batches, Note, mark, note_path, read_batch
from otbench.harness.cards import card_file, find_cards
from otbench.harness.execute import Outcome, execute
from otbench.harness.node import Node, unfit
from otbench.harness.plan import Plan, Request, make_plan
from otbench.harness.slurm import Job, Jobs, SilentQueueError
from otbench.harness.verdict import LOSSES, Verdict, verdict
from otbench.plugins.registry import Registry
from otbench.records.record import Record, Status
from otbench.records.store import Store

from ..helpers.lasting import lasting

TOY = Path(__file__).resolve().parents[1] / "helpers" / "plugins" / "toy.py"


@pytest.fixture(scope="module")
def plan() -> Plan:
    request = Request("toyshift", "toy", seeds="0,1", preset="smoke", device="cpu", threads=1)
    return make_plan(request, Registry([TOY]))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("remote", "cards"):
        monkeypatch.setattr(f"otbench.harness.{module}.sleep", lambda seconds: None)
        monkeypatch.setattr(f"otbench.harness.{module}.GRACE", 0.0)


@dataclass
class MadeUp:
    """A queue in which `happens` decides, at each look, what becomes of a job."""

    store: Store
    happens: Callable[[MadeUp, str, int], None]
    states: dict[tuple[str, int], Job] = field(default_factory=dict)
    submitted: list[tuple[str, int, int, int]] = field(default_factory=list)
    accounts: dict[tuple[str, int], Job] = field(default_factory=dict)
    silent: int = 0
    looks: int = 0

    def submit(self, name: str, folder: Path, commands: Sequence[Sequence[str]], *, threads: int, limit: int) -> None:
        self.submitted.append((name, len(commands), threads, limit))
        for place in range(len(commands)):
            self.states[name, place] = Job(f"{len(self.submitted)}_{place}", "PENDING", "Priority")

    def jobs(self, names: Sequence[str]) -> Jobs:
        self.looks += 1
        if self.silent:
            self.silent -= 1
            raise SilentQueueError("squeue: away")
        for name, place in list(self.states):
            if name in names:
                self.happens(self, name, place)
        return {key: job for key, job in self.states.items() if key[0] in names}

    def past(self, names: Sequence[str], since: str) -> Jobs:
        return {key: job for key, job in self.accounts.items() if key[0] in names}

    def batch(self, name: str) -> Batch:
        found = read_batch(self.store.folder / "slurm" / f"{name}.json")
        assert found is not None
        return found

    def become(self, name: str, place: int, state: str) -> None:
        self.states[name, place] = replace(self.states[name, place], state=state, reason="")

    def note(self, name: str, place: int, **said: object) -> None:
        path = note_path(self.store.folder / "slurm" / f"{name}.json", place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Note.model_validate(said).model_dump_json())

    def finish(self, name: str, place: int, status: Status = Status.OK) -> None:
        for run in self.batch(name).groups[place]:
            record = run.blank()
            record.end(status)
            record.tries = 3  # as the node counts
            self.store.write(record)
        self.become(name, place, "COMPLETED")


def finishes(queue: MadeUp, name: str, place: int) -> None:
    if queue.states[name, place].live:
        queue.finish(name, place)


def does(state: str, *, times: int = 1000, **said: object) -> Callable[[MadeUp, str, int], None]:
    """Return what ends the first `times` jobs in `state` with a note, and lets later ones finish."""
    ended: list[str] = []

    def happens(queue: MadeUp, name: str, place: int) -> None:
        if not queue.states[name, place].live:
            return
        if len(ended) < times and queue.batch(name).groups[place][0].spec.kind == "solver":
            ended.append(name)
            if said:
                queue.note(name, place, **said)
            queue.become(name, place, state)
        else:
            queue.finish(name, place)

    return happens


def run(plan: Plan, queue: MadeUp, **options: object) -> tuple[Outcome, list[str]]:
    told: list[str] = []
    outcome = remote.execute_in_queue(plan, queue.store, queue, tell=told.append, **options)  # type: ignore[arg-type]
    return outcome, told


def interrupted(plan: Plan, queue: MadeUp, *, looks: int) -> Outcome:
    """Return what a parent leaves that is interrupted at a look at the queue."""
    happens = queue.happens

    def until(queue: MadeUp, name: str, place: int) -> None:
        if queue.looks > looks:
            raise KeyboardInterrupt
        happens(queue, name, place)

    queue.happens = until
    outcome = run(plan, queue)[0]
    queue.happens = happens
    assert outcome.interrupted
    return outcome


def solvers(outcome: Outcome) -> list[Record]:
    return [record for record in outcome.records if record.spec.kind == "solver"]


def test_runs_go_into_one_array_and_closed_form_rows_share_jobs(plan: Plan, tmp_path: Path) -> None:
    queue = MadeUp(Store(tmp_path), finishes)
    outcome, told = run(plan, queue)
    assert [record.id for record in outcome.records] == [planned.id for planned in plan.runs]
    assert not outcome.interrupted
    assert [entry[1:] for entry in queue.submitted] == [(4, 1, 4)]  # two solvers, two groups of three baselines
    assert told == [f"4 jobs handed in as {queue.submitted[0][0]}"]
    assert not (tmp_path / "slurm").exists()
    again, _ = run(plan, queue)
    assert again.records == outcome.records
    assert len(queue.submitted) == 1


def test_a_job_leaves_the_record_that_a_run_here_leaves(plan: Plan, tmp_path: Path) -> None:
    one = replace(plan, runs=plan.runs[:1])

    def happens(queue: MadeUp, name: str, place: int) -> None:
        before = signal.getsignal(signal.SIGUSR2)
        assert Node(queue.store.folder / "slurm" / f"{name}.json", place).work() == 0  # as the node's process does
        signal.signal(signal.SIGUSR2, before)

    (there,) = run(one, MadeUp(Store(tmp_path / "there"), happens), shared=False)[0].records
    (here,) = execute(one, Store(tmp_path / "here")).records
    assert there.status is Status.OK
    assert lasting(there) == lasting(here)
    assert not (tmp_path / "there" / "slurm").exists()


def test_a_limit_holds_for_all_jobs_and_threads_do_not_mix(plan: Plan, tmp_path: Path) -> None:
    wide = [run.model_copy(update={"spec": run.spec.model_copy(update={"threads": 2})}) for run in plan.runs]
    mixed = [*(run for run in plan.runs if run.spec.seed == 0), *(run for run in wide if run.spec.seed == 1)]
    queue = MadeUp(Store(tmp_path), finishes)
    run(replace(plan, runs=tuple(mixed)), queue, limit=1, in_order=True)
    assert [entry[1:] for entry in queue.submitted] == [(2, 1, 1), (2, 2, 1)]


def test_large_plans_are_handed_in_piece_by_piece(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ARRAY", 3)
    queue = MadeUp(Store(tmp_path), finishes)
    outcome, _ = run(plan, queue)
    assert [entry[1] for entry in queue.submitted] == [3, 1]
    assert len(outcome.records) == len(plan.runs)


@pytest.mark.parametrize(
    ("happens", "status", "reason"),
    [
        (does("FAILED"), Status.ERROR, "ended as FAILED without a record"),
        (does("OUT_OF_MEMORY", what="going"), Status.OOM, "took more memory than it asked for"),
        (does("TIMEOUT", what="going"), Status.TIMEOUT, "the limit of time of job 1_"),
        (does("COMPLETED", what="stuck"), Status.TIMEOUT, "before a checkpoint"),
        (does("FAILED", what="refused", message="the code has changed"), Status.ERROR, "the code has changed"),
        (does("CANCELLED", what="stopped"), Status.ERROR, "was cancelled"),
        (does("CANCELLED", what="again"), Status.ERROR, "was cancelled"),
    ],
)
def test_a_job_that_leaves_no_record_becomes_a_row(
    plan: Plan, tmp_path: Path, happens: Callable[[MadeUp, str, int], None], status: Status, reason: str
) -> None:
    queue = MadeUp(Store(tmp_path), happens)
    outcome, told = run(plan, queue, shared=False)
    assert len(queue.submitted) == 1
    assert len(outcome.records) == len(plan.runs)
    for record in solvers(outcome):
        assert record.status is status
        assert reason in record.reason
        assert record.cancelled == ("cancelled" in reason)
        assert not record.shared_device
    assert told[-1].startswith("logs of failed jobs: ")
    if not solvers(outcome)[0].cancelled and status is Status.ERROR:
        queue.happens = finishes  # an error is tried again by the same command
        again, _ = run(plan, queue)
        assert [(record.status, record.tries) for record in solvers(again)] == [(Status.OK, 3)] * 2


def test_cancelled_runs_stay_ended_until_they_are_asked_for(plan: Plan, tmp_path: Path) -> None:
    queue = MadeUp(Store(tmp_path), does("CANCELLED"))
    first, _ = run(plan, queue)
    assert all(record.final(record.spec) and not record.passing for record in solvers(first))
    assert run(plan, queue)[0].records == first.records
    assert len(queue.submitted) == 1
    queue.happens = finishes
    again, _ = run(plan, queue, repeat={record.id for record in solvers(first)})
    assert [record.status for record in solvers(again)] == [Status.OK] * 2
    assert queue.submitted[1][1] == 2


@pytest.mark.parametrize(
    "happens",
    [
        does("PREEMPTED", times=2, what="stopped"),
        does("NODE_FAIL", times=2, what="going"),
        does("FAILED", times=2, what="again"),
        does("FAILED", times=2, what="stopped"),
    ],
)
def test_what_the_queue_ended_is_handed_in_again(
    plan: Plan, tmp_path: Path, happens: Callable[[MadeUp, str, int], None]
) -> None:
    queue = MadeUp(Store(tmp_path), happens)
    outcome, told = run(plan, queue)
    assert [record.status for record in outcome.records] == [Status.OK] * len(plan.runs)
    assert sum(entry[1] for entry in queue.submitted) == 6
    assert any("handed in again" in line for line in told)
    assert not (tmp_path / "slurm").exists()


def test_a_job_is_not_handed_in_for_ever(plan: Plan, tmp_path: Path) -> None:
    queue = MadeUp(Store(tmp_path), does("NODE_FAIL"))
    outcome, _ = run(plan, queue)
    assert {record.status for record in solvers(outcome)} == {Status.ERROR}
    assert f"(NODE_FAIL), and so were {LOSSES} before it" in solvers(outcome)[0].reason
    assert [entry[1] for entry in queue.submitted] == [4] + [2] * LOSSES


def test_a_killed_job_goes_on_only_if_it_got_on(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)

    def happens(queue: MadeUp, name: str, place: int) -> None:
        runs = queue.batch(name).groups[place]
        if not queue.states[name, place].live:
            return
        if runs[0].spec.kind != "solver" or len(queue.submitted) > 1:
            queue.finish(name, place)
            return
        queue.note(name, place, what="going", mark=mark(store, runs))
        if runs[0].spec.seed == 0:
            store.checkpoint(runs[0].id).parent.mkdir(exist_ok=True)
            store.checkpoint(runs[0].id).write_bytes(b"weights")
        queue.become(name, place, "TIMEOUT")

    outcome, _ = run(plan, MadeUp(store, happens))
    assert [record.status for record in solvers(outcome)] == [Status.OK, Status.TIMEOUT]


def test_only_the_run_that_failed_gets_its_row_and_the_others_of_the_job_are_done(plan: Plan, tmp_path: Path) -> None:
    baselines = replace(plan, runs=tuple(run for run in plan.runs if (run.spec.kind, run.spec.seed) == ("baseline", 0)))

    def happens(queue: MadeUp, name: str, place: int) -> None:
        if len(queue.submitted) > 1:
            finishes(queue, name, place)
        else:
            queue.become(name, place, "OUT_OF_MEMORY")

    outcome, _ = run(baselines, MadeUp(Store(tmp_path), happens))
    assert [record.status for record in outcome.records] == [Status.OOM, Status.OK, Status.OK]


def test_a_parent_that_comes_back_waits_for_its_jobs(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    queue = MadeUp(store, lambda queue, name, place: None)
    first = interrupted(plan, queue, looks=3)
    assert first.queued == (queue.submitted[0][0],)
    still, told = run(plan, queue, deadline=perf_counter() - 1)
    assert still.queued == first.queued
    assert told == ["4 jobs are in the queue from an earlier call, and will be waited for"]
    queue.happens = finishes
    second, _ = run(plan, queue)
    assert not second.interrupted
    assert len(second.records) == len(plan.runs)
    assert len(queue.submitted) == 1
    assert not (tmp_path / "slurm").exists()


def test_what_happened_while_nobody_looked_is_settled(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    queue = MadeUp(store, lambda queue, name, place: None)
    name = interrupted(plan, queue, looks=2).queued[0]
    for place, runs in enumerate(queue.batch(name).groups):
        if runs[0].spec.kind == "baseline":
            queue.finish(name, place)
        queue.states.pop((name, place))  # the queue has forgotten them all
        if (runs[0].spec.kind, runs[0].spec.seed) == ("solver", 1):
            queue.accounts[name, place] = Job(f"1_{place}", "NODE_FAIL")
    queue.happens = finishes
    outcome, _ = run(plan, queue)
    zero, one = solvers(outcome)
    assert zero.cancelled
    assert "does not remember why" in zero.reason
    assert one.status is Status.OK
    assert [entry[1] for entry in queue.submitted] == [4, 1]


def test_a_parent_that_ended_before_or_while_it_handed_in(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    queue = MadeUp(store, lambda queue, name, place: None)
    name = interrupted(plan, queue, looks=2).queued[0]
    batch = queue.batch(name).model_copy(update={"submitted": False})
    Batches(store).write(batch)
    queue.happens = finishes
    run(plan, queue)
    assert len(queue.submitted) == 1  # the queue has its jobs

    other = Store(tmp_path / "other")
    Batches(other).write(batch)
    queue = MadeUp(other, finishes)
    outcome, _ = run(plan, queue)
    assert len(queue.submitted) == 1  # it had none
    assert len(outcome.records) == len(plan.runs)
    assert not (other.folder / "slurm").exists()


def test_of_a_job_that_was_handed_in_again_the_later_one_counts(plan: Plan, tmp_path: Path) -> None:
    def happens(queue: MadeUp, name: str, place: int) -> None:
        if name == queue.submitted[0][0]:
            does("NODE_FAIL", what="going")(queue, name, place)

    queue = MadeUp(Store(tmp_path), happens)
    first = interrupted(plan, queue, looks=6)
    assert len(queue.submitted) == 2
    assert first.queued == (queue.submitted[1][0],)
    queue.happens = finishes
    second, _ = run(plan, queue)
    assert [record.status for record in second.records] == [Status.OK] * len(plan.runs)
    assert len(queue.submitted) == 2


def test_force_forgets_checkpoints_and_takes_new_records_only(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    queue = MadeUp(store, finishes)
    run(plan, queue)
    checkpoint = store.checkpoint(plan.runs[0].id)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"old")
    looked: list[bool] = []

    def happens(queue: MadeUp, name: str, place: int) -> None:
        looked.append(checkpoint.exists())
        if queue.looks > 20:
            finish_anew(queue, name, place)

    def finish_anew(queue: MadeUp, name: str, place: int) -> None:
        if queue.states[name, place].live:
            queue.finish(name, place, Status.DIVERGED)

    queue.happens, queue.looks = happens, 0
    outcome, _ = run(plan, queue, force=True)
    assert not any(looked)
    assert {record.status for record in outcome.records} == {Status.DIVERGED}
    assert queue.looks > 20


def test_a_queue_that_does_not_answer_is_asked_again(plan: Plan, tmp_path: Path) -> None:
    queue = MadeUp(Store(tmp_path), finishes, silent=0)

    def happens(queue: MadeUp, name: str, place: int) -> None:
        if queue.looks == 2:
            queue.silent = 3
        if queue.looks > 5:
            finishes(queue, name, place)

    queue.happens = happens
    outcome, told = run(plan, queue)
    assert len(outcome.records) == len(plan.runs)
    assert [line for line in told if "does not answer" in line] == [
        "the queue does not answer, and is asked again: squeue: away"
    ]
    with pytest.raises(UsageError, match="SLURM does not answer: squeue: away"):
        run(plan, MadeUp(Store(tmp_path / "other"), finishes, silent=1))


def test_a_node_that_cannot_write_ends_it_and_a_refused_array_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    queue = MadeUp(Store(tmp_path), does("FAILED", what="cannot write", message="cannot write 'x': no space"))
    with pytest.raises(StoreError, match="no space"):
        run(plan, queue)
    queue.happens = finishes
    outcome, _ = run(plan, queue)  # there is room again
    assert [record.status for record in outcome.records] == [Status.OK] * len(plan.runs)

    class Refusing(MadeUp):
        def submit(self, *args: object, **options: object) -> None:
            raise UsageError("SLURM refuses the jobs: invalid partition")

    with pytest.raises(UsageError, match="invalid partition"):
        run(plan, Refusing(Store(tmp_path / "other"), finishes))
    assert not (tmp_path / "other" / "slurm").exists()


def test_the_user_sees_how_far_runs_are_and_what_waits_in_vain(plan: Plan, tmp_path: Path) -> None:
    heard: list[str] = []

    def happens(queue: MadeUp, name: str, place: int) -> None:
        planned = queue.batch(name).groups[place][0]
        if queue.looks < 4:
            queue.states[name, place] = Job(f"1_{place}", "PENDING", "JobHeldUser")
        elif queue.looks < 6:
            queue.become(name, place, "RUNNING")
            queue.note(name, place, what="going", run=planned.id, progress=0.5, step=10)
        else:
            finishes(queue, name, place)

    def listen(run: object, event: object) -> None:
        heard.append(getattr(event, "phase", "record"))

    _, told = run(plan, MadeUp(Store(tmp_path), happens), listen=listen)
    assert sum("waits: JobHeldUser" in line for line in told) == 4
    assert heard.count("setup") == 4
    assert heard.count("train") == 8
    assert heard.count("record") == len(plan.runs)


def test_verdicts_where_the_queue_knows_nothing() -> None:
    assert verdict(None, None, moved=False).cancelled  # a job that never began can only be cancelled
    assert verdict(None, Note(what="stopped"), moved=True).cancelled
    assert verdict(None, Note(what="going"), moved=False) == Verdict(
        lost=True, reason="its job was ended by its node or by the queue (no state)"
    )
    assert verdict(None, Note(what="again"), moved=True) == Verdict()


def test_a_node_does_only_what_runs_are_named_for(plan: Plan) -> None:
    runs = [plan.runs[0]]
    batch = Batch(name="otbench-x", groups=[runs], lost=[0], before={runs[0].id: ""})
    assert unfit(batch, runs) == ""
    assert "another card (cpu)" in unfit(batch.model_copy(update={"card": "NVIDIA H100"}), runs)
    changed = [runs[0].model_copy(update={"source": runs[0].source | {"toy.py": "0"}})]
    assert unfit(batch, changed) == "the code has changed since the job was handed in"


def test_the_name_of_the_card_comes_from_a_node(tmp_path: Path) -> None:
    path = card_file(tmp_path, ["partition=gpu", "gpus=1"])
    assert path == card_file(tmp_path, ["gpus=1", "partition=gpu"]) != card_file(tmp_path, ["gpus=1"])

    def happens(queue: MadeUp, name: str, place: int) -> None:
        if queue.looks > 3:
            path.write_text('["Card", "Card"]')

    queue = MadeUp(Store(tmp_path), happens)
    assert find_cards(queue, path) == find_cards(queue, path) == ("Card", "Card")
    assert len(queue.submitted) == 1

    path.write_text("[]")
    with pytest.raises(UsageError, match="no CUDA GPU that torch can use"):
        find_cards(queue, path)
    path.unlink()
    failing = MadeUp(Store(tmp_path), lambda queue, name, place: queue.become(name, place, "FAILED"))
    with pytest.raises(UsageError, match=r"ended \(FAILED\) without an answer"):
        find_cards(failing, path)
