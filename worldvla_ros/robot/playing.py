"""A path and the part of a chunk that it plays; how such a path is found.

Knows how actions become waypoints, and what to do where a path is too fast. Must not know how
chunks follow one another. Times [s] of one clock.
"""

from dataclasses import dataclass
from functools import cached_property
import math

import numpy as np

from worldvla_ros.robot.commands import gripper_width
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.line import WHOLE, Source
from worldvla_ros.robot.path import Path, State
from worldvla_ros.robot.places import Pace, Place, Way
from worldvla_ros.robot.planner import MotionLimits, PlanError, go_to, plan
from worldvla_ros.robot.played import Interval
from worldvla_ros.robot.reasons import Reason, refusal
from worldvla_ros.robot.spaces import Space
from worldvla_ros.robot.tip import TipState

HORIZON_S = 3.0
"""How far ahead a path follows actions, at most; it is planned anew before that ends."""
WAYPOINT_S = 0.2
"""The longest time between waypoints, where actions are played very slowly."""
TRIES = 6
"""How often a path is planned anew because the tip is too fast on it or leaves the workspace."""
FURTHER = 2.0
"""How much beyond max_slowdown a chunk whose actions are slow enough may be slowed, where joints
near a singular pose, or the path on its way round corners, are too fast."""
SLOWER = 1.25
"""By how much slower it is then played, where it leaves the workspace."""
A_LITTLE_SLOWER = 1.06
"""The least where the tip is too fast: a slower path has finer knots and rounds corners less, so
that between its waypoints it is faster than the factor says."""


@dataclass(frozen=True)
class Setpoint:
    """Where the arm should be at an instant, and how it should move.

    Attributes:
        joints: Of the joints; None where the path is one of the tip.
        width: Opening width of the gripper [m].
        progress: Actions done of the chunk that is played; not a number where none is. In a pause
            a newer one may wait.
        place: Where the path is, in its own coordinates.
        space: Knows what these mean.
    """

    joints: State | None
    width: float
    progress: float
    place: Place
    space: Space

    @cached_property
    def tip(self) -> TipState:
        """The tip."""
        return self.space.tip(self.place)


@dataclass(frozen=True)
class Playing:
    """A path, and the part of a chunk that it plays.

    Attributes:
        path: In the coordinates of its space.
        anchor: Of a path of the tip.
        limits: That it keeps to.
        width: Opening width of the gripper before any action says otherwise [m].
        source: The newest chunk and its progress at the start, or None.
        way: Where it leads, or None.
        last: Progress at which the path ends.
        step_s: Time for each action [s].
        slowdown: Part of that which keeps speeds within limits.
    """

    path: Path
    anchor: np.ndarray | None
    limits: MotionLimits
    width: float
    source: Source | None = None
    way: Way | None = None
    last: float = 0.0
    step_s: float = 1.0
    slowdown: float = 1.0

    @property
    def played_s(self) -> float:
        """When the last action is done [s]."""
        first = self.last if self.way is None else self.way.line.start
        return self.path.start_s + (self.last - first) * self.step_s

    def progress(self, now_s: float) -> float:
        """Return how many actions of the chunk are done; not a number without a chunk."""
        if self.way is None:
            return math.nan
        since = max(0.0, now_s - self.path.start_s)
        return min(self.way.line.start + since / self.step_s, self.last)

    def place(self, now_s: float) -> Place:
        """Return where the path is."""
        return Place(self.path.at(now_s), self.anchor)

    def interval(self, now_s: float) -> Interval:
        """Return what was played until now."""
        end_s = min(now_s, self.played_s)
        rate = 0.0 if self.source is None else self.source.chunk.dt / self.step_s
        return Interval(self.path.start_s, end_s, rate)

    @property
    def unfinished(self) -> bool:
        """Whether the path ends before the actions do."""
        return self.way is not None and self.last < self.way.line.end - WHOLE

    def width_at(self, robot: RobotConfig, now_s: float) -> float:
        """Return the opening width that the action in progress means [m]."""
        if self.source is None:
            return self.width
        chunk = self.source.chunk
        action = min(math.floor(self.progress(now_s) + WHOLE), math.ceil(self.last) - 1)
        return gripper_width(robot, float(chunk.actions[action, -1] * chunk.scale[-1]))


@dataclass(frozen=True)
class Request:
    """What to play.

    Attributes:
        robot: Says how much slower a chunk may be played.
        space: In which the path is planned.
        source: The newest chunk, and its progress.
        way: Where it leads.
        place: Where the path begins.
        now_s: When it begins [s].
        speed: Speed override, a share.
        width: Opening width of the gripper until now [m].
    """

    robot: RobotConfig
    space: Space
    source: Source
    way: Way
    place: Place
    now_s: float
    speed: float
    width: float


