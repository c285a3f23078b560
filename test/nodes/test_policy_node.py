"""The policy node in this process, with a policy that answers at once."""

from dataclasses import replace
import io
import itertools
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fakes import FakeHost, FakePolicy
from PIL import Image as Picture
from probe import InProcess
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from worldvla_ros.errors import DecodingError, MemoryLimitError
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes import policy as module
from worldvla_ros.nodes.convert import array_to_image, time_message
from worldvla_ros.nodes.policy import PolicyNode
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.package_files import share_folder
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04]


class Bench(InProcess):
    """A policy node, cameras, joints and an operator."""

    def __init__(self, checkpoint, **parameters):
        self._seeds = itertools.count()
        super().__init__(lambda: PolicyNode(FakeHost(checkpoint)), **parameters)
        self.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
        self.wait_state('active')
        self.policy = self.nodes[0]._configured.policy
        self.chunks = self.heard['action_chunk']

    def now_s(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def joints(self, positions=HOME, names=JOINTS, age_s=0.0):
        message = JointState(name=list(names), position=[float(p) for p in positions])
        message.header.stamp = time_message(self.now_s() - age_s)
        self.send(message, 'joint_states', JOINTS_QOS)

    def instruct(self, words='pick up the red cube', qos=LATCHED_QOS):
        self.send(String(data=words), 'instruction', qos)

    def image(self, topic='image', age_s=0.0, pixels=None, size=128):
        if pixels is None:
            rng = np.random.default_rng(next(self._seeds))
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        message = array_to_image(pixels, self.now_s() - age_s, 'camera')
        self.send(message, topic, SENSOR_QOS)
        return message

    def until_taken(self):
        node = self.nodes[0]
        self.until(lambda: node._has_joints and node._instruction is not None, 'both')

    def ready(self):
        """Give joints and an instruction, and wait until the node has them."""
        self.instruct()
        self.joints()
        self.until_taken()

    def until_answered(self):
        """Send images until one is answered."""

        def answered():
            self.image()
            self.spin(0.02)
            return self.chunks

        return self.until(answered, 'a chunk')[0]

    def refused(self, words):
        """Wait for a reason, and return it; no chunk was published."""
        said = self.wait_message(words)
        assert said.startswith('no chunk: ')
        assert not self.chunks
        return said


@pytest.fixture
def bench(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(module, 'Policy', FakePolicy)
    made = []

    def make(checkpoint=tiny_checkpoint, **parameters):
        parameters = {'max_rate': 200.0, 'max_joint_age': 5.0} | parameters
        made.append(Bench(checkpoint, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.close()


def two_cameras(checkpoint, history=1):
    """The checkpoint as if it had two cameras and a history."""
    spec = replace(checkpoint.spec, cameras=('front', 'wrist'), images_per_camera=history)
    return replace(checkpoint, spec=spec)


def test_an_image_is_answered_with_its_stamp_and_in_the_robots_frame(bench):
    on = bench()
    on.ready()
    pixels = np.random.default_rng(7).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    image = on.image(pixels=pixels, age_s=0.1)
    chunk = on.until(lambda: on.chunks, 'a chunk')[0]
    assert chunk.header.stamp == image.header.stamp
    assert chunk.header.frame_id == ROBOT.base_frame
    assert chunk.model_id == 'fake@1'
    assert chunk.instruction == 'pick up the red cube'
    assert 0.1 <= chunk.latency < 5.0  # transport and waiting included
    asked = on.policy.asked[0]
    np.testing.assert_array_equal(asked.images['front'], pixels)
    assert asked.stamp_s == pytest.approx(seconds(image.header.stamp), abs=1e-6)
    assert asked.state[-1] == pytest.approx(0.08)  # both fingers


def test_actions_beyond_the_range_of_training_are_brought_back(bench):
    on = bench()
    on.policy.value = 1.3
    on.ready()
    on.image()
    on.until(lambda: on.chunks, 'a chunk')
    assert set(on.chunks[0].data) == {1.0}


@pytest.mark.parametrize('qos', [QoSProfile(depth=10), LATCHED_QOS])
def test_an_instruction_is_heard_from_plain_and_latched_publishers(bench, qos):
    on = bench()
    on.instruct('push the blue cube', qos)
    on.wait_message("instruction: 'push the blue cube'")


def test_an_instruction_said_before_is_heard(bench):
    on = bench()
    on.instruct('lift it')
    on.wait_message('lift it')
    node = on.nodes[0]
    node.trigger_deactivate()
    node.trigger_cleanup()
    node._instruction = None
    node.trigger_configure()
    node.trigger_activate()
    on.wait_message('lift it')


def test_what_is_missing_is_named(bench):
    on = bench()
    on.image()
    on.wait_message('waiting for an instruction')
    on.instruct()
    on.until(lambda: on.nodes[0]._instruction, 'the instruction')
    on.image()
    on.wait_message('waiting for joint states')
    assert not on.chunks


@pytest.mark.parametrize(
    ('fault', 'words'),
    [
        ('old', 'max_image_age'),
        ('future', 'ahead'),
        ('size', '64 x 64'),
        ('no stamp', 'no time stamp'),
        ('encoding', 'image encoding'),
        ('zero size', 'image without pixels'),
        ('cut off', 'image data is cut off'),
        ('endless', 'too long'),
    ],
)
def test_what_must_not_be_answered_is_refused_with_a_reason(bench, fault, words):
    on = bench()
    on.ready()
    if fault == 'endless':
        on.instruct('x' * 10000)
        on.until(lambda: len(on.nodes[0]._instruction) != 20, 'the instruction')
    if fault in ('encoding', 'zero size', 'cut off'):
        message = array_to_image(np.zeros((128, 128, 3), np.uint8), on.now_s())
        if fault == 'encoding':
            message.encoding = 'plasma'
        elif fault == 'zero size':
            message.width = 0
        else:
            message.data = message.data[:100]
        on.send(message, 'image', SENSOR_QOS)
    elif fault == 'no stamp':
        on.send(array_to_image(np.zeros((128, 128, 3), np.uint8), 0.0), 'image', SENSOR_QOS)
    else:
        age_s = {'old': 0.8, 'future': -3.0}.get(fault, 0.0)
        on.image(age_s=age_s, size=64 if fault == 'size' else 128)
    on.refused(words)
    assert not on.policy.asked


def test_joints_that_are_too_old_are_refused(bench):
    on = bench(max_joint_age=0.3)
    on.instruct()
    on.joints(age_s=0.6)
    on.until_taken()
    on.image()
    assert 'max_joint_age' in on.refused('too old')


def test_joints_in_degrees_are_refused(bench):
    on = bench()
    on.ready()
    on.nodes[0]._configured.joints.clear()
    on.joints(np.degrees(HOME))
    on.refused('not plausible')


def test_joints_may_come_in_two_messages_beside_those_of_others(bench):
    on = bench()
    on.instruct()
    on.joints(HOME[:7], JOINTS[:7])
    on.until_taken()
    on.image()
    on.refused('missing')
    on.joints(HOME[7:], JOINTS[7:])
    on.joints([1.0, 2.0], ['left_wheel', 'right_wheel'])

    on.until_answered()


def test_a_frozen_camera_is_refused_and_recovers_with_new_pixels(bench):
    on = bench()
    same = np.zeros((128, 128, 3), np.uint8)
    on.ready()
    on.image(pixels=same)
    on.until(lambda: on.chunks, 'a chunk')
    on.chunks.clear()
    moved = [0.3, *HOME[1:]]

    def frozen():
        on.joints(moved)
        on.image(pixels=same)
        on.spin(0.02)
        return 'same pixels' in on.message()

    on.until(frozen, 'a frozen camera')
    on.chunks.clear()
    on.image(pixels=same)
    on.refused('same pixels')
    on.image()
    on.until(lambda: on.chunks, 'a chunk')


def test_cameras_too_far_apart_are_refused(bench, tiny_checkpoint):
    on = bench(two_cameras(tiny_checkpoint), max_camera_skew=0.05)
    on.ready()
    on.image('wrist_image', age_s=0.2)
    on.until(lambda: not on.nodes[0]._waiting_for().startswith('images of camera wrist'), 'wrist')
    on.image()
    assert 'max_camera_skew' in on.refused('apart')


def test_the_history_of_one_step_ago_reaches_the_policy(bench, tiny_checkpoint):
    spec = replace(tiny_checkpoint.spec, images_per_camera=2)
    on = bench(replace(tiny_checkpoint, spec=spec), max_image_age=10.0)
    on.instruct()
    on.until(lambda: on.nodes[0]._instruction, 'the instruction')
    now = on.now_s()
    images = on.nodes[0]._configured.images
    for step in (3, 2, 1):
        pixels = np.full((128, 128, 3), step, np.uint8)
        on.send(array_to_image(pixels, now - 0.05 * step), 'image', SENSOR_QOS)
        due = now - 0.05 * step
        on.until(lambda due=due: images._kept['front'].newest_s >= due - 1e-6, 'the image')
    on.joints()
    on.until_taken()
    on.send(array_to_image(np.full((128, 128, 3), 9, np.uint8), now), 'image', SENSOR_QOS)
    on.until(lambda: on.chunks, 'a chunk')
    asked = on.policy.asked[-1]
    assert asked.images['front'][0, 0, 0] == 9
    assert [instant['front'][0, 0, 0] for instant in asked.history] == [1]


def test_chunks_keep_to_the_rate(bench):
    on = bench(max_rate=4.0)
    on.ready()
    began_s = time.monotonic()

    def fed():
        on.joints()
        on.image()
        on.spin(0.02)
        return len(on.chunks) >= 5

    on.until(fed, 'five chunks')
    assert time.monotonic() - began_s > 0.95


def test_disabled_means_no_chunks_and_says_so(bench):
    on = bench(enabled=False)
    on.ready()
    on.image()
    on.until(lambda: not on.nodes[0]._configured.images.missing(), 'the image')
    assert on.call(SetBool, 'policy/enable', SetBool.Request(data=True)).success
    seen = on.image()
    on.until(lambda: on.chunks, 'a chunk')
    assert [o.stamp_s for o in on.policy.asked] == pytest.approx(
        [seconds(seen.header.stamp)], abs=1e-6
    )
    on.call(SetBool, 'policy/enable', SetBool.Request(data=False))
    on.wait_message('disabled by ~/enable')


def test_a_topic_that_stops_is_named_without_any_image(bench):
    on = bench()
    on.ready()
    on.image()
    on.until(lambda: on.chunks, 'a chunk')
    assert 'on topic' in on.wait_message('no chunk: no ')
    on.until(lambda: ' for 1.' in on.message(), 'a duration')


def test_a_clock_that_was_set_back_empties_images_and_joints(bench):
    on = bench()
    on.ready()
    on.image()
    on.until(lambda: on.chunks, 'a chunk')
    on.image(age_s=60.0)
    on.wait_message('waiting for joint states')


def test_an_image_out_of_order_does_not_empty_anything(bench):
    on = bench()
    on.ready()
    on.image()
    on.until(lambda: on.chunks, 'a chunk')
    kept = on.nodes[0]._configured.images._kept['front']
    on.image(age_s=0.3)
    on.until(lambda: kept.newest_s - kept.oldest_s > 0.2, 'the older image')
    on.chunks.clear()
    on.until_answered()
    assert on.nodes[0]._has_joints


@pytest.mark.parametrize('error', [DecodingError('no action'), ValueError('unforeseen')])
def test_one_observation_that_fails_does_not_end_the_policy(bench, error):
    on = bench()
    on.ready()
    on.policy.raises = error
    on.image()
    on.refused(str(error))
    on.policy.raises = None
    on.until_answered()
    assert on.nodes[0].active


def test_a_shortage_of_memory_stops_the_node_until_it_is_activated(bench):
    on = bench()
    on.ready()
    on.policy.raises = MemoryLimitError('short of memory', remedy='Use another dtype.')
    on.image()
    said = on.wait_message('stopped: short of memory')
    assert said.endswith('Use another dtype. Fix the cause, then activate the node.')
    on.wait_state('inactive')
    on.nodes[0].status.ok('waiting for images')
    assert on.message() == said  # an error is not overwritten
    on.policy.raises = None
    on.nodes[0].trigger_activate()
    on.ready()
    on.until_answered()


class Panic(BaseException):
    """As a Rust library raises it."""


def test_a_panic_ends_the_process_with_an_error(bench):
    on = bench()
    on.ready()
    on.policy.raises = Panic('no more')
    on.image()
    on.until(lambda: on.nodes[0].fatal, 'the end')
    assert 'Panic: no more' in on.message()


def test_clean_up_waits_for_the_chunk_that_is_being_made(bench):
    on = bench()
    on.ready()
    on.policy.go.clear()
    on.image()
    on.until(on.policy.inside.is_set, 'the worker inside act')
    threading.Timer(0.3, on.policy.go.set).start()
    began = time.monotonic()
    on.nodes[0].trigger_deactivate()
    on.nodes[0].trigger_cleanup()
    assert time.monotonic() - began > 0.2
    on.spin(0.1)
    assert not on.chunks
    assert on.nodes[0].status.state == 'unconfigured'


def test_a_deactivated_policy_is_silent_and_can_be_activated_again(bench):
    on = bench()
    on.ready()
    on.nodes[0].trigger_deactivate()
    on.image()
    on.until(lambda: not on.nodes[0]._configured.images.missing(), 'the image')
    assert not on.policy.asked
    on.nodes[0].trigger_activate()
    on.ready()
    on.until_answered()


def test_joints_that_are_not_finite_are_refused_by_name(bench):
    on = bench()
    on.instruct()
    on.joints([np.nan, *HOME[1:]])
    assert JOINTS[0] in on.refused('not finite')


def test_a_checkpoint_for_another_robot_is_refused(tiny_checkpoint):
    action = replace(tiny_checkpoint.spec.action, names=tuple('abcdefg'))
    other = replace(tiny_checkpoint, spec=replace(tiny_checkpoint.spec, action=action))
    on = InProcess(lambda: PolicyNode(FakeHost(other)))
    try:
        on.wait_message('not configured: ')
        assert on.nodes[0].status.state == 'unconfigured'
    finally:
        on.close()


def test_a_compressed_camera_is_heard(bench, tmp_path):
    text = (share_folder() / 'config/robots/sim_panda.yaml').read_text()
    (tmp_path / 'arm.yaml').write_text(text.replace('topic: image,', 'topic: image/compressed,'))
    on = bench(robot=str(tmp_path / 'arm.yaml'))
    on.ready()
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(stream, 'PNG')
    message = CompressedImage(format='png', data=stream.getvalue())
    message.header.stamp = time_message(on.now_s())
    on.send(message, 'image/compressed', SENSOR_QOS)
    on.until(lambda: on.chunks, 'a chunk')
    np.testing.assert_array_equal(on.policy.asked[0].images['front'], pixels)


def test_the_policy_is_warm_before_the_node_is_active(bench):
    assert bench().policy.warm


@pytest.mark.parametrize(('free_from', 'said'), [(None, ''), (12, '12')])
def test_where_free_decoding_took_over_is_said_on_the_status(bench, free_from, said):
    on = bench()
    on.policy.free_from = free_from
    on.ready()
    on.image()
    on.wait_message('acting')
    values = {v.key: v.value for v in on.nodes[0].status._present.values}
    assert values['free_from'] == said
    assert values['instruction'] == 'pick up the red cube'


def test_the_oldest_image_of_an_instant_counts(bench, tiny_checkpoint):
    on = bench(two_cameras(tiny_checkpoint), max_camera_skew=10.0)
    on.ready()
    on.image('wrist_image', age_s=0.8)
    on.until(lambda: not on.nodes[0]._waiting_for().startswith('images of camera wrist'), 'wrist')
    on.image()
    on.refused('max_image_age')
