from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from otbench.config import Value, build_config
from otbench.errors import UsageError
from otbench.nets.potential import QuadraticPotential
from otbench.ops.jacobian import jacobian
from otbench.problem import FreshMeasure, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context
from otbench.solvers.fixedpoint import FixedPoint, FixedPointConfig

CPU = torch.device("cpu")


def root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.sqrt() @ vectors.t()


class Pair:
    """Two centred Gaussians with spectra in [0.5, 2], and the exact map between them."""

    def __init__(self, dim: int, *, seed: int = 100, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)

        def covariance() -> Tensor:
            q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
            spectrum = (torch.rand(dim, generator=generator, dtype=torch.float64) * 2 - 1) * math.log(2)
            return q * spectrum.exp() @ q.t()

        s0, s1 = covariance(), covariance()
        half = root(s0)
        self.gamma = (torch.linalg.inv(half) @ root(half @ s1 @ half) @ torch.linalg.inv(half)).to(dtype)
        self.w2_squared = (s0.trace() + s1.trace() - 2 * root(half @ s1 @ half).trace()).item()
        self.roots = torch.linalg.cholesky(s0).to(dtype), torch.linalg.cholesky(s1).to(dtype)
        self.traces = s0.trace().item(), s1.trace().item()
        self.dim, self.dtype = dim, dtype

    def sample(self, side: int, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.dim, generator=generator, dtype=self.dtype) @ self.roots[side].t()

    def problem(self, *, pool: int | None = 20_000, seed: int = 0) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        if pool is None:
            sides = [FreshMeasure((self.dim,), lambda n, g, side=side: self.sample(side, n, g)) for side in (0, 1)]
        else:
            sides = [PoolMeasure(self.sample(side, pool, generator)) for side in (0, 1)]
        return Problem(sides[0], sides[1], QuadraticCost(), CPU, self.dtype)

    def uvp(self, solver: FixedPoint) -> tuple[float, float]:
        """Forward and backward unexplained variance on fresh points, %."""
        generator = torch.Generator().manual_seed(9)
        x, z = self.sample(0, 4096, generator), self.sample(1, 4096, generator)
        forward = (solver.transport().forward(x) - x @ self.gamma).square().sum(1).mean().item()
        backward = (
            (solver.transport().backward(z) - torch.linalg.solve(self.gamma, z.t()).t()).square().sum(1).mean().item()
        )
        return 100 * forward / self.traces[1], 100 * backward / self.traces[0]


