"""Robot descriptions: the shipped ones, and what is refused."""

from dataclasses import replace

import pytest
import yaml

from worldvla_ros.errors import ConfigError, RobotError
from worldvla_ros.robot.description import check_fits, load_robot, robots_folder

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


def test_a_simulated_and_a_real_robot_are_shipped():
    assert {'sim_panda', 'franka'} <= set(SHIPPED)


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_description_loads_under_its_own_name(name):
    robot = load_robot(name)
    assert robot.name == name
    assert len(robot.joints.names) == 7
    assert robot.cameras[0].name == 'front'


@pytest.mark.parametrize('name', SHIPPED)
def test_a_path_and_a_name_load_the_same(name):
    assert load_robot(robots_folder() / f'{name}.yaml') == load_robot(name)


def test_only_simulated_robots_move_without_being_enabled():
    moving = {name for name in SHIPPED if not load_robot(name).dry_run}
    assert moving == {'sim_panda', 'libero'}


def test_real_limits_are_tighter_than_simulated_ones():
    real, simulated = load_robot('franka').limits, load_robot('sim_panda').limits
    assert real.linear_speed < simulated.linear_speed
    assert real.angular_speed < simulated.angular_speed


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(RobotError, match=r"'ur5'.*franka, libero, sim_panda"):
        load_robot('ur5')


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RobotError, match='nowhere.yaml'):
        load_robot(tmp_path / 'nowhere.yaml')


@pytest.mark.parametrize(
    ('group', 'field'),
    [
        ('joints', 'minimum'),
        ('joints', 'velocity'),
        ('kinematics', 'a'),
        ('kinematics', 'alpha'),
        ('action', 'maximum'),
    ],
)
def test_a_list_of_another_length_is_refused(written, group, field):
    with pytest.raises(RobotError, match=f'{group}: expected 7 values'):
        load_robot(written(group, **{field: [0.0] * 6}))


@pytest.mark.parametrize(
    'fields',
    [
        {'linear_speed': 0.0},
        {'angular_speed': -1.0},
        {'workspace_minimum': [0.8, -0.3, 0.0]},
    ],
)
def test_empty_limits_are_refused(written, fields):
    with pytest.raises(RobotError, match=r'limits: expected minimum < maximum, speeds > 0'):
        load_robot(written('limits', **fields))


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
    check_fits(robot, robot.action.names, robot.action.units, ('wrist', 'front'))


def test_other_action_names_are_named(robot):
    names = ('dy', 'dx', *robot.action.names[2:])
    with pytest.raises(RobotError, match=r'sim_panda: action names.*dy'):
        check_fits(robot, names, robot.action.units, ('front',))


def test_other_units_are_named(robot):
    units = ('mm', *robot.action.units[1:])
    with pytest.raises(RobotError, match=r'sim_panda: action units.*mm'):
        check_fits(robot, robot.action.names, units, ('front',))


def test_a_missing_camera_is_named(robot):
    robot = replace(robot, cameras=robot.cameras[:1])
    with pytest.raises(RobotError, match=r'sim_panda: cameras.*Add wrist to the cameras'):
        check_fits(robot, robot.action.names, robot.action.units, ('front', 'wrist'))
