"""The tabletop environment: seeds, motion, limits, goals and experts."""

from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from worldvla_ros.errors import ConfigError, EpisodeError, InstructionError
from worldvla_ros.robot import kinematics
from worldvla_ros.sim import tabletop
from worldvla_ros.sim.experts import expert_action
from worldvla_ros.sim.scene import COLOURS, CUBE_HALF, JOINTS
from worldvla_ros.sim.tabletop import ACTION_SCALE, CONTROL_DT_S, WORKSPACE, TabletopEnv
from worldvla_ros.sim.tasks import KINDS, Goal

HOLD = np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.fixture(scope='module')
def blind():
    """An environment without images."""
    env = TabletopEnv(cameras=(), image_size=0)
    yield env
    env.close()


@pytest.fixture(scope='module')
def seeing():
    """An environment with both cameras, small."""
    env = TabletopEnv(image_size=64)
    yield env
    env.close()


def repeat(env, action, count):
    for _ in range(count):
        result = env.step(np.asarray(action, np.float32))
    return result


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


def test_observations_are_as_declared(seeing):
    observed, _ = seeing.reset(seed=8000)
    assert set(observed) == {'state', 'joint_positions', 'front', 'wrist'}
    assert seeing.observation_space.contains(observed)
    observed, *_ = seeing.step(HOLD)
    assert seeing.observation_space.contains(observed)


def test_only_the_cameras_asked_for_are_rendered():
    env = TabletopEnv(cameras=('wrist',), image_size=32)
    observed, _ = env.reset(seed=8000)
    env.close()
    assert 'front' not in observed
    assert observed['wrist'].shape == (32, 32, 3)
    assert observed['wrist'].std() > 5


@pytest.mark.parametrize('seed', [8000, 8001, 8002])
def test_a_camera_sees_each_cube_where_it_is_said_to(seeing, seed):
    image = seeing.reset(seed=seed)[0]['front']
    for name in seeing.colours:
        column, row = seeing.seen_at('front', seeing.cube(name)) * len(image)
        shown = image[int(row), int(column)] / 255
        nearest = min(COLOURS, key=lambda c: np.abs(shown - COLOURS[c]).sum())
        assert nearest == name


def test_the_same_seed_gives_the_same_scene_and_images(seeing):
    first, info = seeing.reset(seed=8000)
    moved, *_ = seeing.step(np.ones(7))
    seeing.reset(seed=8001)
    again, info_again = seeing.reset(seed=8000)
    assert info == info_again
    assert_same(first, again)
    assert_same(moved, seeing.step(np.ones(7))[0])


def test_another_environment_has_the_same_scenes(seeing):
    observed, _ = seeing.reset(seed=8002)
    other = TabletopEnv(image_size=64)
    again, _ = other.reset(seed=8002)
    other.close()
    assert_same(observed, again)


def test_a_negative_seed_is_refused(blind):
    with pytest.raises(EpisodeError, match='from 0 up.*got -1'):
        blind.reset(seed=-1)


def test_another_seed_gives_another_scene(seeing):
    first, _ = seeing.reset(seed=8000)
    cubes = seeing.cube_positions()
    other, _ = seeing.reset(seed=8001)
    assert np.abs(seeing.cube_positions() - cubes)[:, :2].max() > 0.005
    for name, value in first.items():
        assert (value != other[name]).any(), name


def test_scenes_vary_in_colours_and_goals(blind):
    scenes = []
    for seed in range(8000, 8030):
        _, info = blind.reset(seed=seed)
        assert set(blind.colours) < set(COLOURS)
        assert blind.goal.colour in blind.colours
        scenes.append((blind.colours, info['instruction']))
    assert len(set(scenes)) > 15


def test_cubes_start_apart_on_the_table(blind):
    for seed in range(8000, 8020):
        blind.reset(seed=seed)
        cubes = blind.cube_positions()
        np.testing.assert_allclose(cubes[:, 2], CUBE_HALF, atol=1e-6)
        gaps = np.linalg.norm(cubes[:, None] - cubes, axis=-1) + np.eye(3)
        assert gaps.min() > tabletop.MIN_DISTANCE


