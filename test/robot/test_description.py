"""Robot descriptions: the shipped ones, and what is refused."""

from dataclasses import replace

import pytest
import yaml

from worldvla_ros.errors import ConfigError, RobotError
from worldvla_ros.robot.description import check_fits, load_robot, robots_folder
from worldvla_ros.robot.schema import (
    ACTION_KINDS,
    CONTROLLER_TOPICS,
    GRIPPER_NAMES,
    GRIPPER_OUTPUTS,
    SPEED_UNITS,
)

SHIPPED = sorted(p.stem for p in robots_folder().glob('*.yaml'))


@pytest.fixture(scope='module')
def robot():
    return load_robot('sim_panda')


@pytest.fixture
def written(tmp_path):
    """Write the simulated Panda with one field of one group replaced."""

    def write(group, **fields):
        content = yaml.safe_load((robots_folder() / 'sim_panda.yaml').read_text())
        content[group] |= fields
        file = tmp_path / 'robot.yaml'
        file.write_text(yaml.safe_dump(content))
        return file

    return write


DESCRIBED = {
    'fr3_crisp': (7, 'pose'),
    'fr3_jtc': (7, 'trajectory'),
    'fr3_servo': (7, 'twist'),
    'generic_jtc': (6, 'trajectory'),
    'libero': (7, 'twist'),
    'panda_servo': (7, 'twist'),
    'sim_panda': (7, 'twist'),
    'so101': (5, 'position'),
    'ur5e_jtc': (6, 'trajectory'),
    'ur5e_servo': (6, 'twist'),
}


def test_these_robots_are_shipped():
    assert set(DESCRIBED) == set(SHIPPED)


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_description_loads_under_its_own_name(name):
    robot = load_robot(name)
    assert robot.name == name
    assert (len(robot.joints.names), robot.controller.kind) == DESCRIBED[name]
    assert robot.cameras[0].name == 'front'


@pytest.mark.parametrize('name', SHIPPED)
def test_a_path_and_a_name_load_the_same(name):
    assert load_robot(robots_folder() / f'{name}.yaml') == load_robot(name)


def test_only_simulated_robots_move_without_being_enabled():
    moving = {name for name in SHIPPED if not load_robot(name).dry_run}
    assert moving == {'sim_panda', 'libero'}


def test_real_limits_are_tighter_than_simulated_ones():
    real, simulated = load_robot('panda_servo').limits, load_robot('sim_panda').limits
    assert real.linear_speed < simulated.linear_speed
    assert real.angular_speed < simulated.angular_speed


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(RobotError, match=r"'ur5'.*fr3_crisp, .*, ur5e_servo"):
        load_robot('ur5')


def test_a_missing_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would be shown in part
    with pytest.raises(RobotError, match=r"no robot description './nowhere.yaml'"):
        load_robot('./nowhere.yaml')


@pytest.mark.parametrize(
    ('group', 'field'),
    [
        ('joints', 'acceleration'),
        ('joints', 'jerk'),
        ('joints', 'minimum'),
        ('joints', 'maximum'),
        ('joints', 'velocity'),
        ('joints', 'start'),
        ('action', 'minimum'),
        ('action', 'maximum'),
    ],
)
def test_a_list_of_another_length_is_refused(written, group, field):
    with pytest.raises(RobotError, match=rf'{group}\.{field}: expected 7 values, got 6'):
        load_robot(written(group, **{field: [1.0] * 6}))


@pytest.mark.parametrize(
    'field',
    [
        'linear_speed', 'linear_acceleration', 'linear_jerk', 'angular_speed',
        'angular_acceleration', 'angular_jerk', 'joint_lag', 'tip_lag', 'chunk_duration',
    ],
)  # fmt: skip
@pytest.mark.parametrize('value', [0.0, -1.0])
def test_limits_are_more_than_nothing(written, field, value):
    with pytest.raises(RobotError, match=rf'limits\.{field}: expected more than 0, got {value}'):
        load_robot(written('limits', **{field: value}))


