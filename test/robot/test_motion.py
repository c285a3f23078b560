from fake_arm import HOME, SPEED, FakeArm, along_x, chunk, reading
import numpy as np
import pytest

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.kinematics import rotation_matrix, rotation_vector
from worldvla_ros.robot.motion import BACK_S, GAP_S, Motion

TICK = 0.01


def tip_motion(**options) -> Motion:
    return Motion(FakeArm(**options), output='twist')


def run(motion, from_s, to_s):
    """Return setpoints at every tick, and their times, until the motion rests."""
    times, points = [], []
    for i in range(round((to_s - from_s) / TICK) + 1):
        now_s = from_s + i * TICK
        point = motion.at(now_s)
        if point is not None:
            times.append(now_s)
            points.append(point)
    return np.array(times), points


def place(points):
    return points[-1].tip.pose[:3, 3]


class TestAChunkFromRest:
    def test_moves_the_tip_by_the_sum_of_its_actions_and_rests(self):
        motion = tip_motion()
        assert motion.offer(chunk(along_x(0.01)), 5.0, reading()) is None
        times, points = run(motion, 5.0, 8.0)
        assert place(points) == pytest.approx(HOME[:3] + [0.1, 0, 0], abs=1e-4)
        assert times[-1] < 5.0 + 0.5 + 0.6
        assert points[-1].place.state.at_rest
        assert motion.at(8.0) is None
        assert motion.path is None
        assert motion.remaining_s == 0.0

    def test_is_halfway_when_half_of_its_time_has_gone(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.005, 20)), 0.0, reading())
        _, points = run(motion, 0.0, 0.5)
        assert place(points)[0] - HOME[0] == pytest.approx(0.05, abs=2e-3)
        assert points[-1].tip.linear == pytest.approx([0.1, 0, 0], abs=2e-3)
        assert points[-1].progress == pytest.approx(10.0)

    def test_turns_the_tip_about_the_axes_of_the_base_one_action_after_the_other(self):
        moves = np.zeros((10, 6))
        moves[:5, 3], moves[5:, 5] = 0.03, -0.03
        motion = tip_motion()
        start = HOME + [0, 0, 0, 0.2, 0.3, 0]
        motion.offer(chunk(moves), 0.0, reading(start))
        _, points = run(motion, 0.0, 3.0)
        turned = rotation_matrix(np.array([0, 0, -0.15])) @ rotation_matrix(np.array([0.15, 0, 0]))
        expected = turned @ rotation_matrix(start[3:])
        missing = rotation_vector(points[-1].tip.pose[:3, :3] @ expected.T)
        assert missing == pytest.approx(np.zeros(3), abs=1e-3)

    def test_waits_for_nothing_that_happened_before_it(self):
        """Cold start: no action was played since the stamp, so none is left out."""
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01), stamp_s=0.0), 0.45, reading())
        assert motion.at(0.45).progress == 0.0

    @pytest.mark.parametrize(('off', 'there'), [(0.0015, True), (0.0025, False)])
    def test_begins_where_the_one_before_ended_if_the_arm_is_there(self, off, there):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        _, points = run(motion, 0.0, 3.0)
        ended = np.array([*place(points), 0, 0, 0])
        measured = ended + [0, off, 0, 0, 0, 0]
        motion.offer(chunk(along_x(0.0), 3.0, number=1), 3.1, reading(measured))
        begins = ended if there else measured
        assert motion.at(3.1).tip.pose[:3, 3] == pytest.approx(begins[:3], abs=1e-9)

    def test_has_joints_only_where_its_path_is_one_of_joints(self):
        for output, known in (('twist', False), ('pose', False), ('position', True)):
            motion = Motion(FakeArm(), output=output)
            motion.offer(chunk(along_x(0.01)), 0.0, reading())
            assert (motion.at(0.1).joints is not None) == known

    def test_begins_where_the_arm_is(self):
        motion = tip_motion()
        elsewhere = HOME + [0.05, 0.05, 0, 0, 0, 0]
        motion.offer(chunk(along_x(0.0)), 0.0, reading(elsewhere))
        assert motion.at(0.0).tip.pose[:3, 3] == pytest.approx(elsewhere[:3])

    @pytest.mark.parametrize('output', ['position', 'velocity', 'trajectory'])
    def test_moves_the_joints_by_inverse_kinematics(self, output):
        motion = Motion(FakeArm(), output=output)
        assert motion.offer(chunk(along_x(0.01)), 0.0, reading()) is None
        _, points = run(motion, 0.0, 3.0)
        assert points[-1].joints.positions == pytest.approx(HOME + [0.1, 0, 0, 0, 0, 0], abs=2e-4)
        assert place(points)[0] == pytest.approx(0.6, abs=2e-4)


