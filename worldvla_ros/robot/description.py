"""The description of a robot: joints, kinematics, limits, action names and cameras.

Knows the fields of `config/robots/*.yaml` and validates them. Must not know any middleware or
checkpoint file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
import math
from pathlib import Path

from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import RobotError
from worldvla_ros.package_files import share_folder

ACTION_NAMES = ('dx', 'dy', 'dz', 'drx', 'dry', 'drz', 'gripper')
ACTION_UNITS = ('m', 'm', 'm', 'rad', 'rad', 'rad', '1')
"""What this package plays: the tip's displacement and rotation vector in the base frame, then the
gripper. Joint-space actions are not supported."""
ROTATIONS = (0, 90, 180, 270)
SHOWN_CHARACTERS = 80


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
    """What may leave the player.

    Attributes:
        linear_speed: Of the tip [m/s].
        angular_speed: Of the tip [rad/s].
        workspace_minimum: Corner of the box that the tip stays in [m].
        workspace_maximum: Opposite corner [m].
        joint_lag: How far a joint may be from where it was commanded [rad]; beyond, the arm is
            blocked or its controller does not follow.
        chunk_duration: The longest chunk that is played [s].
        max_slowdown: A chunk that is too fast is played up to this many times slower; with 1 it is
            refused.
    """

    linear_speed: float
    angular_speed: float
    workspace_minimum: tuple[float, float, float]
    workspace_maximum: tuple[float, float, float]
    joint_lag: float = 0.3
    chunk_duration: float = 2.0
    max_slowdown: int = 1


@dataclass(frozen=True)
class Camera:
    """A camera: its name in checkpoints, its topic, its image size [px].

    `rotation`: how far its images are turned against the raw ones [degrees]; checkpoints say what
    they were trained on.
    """

    name: str
    topic: str
    width: int
    height: int
    rotation: int = 0


@dataclass(frozen=True)
class RobotConfig:
    """A robot; see `config/robots/sim_panda.yaml` for units and comments."""

    name: str
    base_frame: str
    dry_run: bool
    joints: Joints
    kinematics: Kinematics
    gripper: Gripper
    action: ActionMeaning
    limits: Limits
    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        """Validate every field.

        Raises:
            RobotError: A number is not finite, lists differ in length, a range is empty, a name
                is missing or occurs twice, or the actions are not those that are played here.
        """
        if not 0 < len(self.name) <= SHOWN_CHARACTERS:
            raise RobotError(
                'robot description: name',
                expected=f'1 to {SHOWN_CHARACTERS} characters',
                got=f'{len(self.name)} characters',
            )
        self._check_finite()
        self._check_lists()
        self._check_joints()
        self._check_action()
        self._check_limits()
        self._check_cameras()

    def _require(self, holds: bool, field: str, expected: str, got: object) -> None:
        if not holds:
            raise RobotError(
                f'robot {self.name}: {field}',
                expected=expected,
                got=got,
                remedy=f'Correct {field} of the robot description.',
            )

    def _check_finite(self) -> None:
        for field, number in _numbers(self):
            self._require(math.isfinite(number), field, 'a finite number', number)

    def _check_lists(self) -> None:
        """Check that the lists of a group have one value for each name."""
        joints, kinematics, action = self.joints, self.kinematics, self.action
        groups = {
            'joints': (joints.names, joints.minimum, joints.maximum, joints.velocity),
            'kinematics': (joints.names, kinematics.a, kinematics.d, kinematics.alpha),
            'action': (action.names, action.units, action.minimum, action.maximum),
        }
        for group, (names, *lists) in groups.items():
            lengths = [len(values) for values in lists]
            whole = all(length == len(names) for length in lengths)
            self._require(whole, group, f'{len(names)} values in each list', lengths)

    def _check_joints(self) -> None:
        joints, gripper = self.joints, self.gripper
        self._check_names('joints.names', joints.names)
        self._check_names('gripper.names', (*joints.names, *gripper.names))
        ranges = zip(joints.minimum, joints.maximum, strict=True)
        self._require(all(a < b for a, b in ranges), 'joints', 'minimum < maximum', joints)
        slowest = min(joints.velocity)
        self._require(slowest > 0, 'joints.velocity', 'more than 0 rad/s', slowest)
        width = gripper.open_width
        self._require(width > 0, 'gripper.open_width', 'more than 0 m', width)

    def _check_action(self) -> None:
        action = self.action
        for field, expected, got in (
            ('action.names', ACTION_NAMES, action.names),
            ('action.units', ACTION_UNITS, action.units),
        ):
            self._require(got == expected, field, f'{list(expected)}', list(got))
        ranges = zip(action.minimum, action.maximum, strict=True)
        self._require(all(a < b for a, b in ranges), 'action', 'minimum < maximum', action)

    def _check_limits(self) -> None:
        limits = self.limits
        box = zip(limits.workspace_minimum, limits.workspace_maximum, strict=True)
        positive = (
            limits.linear_speed,
            limits.angular_speed,
            limits.joint_lag,
            limits.chunk_duration,
        )
        sensible = all(a < b for a, b in box) and min(positive) > 0 and limits.max_slowdown >= 1
        expected = 'minimum < maximum, max_slowdown at least 1, all others > 0'
        self._require(sensible, 'limits', expected, limits)

    def _check_cameras(self) -> None:
        cameras = self.cameras
        self._require(len(cameras) > 0, 'cameras', 'at least one camera', 'none')
        self._check_names('cameras', tuple(camera.name for camera in cameras))
        for i, camera in enumerate(cameras):
            size = min(camera.width, camera.height)
            self._require(size > 0, f'cameras[{i}]', 'width and height > 0', camera)
            self._require(bool(camera.topic), f'cameras[{i}].topic', 'a topic', repr(''))
            turned = camera.rotation
            known = turned in ROTATIONS
            self._require(known, f'cameras[{i}].rotation', f'one of {ROTATIONS}', turned)

    def _check_names(self, field: str, names: tuple[str, ...]) -> None:
        good = bool(names) and all(names) and len(set(names)) == len(names)
        self._require(good, field, 'names that are all different', list(names))


def _numbers(value: object, where: str = '') -> Iterator[tuple[str, float]]:
    """Yield every number of a nested description with its place, such as `limits.linear_speed`."""
    if is_dataclass(value):
        for field in fields(value):
            inner = f'{where}.{field.name}' if where else field.name
            yield from _numbers(getattr(value, field.name), inner)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _numbers(item, f'{where}[{i}]')
    elif isinstance(value, float):
        yield where, value


def robots_folder() -> Path:
    """Return the folder of robot descriptions, in the source tree or installed."""
    return share_folder() / 'config/robots'


def load_robot(name_or_path: str | Path) -> RobotConfig:
    """Load a description by the name of a shipped one, or by path.

    Raises:
        RobotError: There is no such description, or one of its fields cannot be used.
        ConfigError: A field is unknown, missing, of a wrong type or not finite.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        path = robots_folder() / f'{name_or_path}.yaml'
    if not _is_file(path):
        shipped = sorted(p.stem for p in robots_folder().glob('*.yaml'))
        raise RobotError(
            f'no robot description {_shown(name_or_path)}',
            expected=f'one of {", ".join(shipped)}, or the path of a YAML file',
            remedy=f'See {robots_folder() / "sim_panda.yaml"} for an example.',
        )
    return from_mapping(RobotConfig, load_yaml(path), where=str(path))


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name too long for the file system is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _shown(name: str | Path) -> str:
    text = str(name)
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + '…')