def prepare(request: Request, limits_before: MotionLimits | None) -> Playing | Reason:
    """Return what plays a way, slower where it must be; or why it cannot be played.

    Args:
        request: What to play.
        limits_before: Of the path before, to keep to; None asks the space for some.
    """
    way, place, space, robot = request.way, request.place, request.space, request.robot
    chunk, most, now_s = request.source.chunk, robot.limits.max_slowdown, request.now_s
    if len(way.line.rows) < 2:
        value, remedy = 'a pose that the arm cannot reach', 'Move the arm to where it can.'
        return refusal('chunk_path', value, 'a pose within reach', chunk.stamp_s, remedy)
    asked, needed = space.pace(way, chunk.dt)
    if asked.factor > most * (1 + WHOLE):
        return _too_fast(asked, most, chunk.stamp_s)
    if needed.factor > most * FURTHER:
        return _joints_too_fast(needed, most, chunk.stamp_s)
    pace, share, most = max(1.0, needed.factor), 1.0, most * FURTHER
    for _ in range(TRIES):
        step_s = chunk.dt * pace / request.speed
        wanted = np.abs(way.line.rates()).max(axis=0) / step_s
        limits = limits_before or space.limits(wanted, place, share)
        try:
            path, last = _path(way, place.state, now_s, step_s, limits)
        except PlanError as error:
            remedy = 'The path before is played on; nothing is to be done if it is rare.'
            return refusal('chunk_path', str(error), 'a path', chunk.stamp_s, remedy)
        ratio, reason = space.check(path, chunk.stamp_s)
        if reason is None and ratio <= 1:
            width, source = request.width, request.source
            return Playing(path, place.anchor, limits, width, source, way, last, step_s, pace)
        ratio = max(ratio, SLOWER if reason is not None else A_LITTLE_SLOWER)
        slower = min(most, pace * ratio)
        share, pace = share * min(1.0, slower / pace / ratio), slower
    return reason or _path_too_fast(pace * ratio, robot.limits.max_slowdown, chunk.stamp_s)


def ramp(
    space: Space, joints: np.ndarray, place: Place, now_s: float, share: float, width: float
) -> Playing | Reason:
    """Return a straight line to a joint pose, or why there is none.

    Args:
        space: In which it is planned.
        joints: float[n] [rad].
        place: Where the arm rests.
        now_s: When it begins [s].
        share: How much of the limits is used, in (0, 1].
        width: Opening width of the gripper meanwhile [m].
    """
    start = place.state.positions
    target = space.target(joints, place)
    limits = space.limits(np.abs(target - start) / WAYPOINT_S, place, 1.0)
    path = go_to(start, now_s, target, limits, share)
    ratio, reason = space.check(path, now_s)
    if reason is None and ratio > share:
        path = go_to(start, now_s, target, limits, share * share / ratio)
    return reason or Playing(path, place.anchor, limits, width)


def _too_fast(pace: Pace, most: float, stamp_s: float) -> Reason:
    """Return that actions are too fast by themselves; slower playing would help."""
    found = f'{pace.what} at {pace.speed:.3g} {pace.unit}'
    text = (
        f'a chunk {pace.factor:.2f} times as fast as the arm may be, {found} '
        f'({pace.field} {pace.limit:.3g} {pace.unit}, limits.max_slowdown {most:g})'
    )
    remedy = f'Raise {pace.field} or limits.max_slowdown of the robot description.'
    return Reason('chunk_speed', text, remedy, pace.speed, pace.limit, pace.unit, stamp_s)


def _joints_too_fast(pace: Pace, most: float, stamp_s: float) -> Reason:
    """Return that actions are slow enough, but not what they ask of a joint."""
    text = (
        f'a chunk whose tip is slow enough, but {pace.what} would go {pace.speed:.3g} {pace.unit} '
        f'({pace.field} {pace.limit:.3g} {pace.unit}; up to {most * FURTHER:g} times slower)'
    )
    remedy = 'The arm is near a singular pose: move it away, where slower playing does not help.'
    return Reason('chunk_speed', text, remedy, pace.speed, pace.limit, pace.unit, stamp_s)


def _path_too_fast(factor: float, most: float, stamp_s: float) -> Reason:
    """Return that the tip is too fast between the actions' places, however slowly they come."""
    text = (
        f'a chunk on whose path between its actions the tip goes too fast, unless it is played '
        f'{factor:.2f} times slower (at most {most * FURTHER:g}: twice limits.max_slowdown)'
    )
    remedy = 'Raise limits.linear_speed and limits.angular_speed, or limits.max_slowdown.'
    return Reason('chunk_speed', text, remedy, factor, most * FURTHER, '1', stamp_s)


def _path(
    way: Way, start: State, now_s: float, step_s: float, limits: MotionLimits
) -> tuple[Path, float]:
    """Return the path along a way, `step_s` per action, and the progress at which it ends.

    Raises:
        PlanError: The start cannot be continued within the limits.
    """
    parts = math.ceil(step_s / WAYPOINT_S - WHOLE)
    waypoint_s = step_s / parts
    count = math.ceil((way.line.end - way.line.start) * parts - WHOLE)
    count = max(1, min(count, math.floor(HORIZON_S / waypoint_s)))
    progress = np.minimum(way.line.start + np.arange(1, count + 1) / parts, way.line.end)
    path = plan(start, now_s, way.line.at(progress), waypoint_s, limits)
    return path, float(progress[-1])
