"""TF against the robot description: with a look-alike of tf2_msgs, and with the real one."""

import importlib.util
import sys
import types

import numpy as np
import pytest

pytest.importorskip('rclpy')
from geometry_msgs.msg import TransformStamped
from test_policy_node import HOME, ROBOT, Bench

from worldvla_ros.nodes import policy as policy_module
from worldvla_ros.nodes import transforms as module
from worldvla_ros.nodes.convert import time_message
from worldvla_ros.nodes.transforms import NOT_INSTALLED, STATIC_QOS, TF_QOS, FrameCheck
from worldvla_ros.robot.frames import COMPARISONS
from worldvla_ros.robot.kinematics import Arm

BASE, TIP = ROBOT.base_frame, ROBOT.tip_frame


def stamped(parent, child, pose, stamp_s=0.0):
    import pinocchio

    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, time_message(stamp_s)
    move, turn = message.transform.translation, message.transform.rotation
    move.x, move.y, move.z = (float(v) for v in pose[:3, 3])
    turn.x, turn.y, turn.z, turn.w = pinocchio.Quaternion(pose[:3, :3]).coeffs().tolist()
    return message


class Listening:
    """What a listener needs of a node: it keeps callbacks by topic, and warnings."""

    def __init__(self):
        self.heard, self.qos, self.warnings = {}, {}, []

    def create_subscription(self, cls, topic, callback, qos):
        self.heard[topic], self.qos[topic] = callback, qos
        return topic

    def destroy_subscription(self, topic):
        del self.heard[topic]

    def get_logger(self):
        return types.SimpleNamespace(warning=self.warnings.append)

    def say(self, topic, *transforms):
        self.heard[topic](types.SimpleNamespace(transforms=list(transforms)))


@pytest.fixture
def node(monkeypatch):
    """A node beside a package tf2_msgs that looks like the real one."""
    package = types.ModuleType('tf2_msgs.msg')
    package.TFMessage = type('TFMessage', (), {})
    monkeypatch.setitem(sys.modules, 'tf2_msgs', types.ModuleType('tf2_msgs'))
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', package)
    return Listening()


def shifted(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def checked(node, tip_x, cameras):
    check = FrameCheck(node, 'base', 'tip')
    node.say(
        '/tf_static', stamped('world', 'base', shifted(1)), stamped('base', 'eye', shifted(0))
    )
    for _ in range(COMPARISONS):
        assert not check.poll()
        node.say('/tf', stamped('world', 'tip', shifted(tip_x), 7.0))
        check.check(shifted(2), 7.0, cameras)
    return check


def test_both_topics_are_heard_as_tf_says_them(node):
    FrameCheck(node, 'base', 'tip')
    assert node.qos == {'/tf': TF_QOS, '/tf_static': STATIC_QOS}


def test_an_arm_and_cameras_in_tf_agree_and_nothing_is_heard_any_more(node):
    check = checked(node, 3.0, {'front': 'eye'})
    assert check.verdict == 'agrees'
    assert check.poll()
    assert node.heard == {}
    assert node.warnings == []


def test_a_camera_outside_tf_is_named(node):
    check = checked(node, 3.0, {'front': 'eye', 'wrist': 'hand_eye'})
    assert check.verdict == "agrees; frame 'hand_eye' of camera wrist is not in TF"


def test_a_tip_elsewhere_is_warned_of_with_what_to_correct(node):
    check = checked(node, 3.1, {})
    assert check.poll()
    assert 'tip is 100 mm' in check.verdict
    assert 'tip_frame' in node.warnings[0]


def test_nonsense_is_passed_over(node):
    check = FrameCheck(node, 'base', 'tip')
    bad = stamped('base', 'tip', shifted(1), 7.0)
    bad.transform.rotation.w = float('nan')
    node.say('/tf', bad)
    check.check(shifted(1), 7.0, {})
    assert check.verdict == 'not checked: no transform from base to tip'


def test_time_is_up_where_nothing_comes(node, monkeypatch):
    monkeypatch.setattr(module, 'GIVE_UP_S', -1.0)
    check = FrameCheck(node, 'base', 'tip')
    assert check.poll()
    assert node.heard == {}
    assert node.warnings == []


def test_without_tf2_msgs_nothing_is_checked_and_that_is_said(node, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    check = FrameCheck(node, 'base', 'tip')
    assert check.verdict == NOT_INSTALLED
    check.check(shifted(1), 7.0, {'front': 'eye'})
    assert check.verdict == NOT_INSTALLED
    check.stop()


# ---- on the policy node, with the real messages


def figure(on):
    return {v.key: v.value for v in on.nodes[0].status._present.values}.get('tf', '')


@pytest.fixture
def bench(tiny_checkpoint, monkeypatch):
    from fakes import FakePolicy

    monkeypatch.setattr(policy_module, 'Policy', FakePolicy)
    made = Bench(tiny_checkpoint, max_rate=200.0, max_joint_age=5.0)
    yield made
    made.close()


@pytest.fixture
def without_tf2_msgs(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)


def test_the_policy_says_that_tf_is_not_checked(without_tf2_msgs, bench):
    bench.ready()
    bench.until_answered()
    bench.until(lambda: figure(bench) == NOT_INSTALLED, 'the status')


@pytest.mark.parametrize(('off_m', 'words'), [(0.0, 'agrees'), (0.05, f'{TIP} is 50 mm')])
def test_the_policy_compares_its_arm_with_tf(lookalikes, bench, off_m, words):
    messages = importlib.import_module('tf2_msgs.msg')
    pose = Arm(ROBOT).pose(np.array(HOME[:7]))
    pose[0, 3] += off_m
    bench.instruct()

    def told():
        bench.joints()
        message = messages.TFMessage(transforms=[stamped(BASE, TIP, pose, bench.now_s())])
        bench.send(message, '/tf', TF_QOS)
        bench.image()
        bench.spin(0.02)
        return figure(bench).startswith(words)

    bench.until(told, words)
    assert "frame 'camera' of camera front is not in TF" in figure(bench)
