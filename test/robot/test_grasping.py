"""When a gripper gets a new goal: on change, one at a time, the newest, after a stall."""

import pytest

from worldvla_ros.robot.grasping import Goal, GripperGoals

OPEN = 0.08


def goals(made, widths, start_s=0.0, step_s=0.05):
    """Offer a width per period; return (period, goal) of all goals."""
    found = []
    for i, width in enumerate(widths):
        goal = made.offer(width, start_s + i * step_s)
        if goal is not None:
            found.append((i, goal))
    return found


def test_the_first_width_is_a_goal_at_once():
    assert GripperGoals(OPEN).offer(OPEN, 0.0) == Goal(OPEN, closing=False, replaces=False)
    assert GripperGoals(OPEN).offer(0.0, 0.0) == Goal(0.0, closing=True, replaces=False)


def test_the_same_width_is_no_goal_again():
    made = GripperGoals(OPEN)
    assert len(goals(made, [OPEN] * 100)) == 1
    made.ended()
    assert goals(made, [OPEN - 0.01, OPEN - 0.0099, OPEN] * 30, 10.0) == []


def test_a_change_is_a_goal_once_it_has_settled():
    made = GripperGoals(OPEN)
    made.offer(OPEN, 0.0)
    made.ended()
    assert goals(made, [0.0] * 5, 1.0) == [(2, Goal(0.0, closing=True, replaces=False))]


def test_a_flicker_is_no_goal():
    made = GripperGoals(OPEN)
    made.offer(OPEN, 0.0)
    made.ended()
    assert goals(made, [0.0, 0.0, OPEN, 0.0, OPEN, 0.0, 0.0, OPEN] * 5, 1.0) == []


def test_opening_is_not_closing():
    made = GripperGoals(OPEN)
    made.offer(0.0, 0.0)
    made.ended()
    assert goals(made, [OPEN] * 5, 1.0)[0][1].closing is False


def test_a_goal_waits_for_the_end_of_the_one_before():
    made = GripperGoals(OPEN, stalled_s=1.5)
    made.offer(OPEN, 0.0)
    assert made.under_way
    assert goals(made, [0.0] * 10, 0.1) == []
    made.ended()
    assert not made.under_way
    assert made.offer(0.0, 0.7) == Goal(0.0, closing=True, replaces=False)


def test_only_the_newest_width_waits():
    made = GripperGoals(OPEN)
    made.offer(OPEN, 0.0)
    assert goals(made, [0.0] * 6 + [OPEN] * 6, 0.1) == []
    made.ended()
    assert made.offer(OPEN, 0.8) is None


def test_a_goal_that_stalled_is_replaced():
    made = GripperGoals(OPEN, stalled_s=1.5)
    made.offer(OPEN, 0.0)
    made.offer(0.0, 1.0)
    assert made.offer(0.0, 1.49) is None
    assert made.offer(0.0, 1.5) == Goal(0.0, closing=True, replaces=True)
    assert made.under_way


def test_a_goal_that_was_not_taken_is_sent_again_after_a_while():
    made = GripperGoals(OPEN)
    made.offer(0.0, 0.0)
    made.failed(0.0)
    assert made.offer(0.0, 0.99) is None
    assert made.offer(0.0, 1.0) == Goal(0.0, closing=True, replaces=False)


@pytest.mark.parametrize(('told', 'goal'), [(-1.0, 0.0), (1.0, OPEN), (0.04, 0.04)])
def test_goals_are_cut_to_what_the_gripper_can(told, goal):
    assert GripperGoals(OPEN).offer(told, 0.0).width == goal


def test_a_forgotten_width_must_settle_anew():
    made = GripperGoals(OPEN)
    made.offer(OPEN, 0.0)
    made.ended()
    made.offer(0.0, 1.0)
    made.forget()
    assert made.offer(0.0, 5.0) is None
    assert made.offer(0.0, 5.1) is not None
