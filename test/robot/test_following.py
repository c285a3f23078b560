"""What the arm really does: was a command applied, how fast is it, where is it."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.following import (
    BOX_MARGIN_M,
    FOLLOWED_SHARE,
    SPEED_MARGIN,
    TURN_M,
    Applied,
    BoxWatch,
    CatchUp,
    SpeedWatch,
    distance,
    joint_change,
    tip_change,
    tip_lag,
)
from worldvla_ros.robot.kinematics import rotation_matrix

LIMITS = load_robot('sim_panda').limits
DT = 0.02


def pose(x=0.45, y=0.0, z=0.2, turn=(0, 0, 0)):
    found = np.eye(4)
    found[:3, 3] = x, y, z
    found[:3, :3] = rotation_matrix(np.array(turn, float))
    return found


def test_a_change_of_the_tip_counts_turns_as_metres():
    change = tip_change(pose(), pose(y=0.1, turn=(0, 0, 0.5)))
    np.testing.assert_allclose(change, [0, 0.1, 0, 0, 0, 0.5 * TURN_M], atol=1e-12)
    np.testing.assert_array_equal(joint_change(np.ones(2), np.array([1.5, 1])), [0.5, 0])


def test_the_distance_is_that_of_positions():
    assert distance(pose(), pose(0.48, 0.04, 0.2)) == pytest.approx(0.05)
    assert distance(pose(), pose(0.45, 0.03, 0.24)) == pytest.approx(0.05)


def test_a_tip_far_from_its_command_is_named():
    limits = replace(LIMITS, tip_lag=0.05)
    assert tip_lag(pose(), pose(y=0.05), limits, 7.0) is None
    reason = tip_lag(pose(), pose(y=-0.06), limits, 7.0)
    assert (reason.code, reason.limit, reason.unit, reason.stamp_s) == ('tip_lag', 0.05, 'm', 7.0)
    assert reason.value == pytest.approx(0.06)
    assert str(reason) == (
        'the tip is 0.060 m from its command (limits.tip_lag 0.05 m). '
        'Check that the arm is free, its controller active and no machine overloaded, or raise '
        'limits.tip_lag.'
    )


class Drive:
    """An arm in one or two coordinates, told to move."""

    def __init__(self, noticed=0.01, timeout_s=0.5):
        self.applied = Applied(joint_change, noticed, timeout_s, 'rad')
        self.told, self.done, self.now = np.zeros(2), np.zeros(2), 100.0
        self.stamp, self.measured, self.past = 100.0, np.zeros(2), []

    def run(self, seconds, speed, share=1.0, heard=True, late_s=0.0):
        """Command a speed of the first coordinate, of which a share is done.

        Joint states that are not heard repeat the last one; late ones tell of the past.
        """
        for _ in range(round(seconds / DT)):
            self.told[0] += speed * DT
            self.done[0] += share * speed * DT
            self.now += DT
            self.past.append((self.now, self.done.copy()))
            if heard:
                late = round(late_s / DT)
                self.stamp, self.measured = self.past[max(0, len(self.past) - 1 - late)]
            reason = self.applied.check(self.told, self.measured, self.stamp, self.now)
            if reason is not None:
                return reason
        return None


class TestApplied:
    @pytest.mark.parametrize('speed', [1.0, 0.1, 0.004])
    def test_what_is_followed_passes_at_every_speed(self, speed):
        assert Drive().run(10.0, speed) is None

    @pytest.mark.parametrize(('speed', 'after'), [(1.0, 0.55), (0.1, 0.62), (0.004, 3.05)])
    def test_what_is_not_is_noticed_at_every_speed(self, speed, after):
        drive = Drive()
        reason = drive.run(10.0, speed, share=0.0)
        assert reason.code == 'command_not_applied'
        assert drive.now - 100.0 == pytest.approx(after, abs=0.06)
        assert reason.stamp_s == pytest.approx(drive.now)

    def test_what_is_said_of_it(self):
        drive = Drive()
        drive.applied.check(np.zeros(2), np.zeros(2), 10.0, 10.0)
        told, done = np.array([0.02, 0]), np.array([0.004, 0])
        assert drive.applied.check(told, done, 11.0, 11.0) is None
        assert drive.applied.check(told, done, 11.5, 11.5) is None
        reason = drive.applied.check(told, done, 11.51, 11.51)
        assert str(reason) == (
            'the arm does not follow: 0.020 rad were commanded and 0.004 rad of it done '
            '(follow_timeout 0.5 s). Check that the controller takes commands, that joint '
            'states are live and no machine is overloaded, then call ~/enable with true.'
        )
        assert (reason.value, reason.limit, reason.unit) == (
            pytest.approx(0.004), pytest.approx(FOLLOWED_SHARE * 0.02), 'rad',
        )  # fmt: skip

    def test_a_share_is_enough_and_less_is_not(self):
        told = np.array([0.02, 0])
        for share, seen in ((FOLLOWED_SHARE + 0.01, False), (FOLLOWED_SHARE - 0.01, True)):
            drive = Drive()
            drive.applied.check(np.zeros(2), np.zeros(2), 10.0, 10.0)
            drive.applied.check(told, share * told, 10.1, 10.1)
            reason = drive.applied.check(told, share * told, 10.7, 10.7)
            assert (reason is not None) == seen

    def test_one_that_moves_slowly_is_behind_but_follows(self):
        assert Drive().run(10.0, 0.1, share=0.21) is None
        assert Drive().run(10.0, 0.1, share=0.1) is not None

    def test_motion_to_the_other_side_or_sideways_is_none(self):
        assert Drive().run(5.0, 0.1, share=-1.0) is not None
        drive = Drive()
        reason = None
        for _ in range(100):
            drive.done[1] += 0.002
            reason = reason or drive.run(DT, 0.1, share=0.0)
        assert reason is not None

    def test_trembling_is_none(self):
        drive, reason = Drive(), None
        for i in range(100):
            drive.done[:] = 0.002 * (-1) ** i
            reason = reason or drive.run(DT, 0.1, share=0.0)
        assert reason is not None

    def test_a_late_arm_has_until_the_time_out(self):
        drive = Drive()
        assert drive.run(0.4, 0.1, share=0.0) is None
        assert drive.run(3.0, 0.1) is None

    def test_too_little_to_show_is_no_matter(self):
        drive = Drive()
        assert drive.run(0.09, 0.1, share=0.0) is None
        assert drive.run(5.0, 0.0) is None

    def test_a_command_that_comes_back_need_not_show(self):
        drive = Drive()
        for _ in range(20):
            assert drive.run(0.2, 0.1, share=0.0) is None
            assert drive.run(0.2, -0.1, share=0.0) is None

    def test_it_ends_when_the_arm_follows(self):
        drive = Drive()
        assert drive.run(2.0, 0.1, share=0.0)
        drive.done[:] = drive.told
        assert drive.run(3.0, 0.1) is None

    def test_short_motions_from_the_measured_place_add_up(self):
        drive = Drive()
        for _ in range(20):
            reason = drive.run(0.06, 0.1, share=0.0)
            if reason is not None:
                break
            drive.applied.restart()
            drive.told = drive.done.copy()
        assert reason is not None

    def test_what_a_restart_finds_done_does_not_count_again(self):
        drive = Drive()
        for _ in range(20):
            assert drive.run(0.1, 0.1, share=0.8) is None
            drive.applied.restart()
            drive.told = drive.done.copy()

    def test_commands_count_only_up_to_the_stamp_of_what_was_measured(self):
        drive = Drive()
        assert drive.run(0.2, 0.1) is None
        for _ in range(10):  # heard again just before the arm would be held for it
            assert drive.run(0.28, 0.1, heard=False) is None
            assert drive.run(0.04, 0.1) is None
        assert drive.run(3.0, 0.1, heard=False) is None  # its age is the matter of others

    def test_joint_states_that_come_late_are_compared_with_the_past(self):
        drive = Drive()
        for _ in range(8):
            assert drive.run(1.0, 0.1, late_s=0.6) is None
            assert drive.run(1.0, -0.1, late_s=0.6) is None

    def test_one_that_is_late_and_stands_still_is_noticed(self):
        drive = Drive()
        assert drive.run(1.0, 0.1, late_s=0.2) is None
        begin = drive.now
        assert drive.run(5.0, 0.1, share=0.0, late_s=0.2) is not None
        assert drive.now - begin < 1.2

    def test_time_at_rest_does_not_count(self):
        drive = Drive()
        assert drive.run(0.3, 0.1, share=0.0) is None
        drive.applied.restart()
        drive.now += 10.0
        drive.told = drive.done.copy()
        assert drive.run(0.2, 0.1) is None

    def test_what_is_done_after_the_end_of_a_motion_counts(self):
        drive = Drive()
        assert drive.run(0.3, 0.1, share=0.0) is None
        drive.applied.restart()
        drive.done[0] += 0.03  # it came a little later
        drive.told = drive.done.copy()
        for _ in range(10):
            assert drive.run(0.08, 0.1, share=0.0) is None
            drive.applied.forget()

    def test_an_arm_moved_by_hand_at_rest_is_no_lag(self):
        drive = Drive()
        assert drive.run(1.0, 0.1) is None
        drive.applied.restart()
        drive.done[:] = [-0.5, 0.3]
        drive.told = drive.done.copy()
        assert drive.run(3.0, 0.1) is None

    def test_a_restart_keeps_no_more_than_what_is_missing(self):
        drive = Drive()
        assert drive.run(0.08, 0.1) is None
        drive.applied.restart()
        assert drive.run(0.08, 0.1, share=0.0) is None
        assert drive.run(2.0, 0.0) is None

    def test_enabling_forgets(self):
        drive = Drive()
        assert drive.run(2.0, 0.1, share=0.0)
        drive.applied.forget()
        assert drive.run(0.5, 0.1, share=0.0) is None


class TestCatchUp:
    def wait(self, *places, timeout_s=0.5):
        behind = CatchUp(timeout_s)
        behind.begin()
        for i, place in enumerate(places):
            told, here = np.zeros(2), np.array([0.0, -place])
            reason = behind.check(told, here, 0.02, 'rad', 10.0 + 0.1 * i)
            if reason is not None:
                return behind, reason
        return behind, None

    def test_an_arm_that_arrives_is_waited_for(self):
        behind, reason = self.wait(0.3, 0.2, 0.1, 0.021)
        assert behind.waiting
        assert reason is None
        behind, reason = self.wait(0.3, 0.2, 0.1, 0.019)
        assert not behind.waiting
        assert reason is None

    def test_one_that_does_not_is_named_after_the_time_out(self):
        behind, reason = self.wait(*[0.3] * 6)
        assert behind.waiting
        assert reason is None
        behind, reason = self.wait(*[0.3] * 7)
        assert not behind.waiting
        assert str(reason).startswith(
            'the arm does not follow: it stays 0.300 rad from its last command '
            '(follow_timeout 0.5 s)'
        )
        assert (reason.code, reason.limit, reason.stamp_s) == ('command_not_applied', 0.02, 10.6)

    def test_it_can_be_called_off_and_begin_anew(self):
        behind, _ = self.wait(*[0.3] * 6)
        behind.begin()
        assert behind.check(np.zeros(2), np.ones(2), 0.02, 'rad', 20.0) is None
        behind.forget()
        assert not behind.waiting


class TestSpeed:
    VELOCITY = np.array([2.0, 1.0])

    def drive(self, tip=0.0, turn=0.0, joint=0.0, seconds=1.0, dt=DT, watch=None, start=10.0):
        watch = watch or SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        for i in range(round(seconds / dt)):
            t = i * dt
            reason = watch.check(
                pose(y=tip * t, turn=(0, 0, turn * t)), np.array([0, joint * t]), start + t
            )
            if reason is not None:
                return reason
        return None

    def test_motion_at_the_limits_passes(self):
        assert self.drive(LIMITS.linear_speed, LIMITS.angular_speed, 1.0) is None
        most = SPEED_MARGIN - 0.01
        assert self.drive(LIMITS.linear_speed * most) is None

    @pytest.mark.parametrize(
        ('motion', 'words', 'unit'),
        [
            ({'tip': 1.0}, 'tip measured at 1.000 m/s (limits.linear_speed 0.75 m/s)', 'm/s'),
            ({'tip': -1.0}, 'tip measured at 1.000 m/s', 'm/s'),
            (
                {'turn': 5.0},
                'hand measured at 5.000 rad/s (limits.angular_speed 3.5 rad/s)',
                'rad/s',
            ),
            (
                {'joint': -1.5},
                'joint two measured at 1.500 rad/s (joints.velocity 1.0 rad/s)',
                'rad/s',
            ),
        ],
    )
    def test_faster_motion_is_named(self, motion, words, unit):
        reason = self.drive(**motion)
        assert reason.code == 'measured_speed'
        assert reason.text.startswith(words)
        assert reason.unit == unit
        assert reason.value > reason.limit
        assert 10.1 <= reason.stamp_s <= 10.13

    @pytest.mark.parametrize('axis', np.eye(3))
    def test_turns_count_about_every_axis_and_by_themselves(self, axis):
        for share, expected in ((1.0, False), (1.4, True)):
            watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
            reasons = [
                watch.check(
                    pose(y=LIMITS.linear_speed * t, turn=axis * share * LIMITS.angular_speed * t),
                    np.zeros(2),
                    t,
                )
                for t in np.arange(10) * DT
            ]
            assert any(reasons) == expected

    def test_the_joint_nearest_to_its_own_limit_counts(self):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        watch.check(pose(), np.zeros(2), 10.0)
        reason = watch.check(pose(), np.array([0.5, 0.375]), 10.25)
        assert str(reason) == (
            'joint two measured at 1.500 rad/s (joints.velocity 1.0 rad/s). Check which '
            'controllers move the arm, that joint states have right stamps and no machine is '
            'overloaded, then call ~/enable with true.'
        )
        assert (reason.value, reason.limit, reason.stamp_s) == (1.5, 1.3, 10.25)

    @pytest.mark.parametrize(
        ('stamps', 'places'),
        [
            ((0.0, 0.04, 0.08, 0.12, 0.16), (0.0, 0.0, 0.04, 0.08, 0.13)),
            ((0.0, 0.15, 0.3), (0.0, 0.0, 0.16)),
        ],
    )
    def test_it_is_measured_over_no_longer_than_it_must(self, stamps, places):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        reasons = [
            watch.check(pose(y=y), np.zeros(2), t) for t, y in zip(stamps, places, strict=True)
        ]
        assert [reason is not None for reason in reasons] == [False] * (len(stamps) - 1) + [True]

    def test_it_is_measured_over_a_tenth_of_a_second(self):
        assert self.drive(tip=1.0, seconds=0.1) is None
        assert self.drive(tip=1.0, seconds=0.14) is not None

    def test_one_reading_out_of_place_is_no_speed(self):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        for i in range(50):
            y = 0.05 if i == 25 else 0.0
            assert watch.check(pose(y=y), np.zeros(2), 10 + i * DT) is None

    def test_slow_readings_count_too(self):
        assert self.drive(tip=1.0, dt=0.25) is not None
        assert self.drive(tip=1.0, dt=0.6, seconds=5.0) is None  # says nothing any more

    def test_a_reading_that_comes_twice_is_one(self):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        assert watch.check(pose(), np.zeros(2), 10.0) is None
        assert watch.check(pose(y=1.0), np.zeros(2), 10.0) is None
        assert watch.check(pose(), np.zeros(2), 10.2) is None

    def test_a_clock_that_was_set_back_begins_anew(self):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        assert watch.check(pose(), np.zeros(2), 10.0) is None
        assert watch.check(pose(y=1.0), np.zeros(2), 9.9) is None
        assert watch.check(pose(y=1.0), np.zeros(2), 10.05) is None

    def test_forgetting_begins_anew(self):
        watch = SpeedWatch(LIMITS, self.VELOCITY, ('one', 'two'))
        assert watch.check(pose(), np.zeros(2), 10.0) is None
        watch.forget()
        assert watch.check(pose(y=1.0), np.zeros(2), 10.2) is None


class TestBox:
    INSIDE = np.array([0.45, 0.0, 0.2])

    def at(self, axis, side, beyond):
        place = self.INSIDE.copy()
        wall = LIMITS.workspace_maximum[axis] if side > 0 else LIMITS.workspace_minimum[axis]
        place[axis] = wall + side * beyond
        return place

    @pytest.mark.parametrize('axis', [0, 1, 2])
    @pytest.mark.parametrize('side', [-1, 1])
    def test_a_tip_that_gets_out_is_named(self, axis, side):
        watch = BoxWatch(LIMITS)
        assert watch.check(self.INSIDE, 7.0) is None
        assert watch.check(self.at(axis, side, 0.9 * BOX_MARGIN_M), 7.0) is None
        reason = watch.check(self.at(axis, side, 1.1 * BOX_MARGIN_M), 7.0)
        assert (reason.code, reason.limit, reason.unit, reason.stamp_s) == (
            'measured_workspace', BOX_MARGIN_M, 'm', 7.0,
        )  # fmt: skip
        assert reason.value == pytest.approx(1.1 * BOX_MARGIN_M)

    def test_what_is_said_of_it(self):
        watch = BoxWatch(LIMITS)
        watch.check(self.INSIDE, 7.0)
        assert str(watch.check(np.array([0.45, -0.0, 0.42]), 7.0)) == (
            'tip measured at [0.45, 0.0, 0.42] m '
            '(workspace [0.25, -0.3, 0.005] to [0.72, 0.3, 0.4] m). '
            'Move the arm back into the workspace, or enlarge it in the robot description.'
        )

    def test_one_that_starts_outside_may_come_back_and_not_get_further(self):
        watch = BoxWatch(LIMITS)
        for beyond in (0.1, 0.103, 0.05, 0.03):
            assert watch.check(self.at(2, 1, beyond), 7.0) is None
        assert watch.check(self.at(2, 1, 0.034), 7.0) is None
        assert watch.check(self.at(2, 1, 0.036), 7.0) is not None
        watch.forget()
        assert watch.check(self.at(2, 1, 0.036), 7.0) is None
