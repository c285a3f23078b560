import numpy as np
import pytest

from worldvla_ros.robot.path import Path, State, rest, standing


def one_second() -> Path:
    """Jerk 6, then -6, for half a second each, from rest at 1."""
    return Path(
        10.0,
        0.5,
        np.array([[1.0], [1.125], [1.75]]),
        np.array([[0.0], [0.75], [1.5]]),
        np.array([[0.0], [3.0], [0.0]]),
    )


def test_between_knots_a_path_is_the_cubic_of_its_jerk():
    state = one_second().at(10.25)
    assert state.positions == pytest.approx([1 + 6 * 0.25**3 / 6])
    assert state.velocities == pytest.approx([6 * 0.25**2 / 2])
    assert state.accelerations == pytest.approx([1.5])
    state = one_second().at(10.75)
    assert state.positions == pytest.approx([1.125 + 0.75 / 4 + 3 * 0.25**2 / 2 - 0.25**3])
    assert state.velocities == pytest.approx([0.75 + 0.75 - 6 * 0.25**2 / 2])
    assert state.accelerations == pytest.approx([1.5])


def test_at_its_knots_a_path_is_what_it_was_given():
    path = one_second()
    for i, time_s in enumerate((10.0, 10.5, 11.0)):
        state = path.at(time_s)
        assert state.positions == pytest.approx(path.positions[i])
        assert state.velocities == pytest.approx(path.velocities[i])
        assert state.accelerations == pytest.approx(path.accelerations[i])


def test_outside_of_its_time_a_path_is_at_its_ends():
    path = one_second()
    assert path.at(9.0).positions == [1.0]
    assert path.at(10.0).positions == [1.0]
    assert path.at(12.0).positions == [1.75]
    assert path.at(12.0).velocities == [1.5]


def test_times_jerks_and_end():
    path = one_second()
    assert path.knots == 3
    assert path.end_s == 11.0
    assert path.times_s.tolist() == [10.0, 10.5, 11.0]
    assert path.jerks.tolist() == [[6.0], [-6.0]]


def test_the_greatest_velocity_is_found_between_knots():
    # v = 1 + 2 t - 4 t² / 2 turns at t = 0.5, where it is 1.5
    path = Path(
        0.0,
        1.0,
        np.array([[0.0], [1 + 1 - 4 / 6]]),
        np.array([[1.0], [1.0]]),
        np.array([[2.0], [-2.0]]),
    )
    greatest = path.greatest
    assert greatest.velocity == pytest.approx([1.5])
    assert greatest.acceleration == pytest.approx([2.0])
    assert greatest.jerk == pytest.approx([4.0])


def test_the_greatest_values_are_of_each_coordinate_and_without_sign():
    still = np.zeros((2, 1))
    both = Path(
        0.0,
        1.0,
        np.hstack([still, still]),
        np.array([[-3.0, 1.0], [2.0, 1.0]]),
        np.array([[-1.0, 0.0], [-1.0, 0.5]]),
    )
    greatest = both.greatest
    assert greatest.velocity.tolist() == [3.0, 1.0]
    assert greatest.acceleration.tolist() == [1.0, 0.5]
    assert greatest.jerk.tolist() == [0.0, 0.5]


def test_a_path_at_rest_has_ended_and_stands():
    path = standing(np.array([1.0, 2.0]), 5.0)
    assert path.at_rest(5.0)
    assert not path.at_rest(4.9)
    assert path.at(7.0).positions.tolist() == [1.0, 2.0]
    assert path.greatest.jerk.tolist() == [0.0, 0.0]
    assert not one_second().at_rest(20.0)


def test_a_moved_path_is_the_same_later():
    path = one_second().moved(20.0)
    assert path.at(20.25).positions == pytest.approx(one_second().at(10.25).positions)
    assert path.end_s == 21.0


def test_rest_is_a_copy_of_its_positions_in_full_precision():
    places = np.array([1, 2])
    state = rest(places)
    places[:] = 9
    assert (state.positions.tolist(), state.positions.dtype) == ([1.0, 2.0], np.float64)
    assert state.velocities.tolist() == state.accelerations.tolist() == [0.0, 0.0]
    path = standing(np.array([1, 2]), 5.0)
    assert (path.step_s, path.positions.dtype) == (1.0, np.float64)


def test_rest_needs_velocity_and_acceleration_to_vanish():
    zero, some = np.zeros(2), np.array([0.0, -2e-6])
    assert rest(np.ones(2)).at_rest
    assert not State(zero, some, zero).at_rest
    assert not State(zero, zero, some).at_rest
    assert State(zero, zero, some / 4).at_rest


@pytest.mark.parametrize(
    ('shapes', 'step_s', 'words'),
    [
        (((2,), (2,), (2,)), 1.0, r'\[k \+ 1, n\]'),
        (((0, 2), (0, 2), (0, 2)), 1.0, r'\[k \+ 1, n\]'),
        (((2, 2), (2, 1), (2, 2)), 1.0, 'as its positions'),
        (((2, 2), (2, 2), (3, 2)), 1.0, 'as its positions'),
        (((2, 2), (2, 2), (2, 2)), 0.0, 'apart in time'),
        (((2, 2), (2, 2), (2, 2)), float('nan'), 'apart in time'),
    ],
)
def test_arrays_that_do_not_fit_are_no_path(shapes, step_s, words):
    with pytest.raises(ValueError, match=words):
        Path(0.0, step_s, *(np.zeros(shape) for shape in shapes))