def test_a_chunk_is_never_played_faster(written):
    with pytest.raises(RobotError, match=r'limits\.max_slowdown: expected at least 1, got 0.9'):
        load_robot(written('limits', max_slowdown=0.9))
    assert load_robot(written('limits', max_slowdown=1)).limits.max_slowdown == 1.0


def test_a_workspace_without_room_is_refused(written):
    with pytest.raises(RobotError, match='limits: expected minimum < maximum'):
        load_robot(written('limits', workspace_minimum=[0.72, -0.3, 0.0]))


def test_actions_range_from_minus_one_to_one_unless_described(robot, written):
    assert (robot.action.minimum, robot.action.maximum) == ((-1.0,) * 7, (1.0,) * 7)
    degrees = load_robot(written('action', minimum=[-30.0] * 7, maximum=[40.0] * 7))
    assert (degrees.action.minimum, degrees.action.maximum) == ((-30.0,) * 7, (40.0,) * 7)
    with pytest.raises(RobotError, match='action: expected minimum < maximum'):
        load_robot(written('action', minimum=[1.0] * 7))


def test_a_misspelt_field_names_the_right_one(written):
    with pytest.raises(ConfigError, match=r"'linear_sped'.*Did you mean linear_speed"):
        load_robot(written('limits', linear_sped=1.0))


def test_a_workspace_needs_three_numbers(written):
    with pytest.raises(ConfigError, match='workspace_minimum: expected 3 values, got 2'):
        load_robot(written('limits', workspace_minimum=[0.0, 0.0]))


def test_a_checkpoint_of_this_robot_fits(robot):
    check_fits(robot, robot.action.names, robot.action.units, ('wrist', 'front'), 0)


def test_other_action_names_are_named(robot):
    names = ('dy', 'dx', *robot.action.names[2:])
    with pytest.raises(RobotError, match=r'sim_panda: action names.*dy'):
        check_fits(robot, names, robot.action.units, ('front',), 0)


def test_other_units_are_named(robot):
    units = ('mm', *robot.action.units[1:])
    with pytest.raises(RobotError, match=r'sim_panda: action units.*mm'):
        check_fits(robot, robot.action.names, units, ('front',), 0)


def test_a_missing_camera_is_named(robot):
    robot = replace(robot, cameras=robot.cameras[:1])
    with pytest.raises(RobotError, match=r'sim_panda: cameras.*Add wrist to the cameras'):
        check_fits(robot, robot.action.names, robot.action.units, ('front', 'wrist'), 0)


def test_a_camera_that_is_turned_otherwise_than_in_training_is_named(robot):
    with pytest.raises(RobotError, match=r'rotation of camera front: .*by 180 .*got 0 degrees'):
        check_fits(robot, robot.action.names, robot.action.units, ('front',), 180)


def test_a_gripper_closes_above_or_below_a_threshold_not_both(written):
    assert load_robot('so101').gripper.close_below == 0.5
    with pytest.raises(RobotError, match='close_above or close_below, not both'):
        load_robot(written('gripper', close_above=0.0, close_below=0.5))


NUMBERS = [
    ('joints', 'minimum', 7),
    ('joints', 'maximum', 7),
    ('joints', 'velocity', 7),
    ('joints', 'acceleration', 7),
    ('joints', 'jerk', 7),
    ('joints', 'start', 7),
    ('gripper', 'joint_closed', 0),
    ('gripper', 'joint_open', 0),
    ('controller', 'linear_scale', 0),
    ('controller', 'angular_scale', 0),
    ('collision', 'table_height', 0),
    ('gripper', 'open_width', 0),
    ('gripper', 'close_above', 0),
    ('gripper', 'close_below', 0),
    ('action', 'minimum', 7),
    ('action', 'maximum', 7),
    ('limits', 'linear_speed', 0),
    ('limits', 'linear_acceleration', 0),
    ('limits', 'linear_jerk', 0),
    ('limits', 'angular_speed', 0),
    ('limits', 'angular_acceleration', 0),
    ('limits', 'angular_jerk', 0),
    ('limits', 'tip_lag', 0),
    ('limits', 'max_slowdown', 0),
    ('limits', 'workspace_minimum', 3),
    ('limits', 'workspace_maximum', 3),
    ('limits', 'joint_lag', 0),
    ('limits', 'chunk_duration', 0),
]


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize(('group', 'field', 'count'), NUMBERS)
def test_a_number_that_is_not_finite_is_refused_by_name(written, group, field, count, value):
    content = [value] * count if count else value
    with pytest.raises(ConfigError, match=rf'{group}\.{field}.*: expected a finite number'):
        load_robot(written(group, **{field: content}))


