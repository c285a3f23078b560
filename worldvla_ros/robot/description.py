"""The description of a robot: joints, kinematics, limits, action names and cameras.

Knows the fields of `config/robots/*.yaml` and checks them. Must not know any middleware or
checkpoint file.
"""

from dataclasses import dataclass
from pathlib import Path

from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import RobotError
from worldvla_ros.package_files import share_folder


@dataclass(frozen=True)
class Joints:
    """The arm's joints: names, position limits [rad], velocity limits [rad/s]."""

    names: tuple[str, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    velocity: tuple[float, ...]


@dataclass(frozen=True)
class Kinematics:
    """Modified Denavit-Hartenberg rows of the joints [m, rad], and the tool on the last one.

    `base` is where the arm stands in the world that a checkpoint's state may refer to [m].
    """

    a: tuple[float, ...]
    d: tuple[float, ...]
    alpha: tuple[float, ...]
    tool_offset: float
    tool_yaw: float
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Gripper:
    """Finger joints, opening width [m], and the gripper action above which it closes.

    `absolute_fingers`: the signs of finger positions do not count, as robosuite opens a gripper to
    (+0.04, -0.04).
    """

    names: tuple[str, ...]
    open_width: float
    close_above: float = 0.0
    absolute_fingers: bool = False


@dataclass(frozen=True)
class ActionMeaning:
    """Names and SI units of the actions that the robot understands, and the range of each.

    `minimum` and `maximum` are of the numbers that checkpoints speak, before they are scaled to SI
    units; [-1, 1] where not given.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the range."""
        for name, default in (('minimum', -1.0), ('maximum', 1.0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (default,) * len(self.names))


@dataclass(frozen=True)
class Limits:
    """What may leave the player: tip speeds [m/s, rad/s] and the box that the tip stays in [m]."""

    linear_speed: float
    angular_speed: float
    workspace_minimum: tuple[float, float, float]
    workspace_maximum: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A camera: its name in checkpoints, its topic, and its image size [px]."""

    name: str
    topic: str
    width: int
    height: int


@dataclass(frozen=True)
class RobotConfig:
    """A robot; see `config/robots/sim_panda.yaml` for units and comments."""

    name: str
    base_frame: str
    tip_frame: str
    dry_run: bool
    joints: Joints
    kinematics: Kinematics
    gripper: Gripper
    action: ActionMeaning
    limits: Limits
    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        """Check that lists belong together.

        Raises:
            RobotError: One list of a group is longer than another, or a range is empty.
        """
        joints, kinematics, action = self.joints, self.kinematics, self.action
        count = len(joints.names)
        self._check_lengths('joints', count, joints.minimum, joints.maximum, joints.velocity)
        self._check_lengths('kinematics', count, kinematics.a, kinematics.d, kinematics.alpha)
        self._check_lengths(
            'action', len(action.names), action.units, action.minimum, action.maximum
        )
        if any(a >= b for a, b in zip(action.minimum, action.maximum, strict=True)):
            raise RobotError(
                f'robot {self.name}: action', expected='minimum < maximum', got=action
            )
        limits = self.limits
        low, high = limits.workspace_minimum, limits.workspace_maximum
        ranges = (
            *zip(low, high, strict=True),
            (0.0, limits.linear_speed),
            (0.0, limits.angular_speed),
        )
        if any(a >= b for a, b in ranges):
            raise RobotError(
                f'robot {self.name}: limits', expected='minimum < maximum, speeds > 0', got=limits
            )

    def _check_lengths(self, group: str, count: int, *lists: tuple) -> None:
        if any(len(values) != count for values in lists):
            raise RobotError(
                f'robot {self.name}: {group}',
                expected=f'{count} values in each list',
                got=[len(values) for values in lists],
            )


def robots_folder() -> Path:
    """Return the folder of robot descriptions, in the source tree or installed."""
    return share_folder() / 'config/robots'


def load_robot(name_or_path: str | Path) -> RobotConfig:
    """Load a description by the name of a shipped one, or by path.

    Raises:
        RobotError: No such description, or its lists do not belong together.
        ConfigError: A field is unknown, missing or of a wrong type.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        path = robots_folder() / f'{name_or_path}.yaml'
    if not path.is_file():
        shipped = sorted(p.stem for p in robots_folder().glob('*.yaml'))
        raise RobotError(
            f'no robot description {str(name_or_path)!r}',
            expected=f'one of {", ".join(shipped)}, or the path of a YAML file',
            remedy=f'See {robots_folder() / "sim_panda.yaml"} for an example.',
        )
    return from_mapping(RobotConfig, load_yaml(path), where=str(path))


def check_fits(
    robot: RobotConfig, names: tuple[str, ...], units: tuple[str, ...], cameras: tuple[str, ...]
) -> None:
    """Refuse a checkpoint that speaks other actions, or needs other cameras, than the robot has.

    Raises:
        RobotError: Names the field that differs.
    """
    pairs = {
        'action names': (robot.action.names, names),
        'action units': (robot.action.units, units),
    }
    for field, (expected, got) in pairs.items():
        if expected != got:
            raise RobotError(
                f'the checkpoint does not fit robot {robot.name}: {field}',
                expected=list(expected),
                got=list(got),
                remedy='Use a checkpoint for this robot, or describe the robot that it knows.',
            )
    available = [c.name for c in robot.cameras]
    missing = [c for c in cameras if c not in available]
    if missing:
        raise RobotError(
            f'the checkpoint does not fit robot {robot.name}: cameras',
            expected=list(cameras),
            got=available,
            remedy=f'Add {", ".join(missing)} to the cameras of the robot description.',
        )
