from __future__ import annotations

import torch

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.pretrain import TOLERANCE, pretrain_identity


def test_the_gradient_becomes_the_identity_and_stays_monotone() -> None:
    generator = torch.Generator().manual_seed(3)
    psi = DenseICNN(2, activation="celu", generator=generator)
    psi.clamp_convex_()
    found = pretrain_identity(psi, generator=generator, convex=True)
    x, other = (3 * torch.randn(4096, 2, generator=generator) for _ in range(2))
    with torch.no_grad():
        error = float((psi.gradient(x) - x).square().mean())
        slopes = ((psi.gradient(x) - psi.gradient(other)) * (x - other)).sum(1)
    assert found < TOLERANCE
    assert error < 2 * TOLERANCE
    assert (slopes >= 0).all()
    assert all((weight >= 0).all() for weight in (*psi.mixing, psi.readout))


def test_same_seed_same_network_and_no_steps_leave_it_alone() -> None:
    networks = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        generator = torch.Generator().manual_seed(4)
        psi = DenseICNN(3, generator=generator)
        pretrain_identity(psi, generator=generator, steps=20, convex=False)
        networks.append(psi)
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in networks), strict=True))
    before = [p.clone() for p in networks[0].parameters()]
    assert pretrain_identity(networks[0], generator=generator, steps=0, convex=False) == float("inf")
    assert all(torch.equal(a, b) for a, b in zip(before, networks[0].parameters(), strict=True))
