"""The shadow in this process: reports beside a moving arm, and nothing that commands."""

from array import array
import math

import pytest

pytest.importorskip('rclpy')
from probe import InProcess
from sensor_msgs.msg import JointState

from worldvla_ros.msg import ActionChunk, ShadowReport
from worldvla_ros.nodes.convert import time_message
from worldvla_ros.nodes.qos import JOINTS_QOS, RELIABLE_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.shadow import ShadowNode
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, math.pi / 4, 0.04, 0.04]
HARMLESS = {'/shadow/status', '/shadow_report', '/shadow/transition_event', '/rosout',
            '/parameter_events'}  # fmt: skip


class Bench(InProcess):
    """A shadow, an arm and a policy."""

    def __init__(self):
        super().__init__(ShadowNode)
        self.listen(ShadowReport, 'shadow_report', RELIABLE_QOS)
        self.wait_state('active')
        self.reports = self.heard['shadow_report']

    def joints(self, stamp_s, turn=0.0):
        message = JointState(name=JOINTS, position=[HOME[0] + turn, *HOME[1:]])
        message.header.stamp = time_message(stamp_s)
        self.send(message, 'joint_states', JOINTS_QOS)
        self.spin(0.01)  # each of them is to be heard

    def chunk(self, stamp_s, row=(0.0, 0.0, 0.05, 0.0, 0.0, 0.0, -1.0), **changes):
        message = ActionChunk(
            chunk_id=3, dt=0.1, horizon=4, dim=7, action_names=list(ROBOT.action.names),
            action_units=list(ROBOT.action.units), action_scale=array('f', [1.0] * 7),
            data=array('f', [*row] * 4), **changes,
        )  # fmt: skip
        message.header.stamp = time_message(stamp_s)
        self.send(message, 'action_chunk', RELIABLE_QOS)


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


def test_a_chunk_is_reported_once_its_end_was_measured(bench):
    for i in range(3):
        bench.joints(50.0 + 0.1 * i)
    bench.chunk(50.0)
    bench.until(lambda: bench.nodes[0]._configured.shadow._waiting, 'the chunk')
    assert not bench.reports
    for i in range(3, 6):
        bench.joints(50.0 + 0.1 * i)
    [report] = bench.until(lambda: bench.reports, 'a report')
    assert (report.chunk_id, seconds(report.header.stamp)) == (3, 50.0)
    assert report.header.frame_id == ROBOT.base_frame
    assert report.horizon == pytest.approx(0.4)
    assert report.translation_error == pytest.approx(0.2, abs=1e-6)
    assert report.rotation_error == pytest.approx(0.0, abs=1e-6)
    assert (report.travelled, len(report.joint_error)) == (0.0, 0)
    assert report.gripper_agrees
    figures = {v.key: v.value for v in bench.nodes[0].status._present.values}
    assert bench.message() == 'comparing'
    assert figures['translation_error'] == '0.2000 m'
    assert figures['gripper_agrees'] == '100%'


def test_nothing_that_could_command_the_arm_is_published_or_called(bench):
    """The node has these interfaces and no others, whatever it hears."""
    bench.joints(50.0)
    bench.chunk(50.0)
    node = bench.nodes[0]
    published = node.get_publisher_names_and_types_by_node('shadow', '/')
    assert {name for name, _ in published} <= HARMLESS
    assert {p.topic_name for p in node.publishers} <= HARMLESS
    assert list(node.clients) == []
    assert node.get_client_names_and_types_by_node('shadow', '/') == []


def test_a_chunk_of_another_robot_is_named(bench):
    bench.chunk(50.0, instruction='x')
    message = ActionChunk(chunk_id=9, dt=0.1, horizon=1, dim=1, action_names=['a'],
                          action_units=['m'], action_scale=array('f', [1.0]),
                          data=array('f', [1.0]))  # fmt: skip
    bench.send(message, 'action_chunk', RELIABLE_QOS)
    assert 'its actions are a, not dx' in bench.wait_message('chunk 9 is not compared')


def test_missing_joints_are_named_and_the_chunk_is_counted(bench):
    short = JointState(name=JOINTS[:3], position=HOME[:3])
    short.header.stamp = time_message(50.0)
    bench.send(short, 'joint_states', JOINTS_QOS)
    assert 'panda_joint4 is missing' in bench.wait_message('nothing is compared')
    bench.joints(60.0)
    bench.chunk(59.0)
    bench.until(lambda: bench.nodes[0]._configured.shadow._waiting, 'the chunk')
    bench.joints(60.1)
    bench.wait_message('the joints were not measured at its time')
    assert not bench.reports
