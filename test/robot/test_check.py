"""`worldvla robot check`: each inconsistency is named with a remedy, and nothing else is."""

from dataclasses import replace
import json
import re

from arms import BALL, PLANAR, link, planar, urdf
import numpy as np
import pytest

from worldvla_ros.cli.verbs import main
from worldvla_ros.errors import RobotError
from worldvla_ros.robot.check import Finding, check_robot, finding_of, reaches
from worldvla_ros.robot.description import load_robot, robots_folder
from worldvla_ros.robot.kinematics import Arm

PANDA = load_robot('sim_panda')
FLAT = {'workspace_minimum': (0.9, 0.3, -0.1), 'workspace_maximum': (1.7, 1.3, 0.1)}
"""A box around the tip of the planar arm, as flat as it can be."""


def flat(**changes):
    limits = replace(PANDA.limits, **FLAT)
    return planar(limits=changes.pop('limits', limits), **changes)


def found(robot, text=None):
    """Return (field, problem) of each finding, without the reach of the planar arm."""
    return [(f.field, f.problem) for f in check_robot(robot, text) if f.field != 'limits']


def changed(group, **fields):
    return replace(PANDA, **{group: replace(getattr(PANDA, group), **fields)})


def only(robot, text=None):
    findings = [f for f in check_robot(robot, text) if f.field != 'limits']
    assert len(findings) == 1, findings
    assert findings[0].remedy.endswith('.')
    return findings[0]


def test_nothing_is_found_in_what_fits():
    assert found(PANDA) == []
    assert found(flat(), urdf(*PLANAR)) == []


@pytest.mark.parametrize('kind', ['twist', 'pose'])
@pytest.mark.parametrize('action', ['joint_delta', 'joint_position'])
def test_joint_actions_need_a_controller_of_joints(kind, action):
    from worldvla_ros.robot.description import action_meaning

    names, units = action_meaning(action, PANDA.joints.names)
    meaning = replace(PANDA.action, kind=action, names=names, units=units, minimum=(), maximum=())
    controller = replace(PANDA.controller, kind=kind)
    finding = only(replace(PANDA, action=meaning, controller=controller))
    assert finding == Finding(
        'controller.kind',
        f'{kind} moves the tip, but actions are of kind {action}',
        'Choose one of trajectory, position, velocity.',
    )
    for good in ('trajectory', 'position', 'velocity'):
        controller = replace(PANDA.controller, kind=good)
        assert found(replace(PANDA, action=meaning, controller=controller)) == []


@pytest.mark.parametrize(
    ('name', 'speed', 'unit'), [('linear', 0.75, 'm/s'), ('angular', 3.5, 'rad/s')]
)
def test_a_speed_that_the_controller_cuts_off_is_named(name, speed, unit):
    at, above = ({f'{name}_scale': speed * share} for share in (1.0, 0.99))
    assert found(changed('controller', **at)) == []
    assert only(changed('controller', **above)) == Finding(
        f'limits.{name}_speed',
        f'{speed:g} {unit} is more than the controller passes on, '
        f'controller.{name}_scale {speed * 0.99:g} {unit}',
        f'Lower limits.{name}_speed, or raise the scale here and in MoveIt Servo.',
    )
    assert found(changed('controller', kind='trajectory', **above)) == []


def test_positions_only_is_for_trajectories():
    assert only(changed('controller', positions_only=True)) == Finding(
        'controller.positions_only',
        'is for trajectories, but the controller is of kind twist',
        'Remove it, or set controller.kind to trajectory.',
    )
    assert found(changed('controller', positions_only=True, kind='trajectory')) == []


@pytest.mark.parametrize('topic', ['two words', 'a//b', '1st', 'a/', 'ä', 'a-b', '~'])
def test_topics_that_are_no_names_are_found(topic):
    output = replace(PANDA.gripper.output, name=topic)
    cameras = (replace(PANDA.cameras[0], topic=topic), PANDA.cameras[1])
    for field, robot in (
        ('controller.topic', changed('controller', topic=topic)),
        ('gripper.output.name', changed('gripper', output=output)),
        ('cameras[0].topic', replace(PANDA, cameras=cameras)),
    ):
        assert only(robot) == Finding(
            field, f'{topic!r} is no name in ROS', 'Use letters, digits, underscores and slashes.'
        )


