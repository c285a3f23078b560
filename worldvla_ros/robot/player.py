"""What the action player does at each instant: play the path that is due, or hold and say why.

    chunks ── judge_chunk ── Motion ── Output (Commander, Gate) ── Step ── (the node sends it)
    joint states ── JointInput ─── Watch ┘                          │
    operator ────── Safety ─────────────────────────────────────────┘

Commands leave while the operator allows it; where he, a guard or a measurement ends that, the arm
brakes along a planned path, which is sent too, and rests. Knows chunks, joints and what the
operator allows. Must not know ROS. Times [s]: `now_s` is of the clock that stamps use, `steady_s`
of one that never stops.
"""

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.clock import StampClock
from worldvla_ros.robot.commander import PLACE_KINDS
from worldvla_ros.robot.commands import TrajectoryCommand
from worldvla_ros.robot.guards import judge_chunk
from worldvla_ros.robot.joint_input import JointInput
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.motion import Motion
from worldvla_ros.robot.notes import ENDED, NO_CHUNK, NO_START, NOT_ENABLED, PAUSED, Notes
from worldvla_ros.robot.output import NOTHING, Output, Step
from worldvla_ros.robot.playing import Setpoint
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import ClockWatch, Heartbeat, Mode, Safety
from worldvla_ros.robot.state import JointReading
from worldvla_ros.robot.view import View, view
from worldvla_ros.robot.watch import GAP_S, LAGGING, LATCHING, Watch

START_SHARE = 0.25
"""Share of the speed limits with which the arm goes to its start pose, or less by the operator."""