def check_fits(
    robot: RobotConfig,
    names: tuple[str, ...],
    units: tuple[str, ...],
    cameras: tuple[str, ...],
    rotation: int,
) -> None:
    """Refuse a checkpoint that speaks other actions, or needs other cameras, than the robot has.

    Args:
        robot: The robot.
        names: Action names of the checkpoint.
        units: Its action units.
        cameras: Names of the cameras that it needs.
        rotation: How far the images that it was trained on are turned [degrees].

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
                remedy='Use a checkpoint for this robot, or the description of the robot that it '
                'was trained on.',
            )
    available = {c.name: c for c in robot.cameras}
    missing = [c for c in cameras if c not in available]
    if missing:
        raise RobotError(
            f'the checkpoint does not fit robot {robot.name}: cameras',
            expected=list(cameras),
            got=list(available),
            remedy=f'Add {", ".join(missing)} to the cameras of the robot description.',
        )
    turned = next((name for name in cameras if available[name].rotation != rotation), None)
    if turned is not None:
        raise RobotError(
            f'the checkpoint does not fit robot {robot.name}: rotation of camera {turned}',
            expected=f'images turned by {rotation} degrees, as in training',
            got=f'{available[turned].rotation} degrees',
            remedy='Turn the images in the camera driver (image_rotate, image_flip), then set '
            f'rotation: {rotation} for this camera in the robot description.',
        )
