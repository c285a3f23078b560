"""What URDF 1.2 writes in new ways, in the old ones: rotations as quaternions, and capsules.

Knows numbers. Must not know XML. Lengths [m], angles [rad], roll, pitch and yaw about fixed axes.
"""

import math

Numbers = tuple[float, ...]
Part = tuple[str, dict[str, Numbers], float]
UNIT = 1e-3
"""How far the length of a quaternion may be from 1, for one that is written with few digits."""
LOCKED = 1e-12
"""Below this, roll and yaw turn about the same axis, and roll is taken as 0."""


def is_rotation(quaternion: Numbers) -> bool:
    """Whether a quaternion is as long as one of a rotation."""
    return abs(math.hypot(*quaternion) - 1) <= UNIT


def roll_pitch_yaw(quaternion: Numbers) -> Numbers:
    """Return the angles of a quaternion: x, y, z, w → roll, pitch, yaw."""
    length = math.hypot(*quaternion)
    x, y, z, w = (number / length for number in quaternion)
    rise = 2 * (w * y - z * x)
    side, level = 2 * (w * x + y * z), 1 - 2 * (x * x + y * y)
    flat = math.hypot(side, level)
    if flat < LOCKED:
        pitch = math.copysign(math.pi / 2, rise)
        return 0.0, pitch, math.copysign(2.0, -rise) * math.atan2(x, w)
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return math.atan2(side, level), math.atan2(rise, flat), yaw


def along_z(xyz: Numbers, rpy: Numbers, distance: float) -> Numbers:
    """Return the place that lies a distance along the turned z axis."""
    (sr, sp, sy), (cr, cp, cy) = ([f(angle) for angle in rpy] for f in (math.sin, math.cos))
    axis = cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr
    return tuple(place + distance * part for place, part in zip(xyz, axis, strict=True))


def capsule_parts(radius: float, length: float) -> tuple[Part, ...]:
    """Return the shapes of a capsule: kind, sizes, and how far along z each lies from its middle.

    `length` is the cylinder's, without the ends: where a file means it with them, the shape is a
    little too large, which is the safe side.
    """
    ball: dict[str, Numbers] = {'radius': (radius,)}
    return (
        ('cylinder', {**ball, 'length': (length,)}, 0.0),
        ('sphere', ball, length / 2),
        ('sphere', ball, -length / 2),
    )
