"""Guards: the good passes, the bad is refused with guard, value and stamp."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
STAMP = 12.5
SCALE = np.array([0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], np.float32)


@pytest.fixture
def chunk():
    """A chunk of ten actions of 0.05 s that is all right."""
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 7)).astype(np.float32)
    return ActionChunk(
        actions, ROBOT.action.names, ROBOT.action.units, SCALE, 0.05, STAMP, latency_s=0.2
    )


def with_value(chunk, value):
    actions = chunk.actions.copy()
    actions[3, 2] = value
    return replace(chunk, actions=actions)


def expect(refusal, guard, value):
    """Assert that a guard refused, for this value, naming the stamp."""
    assert refusal is not None
    assert refusal.guard == guard
    assert value in refusal.value
    assert refusal.stamp_s == STAMP


def test_a_refusal_reads_as_one_sentence():
    refusal = guards.image_age(STAMP, STAMP + 2, 0.5)
    assert str(refusal) == 'image age: 2.000 s, allowed -0.1 to 0.5 s (stamp 12.500 s)'


@pytest.mark.parametrize('age', [-0.05, 0.0, 0.25, 0.5])
def test_a_fresh_image_passes(age):
    assert guards.image_age(STAMP, STAMP + age, 0.5) is None


@pytest.mark.parametrize('age', [-0.2, 0.6])
def test_an_old_or_future_image_is_refused(age):
    expect(guards.image_age(STAMP, STAMP + age, 0.5), 'image age', f'{age:.3f} s')


def test_an_image_without_a_finite_stamp_is_refused():
    assert guards.image_age(float('nan'), STAMP, 0.5) is not None


def test_images_of_one_instant_pass():
    assert guards.camera_skew([STAMP - 0.03, STAMP], 0.05) is None
    assert guards.camera_skew([STAMP], 0.0) is None


def test_images_too_far_apart_are_refused():
    expect(guards.camera_skew([STAMP, STAMP - 0.25], 0.05), 'camera skew', '0.250 s')


class TestFrozenCamera:
    @pytest.fixture
    def camera(self, picture):
        """A camera that has shown one picture with all joints at zero."""
        camera = guards.FrozenCamera(motion_limit=0.05)
        assert camera.check(picture, np.zeros(7), 12.0) is None
        return camera

    def test_equal_images_of_a_still_robot_pass(self, camera, picture):
        for _ in range(3):
            assert camera.check(picture.copy(), np.full(7, 0.04), STAMP) is None

    def test_equal_images_of_a_moving_robot_are_refused(self, camera, picture):
        joints = np.array([0, 0, -0.3, 0, 0, 0, 0])
        expect(camera.check(picture.copy(), joints, STAMP), 'frozen camera', 'moved 0.300 rad')

    def test_slow_motion_adds_up(self, camera, picture):
        found = [camera.check(picture, np.full(7, s), STAMP) for s in (0.02, 0.04, 0.06)]
        assert [f is None for f in found] == [True, True, False]

    def test_one_changed_pixel_is_a_new_image(self, camera, picture):
        changed = picture.copy()
        changed[0, 0, 0] ^= 1
        assert camera.check(changed, np.ones(7), STAMP) is None

    def test_a_new_image_starts_counting_motion_anew(self, camera, picture):
        camera.check(255 - picture, np.ones(7), STAMP)
        assert camera.check(255 - picture, np.full(7, 1.04), STAMP) is None

    def test_joints_are_copied(self, camera, picture):
        joints = np.ones(7)
        camera.check(255 - picture, joints, STAMP)
        joints += 1
        assert camera.check(255 - picture, joints, STAMP) is not None


def test_a_good_chunk_passes_every_guard(chunk):
    assert guards.chunk_values(chunk, ROBOT) is None
    assert guards.chunk_meaning(chunk, ROBOT) is None
    assert guards.chunk_late(chunk, STAMP + 0.2) is None
    assert guards.slow_inference(chunk) is None
    assert guards.chunk_speed(chunk, ROBOT) is None


@pytest.mark.parametrize('shape', [(0, 7), (7,), (0,), (2, 0)])
def test_a_chunk_without_actions_is_refused(chunk, shape):
    empty = replace(chunk, actions=np.zeros(shape, np.float32))
    expect(guards.chunk_values(empty, ROBOT), 'chunk size', str(list(shape)))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(chunk, value):
    expect(guards.chunk_values(with_value(chunk, value), ROBOT), 'chunk values', 'not finite')


@pytest.mark.parametrize('value', [1.1, -1.1])
def test_a_value_out_of_range_is_refused(chunk, value):
    expect(guards.chunk_values(with_value(chunk, value), ROBOT), 'chunk values', f'{value:.3f}')


def test_each_number_has_the_range_of_the_robots_description(chunk):
    low, high = list(ROBOT.action.minimum), list(ROBOT.action.maximum)
    low[2], high[2] = -30.0, 40.0  # as of a joint in degrees
    action = replace(ROBOT.action, minimum=tuple(low), maximum=tuple(high))
    robot = replace(ROBOT, action=action)
    actions = chunk.actions.copy()
    actions[1, 2] = 39.9
    assert guards.chunk_values(replace(chunk, actions=actions), robot) is None
    actions[1, 2], actions[0, 1] = 40.1, 0.0
    refusal = guards.chunk_values(replace(chunk, actions=actions), robot)
    expect(refusal, 'chunk values', f'{chunk.names[2]} 40.100')
    assert refusal.limit == '-30.0 to 40.0'


def test_names_in_another_order_are_refused(chunk):
    names = ('dy', 'dx', *chunk.names[2:])
    expect(guards.chunk_meaning(replace(chunk, names=names), ROBOT), 'chunk meaning', 'dy[m] dx')


def test_other_units_are_refused(chunk):
    units = ('mm', *chunk.units[1:])
    expect(guards.chunk_meaning(replace(chunk, units=units), ROBOT), 'chunk meaning', 'dx[mm]')


def test_nameless_actions_are_refused(chunk):
    expect(guards.chunk_meaning(replace(chunk, names=()), ROBOT), 'chunk meaning', 'no names')


def test_values_and_scales_must_be_as_many_as_names(chunk):
    narrow = replace(chunk, actions=chunk.actions[:, :6])
    expect(guards.chunk_meaning(narrow, ROBOT), 'chunk meaning', '6 values and 7 scales')
    unscaled = replace(chunk, scale=SCALE[:3])
    expect(guards.chunk_meaning(unscaled, ROBOT), 'chunk meaning', '7 values and 3 scales')


@pytest.mark.parametrize('dt', [0.0, -0.05, np.nan, np.inf])
def test_an_absurd_dt_is_refused(chunk, dt):
    expect(guards.chunk_meaning(replace(chunk, dt=dt), ROBOT), 'chunk meaning', f'dt {dt}')


def test_a_scale_that_is_not_finite_is_refused(chunk):
    broken = replace(chunk, scale=SCALE * np.nan)
    expect(guards.chunk_meaning(broken, ROBOT), 'chunk meaning', 'nan')


@pytest.mark.parametrize('age', [-0.2, 0.51])
def test_a_chunk_that_is_over_or_from_the_future_is_refused(chunk, age):
    expect(guards.chunk_late(chunk, STAMP + age), 'chunk late', f'{age:.3f} s')


def test_a_chunk_that_took_longer_than_it_lasts_is_refused(chunk):
    slow = replace(chunk, latency_s=0.75)
    expect(guards.slow_inference(slow), 'inference latency', '0.750 s')


def test_the_fastest_action_passes_in_simulation_and_not_on_the_real_robot(chunk):
    actions = np.zeros((10, 7), np.float32)
    actions[5, :3] = 1.0
    fast = replace(chunk, actions=actions)
    assert guards.chunk_speed(fast, ROBOT) is None
    expect(guards.chunk_speed(fast, load_robot('franka')), 'linear speed', '0.693 m/s')


def test_linear_speed_is_that_of_the_fastest_action(chunk):
    fast = replace(chunk, actions=np.eye(10, 7, dtype=np.float32) * 3)
    expect(guards.chunk_speed(fast, ROBOT), 'linear speed', '1.200 m/s')


@pytest.mark.parametrize('axis', [3, 4, 5])
def test_angular_speed_is_limited(chunk, axis):
    actions = np.zeros((10, 7), np.float32)
    actions[9, axis] = -2.0
    fast = replace(chunk, actions=actions)
    expect(guards.chunk_speed(fast, ROBOT), 'angular speed', '4.000 rad/s')


def test_the_gripper_has_no_speed_limit(chunk):
    actions = np.zeros((10, 7), np.float32)
    actions[:, 6] = 1.0
    assert guards.chunk_speed(replace(chunk, actions=actions), ROBOT) is None


def test_a_tip_inside_the_workspace_passes():
    assert guards.workspace(np.array([0.47, 0.0, 0.2]), ROBOT, STAMP) is None


@pytest.mark.parametrize('position', [(0.1, 0, 0.2), (0.47, 0.4, 0.2), (0.47, 0, -0.01)])
def test_a_tip_outside_the_workspace_is_refused(position):
    refusal = guards.workspace(np.array(position), ROBOT, STAMP)
    expect(refusal, 'workspace', np.array2string(np.array(position), precision=3))


def test_a_tip_that_is_not_finite_is_refused():
    expect(guards.workspace(np.array([0.47, np.nan, 0.2]), ROBOT, STAMP), 'workspace', 'nan')
