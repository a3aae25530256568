from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.nets.dense_icnn import Activation, DenseICNN, dense_icnn_widths
from otbench.nets.potential import Potential, QuadraticPotential

from ..helpers.plain_icnn import by_definition

DOUBLE = torch.float64


def make(
    dim: int = 3,
    *,
    widths: tuple[int, ...] = (5, 4, 3),
    rank: int = 1,
    activation: Activation = "softplus",
    seed: int = 0,
    std: float = 0.4,
    dtype: torch.dtype = DOUBLE,
) -> DenseICNN:
    generator = torch.Generator().manual_seed(seed)
    return DenseICNN(
        dim, widths=widths, rank=rank, activation=activation, init_std=std, generator=generator, dtype=dtype
    )


def points(n: int, dim: int = 3, *, seed: int = 1, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    ("dim", "plain", "space_time"),
    [
        (2, 6976, 7296),
        (4, 7616, 7936),
        (8, 8896, 9216),
        (16, 11456, 11776),
        (32, 16576, 16896),
        (64, 65920, 66560),
        (128, 262912, 264192),
        (256, 1050112, 1052672),
    ],
)
def test_parameter_counts_are_the_published_ones(dim: int, plain: int, space_time: int) -> None:
    def count(net: DenseICNN) -> int:
        return sum(p.numel() for p in net.parameters())

    assert count(DenseICNN(dim)) == plain
    assert count(DenseICNN(dim + 1, widths=dense_icnn_widths(dim))) == space_time


def test_every_parameter_starts_at_the_same_normal_law_and_from_the_given_generator() -> None:
    net = DenseICNN(32, generator=torch.Generator().manual_seed(3))
    again = DenseICNN(32, generator=torch.Generator().manual_seed(3))
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
        assert abs(p.std().item() / 0.1 - 1) < 5 / p.numel() ** 0.5
        assert abs(p.mean().item()) < 0.5 / p.numel() ** 0.5


@pytest.mark.parametrize("activation", ["softplus", "celu"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("widths", [(5, 4), (5, 4, 3), (3, 6, 2, 4)])
def test_values_and_all_first_derivatives_equal_those_of_the_definition(
    activation: Activation, rank: int, widths: tuple[int, ...]
) -> None:
    net = make(activation=activation, rank=rank, widths=widths)
    x = points(7).requires_grad_()
    wrt = [x, *net.parameters()]
    value = by_definition(net, x)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    g_bar, v_bar = points(7, 1, seed=2).squeeze(1), points(7, seed=3)

    fast_value, fast_gradient = net.value_and_gradient(x)
    with torch.no_grad():
        for found in (net(x), net.value_and_gradient(x)[0], fast_value):
            torch.testing.assert_close(found, value)
        for found in (net.gradient(x), net.value_and_gradient(x)[1], fast_gradient):
            torch.testing.assert_close(found, gradient)
    assert net.gradient(x.detach()).grad_fn is not None
    pairs = [
        ((value * g_bar).sum(), (net(x) * g_bar).sum()),
        ((gradient * v_bar).sum(), (net.gradient(x) * v_bar).sum()),
        ((value * g_bar).sum() + (gradient * v_bar).sum(), (fast_value * g_bar).sum() + (fast_gradient * v_bar).sum()),
    ]
    for expected, found in pairs:
        for p, q in zip(
            torch.autograd.grad(expected, wrt, retain_graph=True, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(found, wrt, retain_graph=True, allow_unused=True, materialize_grads=True),
            strict=True,
        ):
            torch.testing.assert_close(q, p)


@pytest.mark.parametrize("activation", ["softplus", "celu"])
def test_derivatives_equal_finite_differences_up_to_third_order(activation: Activation) -> None:
    net = make(2, activation=activation, rank=2, widths=(2, 3, 2))
    x = points(2, 2).requires_grad_()
    names, parameters = zip(*net.named_parameters(), strict=True)

    def call(what: str):  # type: ignore[no-untyped-def]
        def run(x: Tensor, *values: Tensor) -> Tensor:
            method = {"forward": net.forward, "gradient": net.gradient}[what]
            stand_in = dict(zip(names, values, strict=True))
            return torch.func.functional_call(Bound(net, method), {f"net.{k}": v for k, v in stand_in.items()}, (x,))

        return run

    assert torch.autograd.gradcheck(call("forward"), (x, *parameters))
    assert torch.autograd.gradcheck(call("gradient"), (x, *parameters))
    for what in ("forward", "gradient"):
        assert torch.autograd.gradgradcheck(call(what), (x, *parameters), fast_mode=True)


class Bound(torch.nn.Module):
    """Gives `functional_call` a method other than forward."""

    def __init__(self, net: DenseICNN, method) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.net, self.method = net, method

    def forward(self, x: Tensor) -> Tensor:
        return self.method(x)


def test_frozen_weights_and_points_without_gradient_cost_no_graph() -> None:
    net = make().requires_grad_(False)
    assert net.gradient(points(2)).grad_fn is None
    x = points(2).requires_grad_()
    (hessian_row,) = torch.autograd.grad(net.gradient(x)[:, 0].sum(), x)
    assert hessian_row.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    std=st.floats(0.01, 1.0),
    activation=st.sampled_from(["softplus", "celu"]),
    scale=st.floats(0.1, 30.0),
)
def test_clamped_network_is_convex(seed: int, std: float, activation: Activation, scale: float) -> None:
    net = make(seed=seed, std=std, activation=activation)
    net.clamp_convex_()
    assert all((weight >= 0).all() for weight in (*net.mixing, net.readout))
    x, y = points(32, seed=seed) * scale, points(32, seed=seed + 1) * scale
    with torch.no_grad():
        slack = net.gradient(x) - net.gradient(y)
        assert ((slack * (x - y)).sum(1) >= -1e-9 * (1 + slack.norm(dim=1) * (x - y).norm(dim=1))).all()
        middle = (net(x) + net(y)) / 2 - net((x + y) / 2)
        assert (middle >= -1e-9 * (1 + net(x).abs() + net(y).abs())).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 5), rank=st.integers(1, 3), dim=st.integers(1, 4))
