"""The instruction server: the action `execute_instruction` on top of the instruction topic.

    goal ── instruction (latched) ──▶ policy ── action_chunk ──▶ action_player
    feedback, result ◀── policy/status, action_player/status, action_chunk, sim/task_state

One goal at a time: another one, or a sentence of somebody else, replaces it. Cancelling holds the
arm by `action_player/hold`, which lasts until somebody calls `action_player/enable`. However a
goal ends, its instruction is taken back, unless another has replaced it. Everything runs in the
executor's thread. Must not know models or robots.
"""

from dataclasses import dataclass
from functools import partial
import math
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.client import Client
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from worldvla_ros.action import ExecuteInstruction
from worldvla_ros.msg import ActionChunk, TaskState
from worldvla_ros.nodes.pursuit import Echoes, Pursuit, Voice
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.spin import run

Outcome = ExecuteInstruction.Result
ACTION = 'execute_instruction'
PLAYER, POLICY = 'action_player', 'policy'
PERIOD_S = 0.1
FEEDBACK_S = 0.5
HOLD_ANSWER_S = 2.0
"""How long the player may take to answer `hold`."""
LONGEST_TIMEOUT_S = 1e9


@dataclass
class Goal:
    """The goal that is being followed; `hold` is there once it is being cancelled."""

    handle: ServerGoalHandle
    pursuit: Pursuit
    fed_s: float = -math.inf
    state: str = ''
    hold: Future | None = None
    cancelled_s: float = math.inf


class LateServer(ActionServer):
    """Shows a goal as being executed, and calls what executes it once its result is known.

    A coroutine that waits for the result would keep rclpy's executor busy all the time.
    """

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """Call nothing where a goal begins, which `ServerGoalHandle.execute` says."""
        if execute_callback is not None:
            super().notify_execute(goal_handle, execute_callback)


