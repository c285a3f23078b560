"""Mocked grippers behind the real actions: goals in, opening width out.

Each goal is answered when the mocked fingers have got there, have stalled, or another goal came.
"""

from typing import Any

from rclpy.action import CancelResponse, GoalResponse
from rclpy.task import Future

from worldvla_ros.nodes.bridges.bridge import interfaces
from worldvla_ros.nodes.bridges.gripper import INSTEAD
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.sim.controllers.gripper import GripperMock, Result


class MockGripper:
    """Offers the actions that a description names; none where it names a topic."""

    def __init__(self, node: ManagedNode, robot: RobotConfig, width: float) -> None:
        """Offer the actions.

        Raises:
            ConfigError: Their interfaces are not installed.
        """
        self._node, self._gripper = node, robot.gripper
        self._mock = GripperMock(robot.gripper.open_width, width)
        self._waiting: dict[int, Future] = {}
        output = robot.gripper.output
        purpose = f'a mock of gripper.output {output.kind}'
        if output.kind == 'gripper_command':
            kind = interfaces('control_msgs', 'action', purpose, INSTEAD).GripperCommand
            self._offer(kind, output.name)
        elif output.kind == 'parallel_gripper':
            kind = interfaces('control_msgs', 'action', purpose, INSTEAD).ParallelGripperCommand
            self._offer(kind, output.name)
        elif output.kind == 'franka':
            kinds = interfaces('franka_msgs', 'action', purpose, INSTEAD)
            self._offer(kinds.Move, f'{output.name}/move')
            self._offer(kinds.Grasp, f'{output.name}/grasp')

    def step(self, now_s: float, dt: float, measured: float) -> float:
        """Return the width that the fingers are driven to [m]; see `GripperMock.step`."""
        width = self._mock.step(now_s, dt, measured)
        while self._mock.results:
            result = self._mock.results.pop(0)
            future = self._waiting.pop(result.number, None)
            if future is not None and not future.done():
                future.set_result(result)
        return width

    def _offer(self, kind: Any, name: str) -> None:
        async def execute(handle: Any) -> Any:
            return await self._execute(kind, handle)

        self._node.action_server(
            kind,
            name,
            execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def _on_goal(self, goal: Any) -> GoalResponse:
        width = self._width(goal)
        fits = 0 <= width <= self._gripper.open_width + 1e-6
        return GoalResponse.ACCEPT if fits else GoalResponse.REJECT

    async def _execute(self, kind: Any, handle: Any) -> Any:
        goal = handle.request
        now_s = self._node.get_clock().now().nanoseconds * 1e-9
        speed = getattr(goal, 'speed', self._gripper.output.speed)
        grasps = hasattr(goal, 'force')
        width = min(self._width(goal), self._gripper.open_width)
        number = self._mock.accept(width, speed, now_s, grasps=grasps)
        ended: Future = Future()
        self._waiting[number] = ended
        result: Result = await ended  # type: ignore[assignment]  # set by `step` alone
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.outcome == 'replaced':
            handle.abort()
        else:
            handle.succeed()
        answer = kind.Result()
        if hasattr(answer, 'success'):
            answer.success = result.success
        else:
            answer.stalled = result.outcome == 'stalled'
            answer.reached_goal = result.outcome == 'reached'
        return answer

    def _width(self, goal: Any) -> float:
        """Return the opening that a goal of any of the actions means [m]."""
        if hasattr(goal, 'width'):
            return float(goal.width)
        position = goal.command.position
        value = float(position if isinstance(position, float) else position[0])
        gripper = self._gripper
        if gripper.angular:
            whole = gripper.joint_open - gripper.joint_closed
            return gripper.open_width * (value - gripper.joint_closed) / whole
        return 2 * value if gripper.output.half_width else value