class TestJointActions:
    def test_deltas_add_up(self):
        motion = Motion(FakeArm('joint_delta'), output='position')
        moves = np.tile([0.01, 0, 0, 0, 0, -0.005], (10, 1))
        motion.offer(chunk(moves, kind='joint_delta'), 0.0, reading())
        _, points = run(motion, 0.0, 3.0)
        assert points[-1].joints.positions == pytest.approx(
            HOME + [0.1, 0, 0, 0, 0, -0.05], abs=2e-4
        )

    def test_positions_are_places(self):
        motion = Motion(FakeArm('joint_position'), output='position')
        places = np.linspace(HOME, HOME + [0.1, 0, 0, 0, 0, -0.05], 11)[1:]
        motion.offer(chunk(places, kind='joint_position'), 0.0, reading())
        _, points = run(motion, 0.0, 3.0)
        assert points[-1].joints.positions == pytest.approx(places[-1], abs=2e-4)

    def test_a_far_first_position_is_approached_within_limits_and_not_refused(self):
        motion = Motion(FakeArm('joint_position', max_slowdown=1.0), output='position')
        places = np.tile(HOME + [0.1, 0, 0, 0, 0, 0], (10, 1))
        assert motion.offer(chunk(places, kind='joint_position'), 0.0, reading()) is None
        _, points = run(motion, 0.0, 4.0)
        speeds = [abs(point.joints.velocities).max() for point in points]
        assert max(speeds) <= SPEED
        assert points[-1].joints.positions == pytest.approx(places[-1], abs=1e-3)

    @pytest.mark.parametrize('kind', ['joint_delta', 'joint_position'])
    def test_cannot_be_played_as_motion_of_the_tip(self, kind):
        for output in ('twist', 'pose'):
            with pytest.raises(RobotError, match=f'{kind} cannot be played as {output}'):
                Motion(FakeArm(kind), output=output)

    def test_an_unknown_output_or_blending_is_refused(self):
        with pytest.raises(RobotError, match="'torque'"):
            Motion(FakeArm(), output='torque')
        with pytest.raises(RobotError, match="'average'"):
            Motion(FakeArm(), output='twist', blending='average')


