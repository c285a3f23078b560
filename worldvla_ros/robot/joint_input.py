"""Joint states as the player uses them: where the joints are, or a reason that is noted.

Must not know what moves the arm. Times [s] of the clock that stamps use.
"""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.notes import Notes
from worldvla_ros.robot.state import JointBuffer, JointError, JointReading

NOTED_S = 1.0
"""How long a joint state that was refused stays a reason."""


class JointInput:
    """Takes joint states, tells the newest, and notes what is wrong with them."""

    def __init__(self, arm: Arm, max_age_s: float, notes: Notes) -> None:
        """Start without a joint state.

        Args:
            arm: The arm.
            max_age_s: The oldest joint state that is used [s].
            notes: Where reasons are put, in the slots `joints` and `joint state`.
        """
        self._buffer, self._notes = JointBuffer(arm, max_age_s), notes
        self.refused = 0

    def put(
        self, names: Sequence[str], positions: np.ndarray, stamp_s: float, now_s: float
    ) -> None:
        """Take a joint state; see `JointBuffer.put`.

        Raises:
            JointError: It cannot be used; that is a reason for `NOTED_S`.
        """
        try:
            self._buffer.put(names, positions, stamp_s)
        except JointError as error:
            self.refused += 1
            self._notes.put('joint state', error.reason.at(now_s))
            raise

    def newest(self, now_s: float) -> JointReading:
        """Return where the joints are.

        Raises:
            JointError: They are missing or not fresh.
        """
        return self._buffer.newest(now_s)

    def read(self, now_s: float) -> JointReading | None:
        """Return where the joints are, or None and note why that is not known."""
        noted = self._notes.get('joint state')
        if noted is not None and now_s - noted.stamp_s > NOTED_S:
            self._notes.put('joint state', None)
        try:
            found = self._buffer.newest(now_s)
        except JointError as error:
            self._notes.put('joints', error.reason)
            return None
        self._notes.put('joints', None)
        return found

    def clear(self) -> None:
        """Forget them, as when the node is deactivated."""
        self._buffer.clear()
