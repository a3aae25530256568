"""What planned runs will cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otbench.cli.estimate import makespan


def test_runs_side_by_side_end_when_the_last_one_does() -> None:
    assert makespan([], 8) == 0
    assert makespan([3, 2, 2], 1) == 7
    assert makespan([3, 2, 2], 2) == 4
    assert makespan([2, 2, 3], 2) == 5  # the long one begins last
    assert makespan([3, 2, 2], 8) == 3


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 12))
def test_makespan_lies_between_the_even_share_and_that_beside_the_longest(seconds: list[float], jobs: int) -> None:
    found = makespan(seconds, jobs)
    least = max(sum(seconds) / jobs, *seconds, 0)
    assert found >= least or found == pytest.approx(least)
    most = sum(seconds) / jobs + max(seconds)
    assert found <= most or found == pytest.approx(most)
