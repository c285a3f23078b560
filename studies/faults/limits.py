"""Whether a command keeps to the limits of the simulated arm, judged from outside.

Knows the numbers of the robot description and the geometry of the arm; shares no code with the
package. Times [s] are those at which messages were sent. A command is judged by the positions of
the joints that its sender may have known: all those of the last `KNOWN_S`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

KNOWN_S = 0.35
"""The oldest joint state that may be acted on is 0.3 s old (max_joint_age); and its way."""
JITTER_S = 0.05
"""Between working out a command and sending it, on a loaded machine."""
ROUNDING = 1e-3
PERIOD_S = 0.05
PAUSE_S = 0.25
"""After this long without a command the next one begins anew where the arm is."""
MOVING_TWIST = 1e-3
MOVING_RAD = 2e-3
# Franka FCI documentation, "Denavit-Hartenberg parameters" (Craig) and "Limits for Panda"; the
# tool is the hand, turned by -45 degrees, up to between the fingertips
DH_A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
DH_D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
DH_ALPHA = (0.0, -1.5707963268, 1.5707963268, 1.5707963268, -1.5707963268, 1.5707963268,
            1.5707963268)  # fmt: skip
TOOL_M, TOOL_RAD = 0.2104, -0.7853981634
JOINT_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
JOINT_SPEED = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
WIDTH_M = 0.08


def pose(joints: Sequence[float]) -> np.ndarray:
    """Return the tip of the Panda in the base: float[7] → float[4, 4]."""
    found = np.eye(4)
    for a, d, alpha, theta in zip(DH_A, DH_D, DH_ALPHA, joints, strict=True):
        found = found @ _row(a, d, alpha, theta)
    return np.asarray(found @ _row(0.0, TOOL_M, 0.0, TOOL_RAD))


def _row(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
    return np.array([
        [ct, -st, 0, a],
        [st * ca, ct * ca, -sa, -d * sa],
        [st * sa, ct * sa, ca, d * ca],
        [0, 0, 0, 1],
    ])  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Numbers of a robot description."""

    linear_speed: float
    angular_speed: float
    low: np.ndarray
    high: np.ndarray
    joint_lag: float
    base_frame: str
    names: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> 'Limits':
        """Read them from a YAML file."""
        content = yaml.safe_load(file.read_text())
        found = content['limits']
        return cls(
            found['linear_speed'], found['angular_speed'], np.array(found['workspace_minimum']),
            np.array(found['workspace_maximum']), found['joint_lag'], content['base_frame'],
            tuple(content['joints']['names']),
        )  # fmt: skip

    def outside(self, tip: np.ndarray) -> float:
        """Return how far a tip is outside of the workspace [m]; 0 inside."""
        return float(np.maximum(np.maximum(self.low - tip, tip - self.high), 0).max())


