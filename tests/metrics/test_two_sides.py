from __future__ import annotations

import pytest
import torch

from otbench.metrics.discrete import plan_cost
from otbench.metrics.two_sides import METRICS, TwoSides, two_sample_scores

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
Y = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) + 3


def test_names_are_those_of_the_metrics() -> None:
    scores = two_sample_scores(X, Y, X + 3, Y - 3, X, training=Y + 0.1)
    assert set(scores) == {metric.name for metric in METRICS} | {"cost_gap"}
    assert set(two_sample_scores(X, Y, X)) == {name for name in scores if "bwd" not in name} - {
        "novelty",
        "inverse_gap",
    }


def test_on_the_way_costly_numbers_are_left_out() -> None:
    found = TwoSides(X, Y, training=Y).scores(X, Y, X, final=False)
    assert not {"novelty", "cost_gap", "p_value_fwd"} & set(found)
    assert {"mmd_fwd", "energy_bwd", "inverse_gap", "cost"} <= set(found)


def test_values() -> None:
    scores = two_sample_scores(X, X + 3, X + 3, X, X + 0.1)
    assert scores["cost"] == pytest.approx(9, rel=1e-5)
    assert scores["cost_gap"] == pytest.approx(0, abs=1e-4)  # the shift is the exact plan
    assert scores["inverse_gap"] == pytest.approx(100 * 2 * 0.01 / float(X.var(0, correction=0).sum()), rel=1e-4)
    assert TwoSides(X, Y, source_variance=4.0).scores(X, Y, X + 0.1)["inverse_gap"] == pytest.approx(0.5, rel=1e-4)


def test_no_scale_no_share_of_it() -> None:
    still = torch.zeros(20, 2)
    scores = two_sample_scores(still, still, still, still, still)
    assert "inverse_gap" not in scores
    assert "cost_gap" not in scores


def test_plan_cost_of_permuted_points_is_that_of_the_best_permutation() -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    assert plan_cost(X, X[order]) == pytest.approx(0, abs=1e-12)
    assert plan_cost(X, (X + 1)[order]) == pytest.approx(1, rel=1e-6)
