"""Why the arm holds, or an image, a chunk or a command is not used: one type, and all its codes.

Knows words and numbers. Must not know ROS, robots or what is judged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
import math

CODES = {
    # the operator, and what only he can end
    'operator_stop': 'the stop topic said true',
    'heartbeat': "the operator's heartbeat is missing",
    'operator_hold': '~/hold was called',
    'command_not_applied': 'the arm does not do what is commanded',
    'measured_speed': 'the arm moves faster than its limits',
    # what is known of the arm and of time
    'clock': 'ROS time stands still or jumped',
    'joints_missing': 'a joint of the robot description was never heard',
    'joints_old': 'joint states stopped, or clocks differ',
    'joints_invalid': 'joint states that cannot be true',
    'controller_absent': 'nobody listens to the commands, or not yet for sure',
    'servo_halted': 'MoveIt Servo halted the arm',
    'servo_refused': 'MoveIt Servo refused the kind of command',
    'servo_absent': 'MoveIt Servo does not answer',
    'servo_not_ready': 'MoveIt Servo has not answered yet',
    'servo_command_type': 'nobody has told MoveIt Servo what kind of command comes',
    # the gate: commands
    'command_invalid': 'a command with numbers that are no numbers, or for another time',
    'joint_lag': 'a joint is far from where it was commanded',
    'tip_lag': 'the fingertips are far from where they were commanded',
    'measured_workspace': 'the measured fingertips have left the workspace box',
    'self_collision': 'the commanded arm would touch itself',
    'table': 'the commanded arm would touch the table',
    'workspace': 'the commanded fingertips would leave the workspace box',
    'joint_position': 'a joint would leave its range',
    'joint_speed': 'a joint is commanded too fast',
    'joint_acceleration': 'a joint is commanded with too large a change of speed',
    'linear_speed': 'the fingertips are too fast',
    'angular_speed': 'the hand turns too fast',
    'linear_acceleration': 'the fingertips change speed too quickly',
    'angular_acceleration': 'the hand changes its rate of turn too quickly',
    'gripper': 'the gripper is commanded to a width that it does not have',
    'gripper_absent': 'nobody answers the action of the gripper',
    'gripper_refused': 'the gripper refused its goal',
    # chunks
    'chunk_meaning': 'actions of other names, units or kind than the robot description has',
    'chunk_frame': 'actions in another frame than the base frame',
    'chunk_size': 'a chunk without actions',
    'chunk_values': 'actions that are not finite or out of range',
    'chunk_period': 'a chunk for another time between actions',
    'chunk_duration': 'a chunk that lasts longer than the robot description allows',
    'chunk_late': 'a chunk that is over before it is played, or comes from the future',
    'inference_latency': 'inference took longer than the chunk lasts',
    'chunk_speed': 'a chunk that is too fast even where it is played as slowly as is allowed',
    'chunk_path': 'no motion within the limits follows the chunk',
    # what the operator asked for and cannot have now
    'not_enabled': 'motion was asked for in a dry run or a hold',
    'moving': 'something was asked for that needs an arm at rest',
    'no_step': 'a single step was asked for without a pause or without a chunk',
    'no_start': 'the robot description has no start pose',
    'going_to_start': 'the arm is on its way to the start pose',
    # images
    'image_age': 'an image that is too old, or from the future',
    'image_size': 'an image of another size than the robot description has',
    'camera_skew': 'images of one instant that are too far apart',
    'frozen_camera': 'new stamps, same pixels, while joints moved',
    # nothing is wrong
    'paused': '~/pause was called',
    'chunk_ended': 'the last chunk was played and no newer one came',
    'no_chunk': 'no chunk came yet',
}
"""Every code and what it means, the most important first."""

_IMPORTANCE = {code: place for place, code in enumerate(CODES)}
QUIET = frozenset({'operator_hold', 'going_to_start', 'paused', 'no_chunk'})
"""What the operator did himself, or waits for: no reason to warn him."""


@dataclass(frozen=True)
class Reason:
    """Why something is not used or not done, for the operator and for programs.

    Attributes:
        code: One of `CODES`.
        text: What was found and what is allowed, naming the parameter or field that says so; no
            full stop.
        remedy: What the operator can do, as sentences.
        value: What was found, NaN where it is not one number.
        limit: What is allowed, NaN where it is not one number.
        unit: Of value and limit: m, m/s, m/s^2, rad, …, s, px or 1; empty without numbers.
        stamp_s: Stamp of the thing refused [s]; 0 where it has none.
    """

    code: str
    text: str
    remedy: str
    value: float = math.nan
    limit: float = math.nan
    unit: str = ''
    stamp_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a code that no table explains.

        Raises:
            ValueError: The code is not in `CODES`.
        """
        if self.code not in CODES:
            raise ValueError(f'reason with unknown code {self.code!r}: add it to CODES')

    def __str__(self) -> str:
        """Return what was found, the limit and the remedy."""
        return f'{self.text}. {self.remedy}'

    @property
    def quiet(self) -> bool:
        """Whether it is nothing to warn about."""
        return self.code in QUIET

    def at(self, stamp_s: float) -> 'Reason':
        """Return the same reason, found at another time [s]."""
        return replace(self, stamp_s=stamp_s)


def refusal(code: str, found: str, allowed: str, stamp_s: float, remedy: str) -> Reason:
    """Return a reason without numbers.

    Args:
        code: One of `CODES`.
        found: What was found.
        allowed: What is allowed.
        stamp_s: Stamp of the thing refused [s].
        remedy: What the operator can do.
    """
    return Reason(code, f'{found} ({allowed})', remedy, stamp_s=stamp_s)


def by_importance(reasons: Iterable[Reason | None]) -> list[Reason]:
    """Return those that are there, the most important first, one for each code."""
    first: dict[str, Reason] = {}
    for reason in reasons:
        if reason is not None:
            first.setdefault(reason.code, reason)
    return sorted(first.values(), key=lambda reason: _IMPORTANCE[reason.code])
