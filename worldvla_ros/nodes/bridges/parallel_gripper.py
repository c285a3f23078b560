"""Goals of control_msgs/ParallelGripperCommand: a joint state with speed and effort."""

from array import array
from typing import Any

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bridges.bridge import interfaces
from worldvla_ros.nodes.bridges.gripper import INSTEAD, ActionGripper
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.grasping import Goal


class ParallelGripper(ActionGripper):
    """Commands the first finger joint, which the controller's other fingers follow."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the client.

        Raises:
            ConfigError: control_msgs is not installed, or too old to have the action.
        """
        super().__init__(node, robot)
        action = interfaces('control_msgs', 'action', 'gripper.output parallel_gripper', INSTEAD)
        if not hasattr(action, 'ParallelGripperCommand'):
            raise ConfigError(
                'gripper.output parallel_gripper',
                expected='a control_msgs that has ParallelGripperCommand',
                got='an older one',
                remedy='Use gripper_command, or a newer ROS 2.',
            )
        self._kind = action.ParallelGripperCommand
        self._client = node.action_client(self._kind, robot.gripper.output.name)

    def goal(self, goal: Goal) -> tuple[Any, Any]:
        """Return the client and the goal's message."""
        gripper, message = self.robot.gripper, self._kind.Goal()
        message.command.name = [gripper.names[0]]
        message.command.position = array('d', [self.position(goal.width)])
        message.command.velocity = array('d', [gripper.output.speed])
        message.command.effort = array('d', [gripper.output.force])
        return self._client, message