class Judge:
    """Judges commands one after the other; returns what is wrong with each, in words."""

    def __init__(self, limits: Limits) -> None:
        """Start without knowing where the arm is."""
        self.limits = limits
        self.farthest_m = 0.0
        self._joints: deque[tuple[float, np.ndarray, np.ndarray]] = deque(maxlen=64)
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # times [k], positions [k, 7]

    def measured(self, sent_s: float, joints: np.ndarray) -> None:
        """Take the true joints float[7]."""
        tip = pose(joints)[:3, 3]  # once: commands are many more
        self._joints.append((sent_s, joints, tip))
        self.farthest_m = max(self.farthest_m, self.limits.outside(tip))

    def forget(self) -> None:
        """Forget where the arm was: it is put elsewhere."""
        self._joints.clear()
        self._last = None

    def twist(self, sent_s: float, frame: str, linear: np.ndarray, angular: np.ndarray) -> list:
        """Judge a twist, float[3] [m/s] and float[3] [rad/s]."""
        found = []
        if not (np.isfinite(linear).all() and np.isfinite(angular).all()):
            return ['twist that is not finite']
        if frame != self.limits.base_frame:
            found.append(f'twist in frame {frame!r}')
        for name, value, limit in (
            ('linear speed', np.linalg.norm(linear), self.limits.linear_speed),
            ('angular speed', np.linalg.norm(angular), self.limits.angular_speed),
        ):
            if value > limit * (1 + ROUNDING):
                found.append(f'{name} {value:.3f} of at most {limit}')
        tips = [tip for _, tip in self._known(sent_s)]
        if tips and np.linalg.norm(linear) > MOVING_TWIST:
            excess = min(self._leaves(tip, tip + linear * PERIOD_S) for tip in tips)
            if excess > 0.002:
                found.append(f'twist leads {1000 * excess:.1f} mm out of the workspace')
        return found

    def trajectory(
        self, sent_s: float, names: Sequence[str], times_s: np.ndarray, positions: np.ndarray
    ) -> list[str]:
        """Judge a joint trajectory: times float[k] [s] from now, positions float[k, 7] [rad]."""
        if tuple(names) != self.limits.names or positions.shape[1:] != (7,) or not len(times_s):
            return [f'trajectory of {list(names)}, shape {positions.shape}']
        if not (np.isfinite(positions).all() and np.isfinite(times_s).all()):
            return ['trajectory that is not finite']
        known = [joints for joints, _ in self._known(sent_s)]
        found = self._ranges(positions) + self._box(positions, known)
        found += self._speeds(times_s, positions) + self._jump(sent_s + times_s[0], positions[0])
        lags = [np.abs(positions[0] - joints).max() for joints in known]
        reach = max(JOINT_SPEED) * max(times_s[0], 0.0) if len(times_s) > 1 else 0.0
        if lags and min(lags) > self.limits.joint_lag + reach + ROUNDING:
            found.append(f'first point {min(lags):.3f} rad from the measured joints')
        self._last = sent_s + times_s, positions
        return found

    def moves(self, sent_s: float, positions: np.ndarray) -> bool:
        """Whether a trajectory leads away from where the joints are."""
        known = self._known(sent_s)
        start = known[-1][0] if known else positions[0]
        return bool(np.abs(positions - start).max() > MOVING_RAD)

    def width(self, widths: Sequence[float]) -> list[str]:
        """Judge a gripper command [m]."""
        if len(widths) == 1 and -ROUNDING <= widths[0] <= WIDTH_M + ROUNDING:
            return []
        return [f'gripper widths {list(widths)}']

    def _known(self, sent_s: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return joints and tips that may be known to the sender."""
        recent = [(q, tip) for stamp, q, tip in self._joints if sent_s - KNOWN_S <= stamp]
        return recent or [(q, tip) for _, q, tip in list(self._joints)[-1:]]

    def _leaves(self, start: np.ndarray, end: np.ndarray) -> float:
        """Return how much further outside of the workspace a motion leads [m]."""
        before = np.maximum(np.maximum(self.limits.low - start, start - self.limits.high), 0)
        after = np.maximum(np.maximum(self.limits.low - end, end - self.limits.high), 0)
        return float((after - before).max())

    def _ranges(self, positions: np.ndarray) -> list[str]:
        excess = np.maximum(np.array(JOINT_LOW) - positions, positions - np.array(JOINT_HIGH))
        worst = float(excess.max())
        return [f'joint {worst:.3f} rad beyond its limit'] if worst > ROUNDING else []

    def _box(self, positions: np.ndarray, known: list[np.ndarray]) -> list[str]:
        starts = [pose(joints)[:3, 3] for joints in known] or [pose(positions[0])[:3, 3]]
        tips = [pose(joints)[:3, 3] for joints in positions]
        excess = min(max(self._leaves(start, tip) for tip in tips) for start in starts)
        if excess <= 0.002:
            return []
        return [f'trajectory leads {1000 * excess:.1f} mm out of the workspace']

    def _speeds(self, times_s: np.ndarray, positions: np.ndarray) -> list[str]:
        found = []
        for k in range(1, len(times_s)):
            span = times_s[k] - times_s[k - 1]
            found += self._motion(positions[k - 1], positions[k], span, 'within a trajectory')
        return found[:1]

    def _jump(self, at_s: float, start: np.ndarray) -> list[str]:
        """Judge the way from the trajectory before to a new one."""
        if self._last is None or at_s - self._last[0][-1] > PAUSE_S:
            return []
        times, positions = self._last
        before = np.array([np.interp(at_s, times, column) for column in positions.T])
        span = max(0.0, at_s - times[-1]) + JITTER_S
        return self._motion(before, start, span, 'from the trajectory before')

    def _motion(self, start: np.ndarray, end: np.ndarray, span_s: float, where: str) -> list[str]:
        if span_s <= 0:
            return [f'times do not rise {where}']
        share = float((np.abs(end - start) / (np.array(JOINT_SPEED) * span_s)).max())
        speed = float(np.linalg.norm(pose(end)[:3, 3] - pose(start)[:3, 3])) / span_s
        found = []
        if share > 1 + ROUNDING:
            found.append(f'joint at {share:.2f} times its limit of speed {where}')
        if speed > self.limits.linear_speed * (1 + 10 * ROUNDING):
            found.append(f'tip at {speed:.2f} m/s {where}')
        return found
