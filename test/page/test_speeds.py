"""The chart of the tip's speed: numbers by numbers."""

import numpy as np
import pytest

from worldvla_ros.page.speeds import AFTER_S, BEFORE_S, STEP_S, Speeds


def moving(speed, until_s=10.0, since_s=6.0):
    speeds = Speeds(0.75)
    for stamp in np.arange(since_s, until_s + 1e-9, 0.02).round(3):
        speeds.put_tip(stamp, np.array([speed * stamp, 0.0, 0.3]))
    return speeds


def at(rows, column, time_s):
    return rows[column][np.argmin(np.abs(rows[0] - time_s))]


def test_nothing_is_known_at_first():
    times, measured, coming, limit = Speeds(0.75).rows(5.0)
    assert (times[0], times[-1]) == pytest.approx((-BEFORE_S, AFTER_S))
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, STEP_S))
    assert np.isnan(measured).all()
    assert np.isnan(coming).all()
    assert (limit == 0.75).all()


def test_the_measured_speed_is_that_of_the_tip_up_to_now():
    rows = moving(0.2).rows(10.0)
    past = rows[0] <= 0
    assert rows[1][past] == pytest.approx(np.full(past.sum(), 0.2))
    assert np.isnan(rows[1][~past]).all()


def test_before_the_first_position_nothing_is_known():
    rows = moving(0.2, since_s=9.0).rows(10.0)
    assert np.isnan(at(rows, 1, -1.0))
    assert at(rows, 1, -0.5) == pytest.approx(0.2)


def test_time_that_is_set_back_begins_anew_and_repeated_stamps_do_not_count():
    speeds = moving(0.2)
    speeds.put_tip(10.0, np.array([9.0, 9.0, 9.0]))
    assert at(speeds.rows(10.0), 1, 0.0) == pytest.approx(0.2)
    speeds.put_tip(3.0, np.zeros(3))
    assert np.isnan(speeds.rows(3.0)[1]).all()


def test_what_is_to_come_is_shown_from_now_to_the_end_of_the_chunk():
    speeds = moving(0.2)
    speeds.put_coming(9.9 + 0.1 * np.arange(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    rows = speeds.rows(10.0)
    assert np.isnan(at(rows, 2, -0.2))
    assert at(rows, 2, 0.05) == pytest.approx(0.2)
    assert at(rows, 2, 0.35) == pytest.approx(0.5)
    assert np.isnan(at(rows, 2, 0.45))
    speeds.clear()
    assert np.isnan(speeds.rows(10.0)[2]).all()


def test_a_chunk_of_one_action_is_shown():
    speeds = Speeds(0.75)
    speeds.put_coming(np.array([10.0]), np.array([0.3]))
    assert at(speeds.rows(10.0), 2, 0.0) == pytest.approx(0.3)
