import pytest

from worldvla_ros.robot.played import REMEMBERED_S, Interval, Played


@pytest.mark.parametrize(
    ('stamp_s', 'seconds'), [(0.0, 1.0), (10.0, 1.0), (11.0, 0.5), (12.0, 0.0), (13.0, 0.0)]
)
def test_an_interval_counts_from_a_stamp_on_by_its_rate(stamp_s, seconds):
    assert Interval(10.0, 12.0, 0.5).since(stamp_s) == seconds


def test_intervals_add_up():
    played = Played()
    played.add(Interval(0.0, 1.0, 1.0))
    played.add(Interval(2.0, 4.0, 0.25))
    assert played.since(0.0) == 1.5
    assert played.since(0.5) == 1.0
    assert played.since(3.0) == 0.25
    played.clear()
    assert played.since(0.0) == 0.0


def test_an_empty_interval_is_none_and_old_ones_are_forgotten():
    played = Played()
    played.add(Interval(5.0, 5.0, 1.0))
    played.add(Interval(5.0, 4.0, 1.0))
    assert played.since(0.0) == 0.0
    played.add(Interval(0.0, 1.0, 1.0))
    played.add(Interval(REMEMBERED_S, REMEMBERED_S + 1.0, 1.0))
    assert played.since(0.0) == 2.0
    played.add(Interval(REMEMBERED_S + 1.0, REMEMBERED_S + 1.5, 1.0))
    assert played.since(0.0) == 1.5
