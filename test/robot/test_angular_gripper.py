"""A gripper whose one joint is an angle: what its position means, and what cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.schema import CONTROLLER_TOPICS
from worldvla_ros.robot.state import WIDTH_MARGIN, JointBuffer, JointError

ROBOT = load_robot('so101')
GRIPPER = replace(ROBOT.gripper, joint_closed=-0.2, joint_open=1.8, open_width=0.1)
NAMES = [*ROBOT.joints.names, *GRIPPER.names]


def buffer(gripper=GRIPPER):
    return JointBuffer(Arm(replace(ROBOT, gripper=gripper)), 0.3)


def width(angle, gripper=GRIPPER):
    joints = buffer(gripper)
    joints.put(NAMES, np.append(np.array(ROBOT.joints.start), angle), 10.0)
    return joints.newest(10.0).width


@pytest.mark.parametrize(
    ('angle', 'expected'), [(-0.2, 0.0), (0.8, 0.05), (1.8, 0.1), (1.9, 0.1), (-0.3, 0.0)]
)
def test_the_width_is_the_share_of_the_way_from_closed_to_open(angle, expected):
    assert width(angle) == pytest.approx(expected)


@pytest.mark.parametrize(('angle', 'expected'), [(1.8, 0.0), (1.3, 0.025), (-0.2, 0.1)])
def test_a_joint_that_opens_the_other_way_counts_so(angle, expected):
    turned = replace(GRIPPER, joint_closed=1.8, joint_open=-0.2)
    assert width(angle, turned) == pytest.approx(expected)


@pytest.mark.parametrize('turned', [False, True])
def test_an_angle_far_beyond_both_ends_cannot_be_true(turned):
    gripper = replace(GRIPPER, joint_closed=1.8, joint_open=-0.2) if turned else GRIPPER
    slack = WIDTH_MARGIN * 2.0
    for angle in (-0.2 - slack + 1e-6, 1.8 + slack - 1e-6):
        assert 0.0 <= width(angle, gripper) <= 0.1
    for angle in (-0.2 - slack - 1e-6, 1.8 + slack + 1e-6):
        with pytest.raises(JointError) as caught:
            width(angle, gripper)
        assert caught.value.reason.code == 'joints_invalid'
        assert caught.value.reason.unit == 'rad'
        assert 'joint_closed and gripper.joint_open' in str(caught.value)


def test_a_topic_belongs_to_the_described_kind_of_controller():
    controller = replace(ROBOT.controller, kind='position', topic='/mine')
    assert controller.topic_of('position') == '/mine'
    assert controller.topic_of('trajectory') == CONTROLLER_TOPICS['trajectory']
    assert replace(controller, topic='').topic_of('position') == CONTROLLER_TOPICS['position']


@pytest.mark.parametrize(
    ('kind', 'topic', 'other', 'expected'),
    [
        ('twist', 'servo_node/delta_twist_cmds', 'pose', 'servo_node/pose_target_cmds'),
        ('pose', '/a/servo/pose_target_cmds', 'twist', '/a/servo/delta_twist_cmds'),
        ('twist', 'servo_node/delta_twist_cmds', 'position', 'position_commands'),
        ('trajectory', 'arm/joint_trajectory', 'pose', 'pose_target_cmds'),
        ('pose', 'crisp/target_pose', 'twist', 'delta_twist_cmds'),
        ('twist', 'delta_twist_cmds', 'pose', 'pose_target_cmds'),
    ],
)
def test_servo_hears_twists_and_poses_side_by_side(kind, topic, other, expected):
    assert replace(ROBOT.controller, kind=kind, topic=topic).topic_of(other) == expected


def test_actions_lie_between_minus_one_and_one_unless_the_description_says_otherwise():
    action = replace(ROBOT.action, minimum=(), maximum=())
    assert set(action.minimum) == {-1.0}
    assert set(action.maximum) == {1.0}
    assert len(action.minimum) == len(action.maximum) == len(action.names)
