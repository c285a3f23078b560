"""Grippers behind actions: a goal takes its time, the next one ends it, many stall it.

franka_gripper, gripper_action_controller and parallel_gripper_action_controller take one goal at a
time. Each begins with a moment in which nothing moves, so that a goal per control period never
gets anywhere.
"""

from dataclasses import dataclass

import numpy as np

from worldvla_ros.sim.controllers.parts import Drops

BEGIN_S = 0.15
"""From a goal to the first motion [s]."""
REACHED_M = 0.001
STALLED_S = 0.3
"""Fingers that do not get farther for so long have something between them, or are blocked [s]."""


@dataclass
class Running:
    """A goal under way."""

    number: int
    width: float
    speed: float
    begins_s: float
    grasps: bool = False
    progress_s: float = 0.0


@dataclass(frozen=True)
class Result:
    """How a goal ended: 'reached', 'stalled' or 'replaced'; `success` as the action says."""

    number: int
    outcome: str
    success: bool


class GripperMock:
    """Two fingers under goals; `accept` each, `step` gives the commanded width."""

    def __init__(self, open_width: float, width: float) -> None:
        """Start at rest.

        Args:
            open_width: Widest opening [m].
            width: Opening now [m].
        """
        self._open_width, self._width = open_width, width
        self._command = width
        self._running: Running | None = None
        self._number = 0
        self.results: list[Result] = []
        self.drops = Drops()

    def accept(self, width: float, speed: float, now_s: float, *, grasps: bool = False) -> int:
        """Take a goal, which ends the one under way; returns its number, 0 where it is refused.

        Args:
            width: Where the fingers shall go [m].
            speed: Of the opening [m/s].
            now_s: Present time [s].
            grasps: Whether an object between the fingers is what is wanted.
        """
        fits = 0 <= width <= self._open_width + 1e-9 and 0 < speed < np.inf
        if not fits:
            self.drops.add('goal out of range')
            return 0
        if self._running is not None:
            self._end('replaced', False)
        self._number += 1
        begins_s = now_s + BEGIN_S
        self._running = Running(self._number, width, speed, begins_s, grasps, begins_s)
        return self._number

    def cancel(self) -> None:
        """End the goal under way; the fingers stay."""
        if self._running is not None:
            self._command = self._width
            self._end('replaced', False)

    def step(self, now_s: float, dt: float, measured: float) -> float:
        """Return the width that the fingers are driven to [m].

        Args:
            now_s: Present time [s].
            dt: Time since the last step [s].
            measured: Opening now [m].
        """
        running = self._running
        if running is None or now_s < running.begins_s:
            self._width = measured
            return self._command
        change = np.clip(running.width - self._command, -running.speed * dt, running.speed * dt)
        self._command += float(change)
        if abs(measured - self._width) > 1e-4:
            running.progress_s, self._width = now_s, measured
        if abs(measured - running.width) <= REACHED_M:
            self._end('reached', not running.grasps or running.width > 0)
        elif now_s - running.progress_s > STALLED_S and self._command == running.width:
            self._end('stalled', running.grasps)
        return self._command

    def _end(self, outcome: str, success: bool) -> None:
        assert self._running is not None
        self.results.append(Result(self._running.number, outcome, success))
        self._running = None