class TestSplicing:
    @pytest.mark.parametrize('age_s', [0.1, 0.125, 0.0])
    def test_a_chunk_goes_on_after_what_was_played_since_its_stamp(self, age_s):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.005)), 0.0, reading())
        run(motion, 0.0, 0.2)
        motion.offer(chunk(along_x(0.005), stamp_s=0.2 - age_s, number=1), 0.2, reading())
        assert motion.at(0.2).progress == pytest.approx(age_s / 0.05)
        assert len(motion.actions_left) == 10 - int(age_s / 0.05 + 1e-6)
        run(motion, 0.2, 0.3)
        assert motion.at(0.3).progress == pytest.approx(age_s / 0.05 + 2)

    def test_the_same_displacements_answered_twice_are_done_once(self):
        """One motion of 20 actions, told by chunks of 10 that overlap."""
        motion = tip_motion()
        whole = along_x(0.005, 20)
        motion.offer(chunk(whole[:10]), 0.0, reading())
        for i, stamp_s in enumerate((0.1, 0.2, 0.3, 0.5)):
            arrives_s = stamp_s + 0.13
            run(motion, arrives_s - 0.1, arrives_s)
            done = round(stamp_s / 0.05)
            motion.offer(
                chunk(whole[done : done + 10], stamp_s, number=i + 1), arrives_s, reading()
            )
        _, points = run(motion, 0.63, 3.0)
        assert place(points)[0] - HOME[0] == pytest.approx(0.1, abs=5e-4)

    def test_a_border_is_no_step_in_position_velocity_or_acceleration(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.015)), 0.0, reading())
        run(motion, 0.0, 0.17)
        before = motion.at(0.17).tip
        turned = np.tile([0.0, -0.01, 0.01, 0.02, 0, 0], (10, 1))
        motion.offer(chunk(turned, stamp_s=0.1, number=1), 0.17, reading())
        after = motion.at(0.17).tip
        for name in ('pose', 'linear', 'angular', 'linear_acceleration', 'angular_acceleration'):
            assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9)

    def test_an_older_chunk_and_the_same_one_change_nothing(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01), stamp_s=1.0, number=4), 1.1, reading())
        path = motion.path
        assert motion.offer(chunk(along_x(0.01), stamp_s=1.0, number=4), 1.2, reading()) is None
        assert motion.offer(chunk(along_x(-0.01), stamp_s=0.9, number=3), 1.2, reading()) is None
        assert motion.path is path

    def test_a_chunk_all_of_whose_actions_are_done_is_refused(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.005, 20)), 0.0, reading())
        run(motion, 0.0, 0.7)
        path = motion.path
        refusal = motion.offer(chunk(along_x(0.01), stamp_s=0.1, number=1), 0.7, reading())
        assert refusal.code == 'chunk_late'
        assert str(refusal) == (
            '12.0 actions are done (it has 10). Use a faster policy, or longer chunks.'
        )
        assert refusal.stamp_s == 0.1
        assert motion.path is path

    def test_a_slower_dt_counts_its_own_actions(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.005)), 0.0, reading())
        run(motion, 0.0, 0.2)
        motion.offer(chunk(along_x(0.005), stamp_s=0.0, dt=0.1, number=1), 0.2, reading())
        assert motion.at(0.2).progress == pytest.approx(2.0)

    def test_displacements_go_on_from_where_the_others_lead(self):
        """Not from the commanded place, which lags behind at full speed."""
        motion = tip_motion()
        motion.offer(chunk(along_x(0.019)), 0.0, reading())
        run(motion, 0.0, 0.25)
        rest_of_it = np.zeros((10, 6))
        motion.offer(chunk(rest_of_it, stamp_s=0.25, number=1), 0.25, reading())
        _, points = run(motion, 0.25, 3.0)
        assert place(points)[0] - HOME[0] == pytest.approx(5 * 0.019, abs=1e-3)

    def test_blending_goes_over_from_one_chunk_to_the_next(self):
        ends = {}
        for blending in ('latest', 'blend', 'ensemble'):
            motion = Motion(FakeArm(), output='twist', blending=blending)
            motion.offer(chunk(along_x(0.01)), 0.0, reading())
            run(motion, 0.0, 0.1)
            motion.offer(chunk(along_x(0.0), stamp_s=0.1, number=1), 0.1, reading())
            _, points = run(motion, 0.1, 3.0)
            ends[blending] = place(points)[0] - HOME[0]
        assert ends['latest'] == pytest.approx(0.02, abs=1e-3)
        # 7/8, 5/8, 3/8 and 1/8 of an action of the old chunk
        assert ends['blend'] == pytest.approx(0.04, abs=1e-3)
        # eight more actions of the old one, weighted 1 to exp(-0.01)
        assert ends['ensemble'] == pytest.approx(0.02 + 0.08 / (1 + np.exp(-0.01)), abs=1e-3)


