"""Links for drawing: where shapes are, compared with the kinematics of the library."""

from arms import PLANAR, planar, urdf
import numpy as np
import pinocchio as pin
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.links import Link, links
from worldvla_ros.robot.quaternions import product, rotated
from worldvla_ros.robot.urdf import arm_urdf

TURN = np.array([0.36, 0.48, -0.48, 0.64])


def places(arm, values):
    """Return position and quaternion of each link in the first one, by its name."""
    found = {}
    for link in arm.links:
        position, quaternion = link.at(values.get(link.joint, 0.0))
        if link.parent:
            above, turn = found[link.parent]
            position, quaternion = above + rotated(turn, position), product(turn, quaternion)
        found[link.name] = position, quaternion
    return found


@pytest.mark.parametrize('name', ['sim_panda', 'ur5e_jtc', 'fr3_jtc', 'so101'])
def test_the_tip_is_where_kinematics_say(name):
    arm = Arm(load_robot(name))
    joints = np.random.default_rng(3).uniform(arm.minimum, arm.maximum)
    found = places(arm, dict(zip(arm.names, joints, strict=True)))
    base, turn = found[arm.robot.base_frame]
    tip, tip_turn = found[arm.robot.tip_frame]
    back = turn * [1, -1, -1, -1]
    pose = arm.pose(joints)
    np.testing.assert_allclose(rotated(back, tip - base), pose[:3, 3], atol=1e-9)
    w, x, y, z = product(back, tip_turn)
    np.testing.assert_allclose(pin.Quaternion(w, x, y, z).matrix(), pose[:3, :3], atol=1e-9)


def test_parents_come_first_and_every_joint_once():
    arm = Arm(load_robot('sim_panda'))
    seen = set()
    for link in arm.links:
        assert link.parent in seen or not seen
        seen.add(link.name)
    joints = [link.joint for link in arm.links if link.joint]
    assert joints == [*arm.names, 'panda_finger_joint1', 'panda_finger_joint2']
    assert [link.name for link in arm.links if link.slides] == [
        'panda_leftfinger', 'panda_rightfinger',
    ]  # fmt: skip


def test_shapes_are_those_of_the_urdf():
    robot = planar()
    found = {link.name: link for link in links(arm_urdf(urdf(*PLANAR), robot))}
    (ball,) = found['one'].shapes
    assert ball.kind == 'sphere'
    assert len(ball.size) == 1
    panda = Arm(load_robot('sim_panda')).links
    box, cylinder = panda[0].shapes[0], panda[1].shapes[0]
    assert (box.kind, box.size) == ('box', (0.22, 0.19, 0.14))
    np.testing.assert_allclose(box.position, [-0.04, 0, 0.07])
    assert (cylinder.kind, cylinder.size) == ('cylinder', (0.06, 0.2))
    lying = panda[1].shapes[1]
    np.testing.assert_allclose(rotated(lying.quaternion, [0, 0, 1]), [0, -1, 0], atol=1e-8)


def test_a_joint_turns_or_slides_its_link():
    still, axis = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0])
    turning = Link('b', 'a', still, TURN, 'q', axis, False, ())
    position, quaternion = turning.at(np.pi / 2)
    np.testing.assert_allclose(position, still)
    np.testing.assert_allclose(
        rotated(quaternion, [1, 0, 0]), rotated(TURN, [0, 1, 0]), atol=1e-12
    )
    sliding = Link('b', 'a', still, TURN, 'q', axis, True, ())
    position, quaternion = sliding.at(0.5)
    np.testing.assert_allclose(position, still + 0.5 * rotated(TURN, [0, 0, 1]))
    np.testing.assert_allclose(quaternion, TURN)