class Run:
    """Plays the harness: counts steps and reports progress."""

    def __init__(
        self,
        problem: Problem,
        *,
        steps: int = 100,
        seed: int = 0,
        cls: type[FixedPoint] = FixedPoint,
        **values: Value,
    ) -> None:
        self.done, self.steps = 0, steps
        generator = torch.Generator().manual_seed(seed)
        context = Context(CPU, problem.dtype, generator, lambda: self.done / self.steps)
        self.solver = cls(problem, build_config(FixedPointConfig, values, owner="solver fixedpoint"), context)

    def go(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            losses.append(float(self.solver.step().loss))
            self.done += 1
        return losses


def exact(pair: Pair) -> type[FixedPoint]:
    """The solver with the exact potential in place of its network."""

    class Exact(FixedPoint):
        def build_potential(self) -> nn.Module:  # type: ignore[override]
            return QuadraticPotential(pair.gamma - torch.eye(pair.dim, dtype=pair.dtype))

    return Exact


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_exact_potential_gives_exact_maps_and_the_known_loss(dim: int) -> None:
    pair = Pair(dim, dtype=torch.float64)
    solver = Run(pair.problem(), cls=exact(pair), tol=1e-5).solver
    forward, backward = pair.uvp(solver)
    assert forward < 1e-6
    assert backward < 1e-6

    generator = torch.Generator().manual_seed(1)
    x, z = pair.sample(0, 50_000, generator), pair.sample(1, 50_000, generator)
    y = solver.transport().backward(z)
    loss = solver.loss(solver.potential, x, z, y)
    g = solver.potential
    spread = (g(x).var() / len(x) + (g(y) + (z - y).square().sum(1) / 2).var() / len(z)).sqrt().item()
    assert abs(loss.item() + pair.w2_squared / 2) < 4 * spread

    # at the exact potential the gradient is the difference of two means with equal expectation
    loss.backward()
    matrix = solver.potential.matrix.grad
    scale = pair.traces[0] * (2 / len(x)) ** 0.5
    assert matrix is not None
    assert matrix.norm().item() < 2 * scale


def test_envelope_gradient_equals_the_derivative_of_the_dual_value() -> None:
    pair = Pair(3, dtype=torch.float64)
    solver = Run(pair.problem(pool=500), tol=1e-10, max_inner=200).solver
    generator = torch.Generator().manual_seed(1)
    x, z = pair.sample(0, 200, generator), pair.sample(1, 200, generator)

    def dual() -> Tensor:
        return solver.loss(solver.potential, x, z, solver.solve_batch(x, z, tol=1e-10).y)

    names, parameters = zip(*solver.potential.named_parameters(), strict=True)
    found = torch.autograd.grad(dual(), parameters)
    for name, p, slope in zip(names, parameters, found, strict=True):
        direction = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(direction, alpha=sign * 1e-4)
                values.append(dual().item())  # y* is solved anew: the full derivative
                p.add_(direction, alpha=-sign * 1e-4)
        assert (slope * direction).sum().item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-4), name


@pytest.mark.parametrize("pool", [20_000, None])
def test_short_run_beats_the_identity_and_lowers_the_loss(pool: int | None) -> None:
    pair = Pair(2)
    run = Run(pair.problem(pool=pool), steps=150, batch_size=256)
    before = pair.uvp(run.solver)
    losses = run.go(150)
    after = pair.uvp(run.solver)
    assert after[0] < 0.1 * before[0]
    assert after[1] < 0.1 * before[1]
    assert sum(losses[-20:]) < sum(losses[:20])


def test_step_reports_what_the_inner_solver_did() -> None:
    run = Run(Pair(2).problem(), batch_size=128)
    info = run.solver.step()
    assert info.scalars["inner_iterations"] >= 1
    assert float(info.scalars["unconverged"]) == 0
    assert float(info.scalars["residual"]) <= 1e-3
    assert isinstance(info.loss, Tensor)
    assert not info.loss.requires_grad


def test_maps_keep_shapes_and_undo_each_other() -> None:
    pair = Pair(4)
    run = Run(pair.problem(), steps=30, batch_size=256)
    run.go(30)
    x = pair.sample(0, 12, torch.Generator().manual_seed(0)).view(12, 2, 2)
    assert run.solver.transport().forward(x).shape == x.shape
    assert not run.solver.transport().forward(x).requires_grad
    torch.testing.assert_close(run.solver.transport().backward(run.solver.transport().forward(x)), x, atol=1e-3, rtol=0)
    assert run.solver.transport().two_way
    kept, pool = run.solver.transport().anchors, run.solver.problem.source.pool
    assert kept is not None
    assert pool is not None
    assert float(torch.cdist(kept, pool).min()) > 1e-5  # no training row


@pytest.mark.parametrize(
    ("pool", "values"),
    [
        (500, {}),
        (500, {"averaging": 0.0, "steps_per_batch": 3}),
        (500, {"inner": "paper", "tol": 1e-2}),
        (None, {"steps_per_batch": 3, "optimiser": "soap"}),
        (500, {"network": "resnet", "width": 16, "mmd_weight": 1e-3, "epoch": 3}),
    ],
)
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(pool: int | None, values: dict[str, Value]) -> None:
    pair = Pair(4)

    def fresh(seed: int) -> Run:
        return Run(pair.problem(pool=pool), steps=20, seed=seed, batch_size=64, **values)

    whole, first = fresh(0), fresh(0)
    expected = whole.go(10)
    assert first.go(4) == expected[:4]
    second = fresh(1)
    second.solver.load_state_dict(first.solver.state_dict())
    second.done = 4
    assert second.go(6) == expected[4:]
    x = pair.sample(0, 5, torch.Generator().manual_seed(0))
    assert torch.equal(second.solver.transport().forward(x), whole.solver.transport().forward(x))