class TestSpeed:
    def test_a_chunk_that_is_too_fast_is_played_slower_and_as_far(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.03)), 0.0, reading(HOME - [0.2, 0, 0, 0, 0, 0]))
        assert motion.slowdown == pytest.approx(0.6 / SPEED)
        times, points = run(motion, 0.0, 5.0)
        assert place(points)[0] == pytest.approx(0.6, abs=2e-3)
        assert 0.75 < times[-1] < 1.6
        assert max(np.linalg.norm(point.tip.linear) for point in points) <= SPEED

    def test_a_diagonal_counts_by_its_length(self):
        motion = tip_motion()
        moves = np.tile(np.array([0.02, 0.02, 0.01, 0, 0, 0]) * 0.9, (5, 1))
        motion.offer(chunk(moves), 0.0, reading())
        assert motion.slowdown == pytest.approx(0.027 / 0.05 / SPEED)

    def test_turning_counts_too(self):
        motion = tip_motion()
        moves = np.tile([0, 0, 0, 0.0, 0.1, 0], (5, 1))
        motion.offer(chunk(moves), 0.0, reading())
        assert motion.slowdown == pytest.approx(2.0, rel=1e-3)

    def test_one_that_is_too_fast_even_so_is_refused(self):
        motion = tip_motion(max_slowdown=1.4)
        refusal = motion.offer(chunk(along_x(0.03)), 0.0, reading())
        assert refusal.code == 'chunk_speed'
        assert '1.50 times' in refusal.text
        assert 'limits.max_slowdown 1.4' in refusal.text
        assert 'the tip at 0.6 m/s (limits.linear_speed 0.4 m/s' in refusal.text
        assert 'Raise limits.linear_speed or limits.max_slowdown' in refusal.remedy
        assert (refusal.value, refusal.limit, refusal.unit) == (pytest.approx(0.6), 0.4, 'm/s')
        assert motion.path is None

    def test_one_that_turns_too_fast_is_refused_as_such(self):
        motion = tip_motion(max_slowdown=1.5)
        moves = np.tile([0, 0, 0, 0.0, 0.1, 0], (5, 1))
        refusal = motion.offer(chunk(moves), 0.0, reading())
        assert 'the tip at 2 rad/s (limits.angular_speed 1 rad/s' in refusal.text
        found = refusal.value, refusal.limit, refusal.unit
        assert found == (pytest.approx(2.0, rel=1e-3), 1.0, 'rad/s')

    def test_one_of_joints_that_are_too_fast_names_the_fastest(self):
        motion = Motion(FakeArm('joint_delta', max_slowdown=1.4), output='position')
        moves = np.tile([0, 0.01, 0.03, 0, 0, 0], (5, 1))
        refusal = motion.offer(chunk(moves, kind='joint_delta'), 0.0, reading())
        assert 'joint c at 0.6 rad/s (joints.velocity 0.4 rad/s' in refusal.text
        assert (refusal.value, refusal.limit, refusal.unit) == (pytest.approx(0.6), 0.4, 'rad/s')

    def test_a_slow_chunk_counts_actions_not_time(self):
        """Played 1.5 times slower, 0.15 s are two actions."""
        motion = tip_motion()
        motion.offer(chunk(along_x(0.03)), 0.0, reading(HOME - [0.2, 0, 0, 0, 0, 0]))
        run(motion, 0.0, 0.3)
        motion.offer(chunk(along_x(0.01), stamp_s=0.15, number=1), 0.3, reading())
        assert motion.at(0.3).progress == pytest.approx(2.0)

    def test_joints_that_are_too_fast_slow_a_chunk_down(self):
        motion = Motion(FakeArm('joint_delta'), output='position')
        start = reading(HOME - [0.2, 0, 0, 0, 0, 0])
        motion.offer(chunk(along_x(0.03), kind='joint_delta'), 0.0, start)
        assert motion.slowdown == pytest.approx(1.5)
        _, points = run(motion, 0.0, 5.0)
        assert max(np.linalg.norm(point.tip.linear) for point in points) <= SPEED

    def test_a_tip_that_is_too_fast_slows_joints_down(self):
        motion = Motion(FakeArm('joint_delta'), output='position')
        moves = np.tile([0.015, 0.015, 0.015, 0, 0, 0], (8, 1))
        motion.offer(chunk(moves, kind='joint_delta'), 0.0, reading(HOME * [1, 1, 0.5, 1, 1, 1]))
        assert motion.slowdown > 1.2
        _, points = run(motion, 0.0, 5.0)
        assert max(np.linalg.norm(point.tip.linear) for point in points) <= SPEED

    def test_joints_may_slow_down_a_chunk_whose_tip_is_slow_enough(self):
        arm = FakeArm(max_slowdown=1.0)
        arm.velocity = np.full(6, 0.15)
        motion = Motion(arm, output='position')
        assert motion.offer(chunk(along_x(0.01)), 0.0, reading()) is None
        assert motion.slowdown == pytest.approx(0.2 / 0.15, rel=1e-3)
        _, points = run(motion, 0.0, 4.0)
        assert place(points)[0] == pytest.approx(0.6, abs=1e-3)
        assert max(abs(point.joints.velocities).max() for point in points) <= 0.15
        arm.velocity = np.full(6, 0.09)
        refusal = motion.offer(chunk(along_x(-0.01), 4.0, number=1), 4.0, reading(HOME))
        assert refusal.code == 'chunk_speed'
        assert 'joint a would go 0.2 rad/s (joints.velocity 0.09 rad/s' in refusal.text
        assert 'up to 2 times slower' in refusal.text
        assert 'singular' in refusal.remedy
        found = refusal.value, refusal.limit, refusal.unit
        assert found == (pytest.approx(0.2, rel=1e-3), 0.09, 'rad/s')

    def test_an_override_plays_slower_from_now_on(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.005)), 0.0, reading())
        run(motion, 0.0, 0.25)
        assert motion.override(0.25, 0.25) is None
        assert motion.speed == 0.25
        assert motion.at(0.25).progress == pytest.approx(5.0)
        run(motion, 0.25, 0.45)
        assert motion.at(0.45).progress == pytest.approx(6.0)
        assert motion.slowdown == 1.0
        _, points = run(motion, 0.45, 3.0)
        assert place(points)[0] - HOME[0] == pytest.approx(0.05, abs=1e-3)

    def test_an_override_holds_for_the_next_chunk(self):
        motion = tip_motion()
        motion.override(0.1, 0.0)
        motion.offer(chunk(along_x(0.01)), 1.0, reading())
        times, points = run(motion, 1.0, 9.0)
        assert place(points)[0] - HOME[0] == pytest.approx(0.1, abs=1e-3)
        assert times[-1] > 6.0
        assert max(np.linalg.norm(point.tip.linear) for point in points) < 0.03

    def test_the_least_override_comes_to_its_end(self):
        motion = tip_motion()
        motion.override(0.01, 0.0)
        motion.offer(chunk(along_x(0.01, 3)), 0.0, reading())
        times, points = run(motion, 0.0, 20.0)
        assert times[-1] > 15.0
        assert place(points)[0] - HOME[0] == pytest.approx(0.03, abs=1e-3)

    def test_so_it_does_after_a_clock_was_set_back(self):
        motion = tip_motion()
        motion.at(100.0)
        motion.override(0.01, 50.0)
        motion.offer(chunk(along_x(0.01, 3), 50.0), 50.0, reading())
        times, points = run(motion, 50.0, 70.0)
        assert times[-1] > 65.0
        assert place(points)[0] - HOME[0] == pytest.approx(0.03, abs=1e-3)

    @pytest.mark.parametrize('share', [0.0, 0.009, 1.01, float('nan')])
    def test_an_override_out_of_range_is_none(self, share):
        with pytest.raises(ValueError, match='speed override'):
            tip_motion().override(share, 0.0)


