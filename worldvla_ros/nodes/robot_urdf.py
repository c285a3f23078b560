"""The arm of a robot description whose URDF may come on the topic robot_description.

robot_state_publisher publishes it latched. It is waited for once, while a node configures, by a
node of its own: the executor of the other one is busy configuring. Must not know what the arm is
for.
"""

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from worldvla_ros.nodes.qos import LATCHED_QOS
from worldvla_ros.robot.description import URDF_TOPIC, RobotConfig
from worldvla_ros.robot.kinematics import Arm

WAIT_S = 5.0
"""How long the URDF is waited for [s]."""
TOPIC = 'robot_description'


def make_arm(node: Node, robot: RobotConfig, text: str = '') -> Arm:
    """Return the arm of a description.

    Args:
        node: In whose namespace, and then at /robot_description, the URDF is looked for.
        robot: The description.
        text: Its URDF where a parameter has it; empty waits for the topic where `urdf` asks so.

    Raises:
        RobotError: There is no URDF, or it does not fit the description.
    """
    if robot.urdf == URDF_TOPIC and not text:
        text = _hear(node)
    return Arm(robot, text or None)


def _hear(node: Node) -> str:
    """Return what is said on the topic, or '' where nothing is."""
    heard: list[str] = []
    listener = rclpy.create_node(
        f'{node.get_name()}_urdf',
        context=node.context,
        use_global_arguments=False,
        enable_rosout=False,
        start_parameter_services=False,
    )
    for topic in {node.resolve_topic_name(TOPIC), f'/{TOPIC}'}:
        listener.create_subscription(
            String, topic, lambda message: heard.append(message.data), LATCHED_QOS
        )
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(listener)
    end_s = time.monotonic() + WAIT_S
    try:
        while not heard and time.monotonic() < end_s:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        listener.destroy_node()
    return heard[0] if heard else ''
