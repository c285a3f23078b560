"""A URDF in which every link with a shape can be seen."""

from xml.etree import ElementTree

import pytest

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.urdf import read_urdf
from worldvla_ros.robot.visuals import COLOUR, with_visuals

TEXT = """<robot name="r">
  <link name="bare"/>
  <link name="seen"><visual><geometry><sphere radius="1"/></geometry></visual>
    <collision><geometry><box size="1 1 1"/></geometry></collision></link>
  <link name="shaped">
    <collision name="c"><origin xyz="0 0 1"/><geometry><box size="1 2 3"/></geometry></collision>
    <collision><geometry><cylinder radius="1" length="2"/></geometry></collision></link>
</robot>"""


def test_shapes_are_seen_where_nothing_else_is():
    links = {e.get('name'): e for e in ElementTree.fromstring(with_visuals(TEXT, 'r'))}
    assert links['bare'].find('visual') is None
    assert [v.find('geometry')[0].tag for v in links['seen'].findall('visual')] == ['sphere']
    box, cylinder = links['shaped'].findall('visual')
    assert box.find('origin').attrib == {'xyz': '0 0 1'}
    assert box.find('geometry/box').attrib == {'size': '1 2 3'}
    assert cylinder.find('geometry/cylinder').attrib == {'radius': '1', 'length': '2'}
    assert cylinder.find('material/color').get('rgba') == COLOUR
    assert len(links['shaped'].findall('collision')) == 2


def test_every_link_of_the_simulated_arm_with_a_shape_is_seen():
    text = with_visuals(read_urdf(load_robot('sim_panda')), 'sim_panda')
    for link in ElementTree.fromstring(text).findall('link'):
        assert len(link.findall('visual')) == len(link.findall('collision')), link.get('name')


def test_what_is_no_urdf_is_refused():
    with pytest.raises(RobotError, match='robot mine is not XML'):
        with_visuals('<robot', 'mine')
