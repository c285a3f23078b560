"""Whether somebody hears the commands: without a listener they are lost, and nothing says so.

A node that has just started has not found the controller yet. What it would send meanwhile never
arrives, and an arm that does not follow stops for good.
"""

from collections.abc import Callable
import math
import time

from worldvla_ros.nodes.bridges.problem import Problem

MATCH_S = 2.0
"""After the publisher has found its last listener, until that one has surely found the publisher.

Listeners are not told apart: a recorder may be found before the controller. One that comes later,
while the arm moves, changes nothing."""
PERIOD_S = 0.05
"""Time between two looks."""


class Listeners:
    """Looks, from time to time, whether a topic has a listener that can be reached."""

    def __init__(
        self, count: Callable[[], int], topic: str, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without a listener.

        Args:
            count: Returns how many subscriptions the publisher has found.
            topic: Name of the topic, for the operator.
            steady: A clock that never stops [s].
        """
        self._count, self._steady = count, steady
        self._looked_s = self._since_s = -math.inf
        self._listeners = 0
        self._reached = False
        self._nobody = Problem(
            'controller_absent',
            f'nobody listens to commands on {topic}',
            'Start the controller, or correct controller.topic in the robot description. '
            f'ros2 topic info {topic} -v  shows who listens.',
            pending=True,
        )
        self._found = Problem(
            'controller_absent',
            f'a listener to commands on {topic} was just found',
            f'Commands are sent after {MATCH_S:g} s.',
            pending=True,
        )

    def problem(self) -> Problem | None:
        """Return that nobody listens, or None."""
        now_s = self._steady()
        if now_s - self._looked_s >= PERIOD_S:
            self._look(now_s)
        if self._reached:
            return None
        return self._found if self._listeners else self._nobody

    def _look(self, now_s: float) -> None:
        self._looked_s, before, self._listeners = now_s, self._listeners, self._count()
        if self._listeners > before:
            self._since_s = now_s
        matched = self._reached or now_s - self._since_s >= MATCH_S
        self._reached = self._listeners > 0 and matched