@pytest.mark.parametrize(('group', 'field', 'count'), NUMBERS)
def test_a_description_made_in_code_is_checked_as_well(robot, group, field, count):
    content = (float('nan'),) * count if count else float('nan')
    changed = replace(getattr(robot, group), **{field: content})
    with pytest.raises(RobotError, match=rf'{group}\.{field}.*: expected a finite number'):
        replace(robot, **{group: changed})


@pytest.mark.parametrize('speed', [0.0, -2.0])
@pytest.mark.parametrize('field', ['velocity', 'acceleration', 'jerk'])
def test_a_joint_that_cannot_move_is_refused(written, field, speed):
    with pytest.raises(RobotError, match=rf'joints\.{field}: expected more than 0, got {speed}'):
        load_robot(written('joints', **{field: [2.0] * 6 + [speed]}))


@pytest.mark.parametrize('maximum', [-2.8973, -3.0])
def test_a_joint_without_room_is_refused(written, maximum):
    low = [-2.8973, -1.7, -2.8, -3.0, -2.8, 0.0, -2.8]
    with pytest.raises(RobotError, match='joints: expected minimum < maximum'):
        load_robot(
            written('joints', minimum=low, maximum=[maximum, 1.7, 2.8, -0.06, 2.8, 3.7, 2.8])
        )


def test_a_gripper_that_does_not_open_is_refused(written):
    with pytest.raises(RobotError, match=r'gripper\.open_width: expected more than 0'):
        load_robot(written('gripper', open_width=0.0))


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('names', ['q1', 'q2', 'q3', 'q4', 'q5', 'q6', 'gripper']),
        ('names', ['dy', 'dx', 'dz', 'drx', 'dry', 'drz', 'gripper']),
        ('units', ['mm', 'm', 'm', 'rad', 'rad', 'rad', '1']),
    ],
)
def test_actions_that_are_not_played_here_are_refused(written, field, value):
    with pytest.raises(RobotError, match=rf'action\.{field}: expected'):
        load_robot(written('action', **{field: value}))


def test_actions_of_six_numbers_are_refused(written):
    six = {'names': ['dx', 'dy', 'dz', 'drx', 'dry', 'drz'], 'units': ['m'] * 3 + ['rad'] * 3}
    with pytest.raises(RobotError, match=r'action\.names'):
        load_robot(written('action', **six))


@pytest.mark.parametrize(
    ('group', 'names'),
    [
        ('joints', ['panda_joint1'] * 7),
        ('joints', [''] + [f'panda_joint{i}' for i in range(2, 8)]),
        ('gripper', ['panda_joint1']),
    ],
)
def test_joints_need_names_of_their_own(written, group, names):
    with pytest.raises(RobotError, match=r'names: expected names that are all different'):
        load_robot(written(group, names=names))


@pytest.fixture
def with_top_level(tmp_path):
    def write(**fields):
        content = yaml.safe_load((robots_folder() / 'sim_panda.yaml').read_text()) | fields
        file = tmp_path / 'robot.yaml'
        file.write_text(yaml.safe_dump(content))
        return file

    return write


FRONT = {'name': 'front', 'topic': 'image', 'width': 128, 'height': 128}


