"""Augmented CycleGAN and MUNIT: losses are their formulas, both maps keep shapes, resume, and what is declined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.nets.translation import PatchCritic
from otbench.problem import PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.solvers._translation import Judged, Translation, critic_loss, map_loss
from otbench.solvers.augcyclegan import AugCycleGAN
from otbench.solvers.munit import MUNIT

Make = Callable[..., Any]
CPU = torch.device("cpu")
KINDS: list[type[Translation[Any]]] = [AugCycleGAN, MUNIT]
SMALL: dict[str, Any] = {"batch_size": 2, "width": 2, "critic_width": 2, "blocks": 1}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(shape: tuple[int, ...] = (1, 32, 32), *, dtype: torch.dtype = torch.float32, scale: float = 0.9) -> Problem:
    """Images, the left half of which is bright, to such whose right half is."""
    x = -scale * torch.rand(12, *shape, generator=generator()).to(dtype)
    x[..., : shape[-1] // 2].neg_()
    return Problem(PoolMeasure(x), PoolMeasure(x.flip(-1)), QuadraticCost(), CPU, dtype)


def batches(problem: Problem, noise: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = (side.sample(2, generator=generator(1)).x for side in (problem.source, problem.target))
    z, w = torch.randn(2, 2, noise, generator=generator(2), dtype=x.dtype)
    return x, y, z, w


@pytest.mark.parametrize("kind", KINDS)
def test_both_maps_keep_shapes_and_draw_from_the_given_generator(kind: type[Translation[Any]], make_run: Make) -> None:
    problem = pairs((3, 36, 40))
    maps = make_run(kind, problem, steps=2, **SMALL).train().transport()
    assert maps.stochastic
    assert not maps.reads_label
    x = problem.source.sample(3, generator=generator()).x
    for way in (maps.forward, maps.backward):
        one, same, other = (way(x, generator=generator(seed)) for seed in (1, 1, 2))
        assert one.shape == x.shape
        assert float(one.abs().max()) <= 1
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    assert all(name.startswith(("encode", "decode")) for name in maps.state_dict())  # no critic, no code


def test_the_losses_of_critics_and_maps_are_least_squares() -> None:
    real, made = torch.tensor([[0.5], [2.0]]), torch.tensor([[1.0], [3.0]], requires_grad=True)
    judged = [Judged(lambda v: v, real, made), Judged(lambda v: [v, 2 * v], real, made)]
    first = (0.25 + 1) / 2 + (1 + 9) / 2
    second = (0 + 9) / 2 + (4 + 36) / 2
    critics = critic_loss(judged)
    assert float(critics) == pytest.approx(2 * first + second)
    assert not critics.requires_grad  # neither critic has a weight, and none goes to what was made
    assert float(map_loss(judged).detach()) == pytest.approx(2 * (0 + 4) / 2 + (1 + 25) / 2)


def test_augmented_cyclegan_has_the_published_loss(make_run: Make) -> None:
    problem = pairs(dtype=torch.float64)
    solver = make_run(AugCycleGAN, problem, latent=3, cycle=2.0, code_cycle=0.5, **SMALL).solver
    x, y, z_a, z_b = batches(problem, 3)
    encode_a, encode_b, decode_a, decode_b = solver.maps
    code_a, code_b = solver.codes

    def there(image: Tensor, z: Tensor) -> Tensor:
        return decode_b(encode_a(image), z)  # type: ignore[no-any-return]

    def back(image: Tensor, z: Tensor) -> Tensor:
        return decode_a(encode_b(image), z)  # type: ignore[no-any-return]

    fake_b, fake_a = there(x, z_b), back(y, z_a)
    found_a, found_b = code_a(torch.cat((x, fake_b), 1)), code_b(torch.cat((fake_a, y), 1))
    cycle = (back(fake_b, found_a) - x).abs().mean() + (there(fake_a, found_b) - y).abs().mean()
    codes = (code_b(torch.cat((x, fake_b), 1)) - z_b).abs().mean() + (
        code_a(torch.cat((fake_a, y), 1)) - z_a
    ).abs().mean()
    judged, own = solver.translated(x, y, z_a, z_b)
    torch.testing.assert_close(own, 2 * cycle + 0.5 * codes)
    for shown, real, made in zip(judged, (x, y, z_a, z_b), (fake_a, fake_b, found_a, found_b), strict=True):
        assert torch.equal(shown.real, real)
        torch.testing.assert_close(shown.made, made)


def test_munit_has_the_published_loss(make_run: Make) -> None:
    problem = pairs(dtype=torch.float64)
    solver = make_run(MUNIT, problem, style=3, image=5.0, style_weight=2.0, content=3.0, **SMALL).solver
    x, y, s_a, s_b = batches(problem, 3)
    content_a, content_b, decode_a, decode_b = solver.maps
    style_a, style_b = solver.codes
    to_b, to_a = decode_b(content_a(x), s_b), decode_a(content_b(y), s_a)
    images = (decode_a(content_a(x), style_a(x)) - x).abs().mean() + (
        decode_b(content_b(y), style_b(y)) - y
    ).abs().mean()
    styles = (style_a(to_a) - s_a).abs().mean() + (style_b(to_b) - s_b).abs().mean()
    contents = (content_b(to_b) - content_a(x)).abs().mean() + (content_a(to_a) - content_b(y)).abs().mean()
    judged, own = solver.translated(x, y, s_a, s_b)
    torch.testing.assert_close(own, 5 * images + 2 * styles + 3 * contents)
    for shown, real, made in zip(judged, (x, y), (to_a, to_b), strict=True):
        assert torch.equal(shown.real, real)
        torch.testing.assert_close(shown.made, made)
    assert [value.shape[2:] for value in solver.critics[0](x)] == [(4, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_moves_and_a_resumed_run_is_an_unbroken_one(kind: type[Translation[Any]], make_run: Make) -> None:
    problem = pairs()
    whole, first, second = (make_run(kind, problem, steps=4, seed=seed, **SMALL) for seed in (5, 5, 6))
    nets = (whole.solver.maps, whole.solver.codes, whole.solver.critics)
    before = [[weight.detach().clone() for weight in net.parameters()] for net in nets]
    whole.train(3)
    first.train(1)
    second.solver.load_state_dict(first.solver.state_dict())
    second.done = 1
    second.train(2)
    x = problem.source.sample(2, generator=generator(2)).x
    for way in ("forward", "backward"):
        one, other = (getattr(run.solver.transport(), way)(x, generator=generator(3)) for run in (whole, second))
        assert torch.equal(one, other)
    for net, old in zip(nets, before, strict=True):
        for (name, weight), was in zip(net.named_parameters(), old, strict=True):
            assert not torch.equal(weight, was), name
            assert weight.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_labels_change_nothing(kind: type[Translation[Any]], make_run: Make) -> None:
    plain = pairs()
    label = torch.arange(12) % 2
    source, target = (PoolMeasure(side.pool, label=label, classes=2) for side in (plain.source, plain.target))  # type: ignore[arg-type]
    named = Problem(source, target, plain.cost, CPU, plain.dtype)
    losses = [float(make_run(kind, given, **SMALL).solver.step().loss) for given in (plain, named)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_they_decline(kind: type[Translation[Any]]) -> None:
    def reason(problem: Problem) -> str:
        return kind.supports(problem).reason

    assert kind.supports(pairs()).ok
    assert reason(pairs((2,))) == "needs images (channels, height, width), not vectors"
    assert "at least 32 x 32 pixels" in reason(pairs((1, 28, 28)))
    assert "a multiple of 4" in reason(pairs((1, 34, 32)))
    assert reason(pairs(scale=255.0)) == "needs pixels in [-1, 1]"
    given = pairs()
    assert "quadratic" in reason(Problem(given.source, given.target, PowerCost(3), CPU, given.dtype))


@pytest.mark.parametrize(
    ("kind", "size", "values"),
    [
        (AugCycleGAN, 93_750, {"lr": 2e-4, "batch_size": 32, "width": 32, "critic_width": 64, "latent": 16}),
        (MUNIT, 1_000_000, {"lr": 1e-4, "batch_size": 1, "width": 64, "blocks": 4, "weight_decay": 1e-4}),
    ],
)
def test_paper_has_the_published_values(
    kind: type[Translation[Any]], size: int, values: dict[str, float], valid_presets: Make
) -> None:
    paper = valid_presets(kind)["paper"]
    assert paper["steps"] == size
    assert {key: paper[key] for key in values} == values


@pytest.mark.parametrize(
    ("decay", "rates"), [("linear", (1.0, 1.0, 0.5, 0.0)), ("halving", (1.0, 0.5**5, 0.5**7, 0.5**9))]
)
def test_rates_fall_as_published(decay: str, rates: tuple[float, ...], make_run: Make) -> None:
    run = make_run(MUNIT, pairs(), steps=100, decay=decay, lr=1.0, **SMALL)
    for done, rate in zip((0, 50, 75, 100), rates, strict=True):
        run.done = done
        run.solver.step()
        for optimiser in (run.solver.map_optimiser, run.solver.critic_optimiser):
            assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_critic_has_at_most_three_scales() -> None:
    with pytest.raises(ValueError, match="1 to 3 scales"):
        PatchCritic(1, width=2, scales=4)
