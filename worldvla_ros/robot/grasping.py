"""When a gripper gets a new goal: on change only, one at a time, the newest first.

A gripper takes up to a second for a goal, and a policy says its width in every control period. A
goal per period would stall it. So a width is news only where it differs from the last goal by
more than a hysteresis, and has done so for a moment; and while a goal is under way, the next one
waits for its end, or replaces it where it has stalled. Only the newest width waits.

Knows widths [m] and times [s] of one clock. Must not know messages or actions.
"""

from dataclasses import dataclass
import math

HYSTERESIS_M = 0.01
"""A smaller change is no news."""
SETTLED_S = 0.1
"""How long a new width must be wanted before it is a goal [s]."""
STALLED_S = 1.5
"""A goal under way for longer may be replaced [s]."""
RETRY_S = 1.0
"""How long a goal that was not taken waits until it is sent again [s]."""
ROUNDING_S = 1e-9


@dataclass(frozen=True)
class Goal:
    """A width to go to.

    Attributes:
        width: Opening width [m].
        closing: Whether it is narrower than the goal before: something may be grasped.
        replaces: Whether the goal before must be cancelled, because it is still under way.
    """

    width: float
    closing: bool
    replaces: bool


class GripperGoals:
    """Makes goals of the widths that a path says."""

    def __init__(
        self,
        open_width: float,
        *,
        hysteresis_m: float = HYSTERESIS_M,
        settled_s: float = SETTLED_S,
        stalled_s: float = STALLED_S,
    ) -> None:
        """Start with a gripper of which nothing is known.

        Args:
            open_width: Of the open gripper [m]; goals are cut to 0 … open_width.
            hysteresis_m: See `HYSTERESIS_M`.
            settled_s: See `SETTLED_S`.
            stalled_s: See `STALLED_S`.
        """
        self._open_width = open_width
        self._hysteresis_m, self._settled_s, self._stalled_s = hysteresis_m, settled_s, stalled_s
        self._goal: float | None = None
        self._wanted: float | None = None
        self._since_s = 0.0
        self._begun_s: float | None = None
        self._not_before_s = -math.inf

    @property
    def under_way(self) -> bool:
        """Whether a goal was sent and has not ended."""
        return self._begun_s is not None

    def offer(self, width: float, now_s: float) -> Goal | None:
        """Return the goal that is due, which then counts as sent.

        Args:
            width: What the path says [m].
            now_s: Present time [s].
        """
        width = min(max(width, 0.0), self._open_width)
        if self._wanted is None or abs(width - self._wanted) > self._hysteresis_m:
            self._wanted, self._since_s = width, now_s
        if self._goal is not None and abs(width - self._goal) <= self._hysteresis_m:
            return None
        if now_s < self._not_before_s - ROUNDING_S:
            return None
        if now_s - self._since_s < self._settled_s - ROUNDING_S and self._goal is not None:
            return None
        stalled_s = self._stalled_s - ROUNDING_S
        stalled = self._begun_s is not None and now_s - self._begun_s >= stalled_s
        if self._begun_s is not None and not stalled:
            return None
        closing = width < (self._open_width if self._goal is None else self._goal)
        self._goal, self._begun_s = width, now_s
        return Goal(width, closing, replaces=stalled)

    def ended(self) -> None:
        """Take note that the goal under way has ended, well or not."""
        self._begun_s = None

    def failed(self, now_s: float) -> None:
        """Take note that the goal was not taken: the same width is news again in a while."""
        self._goal = self._begun_s = None
        self._not_before_s = now_s + RETRY_S

    def forget(self) -> None:
        """Take note that the wanted width is no longer wanted."""
        self._wanted = None
