"""Collisions: poses that are known to touch, and poses that are known not to."""

from dataclasses import replace

from arms import BALL, PLANAR, link, planar, urdf
import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm

TABLE = replace(planar().collision, table_height=-0.3)


def test_a_folded_arm_touches_its_base_and_nothing_else():
    limits = {'minimum': (-3.0, -3.2), 'maximum': (3.0, 3.2), 'velocity': (1.0, 1.0)}
    wide = tuple(part.replace('"-2" upper="2"', '"-4" upper="4"') for part in PLANAR)
    arm = Arm(planar(joints=limits), urdf(*wide))
    assert arm.collisions([0.3, 0.6]) == []
    # the ball half way along the second link is 2 sin(angle / 2) / 2 from the first one's
    far = Arm(planar(joints=limits), urdf(link('base', BALL), link('one'), *wide[2:]))
    for q2, touches in ((np.pi, False), (3.0, False), (0.0, False)):
        assert bool(far.collisions([0.0, q2])) is touches  # 0.5 m from the base at the least
    long = link('two', BALL, '1 0 0')
    reaching = Arm(planar(joints=limits), urdf(link('base', BALL), link('one'), long, *wide[3:]))
    # the end of the second link comes back to the base: 2 cos(q2 / 2) from it
    edge = 2 * np.arccos(0.1)
    assert reaching.collisions([0.0, edge + 0.01]) == [('base', 'two')]
    assert reaching.collisions([0.0, edge - 0.01]) == []
    assert reaching.collisions([1.0, -edge - 0.01]) == [('base', 'two')]


def test_links_that_are_joined_are_not_compared():
    big = '<sphere radius="0.6"/>'
    arm = Arm(planar(), urdf(link('base', big), link('one', big), link('two'), *PLANAR[3:]))
    assert arm.collisions([0.0, 0.0]) == []
    assert arm.ignored == ()


def test_pairs_that_touch_in_the_start_pose_are_left_out_and_named():
    wide = '<sphere radius="0.6"/>'
    parts = (link('base', wide), link('one'), link('two', wide, '0.1 0 0'), *PLANAR[3:])
    assert Arm(planar(start=(0.0, 0.0)), urdf(*parts)).ignored == (('base', 'two'),)
    assert Arm(planar(start=(0.0, 0.0)), urdf(*parts)).collisions([0.0, 2.0]) == []


def test_the_table_is_compared_with_everything_that_moves():
    low = link('two', BALL, '0.5 0 -0.25')
    parts = (link('base', BALL, '0 0 -0.5'), *PLANAR[1:2], low, *PLANAR[3:])
    touching = Arm(planar(collision=TABLE), urdf(*parts))
    assert touching.collisions([0.3, 0.6]) == [('two', 'table')]
    lower = replace(TABLE, table_height=-0.36)
    assert Arm(planar(collision=lower), urdf(*parts)).collisions([0.3, 0.6]) == []


def test_the_table_is_level_in_the_base_frame():
    # a base frame that is turned on its side and moved: its z is the root's x
    from arms import joint

    side = joint('side', 'base', 'wall', '-0.2 0 0', kind='fixed', limit='',
                 rpy='0 1.5707963267948966 0')  # fmt: skip
    text = urdf(*PLANAR, link('wall'), side)
    wall = Arm(planar(base='wall', collision=replace(TABLE, table_height=0.3)), text)
    # the second ball lies at x = cos q1 + 0.5 cos(q1 + q2), the table fills x < 0.1
    assert wall.collisions([0.0, 0.0]) == []
    assert wall.collisions([np.pi / 2, 0.0]) == [('one', 'table'), ('two', 'table')]


def test_nothing_is_looked_for_where_it_is_switched_off():
    off = replace(TABLE, check=False)
    low = link('two', BALL, '0.5 0 -0.5')
    arm = Arm(planar(collision=off), urdf(*PLANAR[:2], low, *PLANAR[3:]))
    assert arm.collisions([0.3, 0.6]) == []


def test_a_link_called_table_is_no_table():
    parts = tuple(part.replace('"two"', '"table"') for part in PLANAR)
    arm = Arm(planar(), urdf(*parts))
    assert arm.collisions([0.3, 0.6]) == []


@pytest.fixture(scope='module')
def panda():
    return Arm(load_robot('panda_servo'))


@pytest.mark.parametrize(
    ('joints', 'first', 'second'),
    [
        # found by searching with these shapes: they pin the shapes, nobody measured a real arm
        ([0, 0.5, 0, -3.0, 0, 2.8, 0.8], 'panda_hand', 'table'),  # reaching down too far
        ([0, 0.9, 0, -3.0, 0, 0.0, 0.8], 'panda_link0', 'panda_link5'),  # elbow folded over it
        ([0, -1.7, 0, -3.0, 0, 0.4, 0.8], 'panda_link1', 'panda_hand'),  # hand in the shoulder
    ],
)
def test_a_panda_that_is_folded_up_touches(panda, joints, first, second):
    pairs = [set(pair) for pair in panda.collisions(joints)]
    assert {first, second} in pairs, panda.collisions(joints)


@pytest.mark.parametrize(
    'joints',
    [
        [0, -0.785, 0, -2.356, 0, 1.571, 0.785],
        [0, 0, 0, -1.571, 0, 1.571, 0.785],
        [1.5, 0.3, -0.5, -2.0, 0.4, 2.2, 0.0],
        [0, 0.4, 0, -1.9, 0, 2.3, 0.785],
    ],
)
def test_a_panda_that_works_touches_nothing(panda, joints):
    assert panda.collisions(joints) == []
