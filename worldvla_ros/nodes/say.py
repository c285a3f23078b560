"""Publishes one sentence on the instruction topic and stays, for nodes that start later."""

import sys

import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from std_msgs.msg import String

from worldvla_ros.errors import InstructionError
from worldvla_ros.nodes.qos import LATCHED_QOS
from worldvla_ros.nodes.spin import run


class SayNode(Node):
    """Publishes an instruction once, latched."""

    def __init__(self, instruction: str) -> None:
        """Create the publisher and publish."""
        super().__init__('say')
        self._publisher = self.create_publisher(String, 'instruction', LATCHED_QOS)
        self._publisher.publish(String(data=instruction))


def main() -> int:
    """Publish the words of the command line."""
    words = ' '.join(remove_ros_args(sys.argv)[1:])
    if not words.strip():
        error = InstructionError(
            'nothing to say', remedy='Give a sentence: say pick up the red cube'
        )
        rclpy.logging.get_logger('say').error(str(error))
        return 2
    return run(lambda: SayNode(words))


if __name__ == '__main__':
    raise SystemExit(main())
