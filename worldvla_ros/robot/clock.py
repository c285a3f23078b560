"""The one rule for a clock that was set back, as when a simulation starts anew or a bag loops.

Stamps a little older than the newest are messages out of order: they keep their place in time and
are no reason to drop anything. A stamp more than `CLOCK_JUMP_S` older means that time began anew:
whoever holds stamped things drops them all. Must not know ROS. Times [s].
"""

import math

CLOCK_JUMP_S = 1.0


class StampClock:
    """The newest stamp of some messages. Belongs to the thread that calls it."""

    def __init__(self) -> None:
        """Start without a stamp."""
        self.newest_s = -math.inf

    def set_back(self, stamp_s: float) -> bool:
        """Take a stamp; return whether the clock was set back, and so the rest must be dropped."""
        if stamp_s < self.newest_s - CLOCK_JUMP_S:
            self.newest_s = stamp_s
            return True
        self.newest_s = max(self.newest_s, stamp_s)
        return False
