"""The text of a URDF with something to see: collision shapes where a link has nothing else.

Knows XML. Must not know kinematics.
"""

from copy import deepcopy
from xml.etree import ElementTree
from xml.etree.ElementTree import SubElement

from worldvla_ros.robot.urdf_xml import parsed

COLOUR = '0.85 0.87 0.9 1'
"""Red, green, blue and opacity of what has no colour of its own."""


def with_visuals(text: str, name: str) -> str:
    """Return the URDF of a robot in which each link that has collision shapes can be seen.

    RViz and Foxglove draw what is `visual`. Links that have that already stay as they are.

    Raises:
        RobotError: The text is no URDF.
    """
    root = parsed(text, name)
    for link in root.findall('link'):
        if link.find('visual') is not None:
            continue
        for collision in link.findall('collision'):
            visual = SubElement(link, 'visual')
            visual.extend(
                deepcopy(part) for part in collision if part.tag in ('origin', 'geometry')
            )
            SubElement(SubElement(visual, 'material', name='shape'), 'color', rgba=COLOUR)
    return ElementTree.tostring(root, encoding='unicode')
