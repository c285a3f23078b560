"""The import law: a room imports only rooms above it, and heavy packages stay where they belong.

The table of rooms is the docstring of the package; the tree of docs/architecture.md must name the
same rooms.
"""

import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest

import worldvla_ros

PACKAGE = Path(__file__).parent.parent / 'worldvla_ros'
GENERATED = {'msg', 'srv', 'action'}
LINES = re.findall(r'^    (\w+(?:, \w+)*)(?:  .*)?$', worldvla_ros.__doc__, re.M)
TABLE = [line.split(', ') for line in LINES]
LEVEL = {room: level for level, rooms in enumerate(TABLE) for room in rooms}

LAUNCH = {'graph', 'processes'}
NO_TORCH = {room for room in LEVEL if LEVEL[room] < LEVEL['model']} | LAUNCH
SIMULATED = {
    f'nodes.{name}'
    for name in (
        'sim',
        'sim_frames',
        'sim_trajectory',
        'mock_arm',
        'mock_controller',
        'mock_gripper',
    )
}
ROS_ROOTS = {'rclpy', 'ament_index_python', 'builtin_interfaces', 'cv_bridge', 'std_srvs'}
MODULES = sorted(
    path for path in PACKAGE.rglob('*.py') if path.relative_to(PACKAGE).parts[0] not in GENERATED
)


