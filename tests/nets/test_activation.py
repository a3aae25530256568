from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from otbench.nets.activation import elu, elu_and_slope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elu_is_that_of_torch(dtype: torch.dtype) -> None:
    z = torch.linspace(-200, 200, 4001, dtype=dtype)
    torch.testing.assert_close(elu(z), functional.elu(z), atol=2 * torch.finfo(dtype).eps, rtol=0)


def test_derivatives_of_all_orders() -> None:
    z = torch.cat((torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.zeros(1)))
    for f in (elu, lambda z: elu_and_slope(z)[1].sin(), lambda z: sum(elu_and_slope(z))):
        assert torch.autograd.gradcheck(f, z[:-1].clone().requires_grad_())
        assert torch.autograd.gradgradcheck(f, z[:-1].clone().requires_grad_())
    at = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(elu(at).sum(), at)
    torch.testing.assert_close(slope, elu_and_slope(z)[1])
    assert float(slope[-1]) == 1