@pytest.mark.parametrize(
    ('cameras', 'field'),
    [
        ([], 'cameras: expected at least one camera'),
        ([FRONT, FRONT], 'cameras: expected names that are all different'),
        ([FRONT | {'width': 0}], r'cameras\[0\]: expected width and height > 0'),
        ([FRONT | {'height': -1}], r'cameras\[0\]: expected width and height > 0'),
        ([FRONT | {'topic': ''}], r'cameras\[0\]\.topic'),
        ([FRONT | {'rotation': 45}], r'cameras\[0\]\.rotation: expected one of'),
    ],
)
def test_cameras_that_cannot_be_used_are_named(with_top_level, cameras, field):
    with pytest.raises(RobotError, match=field):
        load_robot(with_top_level(cameras=cameras))


@pytest.mark.parametrize('name', ['', 'x' * 10_000])
def test_a_robot_has_a_name_of_sensible_length(with_top_level, name):
    with pytest.raises(RobotError, match=f'name: .*got {len(name)} characters'):
        load_robot(with_top_level(name=name))


def test_a_name_too_long_for_the_file_system_is_no_description():
    with pytest.raises(RobotError, match='no robot description') as caught:
        load_robot('x' * 10_000)
    assert len(str(caught.value)) < 500


def test_a_copy_of_a_shipped_description_finds_the_shipped_urdf(tmp_path):
    copy = tmp_path / 'mine.yaml'
    copy.write_text((robots_folder() / 'ur5e_jtc.yaml').read_text())
    assert load_robot(copy).urdf == str(robots_folder() / 'urdf/ur5e.urdf')
    (tmp_path / 'urdf').mkdir()
    (tmp_path / 'urdf/ur5e.urdf').write_text('<robot/>')
    assert load_robot(copy).urdf == str((tmp_path / 'urdf/ur5e.urdf').resolve())


def test_a_urdf_from_the_topic_stays_one():
    assert load_robot('generic_jtc').urdf == 'topic'


@pytest.mark.parametrize(('length', 'fits'), [(0, False), (1, True), (80, True), (81, False)])
def test_a_name_has_1_to_80_characters(robot, length, fits):
    if fits:
        assert replace(robot, name='n' * length).name == 'n' * length
    else:
        with pytest.raises(RobotError, match='1 to 80 characters'):
            replace(robot, name='n' * length)


class TestAnotherGripper:
    """Commanded in another way than the description says, as by a launch argument."""

    @pytest.mark.parametrize('kind', sorted(GRIPPER_OUTPUTS))
    def test_a_kind_has_its_usual_name_and_says_the_whole_width(self, robot, kind):
        output = replace(robot.gripper.output, kind='franka', name='mine', half_width=True)
        other = replace(robot, gripper=replace(robot.gripper, output=output)).with_gripper(kind)
        if kind == 'franka':
            assert other.gripper.output == output
        else:
            assert other.gripper.output.kind == kind
            assert other.gripper.output.name == GRIPPER_NAMES.get(kind, '')
            assert not other.gripper.output.half_width
        assert other.gripper.names == robot.gripper.names

    def test_nothing_asked_for_changes_nothing(self, robot):
        assert robot.with_gripper('') is robot
        assert robot.with_gripper('width') is robot

    @pytest.mark.parametrize('kind', sorted(GRIPPER_NAMES))
    def test_an_arm_without_a_gripper_gets_none(self, robot, kind):
        output = replace(robot.gripper.output, kind='none', name='')
        bare = replace(robot, gripper=replace(robot.gripper, names=(), output=output))
        assert bare.with_gripper(kind) is bare
        fingers = replace(robot, gripper=replace(robot.gripper, output=output))
        assert fingers.with_gripper(kind).gripper.output.kind == kind

    def test_an_unknown_kind_is_refused(self, robot):
        with pytest.raises(RobotError, match='gripper.output.kind'):
            robot.with_gripper('magnet')


def nested(robot, path, value):
    """Return a description with one field replaced, such as `gripper.output.kind`."""
    group, _, rest = path.partition('.')
    if rest:
        value = nested(getattr(robot, group), rest, value)
    return replace(robot, **{group: value})


