"""What the action player does at each instant: play the chunk that is due, or hold and say why.

    chunks ── judge_chunk ── ChunkPlayer ── commands ── Gate ── Step ── (the node sends it)
    joint states ── JointBuffer ────────────────┴────────┘

Knows chunks, joints and what the operator allows. Must not know ROS. Times [s]: `now_s` is of the
clock that stamps use, `steady_s` of one that never stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldvla_ros.errors import ObservationError, RobotError
from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.chunk_player import ChunkPlayer
from worldvla_ros.robot.commands import (
    JointCommand,
    TwistCommand,
    joint_command,
    twist_command,
)
from worldvla_ros.robot.gate import Gate
from worldvla_ros.robot.guards import judge_chunk, slowdown
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.safety import ClockWatch, Mode, Pace, Safety
from worldvla_ros.robot.state import JointBuffer, JointReading

OUTPUTS = ('twist', 'trajectory')
STOP_REPEATS = 5
"""How often a stop is sent; then silence, so that others can command the arm."""

DRY_RUN = 'dry run: nothing is sent. Call ~/enable with true to move the arm.'


class Reason(NamedTuple):
    """Why the arm holds or a chunk is refused, for the operator.

    Attributes:
        text: One or two sentences.
        kind: The same for all reasons that differ in numbers only.
    """

    text: str
    kind: str


NO_CHUNK = Reason('no action chunk. Start the policy and give it an instruction.', 'no chunk')
ENDED = Reason('the chunk has ended and no newer one came. Check the policy.', 'chunk ended')
HELD = Reason('~/hold was called. Call ~/enable with true to go on.', 'held')


@dataclass(frozen=True)
class Step:
    """What to do at one instant.

    Attributes:
        message: What is happening, for the operator.
        kind: The same for all messages that differ in numbers only.
        warn: Whether something is wrong.
        command: What to send, or None.
        stop: Whether to send a stop.
    """

    message: str
    kind: str
    warn: bool = False
    command: TwistCommand | JointCommand | None = None
    stop: bool = False


class Player:
    """Decides; `step` is to be called at least twice per control period."""

    def __init__(
        self,
        arm: Arm,
        *,
        output: str,
        period_s: float,
        max_joint_age_s: float,
        enabled: bool,
    ) -> None:
        """Start with nothing to play.

        Args:
            arm: The arm.
            output: Which command to make: one of `OUTPUTS`.
            period_s: Time between commands [s].
            max_joint_age_s: The oldest joint state that is acted on [s].
            enabled: False begins with a dry run.

        Raises:
            RobotError: Actions of this kind are not played.
        """
        self._arm, self._robot = arm, arm.robot
        if arm.robot.action.kind != 'cartesian_delta':
            raise RobotError(
                f'robot {arm.robot.name}: action.kind',
                expected='cartesian_delta, the only one that is played here',
                got=arm.robot.action.kind,
            )
        self._output = output
        self._period_s = period_s
        self._safety = Safety(Mode.ENABLED if enabled else Mode.DRY_RUN)
        self._joints = JointBuffer(arm, max_joint_age_s)
        self._chunks = ChunkPlayer()
        self._gate = Gate(arm, period_s)
        self._clock = ClockWatch()
        self._pace = Pace(period_s)
        self._why = NO_CHUNK
        self._stops = 0

    @property
    def mode(self) -> Mode:
        """What the operator allows."""
        return self._safety.mode

    @property
    def stopping(self) -> bool:
        """Whether the arm was commanded to move and all stops have not been sent yet."""
        return self._stops > 0

    @property
    def chunk(self) -> ActionChunk | None:
        """The chunk that is being played, or None."""
        return self._chunks.chunk

    @property
    def moves(self) -> np.ndarray:
        """The actions still to come in SI units: float32[n, dim]; [0, 0] without a chunk."""
        chunk = self._chunks.chunk
        return self._chunks.remaining if chunk is None else self._chunks.remaining * chunk.scale

    def joints(self, now_s: float) -> JointReading:
        """Return the measured joints.

        Raises:
            ObservationError: They are missing or not fresh.
        """
        return self._joints.newest(now_s)

    def put_joints(self, names: Sequence[str], positions: np.ndarray, stamp_s: float) -> None:
        """Take a joint state; see `JointBuffer.put`.

        Raises:
            ObservationError: It cannot be used.
        """
        self._joints.put(names, positions, stamp_s)

    def offer(self, chunk: ActionChunk, now_s: float) -> Reason | None:
        """Take a chunk to play, or return why not.

        While the arm is held, chunks are ignored.
        """
        if self._safety.mode is Mode.HELD:
            return None
        refusal = judge_chunk(chunk, self._robot, self._period_s, now_s)
        if refusal is not None:
            return self.refuse(str(refusal), refusal.guard)
        times = slowdown(chunk, self._robot, self._period_s)
        if self._chunks.offer(chunk, now_s, times):
            self._why = ENDED
        return None

    def refuse(self, problem: str, kind: str) -> Reason:
        """Note why a chunk cannot be used, and return it; the chunk before is played on."""
        self._why = Reason(f'chunk refused: {problem}', f'chunk refused: {kind}')
        return self._why

    def enable(self, on: bool) -> None:
        """Release a hold and let commands leave, or begin a dry run; nothing old is played."""
        self._safety = self._safety.enable(on)
        self._clear(NO_CHUNK)
        self._gate.release()

    def hold(self) -> None:
        """Hold until `enable(True)`."""
        self._safety = self._safety.hold()
        self._clear(HELD)

    def stop(self) -> None:
        """Forget the chunk and the joints, as when the node is deactivated."""
        self._clear(NO_CHUNK)
        self._joints.clear()

    def step(self, now_s: float, steady_s: float) -> Step | None:
        """Return what to do now, or None where no command is due yet."""
        stuck = self._clock.check(now_s, steady_s)
        if stuck is not None:
            return self._pause(Reason(str(stuck), stuck.guard))
        if not self._pace.due(now_s):
            return None
        if self._safety.mode is Mode.HELD:
            return self._hold(HELD)
        try:
            joints = self._joints.newest(now_s)
        except ObservationError as error:
            return self._pause(Reason(str(error), error.problem))
        action, chunk = self._chunks.next_action(now_s), self._chunks.chunk
        if action is None or chunk is None:
            self._gate.reset()
            return self._idle(self._why)
        return self._play(action * chunk.scale, joints, now_s)

    def _play(self, action: np.ndarray, joints: JointReading, now_s: float) -> Step:
        command = self._command(action, joints.positions, now_s)
        # a dry run asks a gate of its own, as nothing is sent that the next command goes on from
        gate = self._gate if self._safety.enabled else Gate(self._arm, self._period_s)
        refusal = gate.admit(command, joints, now_s)
        if refusal is not None:
            return self._hold(Reason(str(refusal), refusal.guard))
        if not self._safety.enabled:
            return Step(DRY_RUN, 'dry run')
        self._stops = STOP_REPEATS
        message = self._playing(command.clipped)
        return Step(message, message, command.clipped, command)

    def _command(
        self, action: np.ndarray, measured: np.ndarray, now_s: float
    ) -> TwistCommand | JointCommand:
        if self._output == 'twist':
            return twist_command(self._arm, measured, action, self._period_s)
        start = measured if self._gate.joints is None else self._gate.joints
        return joint_command(self._arm, start, action, self._gate.duration(now_s))

    def _playing(self, clipped: bool) -> str:
        words = 'playing'
        if self._chunks.slowdown > 1:
            limits = self._robot.limits
            words += (
                f' {self._chunks.slowdown} times slower, as the chunk is faster than '
                f'{limits.linear_speed} m/s or {limits.angular_speed} rad/s'
            )
        return words + ', motion kept inside the workspace' if clipped else words

    def _hold(self, reason: Reason) -> Step:
        """Stop, forget the chunk, and say why."""
        self._clear(reason)
        return self._idle(reason)

    def _pause(self, reason: Reason) -> Step:
        """Hold for as long as the reason lasts; what is said after it is that no chunk came."""
        self._clear(self._why if self._chunks.chunk is None else ENDED)
        return self._idle(reason)

    def _idle(self, reason: Reason) -> Step:
        words = 'dry run: would hold' if self._safety.mode is Mode.DRY_RUN else 'holding'
        stop = self._stops > 0
        self._stops = max(0, self._stops - 1)
        warn = reason not in (NO_CHUNK, HELD)
        return Step(f'{words}: {reason.text}', f'{words}: {reason.kind}', warn, stop=stop)

    def _clear(self, reason: Reason) -> None:
        self._chunks.clear()
        self._gate.reset()
        self._why = reason