def test_clamped_variant_stays_convex_and_cannot_shrink() -> None:
    pair = Pair(2)
    run = Run(pair.problem(), steps=40, batch_size=256, convex=True)
    for _ in range(40):
        run.go(1)
        for net in (run.solver.potential, run.solver.transport().potential):
            assert all((p >= 0).all() for p in (*net.mixing, net.readout))
    generator = torch.Generator().manual_seed(0)
    x, y = pair.sample(0, 200, generator), pair.sample(0, 200, generator)
    moved = run.solver.transport().forward(x) - run.solver.transport().forward(y)
    assert (moved.norm(dim=1) >= (x - y).norm(dim=1) * (1 - 1e-4)).all()


def test_a_network_without_a_clamp_cannot_be_convex() -> None:
    with pytest.raises(UsageError, match="convex=true clamps a DenseICNN"):
        Run(Pair(2).problem(), network="resnet", convex=True)


def test_the_setting_of_images_learns_both_maps() -> None:
    """Residual layers, an MMD beside the dual, and a rate that epochs decide about."""
    pair = Pair(2)
    values: dict[str, Value] = {"network": "resnet", "width": 32, "lr": 3e-3, "batch_size": 256, "averaging": 0.0}
    run = Run(pair.problem(), steps=300, mmd_weight=1e-3, epoch=20, **values)
    run.go(300)
    assert max(pair.uvp(run.solver)) < 2.0


def test_the_rate_halves_when_six_epochs_bring_nothing() -> None:
    run = Run(Pair(2).problem(), cls=exact(Pair(2)), batch_size=256, lr=1e-3, epoch=2)
    rates = []
    for _ in range(20):
        run.go(2)
        rates.append(run.solver.optimiser.param_groups[0]["lr"])
    assert rates[0] == 1e-3
    assert 1e-7 <= rates[-1] < 1e-3
    assert all(after in (before, max(before / 2, 1e-7)) for before, after in pairwise(rates))


def test_the_mmd_joins_the_loss_of_the_step_alone() -> None:
    """With the exact potential it is nearly 0, whatever its weight; with the identity it is not."""
    pair = Pair(2)

    def first_loss(cls: type[FixedPoint], weight: float) -> float:
        return Run(pair.problem(), cls=cls, batch_size=1024, mmd_weight=weight).go(1)[0]

    added = [first_loss(cls, 1.0) - first_loss(cls, 0.0) for cls in (exact(pair), FixedPoint)]
    assert abs(added[0]) < 0.02 < added[1]


@pytest.mark.parametrize("dim", [2, 4])
def test_no_seed_diverges(dim: int) -> None:
    problem = Pair(dim).problem(pool=2000)
    for seed in range(20):
        run = Run(problem, steps=100, seed=seed, batch_size=256)
        assert all(math.isfinite(loss) for loss in run.go(5))
        scalars = run.solver.step().scalars
        assert float(scalars["residual"]) <= 1e-3
        assert float(scalars["unconverged"]) < 0.01  # a solution far outside the other batch is put back


