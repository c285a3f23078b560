"""A run of the real nodes is recorded, and replayed with equal tokens."""

import itertools

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fakes import FakeHost
from probe import InProcess
from recorded import ARM, PERIOD_S, ROBOT, reach
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from worldvla_ros.data.bags import Recording
from worldvla_ros.evaluate.heard import origin
from worldvla_ros.evaluate.replay import replay
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import array_to_image, time_message
from worldvla_ros.nodes.policy import PolicyNode
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.recorder import RecorderNode
from worldvla_ros.policy import Policy

NEEDED = {'/image', '/joint_states', '/action_chunk', '/policy/status'}
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]


def camera_and_joints(bench):
    """Return a function that publishes the next image and joint states, and returns True."""
    rng, steps = np.random.default_rng(0), itertools.count()

    def see():
        now_s = bench.node.get_clock().now().nanoseconds * 1e-9
        joints = JointState(name=JOINTS, position=[float(p) for p in reach(next(steps))])
        joints.header.stamp = time_message(now_s)
        pixels = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        bench.send(joints, 'joint_states', JOINTS_QOS)
        bench.send(array_to_image(pixels, now_s, 'camera'), 'image', SENSOR_QOS)
        bench.spin(PERIOD_S)  # every node must get its turn, or queues overflow
        return True

    return see


@pytest.fixture
def run(tiny_checkpoint, tmp_path):
    """A policy and a recorder in this process; returns what was recorded of eight chunks."""
    bench = InProcess(
        lambda: PolicyNode(FakeHost(tiny_checkpoint)),
        RecorderNode,
        folder=str(tmp_path / 'bag'),
        max_rate=100.0,
    )
    bench.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
    bench.wait_state('active', 0)
    bench.wait_state('active', 1)
    bench.send(String(data='pick up the red cube'), 'instruction', LATCHED_QOS)
    chunks, recorder = bench.heard['action_chunk'], bench.nodes[1]
    see = camera_and_joints(bench)
    counts = recorder._bag._channels
    bench.until(
        lambda: see() and counts.keys() >= NEEDED and all(counts[n].count for n in NEEDED),
        'a message of each topic in the bag',
    )
    first = len(chunks)
    bench.until(lambda: see() and len(chunks) > first + 8, 'chunks')
    bench.close()
    return tmp_path / 'bag'


def test_a_recorded_run_is_answered_with_the_same_tokens(run, tiny_checkpoint):
    recording = Recording(run)
    told = origin(recording)
    assert told.model_id == tiny_checkpoint.model_id
    assert (told.robot, told.decoding) == ('sim_panda', 'discrete')
    report = replay(recording, Policy(tiny_checkpoint), ARM, told, progress=False)
    assert report.unlike == []
    assert report.count('different') == 0
    assert report.count('same') >= 5
    assert report.holds
