"""Frames that others publish: trees of transforms, and whether the tip is where it should be."""

import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.frames import COMPARISONS, FrameTree, TipCheck, Transform, matrix
from worldvla_ros.robot.kinematics import Arm, rotation_matrix

QUARTER = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])  # about z


def moved(x=0.0, y=0.0, z=0.0, turn=(0.0, 0.0, 0.0)):
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    pose[:3, :3] = rotation_matrix(np.array(turn))
    return pose


def tree(*edges):
    made = FrameTree()
    for parent, child, pose, stamp_s in edges:
        made.put(child, Transform(parent, pose, stamp_s))
    return made


def test_a_quaternion_turns_as_its_axis_and_angle_say():
    axis = np.array([0.3, -0.5, 0.81])
    angle = np.linalg.norm(axis)
    quaternion = np.append(axis / angle * np.sin(angle / 2), np.cos(angle / 2))
    made = matrix(np.array([1.0, 2.0, 3.0]), 2.5 * quaternion)  # of any length
    np.testing.assert_allclose(made[:3, :3], rotation_matrix(axis), atol=1e-12)
    assert made[:3, 3].tolist() == [1.0, 2.0, 3.0]
    assert made[3].tolist() == [0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(
        matrix(np.zeros(3), QUARTER)[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


@pytest.mark.parametrize(
    ('translation', 'quaternion'),
    [([0, 0, np.nan], [0, 0, 0, 1]), ([0, 0, 0], [0, 0, 0, 0]), ([0, 0, 0], [0, np.inf, 0, 1])],
)
def test_a_transform_that_is_none_is_refused(translation, quaternion):
    with pytest.raises(ValueError, match='not finite'):
        matrix(np.array(translation, float), np.array(quaternion, float))


def test_a_pose_is_found_down_and_across_the_tree():
    known = tree(
        ('world', 'base', moved(x=1), np.inf), ('base', 'link', moved(z=2), 5.0),
        ('link', 'tip', moved(y=3), 4.0), ('world', 'camera', moved(x=4, turn=(0, 0, np.pi)), 9.0),
    )  # fmt: skip
    tip = known.pose('base', 'tip')
    assert tip.pose[:3, 3].tolist() == [0, 3, 2]
    assert tip.stamp_s == 4.0
    camera = known.pose('base', 'camera')
    assert camera.pose[:3, 3].tolist() == [3, 0, 0]
    back = known.pose('camera', 'base')
    np.testing.assert_allclose(back.pose @ camera.pose, np.eye(4), atol=1e-12)
    assert known.pose('base', 'base').stamp_s == np.inf
    assert known.pose('/base', '/tip').stamp_s == 4.0


def test_a_leading_slash_means_nothing_and_any_other_character_does():
    known = tree(('/base', '/Xlink/', moved(x=1), 1.0), ('Xlink/', 'tip', moved(y=2), 2.0))
    assert known.pose('base', '/tip').pose[:3, 3].tolist() == [1.0, 2.0, 0.0]
    assert known.pose('/base', 'tip').parent == '/base'
    for name in ('/base', 'base', '/Xlink/', 'Xlink/', 'tip'):
        assert known.knows(name), name
    for name in ('link/', 'Xlink', 'tip/', ' tip'):
        assert not known.knows(name), name
        assert known.pose('base', name) is None


def test_frames_that_are_not_joined_have_no_pose():
    known = tree(('base', 'tip', moved(), 1.0), ('odom', 'cart', moved(), 1.0))
    assert known.pose('base', 'cart') is None
    assert known.pose('nowhere', 'tip') is None
    assert known.knows('odom')
    assert known.knows('cart')
    assert not known.knows('nowhere')


def test_a_circle_ends():
    known = tree(('a', 'b', moved(), 1.0), ('b', 'a', moved(), 1.0))
    assert known.pose('a', 'c') is None
    assert known.pose('a', 'b') is not None


def test_a_newer_transform_replaces_the_older():
    known = tree(('base', 'tip', moved(x=1), 1.0), ('base', 'tip', moved(x=2), 2.0))
    assert known.pose('base', 'tip').pose[0, 3] == 2


def judged(pose, seen, stamp_s=1.0, rounds=COMPARISONS):
    check = TipCheck('base', 'tip')
    for _ in range(rounds):
        check.compare(tree(('base', 'tip', seen, 1.0)), pose, stamp_s)
    return check


@pytest.mark.parametrize(
    ('seen', 'agrees'),
    [(moved(x=0.5), True), (moved(x=0.509), True), (moved(x=0.512), False),
     (moved(x=0.5, turn=(0, 0, 0.049)), True), (moved(x=0.5, turn=(0, 0, 0.06)), False)],
)  # fmt: skip
def test_the_tip_agrees_within_a_centimetre_and_three_degrees(seen, agrees):
    check = judged(moved(x=0.5), seen)
    assert check.agrees is agrees
    assert (check.verdict == 'agrees') is agrees


def test_a_disagreement_is_told_in_numbers():
    said = judged(moved(x=0.5), moved(x=0.6, turn=(0, 0, 0.5))).verdict
    assert said.startswith('tip is 100 mm and 0.50 rad from where the kinematics')
    said = judged(moved(x=0.5), moved(x=9.5)).verdict
    assert said.startswith('tip is 9000 mm and 0.00 rad from where the kinematics')


def test_there_is_no_verdict_too_early_or_without_a_common_time():
    assert judged(moved(), moved(), rounds=COMPARISONS - 1).agrees is None
    late = judged(moved(), moved(), stamp_s=1.2)
    assert late.agrees is None
    assert '0.20 s apart' in late.verdict
    check = TipCheck('base', 'tip')
    check.compare(FrameTree(), moved(), 1.0)
    assert check.verdict == 'no transform from base to tip'


def test_what_moved_meanwhile_is_no_disagreement_where_it_agrees_once():
    check = TipCheck('base', 'tip')
    for x in (0.03, 0.02, 0.002, 0.02, 0.03):
        check.compare(tree(('base', 'tip', moved(x=x), 1.0)), moved(), 1.0)
    assert check.agrees


def test_the_shipped_arm_agrees_with_its_own_links():
    arm = Arm(load_robot('sim_panda'))
    pose = arm.pose(arm.start)
    known = tree(('world', arm.robot.base_frame, moved(x=3), np.inf),
                 ('world', arm.robot.tip_frame, moved(x=3) @ pose, 1.0))  # fmt: skip
    check = TipCheck(arm.robot.base_frame, arm.robot.tip_frame)
    for _ in range(COMPARISONS):
        check.compare(known, pose, 1.0)
    assert check.agrees