class TestBounds:
    def test_the_tip_stays_in_the_workspace_and_winds_nothing_up(self):
        motion = tip_motion()
        high = motion._robot.limits.workspace_maximum[0]
        start = HOME + [high - 0.55, 0, 0, 0, 0, 0]
        motion.offer(chunk(along_x(0.015)), 0.0, reading(start))
        _, points = run(motion, 0.0, 1.0)
        assert max(place([point])[0] for point in points) <= high
        measured = reading([*place(points), 0, 0, 0])
        motion.offer(chunk(along_x(-0.01), stamp_s=1.0, number=1), 1.0, measured)
        _, points = run(motion, 1.0, 3.0)
        assert place(points)[0] == pytest.approx(high - 0.003 - 0.1, abs=2e-3)

    def test_a_tip_outside_may_come_back_no_faster_than_told(self):
        motion = tip_motion()
        low = motion._robot.limits.workspace_minimum[0]
        start = HOME + [low - 0.1 - 0.5, 0, 0, 0, 0, 0]
        motion.offer(chunk(along_x(0.01, 5)), 0.0, reading(start))
        _, points = run(motion, 0.0, 3.0)
        assert place(points)[0] == pytest.approx(low - 0.05, abs=1e-3)

    def test_joint_paths_that_leave_the_workspace_are_refused_by_name(self):
        motion = Motion(FakeArm('joint_delta'), output='position')
        refusal = motion.offer(chunk(along_x(0.018, 20), kind='joint_delta'), 0.0, reading())
        assert refusal.code == 'workspace'
        assert motion.path is None

    def test_joint_paths_on_which_links_touch_are_refused_by_name(self):
        arm = FakeArm('joint_delta')
        arm.robot = arm.robot.__class__(
            **{
                **vars(arm.robot),
                'collision': arm.robot.collision.__class__(check=True, table_height=None),
            }
        )
        arm.touching = [('hand', 'table')]
        motion = Motion(arm, output='position')
        refusal = motion.offer(chunk(along_x(0.01), kind='joint_delta'), 0.0, reading())
        assert refusal.code == 'table'
        assert 'hand touches table' in refusal.text

    def test_what_the_arm_cannot_reach_is_left_out(self):
        arm = FakeArm()
        arm.reach = 0.556
        motion = Motion(arm, output='position')
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        _, points = run(motion, 0.0, 3.0)
        assert place(points)[0] == pytest.approx(0.55, abs=1e-3)
        arm.reach = 0.5
        refusal = motion.offer(chunk(along_x(0.01), 3.0, number=1), 3.0, reading(HOME + 0.05))
        assert refusal.code == 'chunk_path'