def test_presets_build_and_only_declared_costs_are_taken() -> None:
    (note,) = registrations(FixedPoint)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    for preset in note.presets.values():
        build_config(FixedPointConfig, {k: v for k, v in preset.items() if k != "steps"}, owner="fixedpoint")  # type: ignore[misc]
    assert not note.presets["paper"].get("convex", False)
    problem = Pair(2).problem()
    assert FixedPoint.supports(problem).ok
    other = Problem(problem.source, problem.target, PowerCost(3.0), CPU, problem.dtype)
    assert not FixedPoint.supports(other).ok


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"average": 3.0, "decay": True}, {"averaging": 3.0}),
        ({"average": 0.0, "decay": False}, {"averaging": 0.0, "lr_end": 1.0, "warmup": 0.0}),
        ({"decay": "false"}, {"lr_end": 1.0, "warmup": 0.0}),
        ({"anchors": "images"}, {}),
    ],
)
def test_records_and_commands_with_old_parameter_names_are_read(old: dict[str, Value], new: dict[str, Value]) -> None:
    assert build_config(FixedPointConfig, old, owner="fixedpoint") == FixedPointConfig(**new)  # type: ignore[arg-type]
    assert FixedPointConfig(**old) == FixedPointConfig(**new)  # type: ignore[arg-type]


def test_a_wrong_value_of_an_old_parameter_names_the_present_ones() -> None:
    with pytest.raises(UsageError, match="use lr_end and warmup"):
        build_config(FixedPointConfig, {"decay": "maybe"}, owner="fixedpoint")
    with pytest.raises(UsageError, match="no longer keep training rows"):
        build_config(FixedPointConfig, {"anchors": "rows"}, owner="fixedpoint")


def test_a_batch_that_is_used_again_starts_from_its_last_solution() -> None:
    pair = Pair(8)
    run = Run(pair.problem(pool=None), steps=200, batch_size=128, steps_per_batch=4, lr=1e-4)
    run.go(8)
    counts = [float(run.solver.step().scalars["inner_iterations"]) for _ in range(8)]
    assert max(counts[1:4] + counts[5:]) < min(counts[0], counts[4])


@pytest.mark.parametrize("pool", [None, 500])
@pytest.mark.parametrize("curvature", [-0.5, -1.5, -20.0])
def test_the_loss_is_bounded_by_the_cost_of_the_batch_whatever_the_potential(
    pool: int | None, curvature: float
) -> None:
    """Where Hess g < -I, a stationary y* is a maximiser, and training on it lets the loss fall without end."""
    pair = Pair(8)

    class Concave(FixedPoint):
        def build_potential(self) -> nn.Module:  # type: ignore[override]
            return QuadraticPotential(curvature * torch.eye(pair.dim))

    solver = Run(pair.problem(pool=pool), cls=Concave, batch_size=128).solver
    for _ in range(3):
        near, far = solver.near.next(), solver.far.next()
        y = solver.solve_batch(near.x, far.x, far.index, tol=1e-3).y
        loss = solver.loss(solver.potential, near.x, far.x, y)
        assert float(loss.detach()) >= -float((near.x - far.x).square().sum(1).mean()) / 2


def test_warm_starts_save_gradients() -> None:
    problem = Pair(8).problem(pool=512)

    def gradients(*, warm: bool) -> float:
        run = Run(problem, steps=200, batch_size=256, lr=1e-3, warm_start=warm)
        run.go(60)
        calls: Callable[[], float] = lambda: float(run.solver.step().scalars["inner_iterations"])  # noqa: E731
        return sum(calls() for _ in range(20))

    assert gradients(warm=True) < 0.8 * gradients(warm=False)


def from_normal(pair: Pair, *, pool: int = 3000, aside: int = 0, **values: Value) -> Run:
    """From fresh points of N(0, I) to a pool of the pair's target, with `aside` more points to validate on."""
    generator = torch.Generator().manual_seed(2)

    def draw(n: int, g: torch.Generator) -> torch.Tensor:
        return torch.randn(n, pair.dim, generator=g, dtype=pair.dtype)

    source = FreshMeasure((pair.dim,), draw, is_standard_normal=True)
    points = pair.sample(1, pool, generator)
    target = PoolMeasure(points, validation=pair.sample(1, aside, generator) if aside else None)
    return Run(Problem(source, target, QuadraticCost(), CPU, pair.dtype), **values)


