"""The text of a URDF as a tree; it may come from the network, so document types are refused.

Knows XML. Must not know what stands in a URDF.
"""

from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from worldvla_ros.config import shown
from worldvla_ros.errors import RobotError

MAX_BYTES = 4 << 20
XML_REMEDY = 'Give a URDF: `xacro robot.urdf.xacro > robot.urdf` makes one.'


def parsed(text: str, name: str) -> Element:
    """Return the element `robot` of the URDF of a robot.

    Raises:
        RobotError: It is too long, no XML, or something else.
    """
    problem = f'the URDF of robot {name}'
    if len(text) > MAX_BYTES:
        raise RobotError(
            problem, expected=f'at most {MAX_BYTES} characters', got=len(text), remedy=XML_REMEDY
        )
    try:
        parser = ElementTree.XMLParser(target=_NoDocumentType())
        parser.feed(text)
        root: Element = parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        raise RobotError(f'{problem} is not XML: {error}', remedy=XML_REMEDY) from error
    if root.tag != 'robot':
        got = shown(root.tag)
        raise RobotError(problem, expected='the element robot', got=got, remedy=XML_REMEDY)
    return root


class _NoDocumentType(ElementTree.TreeBuilder):
    """Builds a tree, and refuses document types: entities are declared there."""

    def doctype(self, *_: object) -> NoReturn:
        """Refuse it."""
        raise ValueError('a document type, which may declare entities, is not taken here')