class TestGripper:
    def test_changes_at_the_borders_of_actions(self):
        motion = tip_motion()
        grip = np.array([-1, -1, 1, 1, -1])
        motion.offer(chunk(np.zeros((5, 6)), grip=grip), 0.0, reading(width=0.05))
        widths = {}
        for now_s in (0.0, 0.0999, 0.1001, 0.1999, 0.2001, 0.3):
            widths[now_s] = motion.at(now_s).width
        assert list(widths.values()) == [0.08, 0.08, 0.0, 0.0, 0.08, 0.08]

    def test_stays_as_it_was_while_braking(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01), grip=1.0), 0.0, reading(width=0.08))
        run(motion, 0.0, 0.2)
        motion.stop(0.2)
        assert motion.at(0.21).width == 0.0


class TestStopping:
    def test_a_stop_is_smooth_and_forgets_the_chunk(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.015)), 0.0, reading())
        run(motion, 0.0, 0.3)
        before = motion.at(0.3).tip
        motion.stop(0.3)
        after = motion.at(0.3).tip
        assert after.linear == pytest.approx(before.linear, abs=1e-9)
        assert after.linear_acceleration == pytest.approx(before.linear_acceleration, abs=1e-6)
        assert motion.chunk is None
        assert len(motion.actions_left) == 0
        assert np.isnan(motion.at(0.31).progress)
        times, points = run(motion, 0.31, 2.0)
        assert times[-1] < 0.3 + 0.28  # 0.3 / 3 + 3 / 40 at least
        assert points[-1].place.state.at_rest

    @pytest.mark.parametrize('output', ['twist', 'position'])
    def test_a_stop_in_a_stop_is_one_too(self, output):
        motion = Motion(FakeArm(), output=output)
        motion.offer(chunk(along_x(0.015)), 0.0, reading())
        run(motion, 0.0, 0.3)
        motion.stop(0.3)
        run(motion, 0.3, 0.35)
        motion.stop(0.35)
        _, points = run(motion, 0.35, 2.0)
        assert points[-1].place.state.at_rest
        assert motion.path is None

    def test_a_stop_at_rest_is_nothing(self):
        motion = tip_motion()
        motion.stop(0.0)
        assert motion.at(0.0) is None

    def test_after_a_stop_the_next_chunk_goes_on_from_there(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.015)), 0.0, reading())
        run(motion, 0.0, 0.3)
        motion.stop(0.3)
        times, points = run(motion, 0.3, 2.0)
        stopped = place(points)
        measured = reading([*stopped, 0, 0, 0])
        motion.offer(chunk(along_x(0.01), stamp_s=2.0, number=1), 2.0, measured)
        assert motion.at(2.0).progress == 0.0
        _, points = run(motion, 2.0, 4.0)
        assert place(points)[0] - stopped[0] == pytest.approx(0.1, abs=1e-3)

    def test_a_pause_keeps_the_rest_of_the_chunk(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        run(motion, 0.0, 0.3)
        motion.pause(0.3)
        assert motion.paused
        _, points = run(motion, 0.3, 1.0)
        assert points[-1].place.state.at_rest
        assert motion.resume(1.0) is None
        assert not motion.paused
        assert motion.at(1.0).progress == pytest.approx(6.0)
        _, points = run(motion, 1.0, 3.0)
        assert place(points)[0] - HOME[0] == pytest.approx(0.1, abs=1e-3)

    def test_what_is_left_after_a_long_pause_is_out_of_date(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        run(motion, 0.0, 0.3)
        motion.pause(0.3)
        run(motion, 0.3, 1.0)
        assert motion.resume(2.1) is None
        assert motion.at(2.1) is None

    def test_chunks_that_come_in_a_pause_wait(self):
        motion = tip_motion()
        motion.pause(0.0)
        motion.offer(chunk(along_x(0.01), stamp_s=1.0), 1.0, reading())
        assert motion.at(1.0) is None
        motion.resume(1.2)
        assert motion.at(1.2).progress == 0.0

    def test_an_override_in_a_pause_starts_nothing(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        run(motion, 0.0, 0.2)
        motion.pause(0.2)
        motion.override(0.5, 0.22)
        _, points = run(motion, 0.22, 1.0)
        assert motion.path is None
        assert place(points)[0] - HOME[0] < 0.06
        motion.resume(1.0)
        assert motion.speed == 0.5
        assert motion.at(1.0) is not None

    def test_a_single_step_is_one_action_and_then_rest(self):
        motion = tip_motion()
        motion.pause(0.0)
        motion.offer(chunk(along_x(0.01), stamp_s=0.0), 0.0, reading())
        for i in range(3):
            assert motion.step(float(i)) is None
            _, points = run(motion, float(i), i + 0.9)
            assert place(points)[0] - HOME[0] == pytest.approx(0.01 * (i + 1), abs=3e-4)
            assert points[-1].place.state.at_rest
            assert points[-1].progress == i + 1
            assert motion.paused

    def test_a_single_step_needs_a_pause_and_a_chunk(self):
        motion = tip_motion()
        assert motion.step(0.0).text.startswith('not paused')
        motion.pause(0.0)
        assert motion.step(0.0).text.startswith('no chunk')


class TestClocks:
    def test_a_clock_that_was_set_back_brakes_and_clears(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.015), stamp_s=99.9), 100.0, reading())
        run(motion, 100.0, 100.3)
        before = motion.at(100.3).tip
        after = motion.at(50.0).tip
        assert after.pose == pytest.approx(before.pose)
        assert after.linear == pytest.approx(before.linear)
        assert motion.chunk is None
        _, points = run(motion, 50.0, 52.0)
        assert points[-1].place.state.at_rest
        # stamps of before mean nothing any more
        motion.offer(chunk(along_x(0.01), stamp_s=52.0), 52.1, reading([*place(points), 0, 0, 0]))
        assert motion.at(52.1).progress == 0.0

    def test_a_little_back_is_no_way_back(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.015)), 0.0, reading())
        run(motion, 0.0, 0.3)
        at = motion.at(0.3).progress
        assert motion.at(0.3 - BACK_S / 2).progress == at
        assert motion.chunk is not None

    def test_a_path_that_nobody_asked_for_was_not_followed(self):
        motion = tip_motion()
        motion.offer(chunk(along_x(0.01)), 0.0, reading())
        _, points = run(motion, 0.0, 0.2)
        assert motion.at(0.2 + GAP_S + 0.05) is None
        measured = reading([*place(points), 0, 0, 0])
        motion.offer(chunk(along_x(0.01), stamp_s=0.15, number=1), 0.5, measured)
        point = motion.at(0.5)
        assert point.progress == pytest.approx(1.0)
        assert point.tip.pose[:3, 3] == pytest.approx(place(points))

    @pytest.mark.parametrize('output', ['twist', 'trajectory'])
    def test_how_long_nobody_may_ask_can_be_said(self, output):
        motion = Motion(FakeArm(), output=output, gap_s=0.05)
        motion.offer(chunk(along_x(0.005)), 0.0, reading())
        assert motion.at(0.04) is not None
        assert motion.at(0.08) is not None
        assert motion.at(0.14) is None

    def test_a_trajectory_is_followed_without_being_asked_for(self):
        motion = Motion(FakeArm(), output='trajectory')
        motion.offer(chunk(along_x(0.005)), 0.0, reading())
        motion.at(0.0)
        assert motion.at(0.4).progress == pytest.approx(8.0)


