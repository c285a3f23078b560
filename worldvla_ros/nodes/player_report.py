"""What the action player says of itself as messages: ~/state and the path to come.

Must not know nodes.
"""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
import numpy as np
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from worldvla_ros.msg import PlayerState
from worldvla_ros.msg import Reason as ReasonMessage
from worldvla_ros.nodes.convert import time_message
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.view import View

OPEN = (0.1, 0.8, 0.3)
CLOSED = (1.0, 0.5, 0.0)


def reason_message(reason: Reason) -> ReasonMessage:
    """Return a reason as a message."""
    return ReasonMessage(
        stamp=time_message(max(0.0, reason.stamp_s)),
        code=reason.code,
        text=reason.text,
        remedy=reason.remedy,
        value=reason.value,
        limit=reason.limit,
        unit=reason.unit,
    )


def state_message(view: View, output: str, frame: str, stamp: Time) -> PlayerState:
    """Return what the player does as a message; reasons without a stamp are of now."""
    message = PlayerState(
        mode=view.mode.value,
        moving=view.moving,
        output=output,
        chunk_id=view.chunk_id,
        remaining=view.remaining_s,
        slowdown=view.slowdown,
        speed_override=view.speed,
        following_error=view.following_error_m,
        reasons=[reason_message(reason) for reason in view.reasons],
    )
    message.header.stamp, message.header.frame_id = stamp, frame
    for reason in message.reasons:
        if reason.stamp.sec == 0 and reason.stamp.nanosec == 0:
            reason.stamp = stamp
    return message


def planned_points(arm: Arm, joints: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return where the tip goes: float64[k + 1, 3] [m], the measured place first.

    Args:
        arm: The arm.
        joints: Measured positions float[n].
        actions: Actions still to come in SI units, float[k, dim].
    """
    moves, kind = actions[:, :-1], arm.robot.action.kind
    start = arm.pose(joints)[:3, 3]
    if kind == 'cartesian_delta':
        return np.vstack([start, start + np.cumsum(moves[:, :3], axis=0)])
    places = moves if kind == 'joint_position' else joints + np.cumsum(moves, axis=0)
    return np.vstack([start, arm.poses(places)[:, :3, 3]])


def path_marker(points: np.ndarray, closing: np.ndarray) -> Marker:
    """Return the way of the tip as a line that fades out: green gripper open, orange closed.

    Args:
        points: float[k + 1, 3] [m].
        closing: Whether the gripper closes on the way to each point but the first, bool[k].
    """
    marker = Marker(ns='planned_path', type=Marker.LINE_STRIP, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = 0.006
    for i, (point, closes) in enumerate(zip(points, [False, *closing], strict=True)):
        marker.points.append(Point(x=point[0], y=point[1], z=point[2]))
        r, g, b = CLOSED if closes else OPEN
        marker.colors.append(ColorRGBA(r=r, g=g, b=b, a=1.0 - 0.7 * i / len(points)))
    return marker