def module_name(path):
    """Return 'nodes.sim' of worldvla_ros/nodes/sim.py, and 'nodes' of its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def room_of(module):
    return module.split('.')[0]


def allowed(module, other):
    """Whether a module such as 'nodes.sim' may import from a room of this package."""
    own = room_of(module)
    if own == other:
        return True
    if other in GENERATED:
        return own == 'nodes'
    if other not in LEVEL:
        return False
    if own == 'nodes':
        hidden = {'model', 'data', 'learn', 'evaluate', 'benchmark'}
        hidden |= set() if module in SIMULATED else {'sim'}
        return other not in hidden and LEVEL[other] < LEVEL[own]
    if other in {'evaluate', 'benchmark', 'nodes'}:
        return own in {'cli', 'demo'}
    if own == 'learn' and other == 'sim':  # sources of episodes are handed over
        return False
    if own in LAUNCH:
        return other in {'errors', 'package_files'} | LAUNCH
    return LEVEL[other] < LEVEL[own] or (LEVEL[other] == LEVEL[own])


def imported_names(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = '.' * node.level + (node.module or '')
            yield from (f'{origin}.{alias.name}' for alias in node.names)


def foreign(module, root):
    """Whether an outside package does not belong into a module."""
    ros = root in ROS_ROOTS or root.endswith(('_msgs', '_interfaces'))
    return (
        (root == 'torch' and room_of(module) in NO_TORCH)
        or (root == 'mujoco' and room_of(module) != 'sim')
        or (root in {'libero', 'robosuite'} and module != 'sim.libero')
        or (root in {'viser', 'websockets', 'rich'} and room_of(module) != 'page')
        or (ros and room_of(module) != 'nodes' and not (root == 'rclpy' and module == 'demo.run'))
    )


def breaches(module, source):
    """Return the imports of a module that the law forbids."""
    found = []
    for name in imported_names(source):
        root, *rest = name.split('.')
        inside = root == PACKAGE.name and bool(rest)
        if root == '' or (not allowed(module, rest[0]) if inside else foreign(module, root)):
            found.append(name)
    return found


def links(of):
    """Return which name each name imports, where `of` makes a name from a module."""
    known = {module_name(path): path for path in MODULES}
    graph = {}
    for module, path in known.items():
        targets = graph.setdefault(of(module), set())
        for name in imported_names(path.read_text()):
            if name.startswith(f'{PACKAGE.name}.'):
                parts = name.split('.')[1:]
                whole = ['.'.join(parts[:n]) for n in range(len(parts), 0, -1)]
                target = next((each for each in whole if each in known), None)
                if target is not None and of(target) != of(module):
                    targets.add(of(target))
    return graph


def circle(graph):
    """Return the names of one circle, or an empty list."""
    done = set()

    def walk(name, path):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            found = walk(other, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_module_keeps_the_import_law(path):
    assert breaches(module_name(path), path.read_text()) == []


def test_the_table_names_the_rooms_that_are_there():
    assert {room_of(module_name(path)) for path in MODULES} - {''} == set(LEVEL)


@pytest.mark.parametrize('of', [room_of, str], ids=['rooms', 'modules'])
def test_no_circles(of):
    assert circle(links(of)) == []


def test_a_circle_is_found():
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}) == ['b', 'c']
    assert circle({'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}) == []


def test_the_tree_in_the_architecture_page_draws_the_rooms_in_order():
    tree = (
        (PACKAGE.parent / 'docs/architecture.md')
        .read_text()
        .split('```text\n')[-1]
        .split('```')[0]
    )
    drawn = re.findall(r'^    [├└]── (\w+?)(?:/|\.py) ', tree, re.M)
    assert [name for name in drawn if name != '__init__'] == list(LEVEL)


@pytest.mark.parametrize('room', sorted(r for r in LEVEL if (PACKAGE / r).is_dir()))
def test_a_room_says_what_it_must_not_know_and_where_to_begin(room):
    words = ast.get_docstring(ast.parse((PACKAGE / room / '__init__.py').read_text()))
    assert 'ust not know' in words
    named = re.findall(r'[Rr]ead\s+`(\w+)`', words)
    assert named
    assert all((PACKAGE / room / f'{name}.py').is_file() for name in named)


@pytest.mark.parametrize(
    ('module', 'line'),
    [
        ('tokenizers.vocab', 'from worldvla_ros.robot.description import RobotConfig'),
        ('tokenizers.vocab', 'from . import errors'),
        ('tokenizers.vocab', 'import torch'),
        ('tokenizers.sequence', 'from torch import nn'),
        ('tokenizers.sequence', 'def f():\n    import torch.nn.functional'),
        ('tokenizers.sequence', 'from worldvla_ros.model import masks'),
        ('robot.guards', 'import torch'),
        ('model.masks', 'from worldvla_ros.inference.engine import Engine'),
        ('inference.engine', 'from worldvla_ros.checkpoint import load'),
        ('policy', 'import rclpy'),
        ('policy', 'from sensor_msgs.msg import Image'),
        ('policy', 'from worldvla_ros.msg import ActionChunk'),
        ('policy', 'from worldvla_ros.sim.tasks import corpus'),
        ('data.episodes', 'from worldvla_ros.sim.tasks import corpus'),
        ('learn.train', 'import mujoco'),
        ('learn.train', 'from worldvla_ros.sim.tasks import corpus'),
        ('learn.train', 'from worldvla_ros.evaluate.success import trials'),
        ('evaluate.libero', 'from libero.libero import benchmark'),
        ('sim.tabletop', 'import robosuite'),
        ('learn.train', 'from worldvla_ros.nodes import runtime'),
        ('learn.train', 'from worldvla_ros.processes.supervisor import up'),
        ('learn.train', 'from worldvla_ros.benchmark.measure import bench'),
        ('graph', 'from worldvla_ros.tokenizers.sequence import Prompts'),
        ('nodes.policy', 'from worldvla_ros.model.masks import chunk_mask'),
        ('nodes.policy', 'from worldvla_ros.sim.tasks import corpus'),
        ('nodes.sim', 'from worldvla_ros.data.episodes import Episode'),
        ('nodes.sim', 'import mujoco'),
        ('policy', 'from worldvla_ros.benchmark.measure import bench'),
        ('nodes.policy', 'from worldvla_ros.benchmark.measure import bench'),
        ('cli.verbs', 'from rclpy.node import Node'),
    ],
)
def test_breach_is_found(module, line):
    assert len(breaches(module, f'"""Docstring."""\nimport numpy as np\n{line}\n')) == 1


@pytest.mark.parametrize(
    ('module', 'line'),
    [
        ('tokenizers.sequence', 'from worldvla_ros.tokenizers import vocab'),
        ('inference.engine', 'import torch'),
        ('sim.tabletop', 'import mujoco'),
        ('sim.libero', 'from libero.libero.envs import OffScreenRenderEnv'),
        ('sim.collect', 'from worldvla_ros.data.episodes import Episode'),
        ('nodes.sim', 'from worldvla_ros.sim.tasks import kind_of'),
        ('demo.run', 'from worldvla_ros.graph import describe'),
        ('nodes.policy', 'from rclpy.node import Node'),
        ('cli.verbs', 'from worldvla_ros.learn.train import run'),
        ('cli.bench', 'from worldvla_ros.benchmark.measure import bench'),
        ('benchmark.cases', 'from worldvla_ros.sim.collect import expert_episode'),
    ],
)
def test_lawful_import_is_no_breach(module, line):
    assert breaches(module, line) == []


@pytest.mark.parametrize(
    ('module', 'absent'),
    [
        ('policy', ['rclpy', 'mujoco']),
        ('world_model', ['rclpy', 'mujoco']),
        ('tokenizers.sequence', ['torch', 'rclpy']),
        ('robot.guards', ['torch', 'rclpy']),
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
