from fake_arm import HOME, along_x, chunk
import numpy as np
import pytest

from worldvla_ros.robot.kinematics import rotation_matrix
from worldvla_ros.robot.line import Line, Source, blended, borders, lay_joints, lay_tip
from worldvla_ros.robot.tip import pose_at

BOX = np.array([0.3, -0.2, 0.0]), np.array([0.6, 0.2, 0.4])


@pytest.mark.parametrize(
    ('progress', 'expected'),
    [
        (0.0, [0, 1, 2, 3]),
        (1.25, [1.25, 2, 3]),
        (2.0, [2, 3]),
        (1.9999999, [2, 3]),
        (2.0000001, [2, 3]),
        (1.99, [1.99, 2, 3]),
    ],
)
def test_borders_are_the_progress_and_every_end_after_it(progress, expected):
    assert borders(progress, 3).tolist() == pytest.approx(expected)


def test_a_line_is_straight_between_its_places_and_stays_at_its_ends():
    line = Line(np.array([1.5, 2.0, 3.0]), np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 3.0]]))
    assert line.start == 1.5
    assert line.end == 3.0
    assert line.at(1.75).tolist() == [0.5, 1.0]
    assert line.at(np.array([0.0, 2.5, 9.0])).tolist() == [[0.0, 1.0], [1.0, 2.0], [1.0, 3.0]]
    assert line.rates().tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert line.until(1).rows.tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert line.until(1).end == 2.0


def test_values_are_scaled_and_leave_the_gripper_out():
    came = chunk(along_x(0.5, 2))
    came.scale[:] = 2.0
    assert Source(came, 0.0).values.tolist() == [[1.0, 0, 0, 0, 0, 0]] * 2


def test_the_first_move_is_what_is_left_of_its_action():
    source = Source(chunk(along_x(0.01, 4)), 1.25)
    moves = blended([source], borders(1.25, 4), 'latest', absolute=False)
    assert moves[:, 0] == pytest.approx([0.0075, 0.01, 0.01])


def test_moves_for_the_same_instant_are_averaged_with_weights_that_fall_from_the_oldest():
    old, new = Source(chunk(along_x(0.01, 4)), 2.0), Source(chunk(along_x(0.04, 4)), 1.0)
    moves = blended([old, new], borders(1.0, 4), 'ensemble', absolute=False)
    late = np.exp(-0.01)
    mean = (0.01 + late * 0.04) / (1 + late)
    assert moves[:, 0] == pytest.approx([mean, mean, 0.04])


def test_blending_takes_over_within_four_actions():
    old, new = Source(chunk(along_x(0.0, 8)), 2.0), Source(chunk(along_x(0.08, 6)), 0.0)
    moves = blended([old, new], borders(0.0, 6), 'blend', absolute=False)
    assert moves[:, 0] == pytest.approx([0.01, 0.03, 0.05, 0.07, 0.08, 0.08])
    alone = blended([new], borders(0.0, 6), 'blend', absolute=False)
    assert alone[:, 0] == pytest.approx([0.08] * 6)


def test_chunks_of_another_dt_are_compared_by_time():
    old = Source(chunk(along_x(0.02, 4), dt=0.1), 1.0)
    new = Source(chunk(along_x(0.01, 4), dt=0.05), 0.0)
    moves = blended([old, new], borders(0.0, 4), 'ensemble', absolute=False)
    assert moves[:, 0] == pytest.approx([0.01] * 4)


def test_places_are_averaged_as_places():
    old = Source(chunk(np.cumsum(along_x(0.1, 4), axis=0), kind='joint_position'), 1.0)
    new = Source(chunk(np.cumsum(along_x(0.1, 3), axis=0), kind='joint_position'), 0.0)
    moves = blended([old, new], borders(0.0, 3), 'ensemble', absolute=True)
    late = np.exp(-0.01)
    expected = [(0.1 * (i + 1) + late * 0.1 * i) / (1 + late) for i in (1, 2, 3)]
    assert moves[:, 0] == pytest.approx(expected, abs=1e-6)
    latest = blended([new], borders(0.5, 3), 'latest', absolute=True)
    assert latest[:, 0] == pytest.approx([0.1, 0.2, 0.3])


def test_joints_are_kept_in_their_ranges():
    low, high = np.full(6, -0.1), np.full(6, 0.55)
    ends = borders(0.0, 3)
    deltas = lay_joints(HOME, along_x(0.04, 3), ends, low=low, high=high, absolute=False)
    assert deltas.rows[:, 0] == pytest.approx([0.5, 0.54, 0.55, 0.55])
    places = lay_joints(HOME, along_x(0.7, 3), ends, low=low, high=high, absolute=True)
    assert places.rows[:, 0] == pytest.approx([0.5, 0.55, 0.55, 0.55])
    assert places.borders.tolist() == [0, 1, 2, 3]


def test_the_tip_is_led_along_the_wall_of_its_box_and_away_at_once():
    moves = np.array([[0.08, 0.01, 0, 0, 0, 0], [0.08, 0.01, 0, 0, 0, 0], [-0.05, 0, 0, 0, 0, 0]])
    line, clipped = lay_tip(
        pose_at(HOME, np.eye(3)), moves, borders(0.0, 3), low=BOX[0], high=BOX[1], anchor=np.eye(3)
    )
    assert line.rows[:, 0] == pytest.approx([0.5, 0.58, 0.6, 0.55])
    assert line.rows[:, 1] == pytest.approx([0.0, 0.01, 0.02, 0.02])
    assert clipped


def test_the_tip_comes_back_into_its_box_no_faster_than_its_actions():
    start = pose_at(HOME + [0.2, 0, 0, 0, 0, 0], np.eye(3))
    moves = np.array([[-0.04, 0, 0, 0, 0, 0], [0.04, 0, 0, 0, 0, 0]])
    line, clipped = lay_tip(
        start, moves, borders(0.0, 2), low=BOX[0], high=BOX[1], anchor=np.eye(3)
    )
    assert line.rows[:, 0] == pytest.approx([0.7, 0.66, 0.62])
    assert clipped


def test_turns_follow_one_another_in_the_axes_of_the_base():
    moves = np.array([[0, 0, 0, 0.3, 0, 0], [0, 0, 0, 0, 0.4, 0]], float)
    line, clipped = lay_tip(
        pose_at(HOME, np.eye(3)), moves, borders(0.0, 2), low=BOX[0], high=BOX[1], anchor=np.eye(3)
    )
    turned = rotation_matrix(np.array([0, 0.4, 0])) @ rotation_matrix(np.array([0.3, 0, 0]))
    assert pose_at(line.rows[2], np.eye(3))[:3, :3] == pytest.approx(turned)
    assert not clipped
