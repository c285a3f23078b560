"""What the operator allows, the watch on the clock, and the pace."""

import pytest

from worldvla_ros.robot.safety import STANDS_STILL_S, ClockWatch, Mode, Pace, Safety


@pytest.mark.parametrize('start', list(Mode))
def test_every_change_leads_where_it_says(start):
    assert Safety(start).enable(True) == Safety(Mode.ENABLED)
    assert Safety(start).enable(False) == Safety(Mode.DRY_RUN)
    assert Safety(start).hold() == Safety(Mode.HELD)


def test_commands_leave_only_where_enabled():
    assert [mode for mode in Mode if Safety(mode).enabled] == [Mode.ENABLED]


def test_a_clock_that_goes_passes():
    watch = ClockWatch()
    for i in range(100):
        assert watch.check(10 + i * 0.01, 500 + i * 0.05) is None


def test_a_clock_that_stands_still_is_named_until_it_goes_on():
    watch = ClockWatch()
    assert watch.check(10.0, 500.0) is None
    assert watch.check(10.0, 500.0 + STANDS_STILL_S) is None
    refusal = watch.check(10.0, 500.1 + STANDS_STILL_S)
    assert str(refusal).startswith('ROS time stands still (for at most 0.5 s). Check that')
    assert watch.check(10.01, 502.0) is None


def test_a_clock_that_was_set_back_goes():
    watch = ClockWatch()
    watch.check(10.0, 500.0)
    assert watch.check(3.0, 501.0) is None


@pytest.mark.parametrize('clock', [0.0, -3.0])
def test_a_clock_that_has_not_begun_is_named(clock):
    assert 'ROS time is 0' in str(ClockWatch().check(clock, 500.0))


def due(times, period=0.05):
    pace = Pace(period)
    return [round(t, 4) for t in times if pace.due(t)]


def ticks(rate=1.0, count=20, step=0.025, jitter=()):
    late = dict(jitter)
    return [100 + (i * step + late.get(i, 0.0)) * rate for i in range(count)]


def test_every_second_tick_is_due_where_clocks_go_alike():
    assert due(ticks()) == [round(100 + 0.05 * i, 4) for i in range(10)]


def test_late_ticks_skip_no_command():
    late = due(ticks(jitter=[(4, 0.012), (8, 0.02), (10, 0.012)]))
    assert len(late) == 10


@pytest.mark.parametrize('rate', [0.5, 0.25])
def test_commands_are_sent_by_a_slow_clock(rate):
    times = due(ticks(rate, count=80))
    assert len(times) == pytest.approx(40 * rate, abs=1)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert min(gaps) >= 0.0375 - 1e-3


def test_a_fast_clock_sends_with_every_tick_at_most():
    assert len(due(ticks(2.0))) == 20


def test_after_a_pause_nothing_is_caught_up():
    assert due([100.0, 103.0, 103.025, 103.05]) == [100.0, 103.0, 103.05]


def test_a_clock_that_was_set_back_begins_anew():
    assert due([100.0, 20.0, 20.025, 20.05]) == [100.0, 20.0, 20.05]
