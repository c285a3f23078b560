"""Whether an instruction is being followed, by what the nodes that follow it say.

Pure: steady time [s] is an argument. Must not know ROS.
"""

from dataclasses import dataclass, field
import math

SILENT_S = 3.0
"""~/status comes once per second; a node that says nothing for this long is gone."""
ENDING_MODES = ('held', 'stopped')
"""Modes of the player out of which only the operator leads."""


class Voice:
    """What one node says of itself on ~/status."""

    def __init__(self, name: str, now_s: float) -> None:
        """Expect a node's word from now on."""
        self.name = name
        self._text, self._mode = '', ''
        self._well, self._error = True, False
        self._heard_s = self._well_s = now_s

    def expect(self, now_s: float) -> None:
        """Begin to lose patience anew."""
        self._well_s = now_s

    def hear(self, text: str, now_s: float, *, well: bool, error: bool, mode: str = '') -> None:
        """Take the present status.

        Args:
            text: What it says.
            now_s: Steady time [s].
            well: Whether nothing is wrong.
            error: Whether a user must correct something.
            mode: The player's mode, or nothing.
        """
        self._text, self._mode, self._well, self._error = text, mode, well, error
        self._heard_s = now_s
        if well:
            self._well_s = now_s

    def said(self, now_s: float) -> str:
        """Return what it says, or that it says nothing."""
        if now_s - self._heard_s > SILENT_S or not self._text:
            return f'no word on {self.name}/status. Is the node running?'
        return self._text

    def well(self, now_s: float) -> bool:
        """Whether it speaks, and nothing is wrong."""
        return self._well and bool(self._text) and now_s - self._heard_s <= SILENT_S

    def problem(self, now_s: float, patience_s: float) -> str:
        """Return why the instruction cannot be followed, or nothing.

        Args:
            now_s: Steady time [s].
            patience_s: How long something may be wrong [s]; 0: for ever.
        """
        if self._error or self._mode in ENDING_MODES:
            return f'{self.name}: {self._text}'
        if self.well(now_s) or not patience_s or now_s - self._well_s <= patience_s:
            return ''
        return f'{self.name}, for {now_s - self._well_s:.0f} s: {self.said(now_s)}'


@dataclass
class Pursuit:
    """One instruction while it is being followed.

    Attributes:
        text: The sentence.
        began_s: Steady time of its acceptance [s].
        timeout_s: Longest time [s]; 0: no limit.
        chunks: Chunks that answered it so far.
        estimate: Estimate of success, 0 to 1; NaN where nothing estimates it.
    """

    text: str
    began_s: float
    timeout_s: float
    chunks: int = 0
    estimate: float = field(default=math.nan)

    def elapsed(self, now_s: float) -> float:
        """Return the time since acceptance [s]."""
        return now_s - self.began_s

    def late(self, now_s: float) -> bool:
        """Whether its time is up."""
        return 0 < self.timeout_s <= self.elapsed(now_s)


class Echoes:
    """Tells sentences of others from one's own, which come back, and twice where latched."""

    LAST_S = 2.0

    def __init__(self) -> None:
        """Expect nothing."""
        self._said: list[tuple[str, float]] = []

    def say(self, text: str, now_s: float) -> None:
        """Note what is being said."""
        self._said = [(t, s) for t, s in self._said if now_s - s <= self.LAST_S]
        self._said.append((text, now_s))

    def foreign(self, text: str, now_s: float) -> bool:
        """Whether somebody else said it."""
        recent = [t for t, s in self._said if now_s - s <= self.LAST_S]
        return text not in recent and text != (self._said[-1][0] if self._said else None)