SEVEN = (1.0,) * 7
TWICE = ('panda_joint1',) * 7
WRONG = [
    ('joints.jerk', SEVEN[1:], 'joints.jerk: expected 7 values, got 6'),
    ('joints.jerk', (), 'joints.jerk: expected 7 values, got 0'),
    ('joints.acceleration', (), 'joints.acceleration: expected 7 values, got 0'),
    ('joints.velocity', (*SEVEN[:6], 0.0), 'joints.velocity: expected more than 0, got 0.0'),
    ('joints.minimum', SEVEN, 'joints: expected minimum and maximum, or neither, got one of them'),
    ('joints.names', TWICE,
     f'joints.names: expected names that are all different, got {[*TWICE]}'),
    ('gripper.output.kind', 'magnet',
     f'gripper.output.kind: expected one of {", ".join(GRIPPER_OUTPUTS)}, got \'magnet\''),
    ('gripper.names', (), 'gripper.names: expected names that are all different, got []'),
    ('gripper.names', ('a', 'a'),
     'gripper.names: expected names that are all different, got [\'a\', \'a\']'),
    ('gripper.open_width', 0.0, 'gripper.open_width: expected more than 0 m, got 0.0'),
    ('gripper.close_below', 0.5,
     'gripper: expected close_above or close_below, not both, got [0.0, 0.5]'),
    ('gripper.output.force', 0.0,
     'gripper.output: expected speed and force more than 0, got 0.0'),
    ('gripper.output.name', '', 'gripper.output.name: expected a topic or an action, got \'\''),
    ('action.kind', 'magic',
     f'action.kind: expected one of {", ".join(ACTION_KINDS)}, got \'magic\''),
    ('action.minimum', (-1.0,) * 6, 'action.minimum: expected 7 values, got 6'),
    ('limits.tip_lag', 0.0, 'limits.tip_lag: expected more than 0, got 0.0'),
    ('limits.max_slowdown', 0.99, 'limits.max_slowdown: expected at least 1, got 0.99'),
    ('limits.workspace_minimum', (0.8, -0.3, 0.0),
     'limits: expected minimum < maximum, got [[0.8, -0.3, 0.0], [0.72, 0.3, 0.4]]'),
    ('controller.kind', 'magic',
     f'controller.kind: expected one of {", ".join(CONTROLLER_TOPICS)}, got \'magic\''),
    ('controller.units', 'mm',
     f'controller.units: expected one of {", ".join(SPEED_UNITS)}, got \'mm\''),
    ('controller.linear_scale', 0.0,
     'controller: expected linear_scale and angular_scale more than 0, got 0.0'),
    ('tip_frame', 'panda_link0',
     'tip_frame: expected another link than base_frame, got panda_link0'),
    ('base_frame', '', 'base_frame: expected a name, got \'\''),
    ('cameras', (), 'cameras: expected at least one camera, got none'),
]  # fmt: skip


@pytest.mark.parametrize(('path', 'value', 'said'), WRONG)
def test_what_is_wrong_is_said_with_what_was_expected_and_what_came(robot, path, value, said):
    with pytest.raises(RobotError) as refused:
        nested(robot, path, value)
    field = said.partition(':')[0]
    assert str(refused.value) == (
        f'robot sim_panda: {said}. Correct {field} of the robot description.'
    )


def test_the_start_lies_within_the_range_its_ends_included(robot):
    ranged = replace(robot.joints, minimum=(-1.0,) * 7, maximum=SEVEN, start=(0.0,) * 7)
    for start in ((-1.0,) * 7, SEVEN):
        replace(robot, joints=replace(ranged, start=start))
    outside = (*SEVEN[:6], 1.1)
    with pytest.raises(RobotError) as refused:
        replace(robot, joints=replace(ranged, start=outside))
    assert f'joints.start: expected minimum to maximum, got {[*outside]}' in str(refused.value)


def test_lists_that_the_urdf_has_may_be_left_out(robot):
    replace(robot, joints=replace(robot.joints, minimum=(), maximum=(), velocity=(), start=()))
