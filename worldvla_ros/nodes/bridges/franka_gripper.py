"""Goals of Franka's own gripper: `move` opens, `grasp` closes on whatever is between the fingers.

`move` to a width that an object blocks fails; `grasp` holds with a force, and its tolerance spans
the whole opening, so that an object of any width counts as grasped (franka_msgs action/Move,
action/Grasp).
"""

from typing import Any

from worldvla_ros.nodes.bridges.bridge import interfaces
from worldvla_ros.nodes.bridges.gripper import INSTEAD, ActionGripper
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.grasping import Goal


class FrankaGripper(ActionGripper):
    """Moves to open, grasps to close; `gripper.output.name` is the namespace of both actions."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create both clients.

        Raises:
            ConfigError: franka_msgs is not installed.
        """
        super().__init__(node, robot)
        self._kinds = interfaces('franka_msgs', 'action', 'gripper.output franka', INSTEAD)
        name = robot.gripper.output.name.rstrip('/')
        self._move = node.action_client(self._kinds.Move, f'{name}/move')
        self._grasp = node.action_client(self._kinds.Grasp, f'{name}/grasp')

    def goal(self, goal: Goal) -> tuple[Any, Any]:
        """Return the client and the goal's message."""
        output = self.robot.gripper.output
        if not goal.closing:
            return self._move, self._kinds.Move.Goal(width=goal.width, speed=output.speed)
        message = self._kinds.Grasp.Goal(width=goal.width, speed=output.speed, force=output.force)
        message.epsilon.inner = goal.width
        message.epsilon.outer = self.robot.gripper.open_width - goal.width
        return self._grasp, message
