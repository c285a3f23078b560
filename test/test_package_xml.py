"""package.xml, setup.py and the imports of the sources name the same packages, both ways.

rosdep_keys.yaml says in which distributions a key resolves and which module it stands for.
"""

import ast
from pathlib import Path
import re
import sys
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'worldvla_ros'
FACTS = yaml.safe_load((ROOT / 'test/rosdep_keys.yaml').read_text())
DISTRIBUTIONS = ['humble', 'jazzy', 'kilted', 'lyrical']
ROS = {'rclpy', 'ament_index_python', 'cv_bridge', 'pinocchio'}
BUILD = {'ament_cmake', 'ament_cmake_python', 'rosidl_default_generators', 'ament_cmake_pytest'}
OPTIONAL = {'hf-libero', 'huggingface_hub', 'rerun-sdk', 'torchao'}
"""Used only where they are installed."""


def outside_packages(folder):
    """Return the packages from outside that the sources below a folder import."""
    found = set()
    for path in folder.rglob('*.py'):
        if path.relative_to(folder).parts[0] in ('msg', 'srv', 'action'):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'worldvla_ros', '_typeshed'}


IMPORTED = outside_packages(PACKAGE)


def listed(*tags):
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {e.text for e in root if e.tag in tags}


RUN = listed('depend', 'exec_depend')
ALL = listed('depend', 'exec_depend', 'buildtool_depend', 'test_depend')


def is_ros(module):
    return module in ROS or module.endswith(('_msgs', '_interfaces', '_srvs'))


@pytest.mark.parametrize('key', sorted(ALL))
def test_a_key_resolves_in_every_distribution(key):
    assert FACTS['keys'].get(key) == DISTRIBUTIONS, 'look it up in rosdistro; see rosdep_keys.yaml'


def test_every_key_of_the_table_is_used():
    assert set(FACTS['keys']) == ALL


@pytest.mark.parametrize('module', sorted(IMPORTED))
def test_what_is_imported_has_a_key_or_a_reason_to_have_none(module):
    if module in FACTS['comes_with']:
        module = FACTS['comes_with'][module]
    if module in FACTS['pip_only']:
        comment = (ROOT / 'package.xml').read_text().split('Not asked of rosdep')[1]
        assert FACTS['pip_only'][module] in re.split(r'[\s,:;.]+', comment.split('-->')[0])
    else:
        key = module if is_ros(module) else FACTS['modules'].get(module)
        assert key in RUN, f'{module}: add its key to package.xml and to rosdep_keys.yaml'


def test_the_imports_are_really_found():
    assert {'rclpy', 'sensor_msgs', 'torch', 'viser', 'daqp', 'rerun'} <= IMPORTED
    assert len(IMPORTED) > 35


@pytest.mark.parametrize('key', sorted(RUN))
def test_a_key_is_used(key):
    modules = {module for module, its in FACTS['modules'].items() if its == key} | {key}
    reason = FACTS['not_imported'].get(key, '')
    assert bool(modules & IMPORTED) != bool(reason), 'imported, or explained, and not both'
    quoted = re.match(r'(.+) in (nodes/\w+\.py)$', reason)
    if quoted:
        assert quoted[1] in (PACKAGE / quoted[2]).read_text()


def test_keys_for_tests_are_used_by_tests():
    used = {FACTS['modules'].get(module, module) for module in outside_packages(ROOT / 'test')}
    assert listed('test_depend') - BUILD - used - set(FACTS['not_imported']) == set()


# ---- the other way in: pip


def required():
    """Return the names that setup.py asks pip for, with those of its extras."""
    return set(re.findall(r"'([a-z][a-z0-9_-]+)>=", (ROOT / 'setup.py').read_text())) - {
        'setuptools'
    }


PIP_NAMES = {'PIL': 'pillow', 'pinocchio': 'pin', 'yaml': 'pyyaml', **FACTS['pip_only']}


def test_every_package_that_setup_requires_is_used():
    backends = {'pyopengl', 'imageio-ffmpeg'}  # of mujoco and imageio
    used = {PIP_NAMES.get(module, module) for module in IMPORTED} | backends
    assert required() - used == set()


def test_every_python_package_that_is_imported_is_required():
    imported = {m for m in IMPORTED if not (is_ros(m) and m != 'pinocchio')}
    imported -= set(FACTS['comes_with'])
    assert {PIP_NAMES.get(module, module) for module in imported} - required() == set()


def test_requirements_for_all_have_what_setup_requires():
    lines = (ROOT / 'requirements/base.txt').read_text().splitlines()
    named = {re.split(r'[=<>]', line)[0] for line in lines if line and not line.startswith('#')}
    assert required() - named == OPTIONAL
