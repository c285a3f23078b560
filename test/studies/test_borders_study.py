"""The study of chunk borders, short: one scene, path player beside single steps."""

from pathlib import Path
import runpy

import numpy as np
import pytest

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.policy import Policy
from worldvla_ros.robot.description import load_robot
from worldvla_ros.sim.tabletop import TabletopEnv

STUDY = runpy.run_path(str(Path(__file__).parents[2] / 'studies/borders.py'))


@pytest.mark.slow
def test_borders_of_paths_are_smooth_and_the_goal_is_reached():
    policy = Policy(load(demo_path()))
    env = TabletopEnv(task='push', cameras=policy.checkpoint.spec.cameras)
    limits, made = load_robot('sim_panda').limits, {}
    for way in ('step', 'latest'):
        [made[way]] = STUDY['played'](policy, env, [8000], way, {}, (0.06, 0.2))
    env.close()
    path, step = made['latest'], made['step']
    assert path['success']
    assert path['borders'] >= 4
    assert path['velocity_step'] < 1e-6
    assert path['acceleration_step'] < 1e-6
    assert path['acceleration'] <= limits.linear_acceleration
    assert path['angular_acceleration'] <= limits.angular_acceleration
    assert path['jerk'] <= step['jerk'] / 3
    rms = {way: (one['jerk_squares'] / one['jerks']) ** 0.5 for way, one in made.items()}
    assert rms['latest'] <= rms['step'] / 3


def test_a_jerk_counts_by_what_the_commands_change():
    record = STUDY['Record']()
    record.speeds = [np.zeros(6), np.zeros(6), np.array([0.1, 0, 0, 0, 0, 0])]
    found = STUDY['summary'](record)
    assert found['jerk'] == pytest.approx(0.1 / 0.01**2)
    assert found['acceleration'] == pytest.approx(10.0)
    assert found['velocity_step'] is None


def test_the_table_has_a_column_per_way():
    record = STUDY['Record']()
    record.speeds, record.thought_s, record.borders = [np.zeros(6)] * 4, [0.1], 3
    episode = {'success': True, 'seconds': 2.0} | STUDY['summary'](record)
    found = {
        'ideal clock': {'pick': [{'success': True, 'seconds': 1.0}]},
        'step': {'pick': [episode]},
    }
    head, _, success, borders, *_ = STUDY['table'](['pick'], found).splitlines()
    assert head == '| | ideal clock | step |'
    assert success == '| pick, success | 1 of 1 [0.21, 1.00], 1.0 s | 1 of 1 [0.21, 1.00], 2.0 s |'
    assert borders == '| chunk borders | – | 3 |'
