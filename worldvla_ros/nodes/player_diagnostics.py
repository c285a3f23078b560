"""What the action player says on /diagnostics: guards, chunks, joints, loop, following.

Must not know messages. Runs in the executor's thread.
"""

import math
import threading

from worldvla_ros.nodes.control_loop import ControlLoop
from worldvla_ros.nodes.diagnostics import ERROR, OK, STALE, WARN, Diagnostics, Finding, Rate
from worldvla_ros.robot.player import Player
from worldvla_ros.robot.safety import Mode
from worldvla_ros.robot.view import View


class PlayerDiagnostics:
    """The tasks of a player."""

    def __init__(
        self,
        player: Player,
        loop: ControlLoop,
        chunk_rate: Rate,
        joint_rate: Rate,
        lock: threading.RLock,
    ) -> None:
        """Keep what is asked.

        Args:
            player: Decides.
            loop: Ticks.
            chunk_rate: Of chunks, with their age on arrival.
            joint_rate: Of joint states, with their age on arrival.
            lock: Guards the player.
        """
        self._player, self._loop, self._lock = player, loop, lock
        self._chunk_rate, self._joint_rate = chunk_rate, joint_rate
        self._ticks = 0

    def add_to(self, diagnostics: Diagnostics, rate_hz: float) -> None:
        """Add all tasks.

        Args:
            diagnostics: Where.
            rate_hz: The control rate that is asked for [Hz].
        """
        diagnostics.add('guards', self._guards)
        diagnostics.add('chunks', self._chunks)
        diagnostics.add('joint states', self._joints)
        diagnostics.add('control loop', lambda: self._control(rate_hz))
        diagnostics.add('following', self._following)

    def _view(self) -> View:
        with self._lock:
            return self._player.view()

    def _guards(self) -> Finding:
        view = self._view()
        level = ERROR if view.mode is Mode.STOPPED else WARN if view.warn else OK
        values: dict[str, object] = {
            'mode': view.mode.value,
            'moving': view.moving,
            'speed override': view.speed,
        }
        return Finding(level, view.message, values | {r.code: r.text for r in view.reasons})

    def _chunks(self) -> Finding:
        return self._chunk_rate.finding('chunks', Refused=self._player.refused_chunks)

    def _joints(self) -> Finding:
        found = self._joint_rate.finding('joint states', Refused=self._player.refused_joints)
        wrong = [r for r in self._view().reasons if r.code.startswith('joints_')]
        if wrong and found.level != STALE:
            return Finding(ERROR, str(wrong[0]), found.values)
        return found

    def _control(self, rate_hz: float) -> Finding:
        ticks, self._ticks = self._loop.ticks - self._ticks, self._loop.ticks
        level = OK if ticks >= 0.9 * rate_hz else WARN
        message = 'Desired frequency met' if level == OK else 'Frequency too low.'
        values = {
            'Actual frequency (Hz)': ticks,
            'Target frequency (Hz)': rate_hz,
            'Late ticks since startup': self._loop.late,
        }
        return Finding(level, message, values)

    def _following(self) -> Finding:
        error_m = self._view().following_error_m
        if math.isnan(error_m):
            return Finding(OK, 'no command', {})
        return Finding(OK, f'tip {1000 * error_m:.1f} mm from its command', {'error (m)': error_m})
