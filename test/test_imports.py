"""The import law: which module may import which, and where torch, ROS 2 and MuJoCo are known."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).parent.parent / 'worldvla_ros'
LAYERS = (
    {'__init__', 'errors', 'observation', 'vocab', 'config', 'robot', 'share'},
    {'tokenizers', 'sequence', 'chunk_player', 'guards', 'kinematics', 'metrics', 'pictures'},
    {'model'},
    {
        'memory',
        'caches',
        'free_decoding',
        'chunk_decoding',
        'image_decoding',
        'image_codes',
        'engine',
        'spec',
        'weights',
        'profiles',
        'meta_layout',
        'published',
        'checkpoint',
        'inspection',
        'pull',
        'policy',
        'world_model',
    },
    {'learn', 'sim'},
    {'nodes'},
)
COMMAND = {'cli', 'cli_checkpoints', 'cli_eval', 'cli_parts'}
MESSAGES = {'msg', 'srv', 'action'}
ROS_ROOTS = {'rclpy', 'ament_index_python', 'builtin_interfaces', 'cv_bridge', 'std_srvs'}
MODULES = sorted(
    path for path in PACKAGE.rglob('*.py') if path.relative_to(PACKAGE).parts[0] not in MESSAGES
)


def allowed_parts(module):
    """Return the parts of the package that a module such as 'nodes.sim' may import."""
    part = module.split('.')[0]
    if part in COMMAND:
        return set().union(*LAYERS, {'graph'}, COMMAND)
    if part == 'graph':
        return LAYERS[0]
    if part == 'nodes':
        others = {'graph', *MESSAGES} | ({'sim'} if module == 'nodes.sim' else set())
        return LAYERS[0] | LAYERS[1] | LAYERS[3] | LAYERS[5] | others
    own = next(i for i, parts in enumerate(LAYERS) if part in parts)
    return set().union(*LAYERS[: own + 1])


def imported_names(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = '.' * node.level + (node.module or '')
            yield from (f'{origin}.{alias.name}' for alias in node.names)


def breaches(module, source):
    """Return the imports of a module that the law forbids."""
    part = module.split('.')[0]
    low = part in LAYERS[0] | LAYERS[1]
    found = []
    for name in imported_names(source):
        root, *rest = name.split('.')
        inside = root == PACKAGE.name and bool(rest)
        if (
            root == ''
            or (inside and rest[0] not in allowed_parts(module))
            or (root == 'torch' and low)
            or (root == 'mujoco' and part != 'sim')
            or (root in {'libero', 'robosuite'} and module != 'sim.libero')
            or ((root in ROS_ROOTS or root.endswith(('_msgs', '_interfaces'))) and part != 'nodes')
        ):
            found.append(name)
    return found


def module_name(path):
    return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_module_keeps_the_import_law(path):
    assert breaches(module_name(path), path.read_text()) == []


def test_every_layer_has_modules():
    present = {module_name(path).split('.')[0] for path in MODULES}
    assert present == set().union(*LAYERS, {'graph'}, COMMAND)


@pytest.mark.parametrize(
    ('module', 'line'),
    [
        ('vocab', 'from worldvla_ros.sequence import Prompts'),
        ('vocab', 'import worldvla_ros.tokenizers.text'),
        ('vocab', 'from worldvla_ros import sequence'),
        ('vocab', 'from . import errors'),
        ('vocab', 'import torch'),
        ('sequence', 'from torch import nn'),
        ('sequence', 'def f():\n    import torch.nn.functional'),
        ('sequence', 'from worldvla_ros.model import masks'),
        ('model.masks', 'from worldvla_ros.engine import Engine'),
        ('policy', 'import rclpy'),
        ('policy', 'from sensor_msgs.msg import Image'),
        ('policy', 'from worldvla_ros.msg import ActionChunk'),
        ('policy', 'from worldvla_ros.sim.tasks import corpus'),
        ('learn.train', 'import mujoco'),
        ('learn.evaluate_libero', 'from libero.libero import benchmark'),
        ('sim.tabletop', 'import robosuite'),
        ('learn.train', 'from worldvla_ros.nodes import runtime'),
        ('learn.train', 'from worldvla_ros.graph import up'),
        ('graph', 'from worldvla_ros.sequence import Prompts'),
        ('nodes.policy', 'from worldvla_ros.model.masks import chunk_mask'),
        ('nodes.policy', 'from worldvla_ros.sim.tasks import corpus'),
        ('nodes.sim', 'from worldvla_ros.learn.episodes import Episode'),
        ('nodes.sim', 'import mujoco'),
        ('cli', 'from rclpy.node import Node'),
    ],
)
def test_breach_is_found(module, line):
    assert len(breaches(module, f'"""Docstring."""\nimport numpy as np\n{line}\n')) == 1


@pytest.mark.parametrize(
    ('module', 'line'),
    [
        ('sequence', 'from worldvla_ros import vocab'),
        ('engine', 'import torch'),
        ('sim.tabletop', 'import mujoco'),
        ('sim.libero', 'from libero.libero.envs import OffScreenRenderEnv'),
        ('sim.collect', 'from worldvla_ros.learn.episodes import Episode'),
        ('nodes.sim', 'from worldvla_ros.sim.tasks import kind_of'),
        ('nodes.demo', 'from worldvla_ros.graph import describe'),
        ('nodes.policy', 'from rclpy.node import Node'),
        ('cli', 'from worldvla_ros.learn.train import run'),
    ],
)
def test_lawful_import_is_no_breach(module, line):
    assert breaches(module, line) == []


@pytest.mark.parametrize(
    ('module', 'absent'),
    [
        ('policy', ['rclpy', 'mujoco']),
        ('world_model', ['rclpy', 'mujoco']),
        ('sequence', ['torch', 'rclpy']),
        ('guards', ['torch', 'rclpy']),
        ('graph', ['torch', 'rclpy', 'numpy']),
    ],
)
def test_importing_leaves_heavy_packages_out(module, absent):
    code = f'import sys, worldvla_ros.{module}; print(*sorted(sys.modules))'
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    loaded = result.stdout.split()
    assert f'worldvla_ros.{module}' in loaded
    assert not set(absent) & set(loaded)
