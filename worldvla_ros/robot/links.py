"""What an arm looks like, link by link: simple shapes, and how joints turn or slide them.

Knows a vetted URDF. Must not know how it is drawn. Lengths [m], angles [rad], quaternions w first.
"""

from dataclasses import dataclass
import math
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from worldvla_ros.robot.quaternions import product, rotated
from worldvla_ros.robot.urdf import JOINT, SHAPES, ArmUrdf


@dataclass(frozen=True)
class Shape:
    """A shape of a link.

    Attributes:
        kind: One of `urdf.SHAPES`.
        size: Edges of a box; radius and length of a cylinder along z; radius of a sphere [m].
        position: Of its middle in the link, float64[3] [m].
        quaternion: Its orientation in the link, float64[4].
    """

    kind: str
    size: tuple[float, ...]
    position: np.ndarray
    quaternion: np.ndarray


@dataclass(frozen=True)
class Link:
    """A link, and the joint that carries it.

    Attributes:
        name: Its name.
        parent: The link that it hangs from; empty for the first one.
        position: Of the link in its parent while its joint is at 0, float64[3] [m].
        quaternion: Its orientation then, float64[4].
        joint: Name of the joint that moves it; empty where none does.
        axis: Of the joint, in the link, float64[3].
        slides: Whether the joint moves along its axis instead of turning about it.
        shapes: What is seen of it.
    """

    name: str
    parent: str
    position: np.ndarray
    quaternion: np.ndarray
    joint: str
    axis: np.ndarray
    slides: bool
    shapes: tuple[Shape, ...]

    def at(self, value: float) -> tuple[np.ndarray, np.ndarray]:
        """Return position and quaternion in the parent with the joint at a value [rad] or [m]."""
        if self.slides:
            return self.position + value * rotated(self.quaternion, self.axis), self.quaternion
        turn = np.append(math.cos(value / 2), math.sin(value / 2) * self.axis)
        return self.position, product(self.quaternion, turn)


def links(part: ArmUrdf) -> list[Link]:
    """Return the links of an arm, each after its parent."""
    root = ElementTree.fromstring(part.xml)
    joints = {_end(joint, 'child'): joint for joint in root.findall('joint')}
    return [_link(link, joints.get(link.get('name', ''))) for link in root.findall('link')]


def _link(link: Element, joint: Element | None) -> Link:
    shapes = tuple(_shape(collision) for collision in link.findall('collision'))
    name = link.get('name', '')
    if joint is None:
        still, level = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
        return Link(name, '', still, level, '', np.array([1.0, 0.0, 0.0]), False, shapes)
    moves = joint.get('type') != 'fixed'
    return Link(
        name,
        _end(joint, 'parent'),
        *_origin(joint),
        joint.get('name', '').removeprefix(JOINT) if moves else '',
        _numbers(joint.find('axis'), 'xyz') if moves else np.array([1.0, 0.0, 0.0]),
        joint.get('type') == 'prismatic',
        shapes,
    )


def _shape(collision: Element) -> Shape:
    geometry = collision.find('geometry')
    assert geometry is not None
    (shape,) = geometry
    size = [number for attribute in SHAPES[shape.tag] for number in _numbers(shape, attribute)]
    return Shape(shape.tag, tuple(size), *_origin(collision))


def _origin(element: Element) -> tuple[np.ndarray, np.ndarray]:
    """Return position and quaternion of an origin: roll, pitch and yaw about fixed axes."""
    origin = element.find('origin')
    roll, pitch, yaw = (_about(axis, a) for axis, a in enumerate(_numbers(origin, 'rpy')))
    return _numbers(origin, 'xyz'), product(yaw, product(pitch, roll))


def _about(axis: int, angle: float) -> np.ndarray:
    turn = np.zeros(4)
    turn[0], turn[1 + axis] = math.cos(angle / 2), math.sin(angle / 2)
    return turn


def _numbers(element: Element | None, attribute: str) -> np.ndarray:
    assert element is not None
    return np.array([float(word) for word in element.get(attribute, '').split()])


def _end(joint: Element, end: str) -> str:
    element = joint.find(end)
    assert element is not None
    return element.get('link', '')
