"""Guards: the good passes, the bad is refused with guard, value and stamp."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.state import JointReading

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
    assert refusal.code == guard
    assert value in refusal.text
    assert refusal.stamp_s == STAMP


def test_a_refusal_names_the_parameter_and_says_what_to_do():
    refusal = guards.camera_skew([STAMP, STAMP - 0.25], 0.1)
    assert str(refusal) == (
        'cameras 0.25 s apart (max_camera_skew 0.1 s). '
        'Check camera synchronisation or raise the limit.'
    )


@pytest.mark.parametrize(
    ('now', 'words'),
    [
        (
            STAMP + 0.75,
            'image 0.75 s old (max_image_age 0.5 s). '
            'Check the camera driver, clocks and the load of machines, or raise max_image_age.',
        ),
        (
            STAMP - 0.25,
            'image stamped 0.25 s ahead (at most 0.1 s). '
            'Synchronise the clocks; use_sim_time must be the same for all nodes.',
        ),
    ],
)
def test_what_is_said_of_an_image_of_another_time(now, words):
    assert str(guards.image_age(STAMP, now, 0.5)) == words


def test_what_is_said_of_an_image_of_another_size():
    image = np.zeros((480, 640, 3), np.uint8)
    assert str(guards.image_size(image, ROBOT.cameras[0], STAMP)) == (
        'image of camera front has 640 x 480 px (robot description 128 x 128 px). '
        'Set the resolution in the camera driver, or correct cameras in the description.'
    )


@pytest.mark.parametrize('age', [-0.05, 0.0, 0.25, 0.5])
def test_a_fresh_image_passes(age):
    assert guards.image_age(STAMP, STAMP + age, 0.5) is None


@pytest.mark.parametrize(('age', 'value'), [(-0.2, '0.20 s ahead'), (0.6, '0.60 s old')])
def test_an_old_or_future_image_is_refused(age, value):
    expect(guards.image_age(STAMP, STAMP + age, 0.5), 'image_age', value)


def test_an_image_without_a_finite_stamp_is_refused():
    assert guards.image_age(float('nan'), STAMP, 0.5) is not None


def test_images_of_one_instant_pass():
    assert guards.camera_skew([STAMP - 0.03, STAMP], 0.05) is None
    assert guards.camera_skew([STAMP], 0.0) is None


def test_images_too_far_apart_are_refused():
    expect(guards.camera_skew([STAMP, STAMP - 0.25], 0.05), 'camera_skew', '0.25 s apart')


@pytest.mark.parametrize('shape', [(1, 1), (5, 7), (96, 128), (128, 127), (256, 256)])
def test_an_image_of_another_size_than_described_is_refused(shape):
    camera = ROBOT.cameras[0]
    assert guards.image_size(np.zeros((128, 128, 3), np.uint8), camera, STAMP) is None
    refusal = guards.image_size(np.zeros((*shape, 3), np.uint8), camera, STAMP)
    expect(refusal, 'image_size', f'camera front has {shape[1]} x {shape[0]} px')
    assert '128 x 128' in refusal.text


def reading(positions, stamp_s=STAMP):
    return JointReading(np.array(positions, float), 0.08, stamp_s)


def turned(angle, stamp_s=STAMP):
    """Return joints that are all at one angle."""
    return reading(np.full(7, angle), stamp_s)


class TestFrozenCamera:
    @pytest.fixture
    def camera(self, picture):
        """A camera that has shown one picture with all joints at zero."""
        camera = guards.FrozenCamera(motion_limit=0.05, still_s=2.0, joint_age_s=0.3)
        assert camera.check(picture, turned(0.0, 12.0), 12.0) is None
        return camera

    def test_equal_images_of_a_still_robot_pass(self, camera, picture):
        for _ in range(3):
            assert camera.check(picture.copy(), turned(0.04), STAMP) is None

    def test_equal_images_of_a_moving_robot_are_refused(self, camera, picture):
        joints = reading([0, 0, -0.3, 0, 0, 0, 0])
        expect(camera.check(picture.copy(), joints, STAMP), 'frozen_camera', 'moved 0.300 rad')

    def test_slow_motion_adds_up(self, camera, picture):
        found = [camera.check(picture, turned(s), STAMP) for s in (0.02, 0.04, 0.06)]
        assert [f is None for f in found] == [True, True, False]

    def test_one_changed_pixel_is_a_new_image(self, camera, picture):
        changed = picture.copy()
        changed[0, 0, 0] ^= 1
        assert camera.check(changed, turned(1.0), STAMP) is None

    def test_a_new_image_starts_counting_motion_anew(self, camera, picture):
        camera.check(255 - picture, turned(1.0), STAMP)
        assert camera.check(255 - picture, turned(1.04), STAMP) is None

    def test_joints_are_copied(self, camera, picture):
        joints = np.ones(7)
        camera.check(255 - picture, JointReading(joints, 0.08, STAMP), STAMP)
        joints += 1
        assert camera.check(255 - picture, JointReading(joints, 0.08, STAMP), STAMP)

    def test_new_pixels_end_a_refusal(self, camera, picture):
        assert camera.check(picture, turned(0.3), STAMP)
        assert camera.check(255 - picture, turned(0.3), STAMP) is None

    def test_a_robot_that_came_back_still_is_refused_until_it_held(self, camera, picture):
        assert camera.check(picture, turned(0.3), STAMP)
        assert camera.check(picture, turned(0.3, STAMP + 1.9), STAMP + 1.9)
        assert camera.check(picture, turned(0.3, STAMP + 2), STAMP + 2) is None
        assert camera.check(picture, turned(0.34, STAMP + 3), STAMP + 3) is None

    def test_each_hold_without_new_pixels_is_twice_as_long(self, camera, picture):
        angle, now, holds = 0.0, STAMP, []
        for _ in range(3):
            angle += 0.1
            start = now
            while camera.check(picture, turned(angle, now), now) is not None:
                now += 0.5
            holds.append(now - start)
        assert holds == [2.0, 4.0, 8.0]
        angle += 0.1
        camera.check(255 - picture, turned(angle, now), now)
        angle += 0.1
        assert camera.check(255 - picture, turned(angle, now), now)
        assert camera.check(255 - picture, turned(angle, now + 2), now + 2) is None

    def test_motion_during_a_refusal_begins_the_hold_anew(self, camera, picture):
        assert camera.check(picture, turned(0.3), STAMP)
        later = STAMP + 1.5
        assert camera.check(picture, turned(0.5, later), later)
        assert camera.check(picture, turned(0.5, later + 1), later + 1)
        assert camera.check(picture, turned(0.5, later + 2), later + 2) is None

    def test_joints_of_another_time_than_the_image_say_nothing(self, camera, picture):
        # joint states stopped while the arm moved, then came back: no reason to hold
        assert camera.check(picture, turned(0.0, 12.0), STAMP) is None
        assert camera.check(picture, turned(0.3), STAMP) is None
        assert camera.check(picture, turned(0.36), STAMP)

    def test_what_is_said_of_it(self, camera, picture):
        assert str(camera.check(picture, turned(0.3), STAMP)) == (
            'same pixels while a joint moved 0.300 rad (at most 0.05 rad). '
            'Check the camera driver; after a hold without motion it is tried again in 2 s.'
        )

    def test_the_usual_limits_are_50_mrad_2_s_and_300_ms(self, picture):
        camera = guards.FrozenCamera()
        assert camera.check(picture, turned(0.0), STAMP) is None
        assert camera.check(picture, turned(0.04), STAMP) is None
        assert camera.check(picture, turned(0.06, STAMP), STAMP + 0.31) is None  # old joints
        assert camera.check(picture, turned(0.06), STAMP + 0.29) is None  # counted anew
        assert camera.check(picture, turned(0.12), STAMP)
        assert camera.check(picture, turned(0.12, STAMP + 1.9), STAMP + 1.9)
        assert camera.check(picture, turned(0.12, STAMP + 2.1), STAMP + 2.1) is None


def test_a_good_chunk_passes_every_guard(chunk):
    assert guards.chunk_values(chunk, ROBOT) is None
    assert guards.chunk_meaning(chunk, ROBOT) is None
    assert guards.chunk_duration(chunk, ROBOT) is None
    assert guards.chunk_late(chunk, STAMP + 0.2) is None
    assert guards.slow_inference(chunk) is None
    assert guards.judge_chunk(chunk, ROBOT, STAMP + 0.2) is None


@pytest.mark.parametrize('shape', [(0, 7), (7,), (0,), (2, 0)])
def test_a_chunk_without_actions_is_refused(chunk, shape):
    empty = replace(chunk, actions=np.zeros(shape, np.float32))
    expect(guards.chunk_meaning(empty, ROBOT), 'chunk_size', str(list(shape)))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(chunk, value):
    expect(guards.chunk_values(with_value(chunk, value), ROBOT), 'chunk_values', 'not finite')


@pytest.mark.parametrize('value', [1.1, -1.1])
def test_a_value_out_of_range_is_refused(chunk, value):
    expect(guards.chunk_values(with_value(chunk, value), ROBOT), 'chunk_values', f'{value:.3f}')


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
    expect(refusal, 'chunk_values', f'{chunk.names[2]} 40.100')
    assert refusal.text.endswith('(-30.0 to 40.0)')
    assert refusal.limit == 40.0
    assert refusal.value == pytest.approx(40.1)


def test_names_in_another_order_are_refused(chunk):
    names = ('dy', 'dx', *chunk.names[2:])
    expect(guards.chunk_meaning(replace(chunk, names=names), ROBOT), 'chunk_meaning', 'dy[m] dx')


def test_other_units_are_refused(chunk):
    units = ('mm', *chunk.units[1:])
    expect(guards.chunk_meaning(replace(chunk, units=units), ROBOT), 'chunk_meaning', 'dx[mm]')


def test_nameless_actions_are_refused(chunk):
    expect(guards.chunk_meaning(replace(chunk, names=()), ROBOT), 'chunk_meaning', 'without names')


def test_values_and_scales_must_be_as_many_as_names(chunk):
    narrow = replace(chunk, actions=chunk.actions[:, :6])
    expect(guards.chunk_meaning(narrow, ROBOT), 'chunk_meaning', '6 values and 7 scales')
    unscaled = replace(chunk, scale=SCALE[:3])
    expect(guards.chunk_meaning(unscaled, ROBOT), 'chunk_meaning', '7 values and 3 scales')


@pytest.mark.parametrize('dt', [0.0, -0.05, np.nan, np.inf])
def test_an_absurd_dt_is_refused(chunk, dt):
    expect(guards.chunk_meaning(replace(chunk, dt=dt), ROBOT), 'chunk_meaning', f'dt {dt}')


def test_a_scale_that_is_not_finite_is_refused(chunk):
    broken = replace(chunk, scale=SCALE * np.nan)
    expect(guards.chunk_meaning(broken, ROBOT), 'chunk_meaning', 'nan')


@pytest.mark.parametrize(('age', 'value'), [(-0.2, '0.200 s ahead'), (0.51, '0.510 s old')])
def test_a_chunk_that_is_over_or_from_the_future_is_refused(chunk, age, value):
    expect(guards.chunk_late(chunk, STAMP + age), 'chunk_late', value)


def test_what_is_said_of_a_chunk_of_another_time(chunk):
    assert str(guards.chunk_late(chunk, STAMP + 0.75)) == (
        'chunk 0.750 s old (it lasts 0.500 s). '
        'Check the network and the clocks, or use a faster policy.'
    )
    assert str(guards.chunk_late(chunk, STAMP - 0.25)) == (
        'chunk stamped 0.250 s ahead (at most 0.1 s). '
        'Synchronise the clocks; use_sim_time must be the same for all nodes.'
    )


def test_a_chunk_a_little_ahead_of_the_clock_passes(chunk):
    assert guards.chunk_late(chunk, STAMP - 0.09) is None


def test_what_is_said_of_a_slow_inference(chunk):
    assert str(guards.slow_inference(replace(chunk, latency_s=0.75))) == (
        'inference took 0.750 s (the chunk lasts 0.500 s). '
        'Use a faster device, another dtype, or a checkpoint with longer chunks.'
    )


def test_a_slowed_chunk_lasts_longer(chunk):
    assert guards.chunk_late(chunk, STAMP + 0.9, slowdown=2) is None
    assert guards.slow_inference(replace(chunk, latency_s=0.9), slowdown=2) is None


def test_a_chunk_that_took_longer_than_it_lasts_is_refused(chunk):
    slow = replace(chunk, latency_s=0.75)
    expect(guards.slow_inference(slow), 'inference_latency', '0.750 s')
    for latency in (float('nan'), -0.1):
        assert guards.slow_inference(replace(chunk, latency_s=latency)) is not None


def test_a_forged_long_chunk_is_refused(chunk):
    actions = np.zeros((41, 7), np.float32)
    expect(
        guards.chunk_duration(replace(chunk, actions=actions), ROBOT), 'chunk_duration', '2.050 s'
    )
    assert guards.chunk_duration(replace(chunk, actions=actions[:40]), ROBOT) is None


@pytest.mark.parametrize(
    ('changes', 'guard'),
    [
        ({'names': ()}, 'chunk_meaning'),
        ({'actions': np.zeros((0, 7), np.float32)}, 'chunk_size'),
        ({'actions': np.full((4, 7), 1.1, np.float32)}, 'chunk_values'),
        ({'actions': np.full((4, 7), np.nan, np.float32)}, 'chunk_values'),
        ({'actions': np.zeros((400, 7), np.float32)}, 'chunk_duration'),
        ({'stamp_s': STAMP - 5}, 'chunk_late'),
        ({'latency_s': 9.0}, 'inference_latency'),
    ],
)
def test_a_chunk_is_judged_by_every_guard(chunk, changes, guard):
    refusal = guards.judge_chunk(replace(chunk, **changes), ROBOT, STAMP + 0.2)
    assert refusal.code == guard
    assert refusal.remedy.endswith('.')


def test_what_is_said_of_a_chunk_that_lasts_too_long(chunk):
    long = replace(chunk, actions=np.zeros((41, 7), np.float32))
    assert str(guards.chunk_duration(long, ROBOT)) == (
        'chunk of 2.050 s (limits.chunk_duration 2.0 s). '
        'Use a shorter horizon, or raise limits.chunk_duration of the robot description.'
    )


@pytest.mark.parametrize('frame', ['', ROBOT.base_frame])
def test_actions_in_the_base_frame_pass(chunk, frame):
    assert guards.judge_chunk(chunk, ROBOT, STAMP, frame) is None


def test_actions_in_another_frame_are_refused(chunk):
    reason = guards.judge_chunk(chunk, ROBOT, STAMP, 'tool')
    expect(reason, 'chunk_frame', "actions in frame 'tool' (base_frame panda_link0)")
    assert len(guards.chunk_frame(chunk, ROBOT, 'x' * 9999).text) < 200


def test_a_chunk_that_may_be_played_slower_lasts_longer(chunk):
    slower = replace(ROBOT, limits=replace(ROBOT.limits, max_slowdown=2.0))
    assert guards.judge_chunk(chunk, ROBOT, STAMP + 0.9).code == 'chunk_late'
    assert guards.judge_chunk(chunk, slower, STAMP + 0.9) is None
    late = replace(chunk, latency_s=0.9)
    assert guards.judge_chunk(late, ROBOT, STAMP).code == 'inference_latency'
    assert guards.judge_chunk(late, slower, STAMP) is None


def test_reasons_carry_their_numbers(chunk, picture):
    long = replace(chunk, actions=np.zeros((41, 7), np.float32))
    slow = replace(chunk, latency_s=0.75)
    empty = replace(chunk, actions=np.zeros((0, 7), np.float32))
    narrow = replace(chunk, actions=chunk.actions[:, :6])
    camera = guards.FrozenCamera()
    camera.check(picture, turned(0.0), STAMP)
    for reason, value, limit, unit in (
        (guards.image_age(STAMP, STAMP + 0.75, 0.5), 0.75, 0.5, 's'),
        (guards.image_age(STAMP, STAMP - 0.25, 0.5), -0.25, -0.1, 's'),
        (guards.camera_skew([STAMP, STAMP - 0.25], 0.1), 0.25, 0.1, 's'),
        (guards.chunk_meaning(empty, ROBOT), 0.0, 1.0, '1'),
        (guards.chunk_meaning(narrow, ROBOT), 6.0, 7.0, '1'),
        (guards.chunk_values(with_value(chunk, -1.5), ROBOT), -1.5, -1.0, '1'),
        (guards.chunk_duration(long, ROBOT), 2.05, 2.0, 's'),
        (guards.chunk_late(chunk, STAMP + 0.75), 0.75, 0.5, 's'),
        (guards.chunk_late(chunk, STAMP - 0.25), -0.25, -0.1, 's'),
        (guards.slow_inference(slow), 0.75, 0.5, 's'),
        (camera.check(picture, turned(0.25), STAMP), 0.25, 0.05, 'rad'),
    ):
        assert (reason.value, reason.limit) == pytest.approx((value, limit))
        assert (reason.unit, reason.stamp_s) == (unit, STAMP)


def test_values_at_the_ends_of_their_range_have_room_for_rounding(chunk):
    for value, passes in ((1.0009, True), (-1.0009, True), (1.0011, False), (-1.0011, False)):
        assert (guards.chunk_values(with_value(chunk, value), ROBOT) is None) == passes


def test_what_is_said_of_a_chunk_for_another_robot(chunk):
    assert str(guards.chunk_meaning(replace(chunk, dt=0.0), ROBOT)).endswith(
        ', dt 0.0 (finite scale, dt > 0). Use a checkpoint that was trained for this robot.'
    )
    assert str(guards.chunk_frame(chunk, ROBOT, 'tool')) == (
        "actions in frame 'tool' (base_frame panda_link0). "
        'Publish actions in the base frame; they are not transformed.'
    )
