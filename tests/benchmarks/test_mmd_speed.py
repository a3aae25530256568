"""Speed and memory of the unbiased MMD, against the plain form that holds the whole matrix of distances.

Both sides of the ratio run alternately in one process on one thread; absolute times are shown, never asserted.
The plain form below is idiomatic PyTorch for the same mathematics, written here for comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from otbench.metrics.two_sample import median_bandwidths, mmd_unbiased

pytestmark = pytest.mark.speed

SIZE, DIM = 3000, 32
LEAST_SPEED_UP = 3.0
LARGEST_SHARE = 0.1
"""Of the plain form's largest tensor."""

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def plain_mmd(x: Tensor, y: Tensor, bandwidths: tuple[float, ...]) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        square = torch.cdist(a, b).square()
        return torch.stack([torch.exp(-square / width).sum() for width in bandwidths]).mean()

    n, m = len(x), len(y)
    within_x, within_y = (kernel(x, x) - n) / (n * (n - 1)), (kernel(y, y) - m) / (m * (m - 1))
    return within_x + within_y - 2 * kernel(x, y) / (n * m)


class Largest(TorchDispatchMode):
    """Bytes of the largest storage that any operation gives back."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        sizes = [t.untyped_storage().nbytes() for t in tree_leaves(found) if isinstance(t, Tensor)]
        self.bytes = max([self.bytes, *sizes])
        return found


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor, tuple[float, ...]]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(SIZE, DIM, generator=generator) for _ in range(2))
    return x, y, median_bandwidths(y)


def test_blocks_are_faster_than_the_plain_form(
    samples: tuple[Tensor, Tensor, tuple[float, ...]], benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    x, y, bandwidths = samples
    plain = float(plain_mmd(x.double(), y.double(), bandwidths))
    assert float(mmd_unbiased(x, y, bandwidths=bandwidths).value) == pytest.approx(plain, abs=1e-6)
    slow, fast = race(
        lambda: plain_mmd(x, y, bandwidths),
        lambda: mmd_unbiased(x, y, bandwidths=bandwidths),
        rounds=3,
        least=LEAST_SPEED_UP,
    )
    tell(f"ours, with its interval, {fast * 1e3:.0f} ms, plain {slow * 1e3:.0f} ms, ratio {slow / fast:.1f}")
    benchmark.pedantic(mmd_unbiased, args=(x, y), kwargs={"bandwidths": bandwidths}, rounds=3, warmup_rounds=1)
    assert slow / fast >= LEAST_SPEED_UP


def test_no_tensor_is_of_the_size_of_the_distances(
    samples: tuple[Tensor, Tensor, tuple[float, ...]], tell: Tell
) -> None:
    x, y, bandwidths = samples
    with Largest() as ours:
        mmd_unbiased(x, y, bandwidths=bandwidths)
    with Largest() as plain:
        plain_mmd(x, y, bandwidths)
    tell(f"largest tensor: ours {ours.bytes / 2**20:.1f} MiB, plain {plain.bytes / 2**20:.1f} MiB")
    assert ours.bytes / plain.bytes <= LARGEST_SHARE