def test_samples_do_not_see_each_other(seed: int, n: int, rank: int, dim: int) -> None:
    net = make(dim, rank=rank, seed=seed)
    x = points(n, dim, seed=seed)
    with torch.no_grad():
        value, gradient = net.value_and_gradient(x)
        assert value.shape == (n,)
        assert gradient.shape == (n, dim)
        for i in range(n):
            torch.testing.assert_close(net.gradient(x[i : i + 1])[0], gradient[i])
            torch.testing.assert_close(net(x[i : i + 1])[0], value[i])


@pytest.mark.parametrize(("activation", "sign"), list(itertools.product(["softplus", "celu"], [-1, 1])))
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e3, 1e6])
def test_extreme_inputs_stay_finite_and_right(activation: Activation, sign: int, size: float) -> None:
    net = make(activation=activation, dtype=torch.float32, std=0.1)
    with torch.no_grad():
        net.readout.mul_(sign)
    x = (points(16, dtype=torch.float32) * size).requires_grad_()
    value, gradient = net.value_and_gradient(x)
    scale = max(size, 1.0)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    torch.testing.assert_close(value, by_definition(net, x), rtol=1e-4, atol=1e-5)
    for found in torch.autograd.grad((gradient / scale).sum() + (value / scale**2).sum(), [x, *net.parameters()]):
        assert found.isfinite().all()


def test_wrong_sizes_are_refused() -> None:
    for widths in ((4,), (4, 0)):
        with pytest.raises(ValueError, match="two or more widths"):
            DenseICNN(2, widths=widths)
    with pytest.raises(ValueError, match="rank"):
        DenseICNN(2, rank=0)


def test_quadratic_potential_is_its_formula() -> None:
    matrix = torch.tensor([[0.5, 0.2], [0.2, -0.3]], dtype=DOUBLE)
    potential = QuadraticPotential(matrix, torch.tensor([1.0, -2.0], dtype=DOUBLE))
    assert isinstance(potential, Potential)
    assert isinstance(make(), Potential)
    x = points(5, 2).requires_grad_()
    value, gradient = potential.value_and_gradient(x)
    torch.testing.assert_close(value, potential(x))
    torch.testing.assert_close(value, torch.einsum("ni,ij,nj->n", x, matrix, x) / 2 + x[:, 0] - 2 * x[:, 1])
    torch.testing.assert_close(gradient, torch.autograd.grad(value.sum(), x)[0])
    torch.testing.assert_close(gradient, potential.gradient(x))
