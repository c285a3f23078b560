"""What the sources use of rclpy and launch_ros is there in every distribution that we support.

The facts are in rclpy_names.yaml. Whatever only newer distributions have is used in one module,
nodes.distributions, which chooses.
"""

import ast
from functools import cache
import importlib
import inspect
from pathlib import Path
import subprocess
import sys

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'worldvla_ros'
NAMES = yaml.safe_load((ROOT / 'test/rclpy_names.yaml').read_text())
DISTRIBUTIONS = ['humble', 'jazzy', 'kilted', 'lyrical']
RCLPY = {3: 'humble', 7: 'jazzy', 9: 'kilted'}
"""Distribution by rclpy's major version; a newer one is the newest."""
SOURCES = sorted(
    path
    for folder in ('worldvla_ros', 'launch', 'examples')
    for path in (ROOT / folder).rglob('*.py')
    if path.relative_to(ROOT).parts[1] not in ('msg', 'srv', 'action')
)  # fmt: skip


def whole_name(node):
    """Return 'rclpy.clock.Clock' of such a chain of attributes, or ''."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = whole_name(node.value)
        return f'{front}.{node.attr}' if front else ''
    return ''


def known(module, name):
    """Return whether every distribution has this name in this module of rclpy."""
    return name in NAMES['everywhere'].get(module, ()) or f'{module}.{name}' in NAMES['everywhere']


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'rclpy':
            for alias in node.names:
                if not known(node.module, alias.name):
                    yield f'{node.module}.{alias.name}'
        elif isinstance(node, ast.Import):
            for alias in node.names:
                inside = alias.name.startswith('rclpy.')
                if inside and alias.name not in NAMES['everywhere']:
                    yield alias.name


def reached(tree):
    """Yield names such as rclpy.x.Y that are reached by attributes and not known everywhere."""
    for node in ast.walk(tree):
        name = whole_name(node) if isinstance(node, ast.Attribute) else ''
        if name.startswith('rclpy.') and name not in NAMES['everywhere']:
            module, _, last = name.rpartition('.')
            owner = module.rpartition('.')[2]
            if not known(module, last) and not owner[:1].isupper():
                yield name


def later(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in NAMES['later']:
            yield f'.{node.attr}'
        elif isinstance(node, ast.Call):
            called = whole_name(node.func).rpartition('.')[2] or getattr(node.func, 'attr', '')
            for keyword in node.keywords:
                if f'{called}.{keyword.arg}' in NAMES['arguments']:
                    yield f'{called}({keyword.arg}=)'


def subscripts(tree):
    """Yield `Client[...]` where Python evaluates it: not in quotes, nor in a function's body."""

    def walk(node, inside):
        if isinstance(node, ast.Subscript):
            name = whole_name(node.value).rpartition('.')[2]
            if name in NAMES['subscripts'] and name in from_rclpy:
                yield f'{name}[]'
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if isinstance(node, ast.AnnAssign) and field == 'annotation' and inside:
                    continue
                function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, inside or (function and field == 'body'))

    from_rclpy = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('rclpy')
        for alias in node.names
    }
    yield from walk(tree, False)


def too_new(source):
    """Return what a source uses that not every distribution has."""
    tree = ast.parse(source)
    return [*imported(tree), *reached(tree), *later(tree), *subscripts(tree)]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_a_source_uses_what_every_distribution_has(path):
    if path == PACKAGE / f'{NAMES["chooses"].replace(".", "/")}.py':
        pytest.skip('chooses between the names of the distributions')
    assert too_new(path.read_text()) == [], 'see test/rclpy_names.yaml'


@pytest.mark.parametrize(
    ('source', 'used'),
    [
        ('from rclpy.event_handler import SubscriptionEventCallbacks',
         'rclpy.event_handler.SubscriptionEventCallbacks'),
        ('from rclpy.qos import QoSProfile, qos_profile_best_available',
         'rclpy.qos.qos_profile_best_available'),
        ('import rclpy.experimental', 'rclpy.experimental'),
        ('import rclpy\nrclpy.experimental.EventsExecutor()', 'rclpy.experimental.EventsExecutor'),
        ('client.service_name', '.service_name'),
        ('self.create_timer(1.0, tick, autostart=False)', 'create_timer(autostart=)'),
        ('LifecycleNode(name="policy", autostart=True)', 'LifecycleNode(autostart=)'),
        ('from rclpy.client import Client\ndef f(c: Client[int, int]): pass', 'Client[]'),
        ('from rclpy.task import Future\nclass A:\n    done: Future[int]', 'Future[]'),
    ],
)  # fmt: skip
def test_what_only_newer_distributions_have_is_found(source, used):
    assert used in too_new(source)