def test_the_potential_lives_on_the_pool_where_the_other_side_is_fresh() -> None:
    pair = Pair(2)
    assert from_normal(pair).solver.reverse
    assert not from_normal(pair, side="source").solver.reverse
    assert not Run(pair.problem(pool=500)).solver.reverse
    assert not Run(pair.problem(pool=None)).solver.reverse
    assert Run(pair.problem(pool=500), side="target").solver.reverse


def test_a_fresh_side_draws_as_many_points_as_a_small_pool_has() -> None:
    solver = from_normal(Pair(2), pool=60, batch_size=512).solver
    assert solver.near.batch_size == solver.far.batch_size == 60


def test_a_reversed_solver_learns_both_maps() -> None:
    pair = Pair(2)
    run = from_normal(pair, batch_size=512)
    run.go(100)
    solver = run.solver
    exact = root(pair.roots[1] @ pair.roots[1].t())
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(5))
    moved = solver.transport().forward(x)
    assert float((moved - x @ exact).square().sum(1).mean()) < 0.01 * pair.traces[1]
    torch.testing.assert_close(solver.transport().backward(moved), x, atol=1e-3, rtol=0)
    assert solver.transport().anchors is not None


def test_maps_use_the_network_that_is_best_on_points_set_aside() -> None:
    pair = Pair(8)
    run = from_normal(pair, pool=40, aside=500, steps=200, batch_size=40, weight_decay=0.0, validate_every=20)
    solver, losses = run.solver, []
    assert not solver.potential.state_dict().keys() - solver.transport().potential.state_dict().keys()
    for _ in range(10):
        run.go(solver.validate_every)
        losses.append(float(solver.validate().loss))
    assert solver.watch is not None
    assert solver.watch.loss == min(losses) < losses[-1] - 0.1  # forty points are learnt by heart
    y = pair.sample(1, 1000, torch.Generator().manual_seed(3))
    wanted = torch.linalg.solve(root(pair.roots[1] @ pair.roots[1].t()), y.t()).t()

    def error() -> float:
        return float((solver.transport().backward(y) - wanted).square().sum(1).mean())

    chosen = error()
    solver.watch = None
    assert chosen < 0.8 * error()


def test_nothing_is_validated_without_points_set_aside_or_when_not_asked_to() -> None:
    pair = Pair(2)
    for run in (from_normal(pair), from_normal(pair, aside=50, validate_every=0), Run(pair.problem(pool=500))):
        assert run.solver.watch is None
        assert run.solver.validate_every == 0


def test_a_resumed_run_remembers_the_best_network() -> None:
    def fresh(seed: int) -> Run:
        return from_normal(Pair(3), pool=100, aside=50, steps=20, seed=seed, batch_size=32)

    whole, second = fresh(0), fresh(1)
    whole.go(3)
    whole.solver.validate()
    second.solver.load_state_dict(copy.deepcopy(whole.solver.state_dict()))
    second.done = 3
    for run in (whole, second):
        run.go(2)
        run.solver.validate()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert whole.solver.watch is not None
    assert second.solver.watch is not None
    assert whole.solver.watch.loss == second.solver.watch.loss
    assert torch.equal(second.solver.transport().backward(x), whole.solver.transport().backward(x))


def test_the_gradient_of_a_solved_map_is_that_of_finite_differences() -> None:
    pair = Pair(3, dtype=torch.float64)
    solver = from_normal(pair, tol=1e-9).solver
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    _, slope = jacobian(solver.transport().forward, x)
    h = 1e-5
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        difference = (solver.transport().forward(x + step) - solver.transport().forward(x - step)) / (2 * h)
        torch.testing.assert_close(slope[:, :, k], difference, atol=1e-5, rtol=0)
