"""Goals of control_msgs/GripperCommand: a position and the largest effort.

What the position means differs: a gap, or half of it as franka_ros2's `gripper_action` has it
(`half_width`), or a joint's angle (`joint_closed`, `joint_open`).
"""

from typing import Any

from worldvla_ros.nodes.bridges.bridge import interfaces
from worldvla_ros.nodes.bridges.gripper import INSTEAD, ActionGripper
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.grasping import Goal


class GripperCommandGripper(ActionGripper):
    """Sends a position and the description's force."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the client.

        Raises:
            ConfigError: control_msgs is not installed.
        """
        super().__init__(node, robot)
        action = interfaces('control_msgs', 'action', 'gripper.output gripper_command', INSTEAD)
        self._kind = action.GripperCommand
        self._client = node.action_client(self._kind, robot.gripper.output.name)

    def goal(self, goal: Goal) -> tuple[Any, Any]:
        """Return the client and the goal's message."""
        message = self._kind.Goal()
        message.command.position = self.position(goal.width)
        message.command.max_effort = self.robot.gripper.output.force
        return self._client, message
