"""The study of bridges, short: the demo checkpoint picks through controllers, in one process."""

import importlib.util
from pathlib import Path

import pytest

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.policy import Policy
from worldvla_ros.sim.tabletop import TabletopEnv

SCRIPT = Path(__file__).parents[2] / 'studies/bridges.py'


@pytest.fixture(scope='module')
def study():
    spec = importlib.util.spec_from_file_location('bridges_study', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def policy():
    return Policy(load(demo_path()))


@pytest.fixture(scope='module')
def env(policy):
    made = TabletopEnv(task='pick', cameras=policy.checkpoint.spec.cameras)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['twist', 'twist, unitless', 'pose, compliant', 'trajectory'])
def test_a_cube_is_picked_through_a_controller(study, policy, env, name):
    [episode] = study.bridged(policy, env, [8000], name)
    assert episode['success']
    assert episode['dropped'] == 0
    assert not episode['reflexes']


def test_the_table_has_a_line_per_controller(study):
    counts = {'refused': 1, 'dropped': 2, 'reflexes': None}
    found = {
        'ideal clock': {'pick': [{'success': True, 'seconds': 2.0}]},
        'twist': {'pick': [{'success': False, 'seconds': 9.0} | counts] * 2},
    }
    *_, ideal, twist = study.table(['pick'], found).splitlines()
    assert ideal == '| ideal clock | 1 of 1 [0.21, 1.00], 2.0 s | – | – | – |'
    assert twist == '| twist | 0 of 2 [0.00, 0.66], – | 2 | 4 | – |'
