"""A URDF that comes on robot_description: heard wherever it is said, and missed by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
import rclpy
from rclpy.node import Node
from std_msgs.msg import String

from worldvla_ros.errors import RobotError
from worldvla_ros.nodes import robot_urdf
from worldvla_ros.nodes.qos import LATCHED_QOS
from worldvla_ros.robot.description import URDF_TOPIC, load_robot
from worldvla_ros.robot.kinematics import Arm

FR3 = load_robot('fr3_jtc')
TOPIC = replace(FR3, urdf=URDF_TOPIC)
TEXT = Path(FR3.urdf).read_text()
Q = [0.1, -0.2, 0.3, -2.4, 0.5, 2.2, 0.8]


@pytest.fixture
def nodes():
    rclpy.init()
    made = [Node('player', namespace='left'), Node('robot_state_publisher')]
    yield made
    for node in made:
        node.destroy_node()
    rclpy.shutdown()


@pytest.mark.parametrize('topic', ['/robot_description', '/left/robot_description'])
def test_it_is_heard_in_the_namespace_and_outside(nodes, topic):
    player, publisher = nodes
    publisher.create_publisher(String, topic, LATCHED_QOS).publish(String(data=TEXT))
    arm = robot_urdf.make_arm(player, TOPIC)
    np.testing.assert_allclose(arm.pose(Q), Arm(FR3).pose(Q))


def test_a_parameter_or_a_file_is_not_waited_for(nodes, monkeypatch):
    monkeypatch.setattr(robot_urdf, '_hear', pytest.fail)
    for robot, text in ((TOPIC, TEXT), (FR3, '')):
        np.testing.assert_allclose(
            robot_urdf.make_arm(nodes[0], robot, text).pose(Q), Arm(FR3).pose(Q)
        )


def test_where_nobody_says_it_the_remedy_is_named(nodes, monkeypatch):
    monkeypatch.setattr(robot_urdf, 'WAIT_S', 0.2)
    with pytest.raises(RobotError, match='Start robot_state_publisher, or name a file'):
        robot_urdf.make_arm(nodes[0], TOPIC)
