"""What counts as usual for a rate: nobody is alarmed by a rate that is as it always was, and everybody by a jump."""

from hypothesis import given
from hypothesis import strategies as st

from leadscrub_pipeline.domain.usual import RUNS_NEEDED, usual_bounds

RATES = st.floats(0, 1)


def test_before_there_is_a_past_the_fixed_bounds_hold() -> None:
    bounds = usual_bounds([0.9] * (RUNS_NEEDED - 1), fixed=(0.3, 0.6))
    assert (bounds.low, bounds.high, bounds.basis, bounds.runs) == (0.3, 0.6, "fixed", RUNS_NEEDED - 1)


def test_one_nights_outage_does_not_widen_the_bounds() -> None:
    calm = usual_bounds([0.6, 0.61, 0.59, 0.6, 0.62, 0.6, 0.58, 0.6, 0.61, 0.6], fixed=(0, 1))
    with_outage = usual_bounds([0.6, 0.61, 0.59, 0.6, 0.62, 0.6, 0.58, 0.6, 0.61, 0.0], fixed=(0, 1))
    assert not with_outage.holds(0.3)
    assert abs(with_outage.low - calm.low) < 0.05


@given(st.lists(RATES, min_size=RUNS_NEEDED, max_size=40))
def test_bounds_lie_within_0_and_1_and_hold_the_middle_of_the_past(past: list[float]) -> None:
    bounds = usual_bounds(past, fixed=(0, 0))
    assert 0 <= bounds.low < bounds.high <= 1
    assert bounds.holds(sorted(past)[len(past) // 2])
    assert bounds.basis == "history"


@given(RATES, st.integers(RUNS_NEEDED, 40))
def test_a_rate_that_never_moved_may_move_a_little_and_not_much(rate: float, runs: int) -> None:
    bounds = usual_bounds([rate] * runs, fixed=(0, 0))
    assert bounds.high - bounds.low <= 0.161
    assert bounds.holds(rate)
