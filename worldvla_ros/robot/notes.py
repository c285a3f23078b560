"""Reasons that hold at present, each in a slot of its own, and the usual ones of the player.

Must not know robots or chunks.
"""

from worldvla_ros.robot.reasons import Reason, by_importance

NO_CHUNK = Reason('no_chunk', 'no action chunk', 'Start the policy and give it an instruction.')
ENDED = Reason('chunk_ended', 'the chunk has ended and no newer one came', 'Check the policy.')
PAUSED = Reason('paused', '~/pause was called', 'Call ~/pause with false to go on.')
TO_START = Reason('going_to_start', 'going to the start pose', 'Wait, or call ~/hold.')
NOT_ENABLED = Reason(
    'not_enabled', 'commands are not sent now', 'Call ~/enable with true, then ask again.'
)
NO_START = Reason(
    'no_start',
    'the robot description has no start pose',
    'Add joints.start to the robot description.',
)


class Notes:
    """What speaks against moving; `version` counts what is news."""

    def __init__(self) -> None:
        """Start without a chunk."""
        self._slots: dict[str, Reason] = {'idle': NO_CHUNK}
        self.version = 0

    def __contains__(self, slot: str) -> bool:
        """Whether there is a reason in a slot."""
        return slot in self._slots

    def get(self, slot: str) -> Reason | None:
        """Return the reason in a slot, or None."""
        return self._slots.get(slot)

    def put(self, slot: str, reason: Reason | None) -> None:
        """Let a reason stand in its slot, or none; only another code is news."""
        if reason is None and slot not in self._slots:
            return
        before = self._slots.pop(slot, None)
        if reason is not None:
            self._slots[slot] = reason
        if (before and before.code) != (reason and reason.code):
            self.version += 1

    def all(self, first: Reason | None = None) -> tuple[Reason, ...]:
        """Return all reasons, the most important first."""
        return tuple(by_importance([first, *self._slots.values()]))