@pytest.mark.parametrize('topic', ['a', '/a/b', '~/a', 'a_1/b2', ''])
def test_topics_that_are_names_are_not(topic):
    assert found(changed('controller', topic=topic)) == []


def test_cameras_need_topics_of_their_own_and_enough_pixels():
    front, wrist = PANDA.cameras
    twice = only(replace(PANDA, cameras=(front, replace(wrist, topic=front.topic))))
    assert twice == Finding(
        'cameras[1].topic',
        "wrist and front have the same topic 'image'",
        'Give each camera its own topic.',
    )
    small = only(replace(PANDA, cameras=(replace(front, width=640, height=63), wrist)))
    assert small == Finding(
        'cameras[0]', 'front: 640 × 63 px is less than any model sees', 'Give at least 64 px.'
    )
    assert found(replace(PANDA, cameras=(replace(front, height=64), wrist))) == []


def test_a_table_inside_the_workspace_is_found():
    assert found(changed('collision', table_height=0.005)) == []
    assert only(changed('collision', table_height=0.006)) == Finding(
        'collision.table_height',
        'the table, at 0.006 m, is inside the workspace, which begins at 0.005 m',
        'Raise limits.workspace_minimum, or lower the table.',
    )


def test_what_is_not_looked_at_is_noted():
    assert only(changed('collision', check=False)) == Finding(
        'collision.check',
        'collisions are not looked for, neither with itself nor with a table',
        'Set it to true.',
        problem=False,
    )
    none = replace(PANDA.gripper.output, kind='none')
    assert only(changed('gripper', output=none)) == Finding(
        'gripper.output',
        'the gripper has joints, but is not commanded',
        'Name its output, if it should close.',
        problem=False,
    )
    nameless = replace(none, name='two words')
    assert found(changed('gripper', output=nameless)) == [('gripper.output', False)]
    bare = urdf(*(link(name) for name in ('base', 'one', 'two', 'tip')), *PLANAR[4:])
    assert only(flat(), bare) == Finding(
        'urdf',
        'no link has a primitive collision shape: collisions cannot be found',
        'Add cylinders, spheres or boxes, or set collision.check to false.',
        problem=False,
    )
    meshes = [link(name, f'<mesh filename="{name}.stl"/>') for name in ('one', 'two')]
    assert only(flat(), urdf(PLANAR[0], *meshes, *PLANAR[3:])) == Finding(
        'urdf',
        'collision meshes of one, two are left out',
        'Give primitive shapes to these links, or look out for collisions yourself.',
        problem=False,
    )
    off = replace(planar().collision, check=False)
    assert found(flat(collision=off), bare) == [('collision.check', False)]


def test_pairs_that_touch_in_the_start_pose_are_noted():
    wide = '<sphere radius="0.9"/>'
    text = urdf(link('base', wide), PLANAR[1], link('two', wide, '0.5 0 0'), *PLANAR[3:])
    assert only(flat(), text) == Finding(
        'joints.start',
        'base touches two there: this pair is not looked at any more',
        'Correct the collision shapes of the URDF, if they should not touch.',
        problem=False,
    )


@pytest.mark.parametrize(
    ('field', 'values', 'limit', 'unit'),
    [('minimum', (-1.0, -2.1), '-2', 'rad'), ('maximum', (1.0, 2.1), '2', 'rad'),
     ('velocity', (1.0, 1.6), '1.5', 'rad/s')],
)  # fmt: skip
def test_limits_that_are_looser_than_the_urdfs_are_found(field, values, limit, unit):
    limits = {'minimum': (-2.0, -2.0), 'maximum': (2.0, 2.0), 'velocity': (1.5, 1.5)}
    assert found(flat(joints=limits), urdf(*PLANAR)) == []
    assert only(flat(joints=limits | {field: values}), urdf(*PLANAR)) == Finding(
        f'joints.{field}',
        f'q2: {values[1]:g} {unit} is looser than the URDF allows, {limit} {unit}; '
        "the URDF's holds",
        f'Set it to {limit}, or leave joints.{field} out.',
    )