@pytest.mark.parametrize(
    'source',
    [
        'from rclpy.qos import QoSProfile',
        'from rclpy import lifecycle',
        'import rclpy\nrclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)',
        'self.create_timer(1.0, tick, clock=steady)',
        "from rclpy.client import Client\ndef f(c: 'Client[int, int]'): pass",
        'from rclpy.client import Client\ndef f():\n    c: Client[int, int] = make()',
        'from concurrent.futures import Future\nclass A:\n    done: Future[int]',
    ],
)
def test_what_all_distributions_have_is_not_found(source):
    assert too_new(source) == []


# ---- the facts, as far as the rclpy that is installed can tell


@cache
def installed():
    """Return which distribution the installed rclpy is of."""
    pytest.importorskip('rclpy')
    from ament_index_python.packages import get_package_share_directory

    manifest = (Path(get_package_share_directory('rclpy')) / 'package.xml').read_text()
    major = int(manifest.split('<version>')[1].split('.')[0])
    return RCLPY.get(major, 'lyrical' if major > 9 else f'rclpy {major}')


def has_it(since):
    return DISTRIBUTIONS.index(since) <= DISTRIBUTIONS.index(installed())


def find(dotted):
    """Return the object of a dotted name, or None."""
    parts = dotted.split('.')
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None


EVERYWHERE = [(module, name) for module, names in NAMES['everywhere'].items() for name in names]


@pytest.mark.parametrize(('module', 'name'), EVERYWHERE)
def test_the_installed_rclpy_has_what_all_have(module, name):
    installed()
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize('name', NAMES['modules'])
def test_the_installed_rclpy_has_the_modules_of_its_distribution(name):
    since = has_it(NAMES['modules'][name])
    if installed() == 'lyrical':
        pytest.skip('what later distributions take away is not listed')
    assert (find(name) is not None) == since


@pytest.mark.parametrize('name', NAMES['later'])
def test_the_installed_rclpy_has_the_attributes_of_its_distribution(name):
    entry = NAMES['later'][name]
    owner = find(entry['of'])
    if owner is None:
        pytest.skip(f'{entry["of"]} is not in this distribution')
    # those that __init__ sets are found in its source
    there = hasattr(owner, name) or f'self.{name} =' in inspect.getsource(owner)
    assert there == has_it(entry['since'])


@pytest.mark.parametrize('name', [n for n, e in NAMES['arguments'].items() if 'rclpy' in e['of']])
def test_the_installed_rclpy_has_the_arguments_of_its_distribution(name):
    entry = NAMES['arguments'][name]
    installed()
    called = find(entry['of'])
    if called is None:
        assert not has_it(entry['since'])
        return
    assert (name.split('.')[1] in inspect.signature(called).parameters) == has_it(entry['since'])


# ---- the oldest distribution, played by the installed one


HUMBLE = """
import importlib, pkgutil, sys, types

import rclpy.action, rclpy.client, rclpy.executors, rclpy.lifecycle, rclpy.node, rclpy.subscription
import rclpy.event_handler as newer

older = types.ModuleType('rclpy.qos_event')
for name in vars(newer):
    setattr(older, name, getattr(newer, name))
sys.modules['rclpy.qos_event'] = rclpy.qos_event = older
del rclpy.event_handler
sys.modules['rclpy.event_handler'] = None  # not to be imported
del rclpy.subscription.Subscription.CallbackType
if hasattr(rclpy.client.Client, 'service_name'):
    del rclpy.client.Client.service_name
"""
"""Takes the names of Iron and later, which our nodes meet, away from the installed rclpy."""


def as_in_humble(code, *arguments):
    return subprocess.run(
        [sys.executable, '-c', HUMBLE + code, *arguments], cwd=ROOT, text=True, capture_output=True
    )


def test_every_node_is_imported_where_rclpy_has_no_newer_names():
    installed()
    modules = [
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        for path in sorted((PACKAGE / 'nodes').rglob('*.py'))
    ]
    code = 'for name in sys.argv[1:]: importlib.import_module(name); print(name)'
    done = as_in_humble(code, *modules)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= set(modules)
    assert len(modules) > 40


def test_a_subscription_that_hands_on_the_message_alone_is_understood():
    installed()
    done = as_in_humble(
        'from worldvla_ros.nodes.distributions import with_info\n'
        "with_info(lambda message, info: print(message, info['source_timestamp']))('hello')"
    )
    assert (done.stdout, done.stderr) == ('hello 0\n', '')


def test_the_service_of_a_client_has_a_name_in_every_distribution():
    pytest.importorskip('rclpy')
    from types import SimpleNamespace

    from worldvla_ros.nodes.distributions import name_of_service

    assert name_of_service(SimpleNamespace(srv_name='player/hold')) == 'player/hold'
    newer = SimpleNamespace(srv_name='player/hold', service_name='/arm/player/hold')
    assert name_of_service(newer) == '/arm/player/hold'