def test_cubes_at_rest_stay_where_they_are(blind):
    blind.reset(seed=8000)
    before = blind.cube_positions()
    repeat(blind, HOLD, 20)
    np.testing.assert_allclose(blind.cube_positions(), before, atol=1e-3)


@pytest.mark.parametrize('seed', [8000, 8001, 8002])
def test_a_zero_action_holds(blind, seed):
    blind.reset(seed=seed)
    before = blind.tcp_pose()[0]
    repeat(blind, np.zeros(7), 20)
    assert np.linalg.norm(blind.tcp_pose()[0] - before) < 1e-3


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('sign', [1, -1])
def test_actions_move_the_tip_by_their_scale(blind, axis, sign):
    blind.reset(seed=8000)
    before = blind.tcp_pose()[0]
    repeat(blind, HOLD + sign * np.eye(7)[axis], 4)
    repeat(blind, HOLD, 10)
    wanted = 4 * sign * ACTION_SCALE[axis] * np.eye(3)[axis]
    np.testing.assert_allclose(blind.tcp_pose()[0] - before, wanted, atol=1e-3)


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('sign', [1, -1])
def test_actions_turn_the_tip_by_their_scale(blind, axis, sign):
    blind.reset(seed=8000)
    blind.step(HOLD + sign * np.eye(7)[3 + axis])
    repeat(blind, HOLD, 10)
    wanted = sign * ACTION_SCALE[3 + axis] * np.eye(3)[axis]
    np.testing.assert_allclose(blind.state()[3:6], wanted, atol=2e-3)


def test_actions_beyond_their_range_are_clipped(blind):
    reached = []
    for size in (1, 100):
        blind.reset(seed=8000)
        repeat(blind, size * np.array([1, 0, 0, 0, 0, 0, -1]), 2)
        reached.append(blind.tcp_pose()[0])
    np.testing.assert_array_equal(*reached)


def test_the_gripper_closes_above_zero_and_opens_below(blind):
    blind.reset(seed=8000)
    assert blind.state()[6] == pytest.approx(0.08, abs=1e-3)
    repeat(blind, -0.1 * HOLD, 15)
    assert blind.state()[6] < 0.002
    repeat(blind, 0.1 * HOLD, 15)
    assert blind.state()[6] > 0.078


@pytest.mark.parametrize(
    'action', [np.zeros(6), np.zeros(8), np.zeros((1, 7)), np.full(7, np.nan), [np.inf] + [0] * 6]
)
def test_a_misshapen_or_infinite_action_is_refused(blind, action):
    blind.reset(seed=8000)
    with pytest.raises(ValueError, match='expected 7 finite numbers'):
        blind.step(action)


def drifting_actions(rng, count):
    """Return random actions that keep a direction long enough to reach limits."""
    return rng.uniform(-1, 1, 7) + rng.uniform(-0.5, 0.5, (count, 7))


def test_commanded_joints_stay_within_limits_under_random_actions(blind):
    rng = np.random.default_rng(0)
    low, high = np.array([blind.model.joint(n).range for n in JOINTS]).T
    for seed in range(8000, 8006):
        blind.reset(seed=seed)
        for action in drifting_actions(rng, 60):
            blind.step(action)
            commanded = blind.data.ctrl[:7]
            assert (low - 1e-9 <= commanded).all()
            assert (commanded <= high + 1e-9).all()


def test_random_translations_stay_within_joint_limits_and_workspace(blind):
    rng = np.random.default_rng(0)
    low, high = np.array([blind.model.joint(n).range for n in JOINTS]).T
    for seed in range(8000, 8010):
        blind.reset(seed=seed)
        for action in drifting_actions(rng, 60) * [1, 1, 1, 0, 0, 0, 1]:
            blind.step(action)
            joints, position = blind.joint_positions()[:7], blind.tcp_pose()[0]
            assert (low <= joints).all()
            assert (joints <= high).all()
            assert (WORKSPACE[0] - 5e-3 <= position).all()
            assert (position <= WORKSPACE[1] + 5e-3).all()