class InstructionServerNode(ManagedNode):
    """Not active: goals are refused. Active: one goal at a time is followed."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('instruction_server')
        now_s = time.monotonic()
        self._voices = {name: Voice(name, now_s) for name in (PLAYER, POLICY)}
        self._echoes = Echoes()
        self._goal: Goal | None = None
        self._words: Publisher
        self._holds: Client
        self._server: LateServer

    def configure(self) -> None:
        """Create interfaces.

        Raises:
            ConfigError: A parameter is wrong.
        """
        self._threshold, self._patience_s = self.read_parameters()
        self._words = self.publisher(String, 'instruction', LATCHED_QOS)
        self._holds = self.create_client(Trigger, f'{PLAYER}/hold')
        self._undo.append(lambda: self.destroy_client(self._holds))
        for name in self._voices:
            heard = partial(self._on_status, name)
            self.subscribe(DiagnosticArray, f'{name}/status', heard, LATCHED_QOS)
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.subscribe(TaskState, 'sim/task_state', self._on_task_state, RELIABLE_QOS)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        self._server = LateServer(
            self, ExecuteInstruction, ACTION, self._unused,
            goal_callback=self._on_goal, handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )  # fmt: skip
        self._undo.append(self._server.destroy)
        self.every(PERIOD_S, self._tick)
        self.status.ok('configured')

    def read_parameters(self) -> tuple[float, float]:
        """Return the estimate that counts as success, and how long something may be wrong [s].

        Raises:
            ConfigError: A parameter is wrong.
        """
        threshold = declare(
            self, 'success_threshold', 0.99, 'success estimate that ends a goal', 0.01, 1.0
        )
        patience_s = declare(
            self, 'patience', 10.0,
            'longest time that policy or player may report a problem [s]; 0: no limit',
            0.0, 3600.0,
        )  # fmt: skip
        return threshold, patience_s

    def activate(self) -> None:
        """Accept goals."""
        self.status.ok('waiting for a goal')

    def deactivate(self) -> None:
        """Take the instruction back."""
        if self._goal is not None:
            self._end(Outcome.FAILED, 'the instruction server was deactivated.')

    # ---- goals

    def _on_goal(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        refusal = ''
        if not self.active:
            refusal = 'the node is not active'
        elif not request.instruction.strip():
            refusal = 'its instruction is empty'
        elif not 0.0 <= request.timeout <= LONGEST_TIMEOUT_S:
            refusal = f'its timeout is {request.timeout}: expected seconds, 0 for no limit'
        if refusal:  # rclpy sends no reason with a refusal
            self.status.warn(f'goal refused: {refusal}', key='goal refused')
        return GoalResponse.REJECT if refusal else GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        if self._goal is not None:
            self._end(Outcome.REPLACED, 'another goal came.')
        now_s, request = time.monotonic(), handle.request
        self._goal = Goal(handle, Pursuit(request.instruction.strip(), now_s, request.timeout))
        for voice in self._voices.values():
            voice.expect(now_s)
        handle.execute()  # from now on it is shown as being executed
        self._say(self._goal.pursuit.text)

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Hold the arm; the goal ends when the player has answered."""
        goal = self._goal
        if goal is not None and goal.handle == handle and goal.hold is None:
            goal.cancelled_s = time.monotonic()
            self._say('')
            ready = self._holds.service_is_ready()
            goal.hold = self._holds.call_async(Trigger.Request()) if ready else Future()
        return CancelResponse.ACCEPT

    def _unused(self, handle: ServerGoalHandle) -> ExecuteInstruction.Result:
        """Never called: `_end` says what is."""
        raise NotImplementedError

    def _end(self, outcome: str, message: str) -> None:
        """End the goal, and take its instruction back unless another has replaced it."""
        goal, self._goal = self._goal, None
        assert goal is not None, 'there is a goal to end'
        result = ExecuteInstruction.Result(
            outcome=outcome,
            message=message,
            elapsed=goal.pursuit.elapsed(time.monotonic()),
            success_estimate=goal.pursuit.estimate,
        )
        if outcome != Outcome.REPLACED and goal.hold is None:
            self._say('')
        cancelling = goal.handle.is_cancel_requested

        def answer(handle: ServerGoalHandle) -> ExecuteInstruction.Result:
            if outcome == Outcome.FINISHED:
                handle.succeed()
            elif cancelling:
                handle.canceled()
            else:
                handle.abort()
            return result

        self._server.notify_execute(goal.handle, answer)
        report = self.status.warn if outcome == Outcome.FAILED else self.status.ok
        report(f'{goal.pursuit.text[:80]!r}: {outcome}. {message}', key=outcome)

    # ---- what comes in

    def _on_status(self, name: str, message: DiagnosticArray) -> None:
        if not message.status:
            return
        status = message.status[0]
        values = {value.key: value.value for value in status.values}
        self._voices[name].hear(
            status.message,
            time.monotonic(),
            well=status.level == DiagnosticStatus.OK,
            error=status.level == DiagnosticStatus.ERROR,
            mode=values.get('mode', ''),
        )

    def _on_chunk(self, message: ActionChunk) -> None:
        if self._goal is not None and message.instruction.strip() == self._goal.pursuit.text:
            self._goal.pursuit.chunks += 1

    def _on_task_state(self, message: TaskState) -> None:
        if self._goal is not None and message.instruction.strip() == self._goal.pursuit.text:
            self._goal.pursuit.estimate = float(message.success)

    def _on_instruction(self, message: String) -> None:
        text = message.data.strip()
        if self._goal is not None and self._echoes.foreign(text, time.monotonic()):
            self._end(
                Outcome.REPLACED,
                f'somebody else said {text[:80]!r}.'
                if text
                else 'the instruction was taken back.',
            )

    def _say(self, text: str) -> None:
        self._echoes.say(text, time.monotonic())
        self._words.publish(String(data=text))

    # ---- time

    def _tick(self) -> None:
        goal, now_s = self._goal, time.monotonic()
        if goal is None:
            return
        ended = self._cancelled(goal, now_s) if goal.hold is not None else self._ended(goal, now_s)
        if ended is None:
            self._feed(goal, now_s)
        else:
            self._end(*ended)

    def _ended(self, goal: Goal, now_s: float) -> tuple[str, str] | None:
        """Return outcome and message where the goal is over."""
        pursuit = goal.pursuit
        if pursuit.estimate >= self._threshold:
            return Outcome.FINISHED, 'the success estimate reached its threshold.'
        for voice in self._voices.values():
            problem = voice.problem(now_s, self._patience_s)
            if problem:
                return Outcome.FAILED, problem
        if pursuit.late(now_s):
            return Outcome.TIMED_OUT, f'not done within {pursuit.timeout_s:g} s.'
        return None

    def _cancelled(self, goal: Goal, now_s: float) -> tuple[str, str] | None:
        """Return outcome and message once the player holds, or does not answer."""
        assert goal.hold is not None, 'the goal is being cancelled'
        answer = goal.hold.result() if goal.hold.done() else None
        if answer is not None and answer.success:
            return Outcome.CANCELLED, f'the arm holds: {answer.message}'
        if answer is None and now_s - goal.cancelled_s < HOLD_ANSWER_S:
            return None
        return (
            Outcome.CANCELLED,
            f'{PLAYER}/hold did not answer: the instruction was taken back, and the arm stops '
            'where its chunk ends.',
        )

    def _feed(self, goal: Goal, now_s: float) -> None:
        """Send feedback when what is said changes, and twice a second."""
        player, policy = self._voices[PLAYER], self._voices[POLICY]
        state = (player if policy.well(now_s) else policy).said(now_s)
        if state == goal.state and now_s - goal.fed_s < FEEDBACK_S:
            return
        goal.state, goal.fed_s = state, now_s
        feedback = ExecuteInstruction.Feedback(
            state=state,
            elapsed=goal.pursuit.elapsed(now_s),
            chunks=goal.pursuit.chunks,
            success_estimate=goal.pursuit.estimate,
        )
        goal.handle.publish_feedback(feedback)  # type: ignore[arg-type]  # rclpy means this
        self.status.ok(
            f'following {goal.pursuit.text[:80]!r}',
            chunks=feedback.chunks,
            elapsed=f'{feedback.elapsed:.1f} s',
            success_estimate=feedback.success_estimate,
        )


def main() -> int:
    """Run the instruction server."""
    return run(InstructionServerNode)


if __name__ == '__main__':
    raise SystemExit(main())
