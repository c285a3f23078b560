"""The description of a robot: what it is, what it may do, and what commands it.

Knows the fields of `config/robots/*.yaml` and validates them. Must not know any middleware or
checkpoint file, nor what the URDF says: `kinematics.Arm` reads that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
import math
from pathlib import Path

from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import RobotError
from worldvla_ros.package_files import share_folder
from worldvla_ros.robot.schema import (
    ACTION_KINDS,
    CARTESIAN_NAMES,
    CARTESIAN_UNITS,
    CONTROLLER_TOPICS,
    GRIPPER_NAMES,
    GRIPPER_OUTPUTS,
    SPEED_UNITS,
    ActionMeaning,
    Camera,
    Collision,
    Controller,
    Gripper,
    GripperOutput,
    Joints,
    Limits,
)

__all__ = [
    'URDF_TOPIC',
    'ActionMeaning',
    'Camera',
    'Collision',
    'Controller',
    'Gripper',
    'GripperOutput',
    'Joints',
    'Limits',
    'RobotConfig',
    'action_meaning',
    'check_fits',
    'load_robot',
    'robots_folder',
]

URDF_TOPIC = 'topic'
"""Instead of a file: the URDF comes on /robot_description."""
ROTATIONS = (0, 90, 180, 270)
SHOWN_CHARACTERS = 80
LONGEST_PATH = 1024


def action_meaning(kind: str, joints: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names and units that actions of a kind must have.

    Args:
        kind: One of `ACTION_KINDS`.
        joints: Names of the arm's joints.
    """
    if kind == 'cartesian_delta':
        return CARTESIAN_NAMES, CARTESIAN_UNITS
    prefix = 'd_' if kind == 'joint_delta' else ''
    names = tuple(f'{prefix}{name}' for name in joints)
    return (*names, 'gripper'), (*('rad' for _ in joints), '1')


