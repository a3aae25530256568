from __future__ import annotations

import math

import pytest

from otbench.ops.schedule import warmup_cosine


def test_it_rises_then_follows_the_cosine_to_its_end() -> None:
    assert warmup_cosine(0.0) == pytest.approx(0.01)
    assert warmup_cosine(0.02) == pytest.approx((1 + math.cos(0.02 * math.pi)) / 2)
    assert warmup_cosine(0.5) == pytest.approx(0.5)
    assert warmup_cosine(1.0) == pytest.approx(0.0, abs=1e-15)
    assert warmup_cosine(1.0, end=0.1) == pytest.approx(0.1)
    assert warmup_cosine(2.0, end=0.1) == pytest.approx(0.1)


def test_end_one_without_warmup_is_a_constant_rate() -> None:
    assert {warmup_cosine(p / 10, warmup=0.0, end=1.0) for p in range(11)} == {1.0}