def test_fingers_that_the_urdf_lacks_are_found():
    robot = flat(gripper=('thumb',))
    findings = check_robot(robot, urdf(*PLANAR))
    assert [f.field for f in findings if f.field != 'limits'] == [
        'gripper.names',
        'gripper.output',
    ]
    assert findings[0] == Finding(
        'gripper.names',
        'thumb is no movable joint of the URDF beyond the arm',
        'Correct gripper.names, or add the gripper to the URDF.',
    )


def test_a_start_pose_beyond_a_limit_of_the_urdf_is_found():
    finding = next(f for f in check_robot(flat(start=(0.3, 2.1)), urdf(*PLANAR)) if f.problem)
    text = 'q2: 2.1 rad is outside its limits -2 to 2'
    assert finding == Finding('joints.start', text, 'Correct the start pose.')


@pytest.mark.parametrize('angle', [-2.0, 2.0])
def test_a_start_pose_at_a_limit_is_none_beyond_it(angle):
    findings = check_robot(flat(start=(0.3, angle)), urdf(*PLANAR))
    assert not [f for f in findings if 'is outside its limits' in f.text]


@pytest.mark.parametrize('corner', ['minimum', 'maximum'])
def test_a_start_pose_outside_the_workspace_is_found(corner):
    moved = dict(FLAT)
    if corner == 'minimum':
        moved['workspace_minimum'] = (1.6, 0.3, -0.1)
    else:
        moved['workspace_maximum'] = (1.7, 1.0, 0.1)
    robot = flat(limits=replace(PANDA.limits, **moved))
    tip = Arm(robot, urdf(*PLANAR)).pose(np.array(robot.joints.start))[:3, 3]
    assert only(robot, urdf(*PLANAR)) == Finding(
        'joints.start',
        f'the tip is at {tip.round(3).tolist()} m, outside the workspace',
        'Correct the start pose, or the workspace.',
    )


def test_a_start_pose_in_the_table_is_found():
    low = link('two', BALL, '0.5 0 -0.25')
    table = replace(planar().collision, table_height=-0.3)
    assert only(flat(collision=table), urdf(*PLANAR[:2], low, *PLANAR[3:])) == Finding(
        'joints.start',
        'two is in the table',
        'Correct the start pose, or collision.table_height.',
    )


def test_a_workspace_that_is_partly_out_of_reach_is_noted_and_one_far_away_is_a_problem():
    text = (robots_folder() / 'urdf/panda.urdf').read_text()
    inside = {'workspace_minimum': (0.3, -0.2, 0.1), 'workspace_maximum': (0.6, 0.2, 0.4)}
    assert check_robot(changed('limits', **inside), text) == []
    wide = inside | {'workspace_maximum': (1.0, 0.2, 0.4)}
    finding = only_reach(changed('limits', **wide), text)
    assert finding == Finding(
        'limits',
        finding.text,
        'Make the workspace smaller, or correct base_frame and tip_frame.',
        problem=False,
    )
    assert re.fullmatch(
        r'the tip reaches \d\d% of the workspace, and not \[1\.0, -?0\.2, 0\.4\] m', finding.text
    )
    millimetres = {'workspace_minimum': (300.0, -200.0, 100.0),
                   'workspace_maximum': (600.0, 200.0, 400.0)}  # fmt: skip
    finding = only_reach(changed('limits', **millimetres), text)
    assert finding.problem
    assert finding.text.startswith('the tip reaches 0% of the workspace, and not [600.0, ')


def only_reach(robot, text):
    return next(f for f in check_robot(robot, text) if f.field == 'limits')


