"""What every gripper has: a topic that says the width, or an action with goals.

`robot.grasping` decides when a width is a new goal; here goals become messages. Only the newest
goal's answer counts: one that was replaced has nothing more to say.
"""

from array import array
import math
from typing import Any

from rclpy.task import Future
from std_msgs.msg import Float64MultiArray

from worldvla_ros.nodes.bridges.problem import Problem
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.grasping import Goal, GripperGoals

INSTEAD = (
    'Or command the gripper in another way, by the launch argument gripper:=width or none, '
    'which is the parameter gripper of action_player.'
)
"""What helps where the interfaces of a gripper are not installed."""
AGAIN_S = 0.05
"""How often a width that stays is said again [s], to whoever begins to listen late."""


class Gripper:
    """Takes the opening width; this one is none: widths are ignored."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Remember whose gripper it is."""
        self.node = node
        self.robot = robot

    def send(self, width: float, now_s: float) -> None:
        """Take the width [m] that the path says now [s]."""

    def release(self) -> None:
        """Send nothing new; what the gripper does goes on."""

    def problem(self) -> Problem | None:
        """Return why the gripper does not take commands."""
        return None


class WidthGripper(Gripper):
    """Publishes the opening width [m] where it changes, and from time to time."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher."""
        super().__init__(node, robot)
        name = robot.gripper.output.name
        self._publisher = node.publisher(Float64MultiArray, name, RELIABLE_QOS)
        self._said, self._said_s = math.nan, -math.inf

    def release(self) -> None:
        """Say the width anew when the next one comes."""
        self._said = math.nan

    def send(self, width: float, now_s: float) -> None:
        """Publish the width, unless the same was said just now."""
        if width == self._said and 0 <= now_s - self._said_s < AGAIN_S:
            return
        self._said, self._said_s = width, now_s
        share = 0.5 if self.robot.gripper.output.half_width else 1.0
        self._publisher.publish(Float64MultiArray(data=array('d', [share * width])))


class ActionGripper(Gripper):
    """Sends goals to actions; subclasses say which action and what a goal looks like."""

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Start with a gripper of which nothing is known."""
        super().__init__(node, robot)
        self._goals = GripperGoals(robot.gripper.open_width)
        self._problem: Problem | None = None
        self._number = 0
        self._handle: Any = None
        self._now_s = 0.0

    def goal(self, goal: Goal) -> tuple[Any, Any]:
        """Return the action's client and the goal's message."""
        raise NotImplementedError

    def position(self, width: float) -> float:
        """Return the position that means a width [m]: itself, its half, or a joint's angle."""
        gripper = self.robot.gripper
        if gripper.angular:
            share = width / gripper.open_width
            return gripper.joint_closed + share * (gripper.joint_open - gripper.joint_closed)
        return 0.5 * width if gripper.output.half_width else width

    def send(self, width: float, now_s: float) -> None:
        """Send a goal where one is due."""
        self._now_s = now_s
        goal = self._goals.offer(width, now_s)
        if goal is None:
            return
        client, message = self.goal(goal)
        if not client.server_is_ready():
            self._fail('gripper_absent', 'nobody answers the action of the gripper')
            return
        if goal.replaces and self._handle is not None:
            self._handle.cancel_goal_async()
        self._handle, self._number = None, self._number + 1
        number = self._number
        sent = client.send_goal_async(message)
        sent.add_done_callback(lambda answer: self._on_answer(answer, number))

    def release(self) -> None:
        """Forget the width that was wanted."""
        self._goals.forget()

    def problem(self) -> Problem | None:
        """Return why the last goal was not taken."""
        return self._problem

    def _on_answer(self, answer: Future, number: int) -> None:
        if number != self._number:
            return
        self._handle = answer.result()
        if self._handle is None or not self._handle.accepted:
            self._fail('gripper_refused', 'the gripper refused its goal')
            return
        self._problem = None
        ended = self._handle.get_result_async()
        ended.add_done_callback(lambda _: self._on_result(number))

    def _on_result(self, number: int) -> None:
        """Take note of the end; whether something was grasped is seen by the policy."""
        if number == self._number:
            self._goals.ended()

    def _fail(self, code: str, text: str) -> None:
        name = self.robot.gripper.output.name
        remedy = f'Start the driver of the gripper, or correct gripper.output.name ({name}).'
        self._problem = Problem(code, text, remedy, pending=True)
        self._goals.failed(self._now_s)
