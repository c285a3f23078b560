"""What the arm should do at each instant: the present path, and what it plays of which chunk.

    ActionChunk ─ Motion.offer ─ Way (where actions lead) ─ plan ─▶ Path ─ Motion.at ─▶ Setpoint

A chunk answers the observation taken at its stamp. It goes on after as many actions as were played
since then (`played`), from the position, velocity and acceleration that are commanded at that
instant, and ends at rest. Displacements add up on where the actions before lead, which the path
may lag behind a little; at rest they begin where the arm is. A chunk that is faster than the arm
may be is played slower, by the least factor that helps.

Between paths nothing is played. A path that nobody asked for setpoints for a while has not been
sent: the arm is taken to rest where it was last commanded. A clock that was set back empties
everything; what moves, brakes. Must not know ROS, nor who allows motion. Times [s] of one clock,
whichever the caller uses; `now_s` of one call is not before that of another.
"""

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np

from worldvla_ros.errors import RobotError
from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.line import BLENDINGS, WHOLE, Source
from worldvla_ros.robot.path import Path, State, rest
from worldvla_ros.robot.places import MotionArm, Place
from worldvla_ros.robot.planner import MotionLimits, brake
from worldvla_ros.robot.played import Played
from worldvla_ros.robot.playing import Playing, Request, Setpoint, prepare, ramp
from worldvla_ros.robot.reasons import Reason, refusal
from worldvla_ros.robot.spaces import space_of
from worldvla_ros.robot.state import JointReading

BACK_S = 0.02
"""A clock that goes back by less stands still meanwhile; by more, it was set back."""
GAP_S = 0.2
"""After so long without being asked, a path has not been followed."""
AHEAD_S = 1.0
"""How long before the end of a path that stops short of its actions the next is planned [s]."""
AGAIN_S = 0.1
"""After how long it is tried again where there was none [s]."""
SLOWEST = 0.01
"""The least speed override."""


