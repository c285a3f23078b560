"""What the operator allows, his heartbeat, and the watch on the clock."""

import math

import pytest

from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import (
    HELD_BY_OPERATOR,
    STANDS_STILL_S,
    STOPPED_BY_TOPIC,
    ClockWatch,
    Heartbeat,
    Mode,
    Safety,
)

GUARD = Reason('command_not_applied', 'the arm stands still', 'Look at it.')
EVENTS = {
    'enable': lambda safety: safety.enable(True),
    'disable': lambda safety: safety.enable(False),
    'hold': lambda safety: safety.hold(),
    'guard': lambda safety: safety.hold(GUARD),
    'stop': lambda safety: safety.stop(),
}
TABLE = [
    ('dry run', 'enable', 'enabled'),
    ('dry run', 'disable', 'dry run'),
    ('dry run', 'hold', 'held'),
    ('dry run', 'guard', 'held'),
    ('dry run', 'stop', 'stopped'),
    ('enabled', 'enable', 'enabled'),
    ('enabled', 'disable', 'dry run'),
    ('enabled', 'hold', 'held'),
    ('enabled', 'guard', 'held'),
    ('enabled', 'stop', 'stopped'),
    ('held', 'enable', 'enabled'),
    ('held', 'disable', 'dry run'),
    ('held', 'hold', 'held'),
    ('held', 'guard', 'held'),
    ('held', 'stop', 'stopped'),
    ('stopped', 'enable', 'stopped'),
    ('stopped', 'disable', 'dry run'),
    ('stopped', 'hold', 'stopped'),
    ('stopped', 'guard', 'stopped'),
    ('stopped', 'stop', 'stopped'),
]


@pytest.mark.parametrize(('before', 'event', 'after'), TABLE)
def test_every_change_leads_where_the_table_says(before, event, after):
    assert EVENTS[event](Safety(Mode(before))).mode.value == after


def test_the_table_is_whole():
    assert {(b, e) for b, e, _ in TABLE} == {(m.value, e) for m in Mode for e in EVENTS}


def test_commands_leave_only_where_enabled():
    assert [mode for mode in Mode if Safety(mode).enabled] == [Mode.ENABLED]


def test_a_hold_and_a_stop_say_why_and_other_modes_have_nothing_to_say():
    enabled = Safety(Mode.ENABLED)
    assert enabled.hold().why == HELD_BY_OPERATOR
    assert enabled.hold(GUARD).why == GUARD
    assert enabled.hold(GUARD).hold().why == HELD_BY_OPERATOR
    assert enabled.stop().why == STOPPED_BY_TOPIC
    assert enabled.hold().enable(True).why is None
    assert enabled.stop().enable(False).why is None


def test_the_first_reason_of_a_stop_stays():
    stopped = Safety(Mode.ENABLED).stop(GUARD)
    assert stopped.stop().why == GUARD
    assert stopped.hold().why == GUARD
    assert stopped.enable(True).why == GUARD


def test_after_a_stop_only_false_and_then_true_enables():
    stopped = Safety(Mode.ENABLED).stop()
    assert not stopped.enable(True).enabled
    assert not stopped.enable(True).enable(True).enabled
    assert stopped.enable(False).enable(True).enabled


def test_what_the_operator_is_told_to_do():
    assert str(HELD_BY_OPERATOR) == '~/hold was called. Call ~/enable with true to go on.'
    assert str(STOPPED_BY_TOPIC) == (
        'the stop topic said true. Call ~/enable with false, then with true, to go on.'
    )


class TestHeartbeat:
    def test_without_a_time_out_none_is_asked_for(self):
        assert Heartbeat(0.0).check(1e9) is None

    def test_a_heart_that_beats_is_no_reason(self):
        heart = Heartbeat(0.5)
        for i in range(5):
            heart.beat(10 + 0.4 * i)
            assert heart.check(10 + 0.4 * i + 0.5) is None

    def test_a_heart_that_stops_is_one(self):
        heart = Heartbeat(0.5)
        heart.beat(10.0)
        reason = heart.check(10.625)
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'heartbeat', 0.625, 0.5, 's',
        )  # fmt: skip
        assert str(reason) == (
            'heartbeat silent for 0.62 s (heartbeat_timeout 0.5 s). Start the heartbeat of the '
            'operator, then call ~/enable with false and with true.'
        )
        heart.beat(10.7)
        assert heart.check(10.8) is None

    def test_a_heart_that_never_beat_is_one_too(self):
        reason = Heartbeat(0.5).check(10.0)
        assert reason.text == 'heartbeat never heard (heartbeat_timeout 0.5 s)'
        assert reason.value == math.inf


def test_a_clock_that_goes_passes():
    watch = ClockWatch()
    for i in range(100):
        assert watch.check(10 + i * 0.01, 500 + i * 0.05) is None


def test_a_clock_that_stands_still_is_named_until_it_goes_on():
    watch = ClockWatch()
    assert watch.check(10.0, 500.0) is None
    assert watch.check(10.0, 500.0 + STANDS_STILL_S) is None
    refusal = watch.check(10.0, 500.1 + STANDS_STILL_S)
    assert str(refusal) == (
        'ROS time stands still (for at most 0.5 s). '
        'Check that something publishes /clock, or set use_sim_time to false.'
    )
    assert (refusal.code, refusal.limit, refusal.unit, refusal.stamp_s) == (
        'clock', 0.5, 's', 10.0,
    )  # fmt: skip
    assert refusal.value == pytest.approx(0.6)
    assert watch.check(10.01, 502.0) is None


def test_a_clock_that_was_set_back_goes():
    watch = ClockWatch()
    watch.check(10.0, 500.0)
    assert watch.check(3.0, 501.0) is None


def test_a_clock_that_has_just_begun_goes():
    watch = ClockWatch()
    assert watch.check(0.1, 500.0) is None
    assert watch.check(0.1, 501.0).text.startswith('ROS time stands still')


@pytest.mark.parametrize('clock', [0.0, -3.0])
def test_a_clock_that_has_not_begun_is_named(clock):
    assert ClockWatch().check(clock, 500.0).text == 'ROS time is 0 (for at most 0.5 s)'


def test_how_long_a_clock_has_stood_still_is_known():
    watch = ClockWatch()
    assert watch.still_s == 0.0
    for clock_s, steady_s, still_s in ((10.0, 500.0, 0.0), (10.0, 500.3, 0.3), (10.1, 500.4, 0.0)):
        watch.check(clock_s, steady_s)
        assert watch.still_s == pytest.approx(still_s)