@dataclass(frozen=True)
class RobotConfig:
    """A robot; see `config/robots/sim_panda.yaml` for units and comments.

    Attributes:
        name: Of the robot.
        base_frame: Link of the URDF in whose axes everything is said.
        tip_frame: Link of the URDF whose pose actions, workspace and twists mean.
        dry_run: Whether chunks are judged only until ~/enable is called.
        urdf: File of its URDF, or `topic`: it comes on /robot_description.
        joints: Of the arm.
        gripper: At its end.
        action: What actions mean.
        limits: What may leave the player.
        controller: What takes the commands.
        cameras: What it sees.
        collision: What it must not touch.
        world: Where the base stands in the world that a checkpoint's state may refer to [m].
    """

    name: str
    base_frame: str
    tip_frame: str
    dry_run: bool
    urdf: str
    joints: Joints
    gripper: Gripper
    action: ActionMeaning
    limits: Limits
    controller: Controller
    cameras: tuple[Camera, ...]
    collision: Collision = field(default_factory=Collision)
    world: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Validate every field.

        Raises:
            RobotError: A number is not finite, lists differ in length, a range is empty, a name
                is missing or occurs twice, a kind is unknown, or the actions are not those of
                their kind.
        """
        if not 0 < len(self.name) <= SHOWN_CHARACTERS:
            raise RobotError(
                'robot description: name',
                expected=f'1 to {SHOWN_CHARACTERS} characters',
                got=f'{len(self.name)} characters',
            )
        self._check_finite()
        self._check_lists()
        self._check_frames()
        self._check_joints()
        self._check_gripper()
        self._check_action()
        self._check_limits()
        self._check_controller()
        self._check_cameras()

    def with_gripper(self, kind: str) -> 'RobotConfig':
        """Return the same robot with a gripper that is commanded in another way.

        A topic or action has its usual name then. What has no finger joints and takes no commands
        stays as it is: there is no gripper.

        Args:
            kind: One of `GRIPPER_OUTPUTS`; '' or the description's own changes nothing.

        Raises:
            RobotError: There is no such kind.
        """
        gripper = self.gripper
        absent = not gripper.names and gripper.output.kind == 'none' and kind in GRIPPER_NAMES
        if absent or kind in ('', gripper.output.kind):
            return self
        name = GRIPPER_NAMES.get(kind, '')
        output = replace(gripper.output, kind=kind, name=name, half_width=False)
        return replace(self, gripper=replace(gripper, output=output))

    def _require(self, holds: bool, field: str, expected: str, got: object) -> None:
        if not holds:
            raise RobotError(
                f'robot {self.name}: {field}',
                expected=expected,
                got=got,
                remedy=f'Correct {field} of the robot description.',
            )

    def _check_finite(self) -> None:
        for field_, number in _numbers(self):
            self._require(math.isfinite(number), field_, 'a finite number', number)

    def _check_lists(self) -> None:
        """Check that the lists of a group have one value for each name, or are left out."""
        joints, action = self.joints, self.action
        size, actions = len(joints.names), len(action.names)
        for field_, values, optional in (
            ('joints.acceleration', joints.acceleration, False),
            ('joints.jerk', joints.jerk, False),
            ('joints.minimum', joints.minimum, True),
            ('joints.maximum', joints.maximum, True),
            ('joints.velocity', joints.velocity, True),
            ('joints.start', joints.start, True),
        ):
            whole = len(values) == size or (optional and not values)
            self._require(whole, field_, f'{size} values', len(values))
        for name in ('minimum', 'maximum'):
            count = len(getattr(action, name))
            self._require(count == actions, f'action.{name}', f'{actions} values', count)

    def _check_joints(self) -> None:
        joints = self.joints
        self._check_names('joints.names', joints.names)
        given = bool(joints.minimum) == bool(joints.maximum)
        self._require(given, 'joints', 'minimum and maximum, or neither', 'one of them')
        self._check_ranges('joints', joints.minimum, joints.maximum)
        for name in ('velocity', 'acceleration', 'jerk'):
            least = min(getattr(joints, name), default=1.0)
            self._require(least > 0, f'joints.{name}', 'more than 0', least)
        if joints.start and joints.minimum:
            ranges = zip(joints.minimum, joints.start, joints.maximum, strict=True)
            within = all(low <= start <= high for low, start, high in ranges)
            self._require(within, 'joints.start', 'minimum to maximum', list(joints.start))

    def _check_gripper(self) -> None:
        gripper = self.gripper
        output, width = gripper.output, gripper.open_width
        kinds = ', '.join(GRIPPER_OUTPUTS)
        known = output.kind in GRIPPER_OUTPUTS
        self._require(known, 'gripper.output.kind', f'one of {kinds}', repr(output.kind))
        if gripper.names or output.kind != 'none':
            self._check_names('gripper.names', gripper.names)
            self._check_names('gripper.names', (*self.joints.names, *gripper.names))
        self._require(width > 0, 'gripper.open_width', 'more than 0 m', width)
        one = gripper.close_above is None or gripper.close_below is None
        both = [gripper.close_above, gripper.close_below]
        self._require(one, 'gripper', 'close_above or close_below, not both', both)
        strong = min(output.speed, output.force)
        self._require(strong > 0, 'gripper.output', 'speed and force more than 0', strong)
        named = bool(output.name) or output.kind == 'none'
        self._require(named, 'gripper.output.name', 'a topic or an action', repr(''))
        one = not gripper.angular or len(gripper.names) == 1
        expected = 'one joint where joint_closed and joint_open are given'
        self._require(one, 'gripper.names', expected, list(gripper.names))

    def _check_action(self) -> None:
        action = self.action
        kinds = ', '.join(ACTION_KINDS)
        known = action.kind in ACTION_KINDS
        self._require(known, 'action.kind', f'one of {kinds}', repr(action.kind))
        names, units = action_meaning(action.kind, self.joints.names)
        for field_, expected, got in (
            ('action.names', names, action.names),
            ('action.units', units, action.units),
        ):
            self._require(got == expected, field_, f'{list(expected)}', list(got))
        self._check_ranges('action', action.minimum, action.maximum)

    def _check_limits(self) -> None:
        limits = self.limits
        self._check_ranges('limits', limits.workspace_minimum, limits.workspace_maximum)
        for limit in fields(limits):
            if limit.type is float or limit.type == 'float':
                value = getattr(limits, limit.name)
                self._require(value > 0, f'limits.{limit.name}', 'more than 0', value)
        slowest = limits.max_slowdown
        self._require(slowest >= 1, 'limits.max_slowdown', 'at least 1', slowest)

    def _check_controller(self) -> None:
        controller = self.controller
        for field_, got, known in (
            ('controller.kind', controller.kind, tuple(CONTROLLER_TOPICS)),
            ('controller.units', controller.units, SPEED_UNITS),
        ):
            self._require(got in known, field_, f'one of {", ".join(known)}', repr(got))
        scale = min(controller.linear_scale, controller.angular_scale)
        expected = 'linear_scale and angular_scale more than 0'
        self._require(scale > 0, 'controller', expected, scale)

    def _check_frames(self) -> None:
        for field_, name in (
            ('base_frame', self.base_frame),
            ('tip_frame', self.tip_frame),
            ('urdf', self.urdf),
        ):
            plain = 0 < len(name) <= LONGEST_PATH and name.isprintable()
            self._require(plain, field_, 'a name', _shown(name))
        apart = self.base_frame != self.tip_frame
        self._require(apart, 'tip_frame', 'another link than base_frame', self.tip_frame)

    def _check_ranges(self, group: str, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        sensible = all(a < b for a, b in zip(low, high, strict=True))
        self._require(sensible, group, 'minimum < maximum', [list(low), list(high)])

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

    def _check_names(self, field_: str, names: tuple[str, ...]) -> None:
        good = bool(names) and all(names) and len(set(names)) == len(names)
        self._require(good, field_, 'names that are all different', list(names))


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

    Its `urdf` becomes an absolute path: beside the description, or a shipped one, so that a copy
    of a shipped description works wherever it lies.

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
    robot = from_mapping(RobotConfig, load_yaml(path), where=str(path))
    if robot.urdf == URDF_TOPIC:
        return robot
    beside, shipped_urdf = path.parent / robot.urdf, robots_folder() / robot.urdf
    copied = not _is_file(beside) and _is_file(shipped_urdf)
    return replace(robot, urdf=str((shipped_urdf if copied else beside).resolve()))


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
    for field_, (expected, got) in pairs.items():
        if expected != got:
            raise RobotError(
                f'the checkpoint does not fit robot {robot.name}: {field_}',
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