def test_the_tip_stops_at_the_edge_of_the_workspace(blind):
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)):
        blind.reset(seed=8000)
        repeat(blind, HOLD + sign * np.eye(7)[axis], 40)
        edge = WORKSPACE[(sign + 1) // 2, axis]
        assert blind.tcp_pose()[0][axis] == pytest.approx(edge, abs=5e-3)


def test_the_state_is_tip_tilt_and_width(blind):
    blind.reset(seed=8003)
    state = blind.state()
    position, rotation = blind.tcp_pose()
    assert state.dtype == np.float32
    np.testing.assert_allclose(state[:3], position, atol=1e-6)
    np.testing.assert_allclose(rotation, kinematics.DOWN, atol=1e-3)
    np.testing.assert_allclose(state[3:6], 0, atol=1e-3)
    assert state[6] == pytest.approx(blind.joint_positions()[7:].sum())


@pytest.mark.filterwarnings('ignore:.*Box observation space')
def test_gymnasium_finds_nothing_wrong():
    env = TabletopEnv(cameras=('front',), image_size=32)
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize('task', KINDS)
def test_nothing_is_done_at_the_start(blind, task):
    for seed in range(8000, 8010):
        _, info = blind.reset(seed=seed, options={'task': task})
        assert info['success'] is False
        assert (info['moved'], info['seconds'], info['seed']) == ('', 0.0, seed)
        *_, info = blind.step(HOLD)
        assert info['success'] is False
        assert info['seconds'] == pytest.approx(CONTROL_DT_S)


def test_an_unknown_task_is_refused(blind):
    with pytest.raises(ConfigError, match="one of pick, push, put, got 'pour'"):
        TabletopEnv(task='pour', image_size=0)
    with pytest.raises(ConfigError, match="got 'pour'"):
        blind.reset(seed=8000, options={'task': 'pour'})
    blind.reset(seed=8000, options={'task': 'pick'})


def test_time_runs_out(blind, monkeypatch):
    monkeypatch.setitem(tabletop.MAX_STEPS, 'pick', 3)
    blind.reset(seed=8000, options={'task': 'pick'})
    truncated = [blind.step(HOLD)[3] for _ in range(3)]
    assert truncated == [False, False, True]


def test_an_instruction_sets_the_goal(blind):
    _, info = blind.reset(seed=8000, options={'task': 'push', 'instruction': 'shove red left'})
    assert blind.goal == Goal('push', 'red', 'left')
    assert info['instruction'] == 'shove red left'


def test_a_cube_that_the_scene_lacks_takes_the_place_of_another(blind):
    blind.reset(seed=8000, options={'task': 'put'})
    absent = next(c for c in COLOURS if c not in blind.colours)
    below = blind.colours[0]
    blind.set_goal(f'put the {absent} cube on the {below} cube')
    assert {absent, below} < set(blind.colours)
    assert len(set(blind.colours)) == 3
    for index, colour in enumerate(blind.colours):
        shown = blind.model.geom(f'cube{index}').rgba[:3]
        np.testing.assert_allclose(shown, COLOURS[colour], atol=1e-6)


def test_the_protocol_has_these_numbers():
    assert tabletop.MAX_STEPS == {'pick': 300, 'push': 300, 'put': 400}
    assert CONTROL_DT_S == 0.05
    np.testing.assert_array_equal(ACTION_SCALE, [0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1])


class TestJudge:
    """What counts as success, by where the cubes are."""

    def move(self, env, colour, offset):
        """Put a cube somewhere else than where it began [m]."""
        index = env.colours.index(colour)
        env.data.body(f'cube{index}').xpos[:] = env._start_cubes[index] + offset

    @pytest.mark.parametrize(('height', 'holds'), [(0.0599, False), (0.0601, True)])
    def test_a_picked_cube_is_6_cm_up(self, blind, height, holds):
        blind.reset(seed=8000, options={'task': 'pick'})
        self.move(blind, blind.goal.colour, [0, 0, height])
        assert blind._goal_holds() is holds

    @pytest.mark.parametrize(
        ('direction', 'travel', 'holds'),
        [
            ('right', 0.0599, False), ('right', 0.0601, True), ('right', -0.1, False),
            ('left', -0.0599, False), ('left', -0.0601, True), ('left', 0.1, False),
        ],
    )  # fmt: skip
    def test_a_pushed_cube_is_6_cm_to_its_side(self, blind, direction, travel, holds):
        blind.reset(seed=8000, options={'task': 'push'})
        blind.set_goal(f'push the {blind.colours[0]} cube to the {direction}')
        self.move(blind, blind.colours[0], [0, travel, 0])
        assert blind._goal_holds() is holds

    @pytest.mark.parametrize(
        ('across', 'up', 'fingers', 'holds'),
        [
            (0.0, 0.0, 0.04, True), (CUBE_HALF - 1e-4, 0.0079, 0.04, True),
            (CUBE_HALF + 1e-4, 0.0, 0.04, False), (0.0, 0.0081, 0.04, False),
            (0.0, -0.0081, 0.04, False), (0.0, 0.0, CUBE_HALF, False),
            (0.0, 0.0, CUBE_HALF + 0.0074, False), (0.0, 0.0, CUBE_HALF + 0.0076, True),
        ],
    )  # fmt: skip
    def test_a_stacked_cube_lies_on_the_other_and_is_let_go(
        self, blind, across, up, fingers, holds
    ):
        blind.reset(seed=8000, options={'task': 'put'})
        below = blind.cube(blind.goal.target)
        index = blind.colours.index(blind.goal.colour)
        place = below + [across, 0, 2 * CUBE_HALF + up]
        blind.data.body(f'cube{index}').xpos[:] = place
        blind.data.qpos[blind._fingers] = fingers
        assert blind._goal_holds() is holds

    @pytest.mark.parametrize(('task', 'steps'), [('pick', 5), ('put', 5), ('push', 1)])
    def test_a_goal_must_hold_for_some_steps(self, blind, monkeypatch, task, steps):
        blind.reset(seed=8000, options={'task': task})
        monkeypatch.setattr(blind, '_goal_holds', lambda: True)
        found = [blind.step(HOLD)[2] for _ in range(6)]
        assert found == [False] * (steps - 1) + [True] * (7 - steps)

    def test_steps_in_which_it_holds_must_follow_each_other(self, blind, monkeypatch):
        blind.reset(seed=8000, options={'task': 'pick'})
        holds = iter([True] * 4 + [False] + [True] * 5)
        monkeypatch.setattr(blind, '_goal_holds', lambda: next(holds))
        assert [blind.step(HOLD)[2] for _ in range(10)] == [False] * 9 + [True]


def test_a_new_goal_starts_its_own_time(blind):
    blind.reset(seed=8000, options={'task': 'pick'})
    repeat(blind, HOLD, 3)
    blind.set_goal('pick up the red cube')
    assert blind.info()['seconds'] == 0.0
    assert blind.info()['success'] is False


def test_a_goal_of_another_kind_is_refused(blind):
    blind.reset(seed=8000, options={'task': 'push'})
    before = blind.goal
    with pytest.raises(InstructionError, match='does not say where to push'):
        blind.set_goal('pick up the red cube')
    assert blind.goal == before


def test_the_cube_moved_most_is_named(blind):
    blind.reset(seed=8000, options={'task': 'push'})
    other = next(c for c in blind.colours if c != blind.goal.colour)
    index = blind.colours.index(other)
    blind.data.joint(f'cube{index}').qpos[2] += 0.1
    *_, info = blind.step(HOLD)
    assert info['moved'] == other
    assert not info['success']


def test_a_twist_moves_the_tip_at_its_speed(blind):
    blind.reset(seed=8000)
    before = blind.tcp_pose()[0]
    for _ in range(10):
        blind.command_twist(np.array([0.0, 0.1, 0.0]), np.zeros(3))
        blind.advance()
    repeat(blind, HOLD, 10)
    moved = blind.tcp_pose()[0] - before
    np.testing.assert_allclose(moved, [0, 0.1 * 10 * CONTROL_DT_S, 0], atol=1e-3)


def test_joint_commands_are_followed_within_limits(blind):
    blind.reset(seed=8000)
    wanted = blind.joint_positions()[:7] + 0.1
    blind.command_joints(wanted)
    for _ in range(30):
        blind.advance()
    np.testing.assert_allclose(blind.joint_positions()[:7], wanted, atol=5e-3)
    blind.command_joints(np.full(7, 100.0))
    blind.advance()
    highest = blind.model.actuator_ctrlrange[:7, 1]
    np.testing.assert_allclose(blind.data.ctrl[:7], highest, atol=1e-12)


def test_deltas_go_on_from_a_joint_command(blind):
    blind.reset(seed=8000)
    blind.command_joints(blind.joint_positions()[:7] + 0.05)
    for _ in range(30):
        blind.advance()
    before = blind.tcp_pose()[0]
    repeat(blind, HOLD, 5)
    np.testing.assert_allclose(blind.tcp_pose()[0], before, atol=2e-3)


@pytest.mark.parametrize('task', KINDS)
def test_the_expert_reaches_its_goal(blind, task):
    for seed in range(8000, 8006):
        _, info = blind.reset(seed=seed, options={'task': task})
        truncated = False
        while not (info['success'] or truncated):
            action = expert_action(blind)
            assert blind.action_space.contains(action)
            *_, truncated, info = blind.step(action)
        assert info['success'], seed
        assert info['moved'] == blind.goal.colour


def test_the_expert_serves_a_goal_given_midway(blind):
    _, info = blind.reset(seed=8000, options={'task': 'pick'})
    for _ in range(10):
        blind.step(expert_action(blind))
    other = next(c for c in blind.colours if c != blind.goal.colour)
    blind.set_goal(f'pick up the {other} cube')
    truncated = False
    while not (info['success'] or truncated):
        *_, truncated, info = blind.step(expert_action(blind))
    assert info['success']
    assert info['moved'] == other


def test_setpoints_at_a_high_rate_are_followed_from_one_to_the_next(blind, monkeypatch):
    blind.reset(seed=8000)
    start = blind.data.ctrl[:7].copy()
    applied = []
    step = tabletop.mujoco.mj_step

    def watched(model, data):
        applied.append(data.ctrl[:7] - start)
        step(model, data)

    monkeypatch.setattr(tabletop.mujoco, 'mj_step', watched)
    ways = np.array([0.01, 0.02, 0.0, -0.01])
    blind.advance(start + ways[:, None] * np.ones(7))
    found = np.array(applied)[:, 0]
    assert len(found) == 20
    np.testing.assert_allclose(found[4::5], ways, atol=1e-12)
    np.testing.assert_allclose(found[:5], 0.01 * np.arange(1, 6) / 5, atol=1e-12)


def test_setpoints_are_clipped_and_the_last_one_stays(blind):
    blind.reset(seed=8000)
    low, high = blind.model.actuator_ctrlrange[:7].T
    start = blind.data.ctrl[:7].copy()
    blind.advance(np.full((10, 7), 99.0))
    np.testing.assert_array_equal(blind.data.ctrl[:7], high)
    blind.reset(seed=8000)
    blind.advance(np.stack([start + 0.001, start + 0.002]))
    blind.advance()
    np.testing.assert_allclose(blind.data.ctrl[:7], start + 0.002)


def test_without_setpoints_a_command_is_gone_to_in_half_of_the_period(blind, monkeypatch):
    blind.reset(seed=8000)
    start = blind.data.ctrl[:7].copy()
    applied = []
    step = tabletop.mujoco.mj_step
    monkeypatch.setattr(
        tabletop.mujoco,
        'mj_step',
        lambda model, data: (applied.append(data.ctrl[0] - start[0]), step(model, data)),
    )
    blind.command_joints(start + 0.02)
    blind.advance()
    np.testing.assert_allclose(applied[4], 0.01, atol=1e-12)
    np.testing.assert_allclose(applied[9:], 0.02, atol=1e-12)
