"""`worldvla robot check`: each inconsistency is named with a remedy, and nothing else is."""

from dataclasses import replace
import json

from arms import BALL, PLANAR, link, planar, urdf
import numpy as np
import pytest

from worldvla_ros.cli.verbs import main
from worldvla_ros.robot.check import check_robot, reaches
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
    assert finding.problem
    assert finding.field == 'controller.kind'
    assert finding.text == f'{kind} moves the tip, but actions are of kind {action}'
    for good in ('trajectory', 'position', 'velocity'):
        controller = replace(PANDA.controller, kind=good)
        assert found(replace(PANDA, action=meaning, controller=controller)) == []


@pytest.mark.parametrize(('name', 'speed'), [('linear', 0.75), ('angular', 3.5)])
def test_a_speed_that_the_controller_cuts_off_is_named(name, speed):
    at, above = ({f'{name}_scale': speed * share} for share in (1.0, 0.99))
    assert found(changed('controller', **at)) == []
    finding = only(changed('controller', **above))
    assert (finding.field, finding.problem) == (f'limits.{name}_speed', True)
    assert f'controller.{name}_scale {speed * 0.99:g}' in finding.text
    assert found(changed('controller', kind='trajectory', **above)) == []


def test_positions_only_is_for_trajectories():
    assert only(changed('controller', positions_only=True)).field == 'controller.positions_only'
    assert found(changed('controller', positions_only=True, kind='trajectory')) == []


@pytest.mark.parametrize('topic', ['two words', 'a//b', '1st', 'a/', 'ä', 'a-b', '~'])
def test_topics_that_are_no_names_are_found(topic):
    assert only(changed('controller', topic=topic)).field == 'controller.topic'
    output = replace(PANDA.gripper.output, name=topic)
    assert only(changed('gripper', output=output)).field == 'gripper.output.name'
    cameras = (replace(PANDA.cameras[0], topic=topic), PANDA.cameras[1])
    assert only(replace(PANDA, cameras=cameras)).field == 'cameras[0].topic'


@pytest.mark.parametrize('topic', ['a', '/a/b', '~/a', 'a_1/b2', ''])
def test_topics_that_are_names_are_not(topic):
    assert found(changed('controller', topic=topic)) == []


def test_cameras_need_topics_of_their_own_and_enough_pixels():
    front, wrist = PANDA.cameras
    twice = only(replace(PANDA, cameras=(front, replace(wrist, topic=front.topic))))
    assert twice.field == 'cameras[1].topic'
    assert twice.text == "wrist and front have the same topic 'image'"
    small = only(replace(PANDA, cameras=(replace(front, height=63), wrist)))
    assert (small.field, small.problem) == ('cameras[0]', True)
    assert found(replace(PANDA, cameras=(replace(front, height=64), wrist))) == []


def test_a_table_inside_the_workspace_is_found():
    assert found(changed('collision', table_height=0.005)) == []
    finding = only(changed('collision', table_height=0.006))
    assert (finding.field, finding.problem) == ('collision.table_height', True)


def test_what_is_not_looked_at_is_noted():
    assert found(changed('collision', check=False)) == [('collision.check', False)]
    none = replace(PANDA.gripper.output, kind='none')
    assert found(changed('gripper', output=none)) == [('gripper.output', False)]
    bare = urdf(*(link(name) for name in ('base', 'one', 'two', 'tip')), *PLANAR[4:])
    assert found(flat(), bare) == [('urdf', False)]
    mesh = link('two', '<mesh filename="two.stl"/>')
    finding = only(flat(), urdf(*PLANAR[:2], mesh, *PLANAR[3:]))
    assert (finding.problem, finding.text) == (False, 'collision meshes of two are left out')
    off = replace(planar().collision, check=False)
    assert found(flat(collision=off), bare) == [('collision.check', False)]


def test_pairs_that_touch_in_the_start_pose_are_noted():
    wide = '<sphere radius="0.9"/>'
    text = urdf(link('base', wide), PLANAR[1], link('two', wide, '0.5 0 0'), *PLANAR[3:])
    finding = only(flat(), text)
    assert (finding.field, finding.problem) == ('joints.start', False)
    assert finding.text.startswith('base touches two there')


@pytest.mark.parametrize(
    ('field', 'values', 'limit'),
    [('minimum', (-1.0, -2.1), '-2 rad'), ('maximum', (1.0, 2.1), '2 rad'),
     ('velocity', (1.0, 1.6), '1.5 rad/s')],
)  # fmt: skip
def test_limits_that_are_looser_than_the_urdfs_are_found(field, values, limit):
    limits = {'minimum': (-2.0, -2.0), 'maximum': (2.0, 2.0), 'velocity': (1.5, 1.5)}
    assert found(flat(joints=limits), urdf(*PLANAR)) == []
    finding = only(flat(joints=limits | {field: values}), urdf(*PLANAR))
    assert (finding.field, finding.problem) == (f'joints.{field}', True)
    assert finding.text.startswith('q2: ')
    assert f'the URDF allows, {limit};' in finding.text


def test_fingers_that_the_urdf_lacks_are_found():
    robot = flat(gripper=('thumb',))
    fields = found(robot, urdf(*PLANAR))
    assert fields == [('gripper.names', True), ('gripper.output', False)]


def test_a_start_pose_beyond_a_limit_of_the_urdf_is_found():
    finding = next(f for f in check_robot(flat(start=(0.3, 2.1)), urdf(*PLANAR)) if f.problem)
    assert finding.field == 'joints.start'
    assert finding.text == 'q2: 2.1 rad is outside its limits -2 to 2'


@pytest.mark.parametrize('corner', ['minimum', 'maximum'])
def test_a_start_pose_outside_the_workspace_is_found(corner):
    moved = dict(FLAT)
    if corner == 'minimum':
        moved['workspace_minimum'] = (1.6, 0.3, -0.1)
    else:
        moved['workspace_maximum'] = (1.7, 1.0, 0.1)
    robot = flat(limits=replace(PANDA.limits, **moved))
    fields = found(robot, urdf(*PLANAR))
    assert fields == [('joints.start', True)]


def test_a_start_pose_in_the_table_is_found():
    low = link('two', BALL, '0.5 0 -0.25')
    table = replace(planar().collision, table_height=-0.3)
    finding = only(flat(collision=table), urdf(*PLANAR[:2], low, *PLANAR[3:]))
    assert (finding.field, finding.problem) == ('joints.start', True)
    assert finding.text == 'two is in the table'


def test_a_workspace_that_is_partly_out_of_reach_is_noted_and_one_far_away_is_a_problem():
    text = (robots_folder() / 'urdf/panda.urdf').read_text()
    inside = {'workspace_minimum': (0.3, -0.2, 0.1), 'workspace_maximum': (0.6, 0.2, 0.4)}
    assert check_robot(changed('limits', **inside), text) == []
    wide = inside | {'workspace_maximum': (1.0, 0.2, 0.4)}
    finding = only_reach(changed('limits', **wide), text)
    assert not finding.problem
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
