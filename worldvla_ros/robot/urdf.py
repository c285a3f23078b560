"""A URDF, vetted: the part of it that one arm needs, rebuilt from checked names and numbers.

The text may come from the network (/robot_description), and what reads it next is C++ that prints,
throws and opens files. So it is parsed here first, without document types or entities; then the
links and joints from the base to the tip and beyond are written anew, with collision shapes that
need no files. Must not know pinocchio. Lengths [m], angles [rad].
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
import os
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from worldvla_ros.config import read_document, shown
from worldvla_ros.errors import RobotError
from worldvla_ros.robot.description import URDF_TOPIC, RobotConfig
from worldvla_ros.robot.urdf_1_2 import along_z, capsule_parts, is_rotation, roll_pitch_yaw
from worldvla_ros.robot.urdf_xml import MAX_BYTES, parsed

MAX_LINKS = 1000
MAX_LENGTH_M = 100.0
"""Of offsets and shapes."""
TURNING = ('revolute', 'continuous')
SLIDING = ('prismatic',)
FREE = ('planar', 'floating')
SHAPES = {'box': {'size': 3}, 'cylinder': {'radius': 1, 'length': 1}, 'sphere': {'radius': 1}}
"""Collision shapes that need no file, and how many numbers each attribute has."""
CAPSULE = 'capsule'
READ_SHAPES = {**SHAPES, CAPSULE: SHAPES['cylinder']}
JOINT = 'joint '
"""Put before the names of joints that are written: a link may have the same name as a joint."""


@dataclass(frozen=True)
class JointLimits:
    """What the URDF says of one joint of the arm; None where it says nothing.

    Attributes:
        minimum: [rad].
        maximum: [rad].
        velocity: [rad/s].
        acceleration: Of speeding up and of slowing down, the smaller one [rad/s²].
        jerk: [rad/s³].
    """

    minimum: float | None = None
    maximum: float | None = None
    velocity: float | None = None
    acceleration: float | None = None
    jerk: float | None = None


@dataclass(frozen=True)
class ArmUrdf:
    """The part of a URDF that belongs to one arm.

    Attributes:
        xml: A URDF of those links; joints are called `JOINT` and their name, those that are not
            the arm's are still movable.
        limits: Of the arm's joints, in the order of the description.
        locked: Position of every other movable joint in it.
        axes: Of the arm's joints, in the order of the description.
        meshes: Links that have collision meshes, which are left out.
        shapes: Links that have other collision shapes.
    """

    xml: str
    limits: tuple[JointLimits, ...]
    locked: Mapping[str, float]
    axes: tuple[tuple[float, ...], ...]
    meshes: tuple[str, ...]
    shapes: tuple[str, ...]


def read_urdf(robot: RobotConfig) -> str:
    """Return the text of the file that a description names.

    Raises:
        RobotError: There is none, it cannot be read, or the URDF comes on a topic.
    """
    if robot.urdf == URDF_TOPIC:
        raise RobotError(
            f'robot {robot.name}: urdf',
            expected='the text of /robot_description',
            got='none yet',
            remedy='Start robot_state_publisher, or name a file in the description.',
        )
    return read_urdf_file(robot.urdf, f'robot {robot.name}: urdf')


def read_urdf_file(path: str, what: str) -> str:
    """Return the text of a URDF.

    Args:
        path: The file.
        what: Where it is named, for messages.

    Raises:
        RobotError: There is none, or it cannot be read.
    """
    if not os.path.isfile(path):
        raise RobotError(
            what,
            expected='a file, relative to the description, or topic',
            got=shown(path),
            remedy='Correct the path of the URDF.',
        )
    return read_document(Path(path), MAX_BYTES, RobotError)


def arm_urdf(text: str, robot: RobotConfig) -> ArmUrdf:
    """Return the part of a URDF that belongs to the arm of a description.

    Raises:
        RobotError: The text is no URDF, or has not the links and joints that the description
            names, or has them in a way that cannot be moved here.
    """
    return _Reader(parsed(text, robot.name), robot).read()


class _Reader:
    """Finds the arm in a parsed URDF and writes it anew."""

    def __init__(self, root: Element, robot: RobotConfig) -> None:
        self._robot = robot
        self._links = self._named(root, 'link')
        self._joints = self._named(root, 'joint')
        self._above: dict[str, str] = {}  # link: the joint that carries it
        self._below: dict[str, list[str]] = {name: [] for name in self._links}
        for name, joint in self._joints.items():
            parent, child = (self._end(joint, end) for end in ('parent', 'child'))
            if child in self._above:
                self._fail(f'link {shown(child)}', 'one joint that carries it', 'two')
            self._above[child] = name
            self._below[parent].append(name)

    def read(self) -> ArmUrdf:
        """Return the arm's part."""
        to_base, to_tip = (
            self._path(name, field)
            for name, field in (
                (self._robot.base_frame, 'base_frame'),
                (self._robot.tip_frame, 'tip_frame'),
            )
        )
        while to_base and to_tip and to_base[0] == to_tip[0]:
            to_base, to_tip = to_base[1:], to_tip[1:]
        self._check_chain(to_base, to_tip)
        root = self._end(self._joints[to_tip[0]], 'parent')  # what both paths begin at
        kept = self._kept(root, {*to_base, *to_tip})
        return self._written(root, kept)

    # ---- where things are

    def _named(self, root: Element, tag: str) -> dict[str, Element]:
        elements = root.findall(tag)
        if len(elements) > MAX_LINKS:
            self._fail(f'{tag}s', f'at most {MAX_LINKS}', len(elements))
        names = [element.get('name', '') for element in elements]
        for name in names:
            if not name or not name.isprintable() or names.count(name) > 1:
                self._fail(f'a {tag}', 'a name of its own', shown(name))
        return dict(zip(names, elements, strict=True))

    def _end(self, joint: Element, end: str) -> str:
        element = joint.find(end)
        link = '' if element is None else element.get('link', '')
        if link not in self._links:
            name = shown(joint.get('name'))
            self._fail(f'joint {name}: {end}', 'a link of the URDF', shown(link))
        return link

    def _path(self, link: str, field: str) -> list[str]:
        """Return the joints from the root of the URDF to a link."""
        if link not in self._links:
            near = ', '.join(list(self._links)[:20])
            self._fail(field, f'a link of the URDF ({near})', shown(link), f'Correct {field}.')
        path: list[str] = []
        while link in self._above:
            joint = self._above[link]
            if joint in path:
                self._fail('joints', 'a tree', f'a circle at joint {shown(joint)}')
            path.append(joint)
            link = self._end(self._joints[joint], 'parent')
        return path[::-1]

    def _kind(self, name: str) -> str:
        kind = self._joints[name].get('type', '')
        if kind not in (*TURNING, *SLIDING, *FREE, 'fixed'):
            self._fail(f'joint {shown(name)}: type', 'a type of URDF', shown(kind))
        return kind

    # ---- whether it can be moved

    def _check_chain(self, to_base: list[str], to_tip: list[str]) -> None:
        robot, names = self._robot, self._robot.joints.names
        for name in names:
            if name not in self._joints:
                known = ', '.join(n for n in self._joints if self._kind(n) != 'fixed')
                self._fail('joints.names', f'joints of the URDF ({known})', shown(name),
                           'Correct joints.names of the robot description.')  # fmt: skip
            if name not in to_tip:
                chain = ', '.join(to_tip)
                self._fail('joints.names', f'joints between {robot.base_frame} and '
                           f'{robot.tip_frame} ({chain})', shown(name),
                           'Correct joints.names, base_frame or tip_frame.')  # fmt: skip
            self._check_movable(name)
        described = {*names, *robot.gripper.names}
        for name in (*to_base, *to_tip):
            if self._kind(name) != 'fixed' and (name not in described or name in to_base):
                self._fail(f'joint {shown(name)} between {robot.base_frame} and '
                           f'{robot.tip_frame}', 'a joint of the description, or fixed',
                           self._kind(name), 'Add it to joints.names, or choose a base_frame '
                           'behind it.')  # fmt: skip

    def _check_movable(self, name: str) -> None:
        kind = self._kind(name)
        if kind not in TURNING:
            self._fail(f'joint {shown(name)}: type', ' or '.join(TURNING), kind,
                       'Only joints that turn are moved here.')  # fmt: skip
        if self._joints[name].find('mimic') is not None:
            self._fail(f'joint {shown(name)}', 'a joint of its own', 'one that mimics another',
                       'Leave it out of joints.names.')  # fmt: skip

    def _kept(self, root: str, chain: set[str]) -> list[str]:
        """Return the joints of the arm's part, from the root down.

        What hangs from the base by joints that are not the arm's (another arm, wheels) is left
        out, as nobody knows where it is; what hangs from the arm (fingers) is kept and locked.
        """
        kept, todo = [], [(root, False)]
        while todo:
            link, moved = todo.pop()
            for name in self._below[link]:
                kind = self._kind(name)
                if name in chain or kind == 'fixed' or (moved and kind not in FREE):
                    kept.append(name)
                    below = moved or name in self._robot.joints.names
                    todo.append((self._end(self._joints[name], 'child'), below))
        return kept

    # ---- what is written

    def _written(self, root: str, kept: list[str]) -> ArmUrdf:
        tree = Element('robot', name='arm')
        ends = [self._end(self._joints[name], 'child') for name in kept]
        meshes: list[str] = []
        shapes: list[str] = []
        for link in (root, *ends):
            made = SubElement(tree, 'link', name=link)
            for collision in self._links[link].findall('collision'):
                (shapes if self._write_shape(made, collision, link) else meshes).append(link)
        for name in kept:
            self._write_joint(tree, name)
        names = self._robot.joints.names
        movable = [name for name in kept if self._kind(name) != 'fixed']
        return ArmUrdf(
            xml=ElementTree.tostring(tree, encoding='unicode'),
            limits=tuple(self._limits(name) for name in names),
            locked={name: self._rest(name) for name in movable if name not in names},
            axes=tuple(self._axis(name) for name in names),
            meshes=tuple(dict.fromkeys(meshes)),
            shapes=tuple(dict.fromkeys(shapes)),
        )

    def _write_joint(self, tree: Element, name: str) -> None:
        joint, kind = self._joints[name], self._kind(name)
        written = 'revolute' if kind == 'continuous' else kind
        made = SubElement(tree, 'joint', name=JOINT + name, type=written)
        for end in ('parent', 'child'):
            SubElement(made, end, link=self._end(joint, end))
        self._write_origin(made, joint, name)
        if kind != 'fixed':
            SubElement(made, 'axis', xyz=_text(self._axis(name)))
            # placeholders: limits are applied by whoever moves the arm
            SubElement(made, 'limit', lower='-1e3', upper='1e3', velocity='1e3', effort='0')

    def _write_shape(self, to: Element, collision: Element, link: str) -> bool:
        """Write a collision shape; return False for one that needs a file."""
        geometry = collision.find('geometry')
        for shape, attributes in READ_SHAPES.items():
            found = None if geometry is None else geometry.find(shape)
            if found is None:
                continue
            sizes = {
                attribute: self._size(found, attribute, count, f'{shape} of link {link}')
                for attribute, count in attributes.items()
            }
            parts = capsule_parts(*sizes['radius'], *sizes['length']) if shape == CAPSULE else ()
            for kind, numbers, along in parts or ((shape, sizes, 0.0),):
                made = SubElement(to, 'collision')
                self._write_origin(made, collision, link, along)
                written = SubElement(SubElement(made, 'geometry'), kind)
                for attribute, values in numbers.items():
                    written.set(attribute, _text(values))
            return True
        return False

    def _size(self, shape: Element, attribute: str, count: int, what: str) -> tuple[float, ...]:
        size = self._numbers(shape, attribute, count, None, what)
        if min(size) <= 0:
            self._fail(shown(what), f'{attribute} > 0', size)
        return size

    def _write_origin(self, to: Element, element: Element, name: str, along: float = 0.0) -> None:
        """Write the origin of an element, moved along its z axis."""
        origin, what = element.find('origin'), f'origin of {name}'
        found = Element('origin') if origin is None else origin
        rpy = self._numbers(found, 'rpy', 3, '0 0 0', what)
        if found.get('quat_xyzw') is not None:
            quaternion = self._numbers(found, 'quat_xyzw', 4, None, what)
            if found.get('rpy') is not None or not is_rotation(quaternion):
                self._fail(what, 'rpy, or quat_xyzw of length 1, not both', dict(found.attrib))
            rpy = roll_pitch_yaw(quaternion)
        xyz = along_z(self._numbers(found, 'xyz', 3, '0 0 0', what), rpy, along)
        SubElement(to, 'origin', xyz=_text(xyz), rpy=_text(rpy))

    def _axis(self, name: str) -> tuple[float, ...]:
        found = self._joints[name].find('axis')
        if found is None:
            return 1.0, 0.0, 0.0
        axis = self._numbers(found, 'xyz', 3, None, f'axis of joint {name}')
        length = math.hypot(*axis)
        if length < 1e-6:
            self._fail(f'axis of joint {shown(name)}', 'a direction', list(axis))
        return tuple(number / length for number in axis)

    def _limits(self, name: str) -> JointLimits:
        found, what = self._joints[name].find('limit'), f'limit of joint {name}'
        turns_freely = self._kind(name) == 'continuous'
        if found is None:
            return JointLimits()

        def number(attribute: str) -> float:
            return self._numbers(found, attribute, 1, '0', what, most=1e6)[0]

        def least(*attributes: str) -> float | None:  # 0 is how some exporters leave it out
            return min(filter(lambda value: value > 0, map(number, attributes)), default=None)

        low, high = number('lower'), number('upper')
        rates = least('velocity'), least('acceleration', 'deceleration'), least('jerk')
        if turns_freely or low == high == 0:
            return JointLimits(None, None, *rates)
        if low >= high:
            self._fail(what, 'lower < upper', f'{low} and {high}')
        return JointLimits(low, high, *rates)

    def _rest(self, name: str) -> float:
        """Return where a joint that is not the arm's is locked: nearest to 0 within its limits."""
        limits = self._limits(name)
        low, high = limits.minimum, limits.maximum
        return 0.0 if low is None or high is None else min(max(0.0, low), high)

    def _numbers(
        self, element: Element, attribute: str, count: int, default: str | None, what: str,
        most: float = MAX_LENGTH_M,
    ) -> tuple[float, ...]:  # fmt: skip
        text = element.get(attribute, default)
        try:
            numbers = tuple(float(word) for word in (text or '').split())
        except ValueError:
            numbers = ()
        if len(numbers) != count or not all(abs(number) <= most for number in numbers):
            expected = f'{count} finite numbers of at most {most:g}' if count > 1 else 'a number'
            self._fail(f'{shown(what)}: {attribute}', expected, shown(text))
        return numbers

    def _fail(self, what: str, expected: str, got: object, remedy: str | None = None) -> NoReturn:
        raise RobotError(
            f'the URDF of robot {self._robot.name}: {what}',
            expected=expected,
            got=got,
            remedy=remedy or 'Correct the URDF.',
        )


def _text(numbers: tuple[float, ...]) -> str:
    return ' '.join(f'{number!r}' for number in numbers)
