"""Classes of measures: class-balanced batches, points followed by their class, what a problem says of its classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.ops.points import class_points, training_batch
from otbench.problem import Batch, Measure, PoolMeasure, Problem, QuadraticCost, with_class
from otbench.samplers import ClassSampler, EpochSampler, Repeated, by_class, sampler_of

CPU = torch.device("cpu")


def pool(label: list[int], classes: int) -> PoolMeasure:
    """Points whose only coordinate is their place."""
    x = torch.arange(len(label), dtype=torch.float32)[:, None]
    return PoolMeasure(x, label=torch.tensor(label), classes=classes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(source: Measure, target: Measure) -> Problem:
    return Problem(source, target, QuadraticCost(), CPU, torch.float32)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.lists(st.integers(-1, 4), max_size=60), st.integers(1, 40), st.integers(0, 99))
def test_batches_are_balanced_in_turn_and_never_unlabelled(
    classes: int, label: list[int], size: int, seed: int
) -> None:
    label = [k for k in label if k < classes] + 2 * list(range(classes))
    measure = pool(label, classes)
    sampler = ClassSampler(measure, size, generator(seed))
    smallest = min(label.count(k) for k in range(classes))
    assert sampler.per_class == min(max(2, size // classes), smallest)
    for _ in range(3):
        batch = sampler.next()
        assert batch.label is not None
        assert batch.index is not None
        assert len(batch.x) == sampler.batch_size == classes * sampler.per_class
        assert torch.equal(batch.label, torch.arange(len(batch.x)) % classes)
        assert len(batch.index.unique()) == len(batch.index)
        assert torch.equal(batch.x, measure.pool[batch.index])
        grouped = by_class(batch.label[:, None], classes)
        assert torch.equal(grouped[:, :, 0], torch.arange(classes)[:, None].expand(-1, sampler.per_class))
    assert measure.drawn == 3 * sampler.batch_size


def test_an_epoch_of_each_class_shows_every_point_once() -> None:
    measure = pool([0, 1, -1] * 6 + [1] * 6, 2)  # 6 of class 0, 12 of class 1
    sampler = ClassSampler(measure, 6, generator())
    seen = torch.cat([sampler.next().x.flatten() for _ in range(4)])
    assert len(set(seen[1::2].tolist())) == 12
    assert all(len(set(part[::2].tolist())) == 6 for part in seen.split(12))


def test_resumed_sampler_goes_on_where_the_other_stopped() -> None:
    measure = pool([0, 1, 2] * 20, 3)
    source = generator(1)
    whole = ClassSampler(measure, 12, source)
    for _ in range(3):
        whole.next()
    state, word = whole.state_dict(), source.get_state()
    expected = [whole.next().x for _ in range(7)]
    again = generator()
    resumed = ClassSampler(measure, 12, again)
    resumed.load_state_dict(state)
    again.set_state(word)
    assert all(torch.equal(resumed.next().x, x) for x in expected)


def test_fresh_measures_are_asked_for_the_classes() -> None:
    class Fresh(Measure):
        shape, classes = (1,), 3

        def _draw(self, n: int, generator: torch.Generator, label: int | Tensor | None) -> Batch:
            assert isinstance(label, Tensor)
            return Batch(label[:, None].float(), label)

    measure = Fresh()
    assert ClassSampler(measure, 7, generator()).next().x.flatten().tolist() == [0, 1, 2, 0, 1, 2]
    assert problem(measure, measure).scarce(10**6) == ""


def test_sampler_without_balance_does_not_look_at_labels() -> None:
    assert isinstance(sampler_of(pool([0, 1], 2), 2, generator(), balanced=False), EpochSampler)
    assert isinstance(sampler_of(pool([0, 1], 2), 2, generator(), balanced=True), ClassSampler)
    for label in ([0, -1], [-1, -1]):
        with pytest.raises(ValueError, match="labelled point"):
            ClassSampler(pool(label, 2), 4, generator())


def test_points_are_followed_by_their_class() -> None:
    x = torch.arange(12.0).view(3, 2, 2)
    label = torch.tensor([2, -1, 0])
    found = with_class(x, label, 3)
    assert torch.equal(found[:, :4], x.flatten(1))
    assert found[:, 4:].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert torch.equal(with_class(x, label, 0), x.flatten(1))
    with pytest.raises(ValueError, match="class of each point"):
        with_class(x, None, 3)


def test_problem_knows_its_classes_and_which_are_scarce() -> None:
    labelled, plain = pool([0, 1, 1, -1], 2), PoolMeasure(torch.zeros(4, 1))
    assert problem(labelled, labelled).classes == 2
    assert problem(labelled, plain).classes == problem(plain, labelled).classes == 0
    assert problem(labelled, plain).scarce() == ""
    assert problem(labelled, labelled).scarce(1) == ""
    assert "class 0 of the source has 1" in problem(labelled, labelled).scarce(2)
    assert "class 0 of the target has 1" in problem(labelled, labelled).scarce(2, sides=("target",))
    with pytest.raises(ValueError, match="relabel"):
        problem(labelled, pool([0, 1, 2], 3))


def test_training_points_keep_their_classes() -> None:
    measure = pool([0, 1, -1] * 4, 2)
    batch = training_batch(measure, generator(), 5)
    assert batch.label is not None
    assert torch.equal(batch.label, measure.pool_label[batch.x.flatten().long()])  # type: ignore[index]
    assert class_points(measure, 1, generator()).flatten().tolist() == [1, 4, 7, 10]
    assert measure.drawn == 9


def test_each_batch_is_given_as_often_as_asked_for_and_a_resumed_sampler_goes_on_within_it() -> None:
    def sampler(source: torch.Generator) -> Repeated:
        return Repeated(EpochSampler(pool([0, 1] * 10, 2), 4, source), 3)

    source = generator(1)
    whole = sampler(source)
    seen = [whole.next().x for _ in range(4)]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[2], seen[3])
    again = generator()
    resumed = sampler(again)
    resumed.load_state_dict(whole.state_dict())
    again.set_state(source.get_state())
    assert all(torch.equal(whole.next().x, resumed.next().x) for _ in range(6))