def test_reach_ends_where_the_arm_does():
    arm = Arm(flat(), urdf(*PLANAR))
    assert reaches(arm, np.array([1.2, 1.5, 0.0]))
    assert reaches(arm, np.array([0.0, 1.99, 0.0]))
    assert not reaches(arm, np.array([0.0, 2.02, 0.0]))
    assert not reaches(arm, np.array([1.2, 0.5, 0.02]))


def test_a_urdf_that_cannot_be_used_is_one_problem_with_its_remedy():
    finding = only(replace(PANDA, tip_frame='hand'))
    assert (finding.field, finding.problem) == ('urdf', True)
    assert finding.text.startswith('the URDF of robot sim_panda: tip_frame: expected a link')
    assert finding.remedy == 'Correct tip_frame.'
    assert not finding.text.endswith('Correct tip_frame.')


def test_an_error_without_a_remedy_gets_one():
    error = RobotError('robot arm: no joints')
    assert finding_of(error, 'joints') == Finding('joints', 'robot arm: no joints', 'Correct it.')


def test_a_urdf_that_comes_by_topic_is_asked_for():
    assert check_robot(load_robot('generic_jtc'))[-1] == Finding(
        'urdf',
        'it comes on /robot_description, so joints and frames cannot be checked',
        'Give it as well, with --urdf.',
    )


def test_problems_come_first():
    robot = replace(changed('collision', check=False), tip_frame='hand')
    assert found(robot) == [('urdf', True), ('collision.check', False)]


class TestCommand:
    def test_a_shipped_robot_is_fine(self, capsys):
        assert main(['robot', 'check', 'ur5e_jtc']) == 0
        assert capsys.readouterr().out.splitlines()[-1] == 'ur5e_jtc: 0 problems, 1 note'

    def test_a_problem_is_said_with_its_remedy_and_ends_with_1(self, capsys, tmp_path):
        file, report = tmp_path / 'mine.yaml', tmp_path / 'report.json'
        text = (robots_folder() / 'fr3_jtc.yaml').read_text()
        file.write_text(text.replace('table_height: 0.0', 'table_height: 0.1'))
        assert main(['robot', 'check', str(file), '--json', str(report)]) == 1
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith('problem: collision.table_height: the table, at 0.1 m, is inside')
        assert first.endswith('Raise limits.workspace_minimum, or lower the table.')
        findings = json.loads(report.read_text())['findings']
        assert findings[0]['field'] == 'collision.table_height'
        assert findings[0]['problem'] is True

    def test_another_urdf_may_be_given(self, capsys, tmp_path):
        file = tmp_path / 'other.urdf'
        file.write_text((robots_folder() / 'urdf/fr3.urdf').read_text().replace('fr3_', 'left_'))
        assert main(['robot', 'check', 'fr3_jtc', '--urdf', str(file)]) == 1
        assert "got 'fr3_link0'" in capsys.readouterr().out
        shipped = str(robots_folder() / 'urdf/fr3.urdf')
        assert main(['robot', 'check', 'fr3_jtc', '--urdf', shipped]) == 0

    def test_a_robot_that_leaves_it_to_the_topic_asks_for_one(self, capsys):
        assert main(['robot', 'check', 'generic_jtc']) == 1
        assert 'Give it as well, with --urdf.' in capsys.readouterr().out

    @pytest.mark.parametrize(
        ('arguments', 'words'),
        [
            (['nowhere'], "no robot description 'nowhere'"),
            (['fr3_jtc', '--urdf', 'nowhere.urdf'], '--urdf: expected a file'),
        ],
    )
    def test_what_is_not_there_is_a_problem(self, capsys, arguments, words):
        assert main(['robot', 'check', *arguments]) == 1
        assert words in capsys.readouterr().out

    def test_a_description_that_does_not_load_is_a_problem(self, capsys, tmp_path):
        file = tmp_path / 'mine.yaml'
        file.write_text('name: mine\n')
        assert main(['robot', 'check', str(file)]) == 1
        assert 'problem: description: ' in capsys.readouterr().out