class TestRamp:
    @pytest.mark.parametrize('output', ['twist', 'position'])
    def test_goes_to_a_pose_slowly_and_rests_there(self, output):
        motion = Motion(FakeArm(), output=output)
        target = HOME + [0.1, -0.1, 0.1, 0.2, 0, -0.3]
        assert motion.go_to(target, 0.0, reading(), 0.25) is None
        _, points = run(motion, 0.0, 20.0)
        assert points[-1].tip.pose == pytest.approx(FakeArm().pose(target), abs=1e-6)
        assert max(np.linalg.norm(point.tip.linear) for point in points) <= 0.25 * SPEED + 1e-6

    def test_keeps_to_its_share_of_the_tips_limits_where_joints_are_faster(self):
        arm = FakeArm()
        arm.velocity = np.full(6, 5 * SPEED)
        motion = Motion(arm, output='position')
        assert motion.go_to(HOME + [0.1, -0.1, 0.1, 0, 0, 0], 0.0, reading(), 0.25) is None
        _, points = run(motion, 0.0, 20.0)
        speeds = [np.linalg.norm(point.tip.linear) for point in points]
        assert 0.15 * SPEED < max(speeds) <= 0.26 * SPEED

    @pytest.mark.parametrize('output', ['twist', 'pose'])
    def test_uses_its_share_of_the_tips_limits(self, output):
        motion = Motion(FakeArm(), output=output)
        assert motion.go_to(HOME + [0.1, -0.1, 0.1, 0, 0, 0], 0.0, reading(), 0.25) is None
        _, points = run(motion, 0.0, 20.0)
        speeds = [np.linalg.norm(point.tip.linear) for point in points]
        assert max(speeds) == pytest.approx(0.25 * SPEED, rel=0.05)

    @pytest.mark.parametrize('output', ['twist', 'position'])
    def test_leaves_the_gripper_as_it_is(self, output):
        motion = Motion(FakeArm(), output=output)
        motion.go_to(HOME + 0.05, 0.0, reading(width=0.03), 1.0)
        assert motion.at(0.1).width == 0.03
        motion.stop(0.2)
        assert motion.at(0.25).width == 0.03

    def test_is_ended_by_a_stop(self):
        motion = tip_motion()
        motion.go_to(HOME + 0.1, 0.0, reading(), 1.0)
        run(motion, 0.0, 0.4)
        motion.stop(0.4)
        _, points = run(motion, 0.4, 2.0)
        assert points[-1].place.state.at_rest
        assert place(points)[0] < 0.59

    def test_refuses_chunks_and_needs_rest(self):
        motion = tip_motion()
        motion.go_to(HOME + 0.1, 0.0, reading(), 1.0)
        reason = motion.offer(chunk(along_x(0.01), 0.05), 0.1, reading())
        assert (reason.code, reason.stamp_s) == ('going_to_start', 0.05)
        assert str(reason) == (
            'a chunk during go_to (no chunk). Wait until it has arrived, or stop it.'
        )
        reason = motion.go_to(HOME, 0.2, reading(), 1.0)
        assert (reason.code, reason.stamp_s) == ('moving', 0.2)
        assert str(reason) == 'the arm moves (at rest). Stop it first.'

    def test_that_leaves_the_workspace_is_refused(self):
        motion = Motion(FakeArm(), output='position')
        refusal = motion.go_to(HOME + [0.5, 0, 0, 0, 0, 0], 0.0, reading(), 0.5)
        assert refusal.code == 'workspace'
        assert motion.path is None