class Player:
    """Decides; `step` is to be called once per control period, by one thread at a time."""

    def __init__(
        self,
        arm: Arm,
        *,
        output: str,
        period_s: float,
        max_joint_age_s: float,
        enabled: bool,
        blending: str = 'latest',
        follow_timeout_s: float = 0.5,
        heartbeat_timeout_s: float = 0.0,
    ) -> None:
        """Start with nothing to play.

        Args:
            arm: The arm.
            output: Which commands to make: one of `commander.KINDS`.
            period_s: Time between commands [s].
            max_joint_age_s: The oldest joint state that is acted on [s].
            enabled: False begins with a dry run.
            blending: How a chunk takes over from the one before, see `Motion`.
            follow_timeout_s: How long a commanded motion may take to show in the joints [s].
            heartbeat_timeout_s: The longest time between the operator's heartbeats [s]; 0: none.

        Raises:
            RobotError: The robot's actions cannot be played with this output.
            ConfigError: The output is unknown.
        """
        self._arm, self._robot, self._blending = arm, arm.robot, blending
        self._output = Output(arm, output, period_s)
        self._motion = Motion(arm, output=output, blending=blending)
        self._watch = Watch(arm, follow_timeout_s)
        self._safety = Safety(Mode.ENABLED if enabled else Mode.DRY_RUN)
        self._heart, self._notes = Heartbeat(heartbeat_timeout_s), Notes()
        self._clock, self._stamps = ClockWatch(), StampClock()
        self._joints = JointInput(arm, max_joint_age_s, self._notes)
        self._now_s, self._steady_s = -math.inf, math.inf
        self._braking = self._to_start = self._moved = False
        self.refused_chunks = 0

    # ---- what is known

    @property
    def mode(self) -> Mode:
        """What the operator allows."""
        return self._safety.mode

    @property
    def moving(self) -> bool:
        """Whether a path is being played."""
        return self._motion.path is not None

    @property
    def actions_left(self) -> np.ndarray:
        """The actions still to come in SI units: float64[n, dim]; [0, 0] without a chunk."""
        return self._motion.actions_left

    def joints(self, now_s: float) -> JointReading:
        """Return the measured joints.

        Raises:
            JointError: They are missing or not fresh.
        """
        return self._joints.newest(now_s)

    @property
    def refused_joints(self) -> int:
        """How many joint states could not be used."""
        return self._joints.refused

    @property
    def version(self) -> int:
        """Another number whenever there is news."""
        return self._notes.version

    def view(self) -> View:
        """Return what is going on, for the operator."""
        return view(
            self._safety.mode,
            self._notes.all(self._safety.why),
            self._motion,
            braking=self._braking,
            to_start=self._to_start,
            following_error_m=self._watch.error_m,
        )

    # ---- what comes in

    def put_joints(self, names: Sequence[str], positions: np.ndarray, stamp_s: float) -> None:
        """Take a joint state; see `JointInput.put`.

        Raises:
            JointError: It cannot be used.
        """
        self._joints.put(names, positions, stamp_s, max(self._now_s, 0.0))

    def offer(self, chunk: ActionChunk, now_s: float, *, frame: str = '') -> Reason | None:
        """Take a chunk to play, or return why not; then the chunk before is played on.

        While the arm is held, brakes, or cannot move, chunks are ignored: what stands in the way
        is a reason already.

        Args:
            chunk: The chunk.
            now_s: When it came [s].
            frame: The frame of its actions; empty is the base frame.
        """
        refused = judge_chunk(chunk, self._robot, now_s, frame)
        if refused is not None:
            return self.refuse(refused)
        measured = self._joints.read(now_s)
        if measured is None or self._blocked():
            return None
        if not self._safety.enabled:
            self._begin_anew(now_s)  # an arm that does not follow is where it is
        refused = self._motion.offer(chunk, now_s, measured)
        if refused is not None:
            return self.refuse(refused)
        for slot in ('chunk', 'gate'):
            self._notes.put(slot, None)
        self._notes.put('idle', PAUSED if self._motion.paused else ENDED)
        return None

    def refuse(self, reason: Reason) -> Reason:
        """Note why a chunk cannot be used, and return it; the chunk before is played on."""
        reason = replace(reason, text=f'chunk refused: {reason.text}')
        self.refused_chunks += 1
        self._notes.put('chunk', reason)
        return reason

    def controller(self, reason: Reason | None) -> None:
        """Take why the controller does not take commands at present, or None."""
        self._notes.put('controller', reason if self._safety.enabled else None)

    def gripper(self, reason: Reason | None) -> None:
        """Take why the gripper does not take commands, or None; the arm moves on."""
        self._notes.put('gripper', reason)

    def beat(self, steady_s: float) -> None:
        """Take a heartbeat of the operator."""
        self._heart.beat(steady_s)

    # ---- what the operator wants

    def enable(self, on: bool, now_s: float, steady_s: float) -> Reason | None:
        """Let commands leave, or begin a dry run; return why not. Nothing old is played."""
        if on:
            refused = self._heart.check(steady_s) or (
                self._safety.why if self._safety.mode is Mode.STOPPED else None
            )
            if refused is not None:
                return refused
        self._change(self._safety.enable(on), now_s)
        for slot in ('chunk', 'gate'):
            self._notes.put(slot, None)
        return None

    def hold(self, now_s: float) -> None:
        """Brake, and hold until `enable(True)`."""
        self._change(self._safety.hold(), now_s)

    def halt(self, now_s: float) -> None:
        """Brake, and stay stopped until `enable(False)`: the stop topic said so."""
        self._change(self._safety.stop(), now_s)

    def pause(self, on: bool, now_s: float) -> Reason | None:
        """Brake and let chunks wait, or go on; return why it cannot go on."""
        self._watch.lose()
        if on:
            self._motion.pause(now_s)
        refused = None if on else self._motion.resume(now_s)
        self._notes.put(
            'idle', PAUSED if on else NO_CHUNK if self._motion.chunk is None else ENDED
        )
        return refused

    def single_step(self, now_s: float) -> Reason | None:
        """Play the next action of a paused chunk; return why not."""
        return NOT_ENABLED if not self._safety.enabled else self._motion.step(now_s)

    def set_speed(self, share: float, now_s: float) -> Reason | None:
        """Play chunks at a share of full speed from now on; return why not.

        Raises:
            ValueError: The share is not allowed.
        """
        self._notes.version += 1
        return self._motion.override(share, now_s)

    def go_to_start(self, now_s: float) -> Reason | None:
        """Ramp to the start pose, until it is reached or the arm is held; return why not."""
        if not self._robot.joints.start:
            return NO_START
        if not self._safety.enabled:
            return NOT_ENABLED
        measured = self._joints.read(now_s)
        if measured is None:
            return self._notes.get('joints')
        share = min(START_SHARE, self._motion.speed)
        refused = self._motion.go_to(self._arm.start, now_s, measured, share)
        if refused is None:
            self._to_start = True
            self._notes.version += 1
        return refused

    def stop(self, now_s: float) -> TrajectoryCommand | None:
        """Forget the path, the chunk and the joints, as when the node is deactivated.

        Returns:
            The planned stop for a controller that plays trajectories, or None.
        """
        brake = self._planned_stop(now_s)
        self._begin_anew(now_s)
        self._joints.clear()
        self._watch.forget()
        self._notes.put('idle', NO_CHUNK)
        return brake

    # ---- what goes out

    def step(self, now_s: float, steady_s: float) -> Step:
        """Return what to send now."""
        stuck = self._clock.check(now_s, steady_s)
        self._notes.put('clock', stuck)
        if stuck is not None:
            self._watch.lose()
            return self._cut(now_s, self._clock.still_s)
        if self._stamps.set_back(now_s):
            self._motion.set_back(now_s, steady_s - self._steady_s)
            self._watch.forget()
            self._output.reset()
            self._now_s = -math.inf
        if now_s <= self._now_s:
            return NOTHING  # ROS time goes in steps, or slower than ticks
        late = steady_s - self._steady_s > GAP_S  # it stood still or went back a little
        self._now_s, self._steady_s = now_s, steady_s
        self._look_at_heart(steady_s, now_s)
        measured = self._joints.read(now_s)
        if measured is None or late:
            self._watch.lose()  # what was done meanwhile cannot be seen
        if measured is None and self.moving and not self._braking:
            self._brake(now_s)
        if 'controller' in self._notes and self.moving:
            return self._cut(now_s)
        return self._play(measured, now_s)

    def _play(self, measured: JointReading | None, now_s: float) -> Step:
        was = self.moving
        setpoint = self._motion.at(now_s)
        if setpoint is None:
            return self._rest(measured, now_s, was)
        if self._safety.mode is Mode.DRY_RUN and not self._moved:  # else it brakes what moved
            return self._rehearse(setpoint, now_s)
        wrong = None
        if measured is not None and not self._braking:
            wrong = self._watch.check(measured, setpoint, now_s)
        if wrong is not None:
            return self._give_up(wrong, now_s)
        tip = None if measured is None else self._watch.tip_of(measured)
        made = self._output.make(setpoint, self._motion.path, measured, tip, now_s)
        if isinstance(made, Reason):
            return self._give_up(made, now_s)
        self._moved = self._moved or made is not None
        self._watch.commanded(setpoint)
        return Step(made, None if self._braking else setpoint.width)

    def _rehearse(self, setpoint: Setpoint, now_s: float) -> Step:
        """Judge what would be sent, in a dry run."""
        made = self._output.make(setpoint, self._motion.path, None, None, now_s)
        if isinstance(made, Reason):
            self._begin_anew(now_s)
            self._notes.put('gate', made)
        return NOTHING

    def _give_up(self, reason: Reason, now_s: float) -> Step:
        """Brake for a reason; where braking is refused as well, stop at once."""
        self._notes.put('gate', reason)
        if reason.code in LATCHING:
            self._safety = self._safety.hold(reason)
            self._notes.version += 1
        if reason.code in LAGGING and self._output.kind in PLACE_KINDS:
            self._watch.behind.begin()
        if self._braking:
            return self._cut(now_s)
        self._brake(now_s)
        return NOTHING

    def _rest(self, measured: JointReading | None, now_s: float, was_moving: bool) -> Step:
        """Nothing is to be played; the next command begins where the arm is."""
        reason = None if measured is None else self._watch.catch_up(measured)
        if reason is not None:
            self._give_up(reason, now_s)
        made = self._output.fade(measured, now_s) if self._moved else None
        if isinstance(made, Reason):
            self._notes.put('gate', made)
            return self._cut(now_s)
        if made is None and (was_moving or self._moved or self._braking or self._to_start):
            self._end_of_path()
        return Step(made)

    def _end_of_path(self) -> None:
        self._output.reset()
        self._watch.restart()
        self._braking = self._to_start = self._moved = False
        self._notes.version += 1

    # ---- parts

    def _blocked(self) -> bool:
        """Whether a chunk would not be played now, for reasons that are known."""
        held = self._safety.mode in (Mode.HELD, Mode.STOPPED) or self._watch.behind.waiting
        known = any(slot in self._notes for slot in ('clock', 'controller'))
        return held or known or self._braking or self._to_start

    def _change(self, safety: Safety, now_s: float) -> None:
        """Enter a mode; what moves brakes, what was only rehearsed is forgotten."""
        if self._moved and self.moving:
            self._brake(now_s)
        elif not self._moved:
            self._begin_anew(now_s)
        self._watch.forget()
        self._safety = safety
        self._notes.put('idle', NO_CHUNK)
        self._notes.version += 1

    def _brake(self, now_s: float) -> None:
        """Come to rest along a planned path."""
        self._motion.stop(now_s)
        self._braking = True
        self._notes.version += 1

    def _cut(self, now_s: float, behind_s: float = 0.0) -> Step:
        """Stop at once; a controller of trajectories has gone on for `behind_s` beyond `now_s`."""
        moved, brake = self._moved, self._planned_stop(now_s + behind_s)
        if moved or self.moving:
            self._begin_anew(now_s)
        return Step(halt=True, brake=brake) if moved else NOTHING

    def _planned_stop(self, now_s: float) -> TrajectoryCommand | None:
        if not self._moved:
            return None
        self._motion.stop(now_s)
        return self._output.planned_stop(self._motion.path, now_s)

    def _begin_anew(self, now_s: float) -> None:
        """Forget the path; keep what the operator set."""
        before = self._motion
        self._motion = Motion(self._arm, output=self._output.kind, blending=self._blending)
        if math.isfinite(now_s):
            self._motion.override(before.speed, now_s)
            if before.paused:
                self._motion.pause(now_s)
        self._end_of_path()

    def _look_at_heart(self, steady_s: float, now_s: float) -> None:
        beating = self._safety.mode in (Mode.ENABLED, Mode.HELD)
        if beating and (missing := self._heart.check(steady_s)) is not None:
            self._change(self._safety.stop(missing), now_s)