class Motion:
    """The present path; `offer` splices chunks, `at` is what to command. One thread."""

    def __init__(
        self,
        arm: MotionArm,
        *,
        output: str,
        blending: str = 'latest',
        gap_s: float | None = None,
    ) -> None:
        """Start at rest.

        Args:
            arm: The arm.
            output: Kind of controller: the tip is planned for twist and pose, else joints.
            blending: `latest`: the newest chunk counts. `blend`: it takes over from the one before
                within some actions. `ensemble`: all that still last are averaged.
            gap_s: After so long without `at`, a path has not been followed [s]; by default
                `GAP_S`, and never for trajectories, which controllers play by themselves.

        Raises:
            RobotError: The output or blending is unknown, or the output has no meaning for the
                arm's actions.
        """
        if blending not in BLENDINGS:
            known = ', '.join(BLENDINGS)
            raise RobotError('blending', expected=f'one of {known}', got=repr(blending))
        self._robot = arm.robot
        self._space = space_of(arm, output)
        self._blending = blending
        self._plays_on = output == 'trajectory'
        self._gap_s = (math.inf if self._plays_on else GAP_S) if gap_s is None else gap_s
        self._played = Played()
        self._chunks: list[ActionChunk] = []
        self._playing: Playing | None = None
        self._rest: Place | None = None
        self._reference: np.ndarray | None = None
        self._width = math.nan
        self._now_s = self._seen_s = -math.inf
        self._tried_s = -math.inf
        self._share = 1.0
        self._paused = self._stopping = False

    @property
    def path(self) -> Path | None:
        """The present path: of the joints, or of the tip's coordinates; None at rest."""
        return None if self._playing is None else self._playing.path

    @property
    def remaining_s(self) -> float:
        """Time until the arm rests [s]."""
        return 0.0 if self._playing is None else max(0.0, self._playing.path.end_s - self._now_s)

    @property
    def slowdown(self) -> float:
        """How many times slower than it says the chunk is played to keep to speed limits."""
        return 1.0 if self._playing is None else self._playing.slowdown

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk, or None."""
        return self._chunks[-1] if self._chunks else None

    @property
    def paused(self) -> bool:
        """Whether chunks wait for `resume` or `step`."""
        return self._paused

    @property
    def speed(self) -> float:
        """The speed override, a share."""
        return self._share

    @property
    def clipped(self) -> bool:
        """Whether the workspace ends before the actions that are being played do."""
        way = None if self._playing is None else self._playing.way
        return way is not None and way.clipped

    @property
    def actions_left(self) -> np.ndarray:
        """The actions still to come in SI units, float64[k, dim]; [0, 0] without a chunk."""
        if self._playing is None or self._playing.source is None:
            return np.zeros((0, 0))
        chunk = self._playing.source.chunk
        done = math.floor(self._playing.progress(self._now_s) + WHOLE)
        return np.asarray(chunk.actions[done:].astype(np.float64) * chunk.scale)

    def offer(self, chunk: ActionChunk, now_s: float, measured: JointReading) -> Reason | None:
        """Go on with a chunk, or return why not; then the path before is played on.

        A chunk that is older than the present one, or the same, changes nothing.

        Args:
            chunk: As it came, judged (`guards`).
            now_s: Present time [s].
            measured: Where the arm is; counts where a path begins at rest.
        """
        now_s = self._tick(now_s)
        newest = self.chunk
        if newest is not None and _not_newer(chunk, newest):
            return None
        if self._playing is not None and self._playing.source is None and not self._stopping:
            remedy = 'Wait until it has arrived, or stop it.'
            return refusal(
                'going_to_start', 'a chunk during go_to', 'no chunk', chunk.stamp_s, remedy
            )
        done = self._since(chunk.stamp_s) / chunk.dt
        if done > chunk.horizon - WHOLE:
            value, limit = f'{done:.1f} actions are done', f'it has {chunk.horizon}'
            remedy = 'Use a faster policy, or longer chunks.'
            return refusal('chunk_late', value, limit, chunk.stamp_s, remedy)
        chunks = [*self._chunks, chunk]
        if self._paused:
            self._chunks, self._reference = chunks[-1:], None
            self._settle(measured)
            return None
        if self._playing is None:
            self._reference = None
        self._settle(measured)
        return self._splice(chunks, now_s)

    def at(self, now_s: float) -> Setpoint | None:
        """Return what to command, or None at rest with nothing more to play."""
        now_s = self._tick(now_s)
        self._seen_s = now_s
        if self._playing is not None and self._playing.unfinished:
            self._extend(now_s)
        playing = self._playing
        if playing is None:
            return None
        place = playing.place(now_s)
        self._width = playing.width_at(self._robot, now_s)
        joints = None if place.anchor is not None else place.state
        setpoint = Setpoint(joints, self._width, playing.progress(now_s), place, self._space)
        if now_s >= max(playing.path.end_s, playing.played_s):
            self._end(now_s)
        return setpoint

    def stop(self, now_s: float) -> None:
        """Brake and forget all chunks."""
        now_s = self._tick(now_s)
        self._brake(now_s)
        self._chunks.clear()
        self._reference = None

    def pause(self, now_s: float) -> None:
        """Brake; what is left of the chunk waits, and so do new chunks."""
        now_s = self._tick(now_s)
        if not self._paused:
            self._paused = True
            self._brake(now_s)

    def resume(self, now_s: float) -> Reason | None:
        """Go on with what is left of the newest chunk, unless it is out of date by now."""
        now_s = self._tick(now_s)
        self._paused = False
        chunk = self.chunk
        if chunk is None or now_s - chunk.stamp_s > self._robot.limits.chunk_duration:
            self._chunks.clear()
            return None
        return self._splice(self._chunks[-1:], now_s)

    def step(self, now_s: float) -> Reason | None:
        """Play the next action of the newest chunk, then rest; a pause goes on."""
        now_s = self._tick(now_s)
        if not self._paused or not self._chunks:
            value = 'no chunk' if self._paused else 'not paused'
            remedy = 'Pause first, and wait for a chunk.'
            return refusal('no_step', value, 'a chunk in a pause', now_s, remedy)
        return self._splice(self._chunks[-1:], now_s, actions=1)

    def override(self, share: float, now_s: float) -> Reason | None:
        """Play actions at a share of their speed from now on.

        Args:
            share: From `SLOWEST` to 1.
            now_s: Present time [s].

        Raises:
            ValueError: The share is out of range.
        """
        if not SLOWEST <= share <= 1:
            raise ValueError(f'a speed override lies in [{SLOWEST}, 1], not {share}')
        now_s = self._tick(now_s)
        self._share = share
        playing = self._playing
        idle = playing is None or playing.source is None or now_s >= playing.played_s
        if idle or self._paused:
            return None
        return self._splice(self._chunks, now_s)

    def go_to(
        self, joints: np.ndarray, now_s: float, measured: JointReading, share: float
    ) -> Reason | None:
        """Ramp to a joint pose on a straight line; `stop` ends it. Chunks are refused meanwhile.

        Args:
            joints: float[n] [rad].
            now_s: Present time [s].
            measured: Where the arm is.
            share: How much of the limits is used, in (0, 1].
        """
        now_s = self._tick(now_s)
        if self._playing is not None:
            return refusal('moving', 'the arm moves', 'at rest', now_s, 'Stop it first.')
        self._chunks.clear()
        self._settle(measured)
        assert self._rest is not None
        found = ramp(self._space, joints, self._rest, now_s, share, self._width)
        if isinstance(found, Reason):
            return found
        self._begin(found, now_s)
        return None

    def _tick(self, now_s: float) -> float:
        """Take the time, and return the one to use."""
        if now_s < self._now_s - BACK_S:
            self.set_back(now_s)
        self._now_s = max(self._now_s, now_s)
        if self._playing is not None and self._now_s - self._seen_s > self._gap_s:
            self._halt()
        return self._now_s

    def set_back(self, now_s: float, since_s: float = 0.0) -> None:
        """Forget all stamps; brake from where the arm was commanded by now, by the new clock.

        `since_s` [s] have passed since `at` was called, for a controller that plays on by itself.
        """
        playing, seen_s = self._playing, self._seen_s + (since_s if self._plays_on else 0.0)
        self._played.clear()
        self._chunks.clear()
        self._reference = None
        self._now_s = self._seen_s = now_s
        self._tried_s = -math.inf
        if playing is not None:
            self._slow(playing, playing.path.at(seen_s), now_s)

    def _halt(self) -> None:
        """Rest where the arm was last commanded; what came after was not sent."""
        assert self._playing is not None
        self._end(self._seen_s)
        self._chunks.clear()
        self._reference = None

    def _end(self, now_s: float) -> None:
        """Rest where the path is now."""
        playing = self._playing
        assert playing is not None
        place = playing.place(now_s)
        if playing.way is not None:
            self._reference = playing.way.leads(playing.progress(now_s))
        self._played.add(playing.interval(now_s))
        self._rest = replace(place, state=rest(place.state.positions))
        self._playing = None

    def _begin(self, playing: Playing, now_s: float, *, stopping: bool = False) -> None:
        """Replace the path."""
        if self._playing is None:
            self._seen_s = now_s
        else:
            self._played.add(self._playing.interval(now_s))
        self._playing, self._stopping = playing, stopping

    def _brake(self, now_s: float) -> None:
        playing = self._playing
        if playing is None:
            return
        if playing.way is not None:
            self._reference = playing.way.leads(playing.progress(now_s))
        self._slow(playing, playing.path.at(now_s), now_s)

    def _slow(self, playing: Playing, state: State, now_s: float) -> None:
        path = brake(state, now_s, playing.limits)
        stop = Playing(path, playing.anchor, playing.limits, self._width)
        self._begin(stop, now_s, stopping=True)

    def _settle(self, measured: JointReading) -> None:
        """Take note of where the arm is, if it rests, and how wide the gripper was at first."""
        if math.isnan(self._width):
            self._width = measured.width
        if self._playing is None:
            self._rest = self._space.begin(measured.positions, self._rest)

    def _since(self, stamp_s: float) -> float:
        """Return the seconds of actions played since a time [s]."""
        present = 0.0
        if self._playing is not None:
            present = self._playing.interval(self._now_s).since(stamp_s)
        return self._played.since(stamp_s) + present

    def _sources(self, chunks: Sequence[ActionChunk]) -> list[Source]:
        """Return the chunks that still last, and how far each is done."""
        sources = [Source(chunk, self._since(chunk.stamp_s) / chunk.dt) for chunk in chunks]
        return [source for source in sources if source.progress < source.chunk.horizon - WHOLE]

    def _from(self, now_s: float) -> tuple[Place, np.ndarray]:
        """Return where a new path begins, and to where the actions done lead."""
        if self._playing is None:
            assert self._rest is not None
            place, reference = self._rest, self._reference
        else:
            place, reference = self._playing.place(now_s), self._reference
            if self._playing.way is not None:
                reference = self._playing.way.leads(self._playing.progress(now_s))
        return place, self._space.led(reference, place)

    def _extend(self, now_s: float) -> None:
        """Plan further where the path ends before the actions."""
        playing = self._playing
        assert playing is not None
        if now_s > max(playing.played_s - AHEAD_S, self._tried_s + AGAIN_S):
            self._tried_s = now_s
            self._splice(self._chunks, now_s)

    def _splice(
        self, chunks: Sequence[ActionChunk], now_s: float, actions: int | None = None
    ) -> Reason | None:
        """Replace the path by one that plays chunks, or return why not.

        Args:
            chunks: Newest last.
            now_s: Present time [s].
            actions: How many actions are played; all by default.
        """
        sources = self._sources(chunks)
        if not sources:
            return None
        place, reference = self._from(now_s)
        choices: list[tuple[Place, MotionLimits | None]] = [(self._space.anew(place), None)]
        if self._playing is not None and place.anchor is not None:
            # the coordinates and limits of the path before, in which it can be continued
            choices.append((place, self._playing.limits))
        reason = None
        for begin, limits in choices:
            way = self._space.way(sources, reference, begin, self._blending)
            if actions is not None:
                way = replace(way, line=way.line.until(actions))
            request = Request(
                self._robot, self._space, sources[-1], way, begin, now_s, self._share, self._width
            )
            found = prepare(request, limits)
            if isinstance(found, Playing):
                self._begin(found, now_s)
                self._chunks = [source.chunk for source in sources]
                return None
            reason = found
        return reason


def _not_newer(chunk: ActionChunk, newest: ActionChunk) -> bool:
    same = chunk.stamp_s == newest.stamp_s and chunk.chunk_id == newest.chunk_id
    return same or chunk.stamp_s < newest.stamp_s
