"""Noise learnt from few seeds: against simulation, and against what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from otbench.statistics.spread import Spread, common, deviation, drawn, holm, mean, mean_test, moderated


def test_holm_is_as_printed_in_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_test_is_students_when_nothing_is_known_of_others() -> None:
    half, p = mean_test(1.2, Spread(0.5, 4.0), 3)
    error = 0.5 * math.sqrt(1 / 3)
    assert half == pytest.approx(stats.t.ppf(0.975, 4) * error)
    assert p == pytest.approx(2 * stats.t.sf(1.2 / error, 4))
    assert mean_test(1.0, Spread(math.inf, 4.0), 3)[1] == 1.0
    assert mean_test(1.0, Spread(math.nan, 4.0), 3)[1] == 1.0
    assert mean_test(1.0, Spread(0.0, 2.0), 3) == (0.0, 0.0)
    assert mean_test(0.0, Spread(0.0, 2.0), 3) == (0.0, 1.0)
    assert mean_test(9.0, Spread(0.1, 0.0), 1) == (math.inf, 1.0)


def test_neighbours_count_for_no_more_than_a_spread_itself_and_never_make_it_smaller() -> None:
    assert drawn(Spread(0.2, 2.0), None) == Spread(0.2, 2.0)
    found = drawn(Spread(0.2, 2.0), Spread(0.4, 4.0))
    assert (found.size, found.freedom) == (pytest.approx(math.sqrt((0.04 + 0.16) / 2)), 4.0)
    assert drawn(Spread(0.4, 2.0), Spread(0.2, 1.0)) == Spread(0.4, 3.0)


def test_common_finds_the_parameters_that_numbers_were_drawn_with() -> None:
    generator = np.random.default_rng(0)
    size, freedom, own = 0.3, 4.0, 2
    variances = size**2 * freedom / generator.chisquare(freedom, 4000)
    samples = variances * generator.chisquare(own, 4000) / own
    found = common([Spread(math.sqrt(v), own) for v in samples])
    assert found is not None
    assert found.size == pytest.approx(size, rel=0.05)
    assert found.freedom == pytest.approx(freedom, rel=0.2)


def test_few_spreads_say_nothing() -> None:
    assert common([Spread(0.1, 2)] * 3) is None
    assert common([Spread(0.1, 0)] * 30) is None
    assert common([Spread(0.0, 2), Spread(math.inf, 2)] * 30) is None


def test_moderation_weighs_by_degrees_of_freedom() -> None:
    assert moderated(Spread(0.2, 2.0), Spread(0.4, 6.0)).size == pytest.approx(math.sqrt((2 * 0.04 + 6 * 0.16) / 8))
    assert moderated(Spread(0.0, 0.0), Spread(0.4, 6.0)) == Spread(pytest.approx(0.4), 6.0)  # type: ignore[arg-type]


def test_mean_and_deviation_stay_in_the_floats() -> None:
    assert mean([1.7e308, 1.7e308]) == pytest.approx(1.7e308)
    assert deviation([5.0]) == 0.0
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert deviation([1e200, -1e200]) == math.inf
