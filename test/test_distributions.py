"""The ways in (make, CI, containers, conda) name the same distributions, packages and files."""

import ast
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = ['humble', 'jazzy', 'kilted', 'lyrical']
MAKEFILE = (ROOT / 'Makefile').read_text()
DOCKERFILE = (ROOT / 'Dockerfile').read_text()
CI = yaml.safe_load((ROOT / '.github/workflows/ci.yaml').read_text())
DEVCONTAINER = json.loads((ROOT / '.devcontainer/devcontainer.json').read_text())
SUPPORT = (ROOT / 'docs/project/distributions.md').read_text()


def requirements(name):
    """Return {package: range} of a file of requirements."""
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    named = (re.fullmatch(r'([\w.-]+)(.*)', line) for line in lines if line[:1].isalnum())
    return {found[1].lower(): found[2] for found in named}


@pytest.fixture
def pixi():
    """What pixi.toml says."""
    tomllib = pytest.importorskip('tomllib', reason='Python 3.10 reads no TOML')
    return tomllib.loads((ROOT / 'pixi.toml').read_text())


def keys(*tags):
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {e.text for e in root if e.tag in tags}


def tool(name):
    """Return a linter of `make lint`, or skip."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f'{name} is not installed; `make lint` installs and runs it')
    return found


# ---- distributions


def test_readme_and_the_support_table_name_the_distributions_that_are_tested():
    rows = re.findall(r'^\| (\w+) \| (\d\.\d+) \|', SUPPORT, re.M)
    assert [name.lower() for name, _ in rows] == DISTRIBUTIONS
    [readme] = re.findall(r'^With ROS 2 (.+?) sourced', (ROOT / 'README.md').read_text(), re.M)
    assert re.findall(r'[A-Z]\w+', readme) == [name for name, _ in rows]


def test_ci_tests_every_distribution_and_lets_only_rolling_fail():
    ros = CI['jobs']['ros']
    assert ros['strategy']['matrix']['distribution'] == [*DISTRIBUTIONS, 'rolling']
    assert ros['continue-on-error'] == "${{ matrix.distribution == 'rolling' }}"
    assert ros['container']['image'] == 'ros:${{ matrix.distribution }}-ros-base'


def test_ci_tests_every_python_that_the_set_up_takes():
    check = (ROOT / 'tools/check_machine.sh').read_text()
    low, high = re.search(r'\((3), (\d+)\) <= .* <= \(3, (\d+)\)', check).group(2, 3)
    tested = CI['jobs']['wheels']['strategy']['matrix']['python']
    assert tested == [f'3.{minor}' for minor in range(int(low), int(high) + 1)]
    assert f'>=3.{low}' in (ROOT / 'setup.py').read_text()


def test_wheels_of_both_distributions_are_for_the_same_packages():
    of = {
        name: {re.sub('^ros-(kilted|jazzy)-', 'ros-', p) for p in requirements(f'ros-{name}')}
        for name in ('kilted', 'jazzy')
    }
    assert 'ros-rclpy' in of['jazzy']
    # Jazzy's generators lie in other packages
    assert of['kilted'] - of['jazzy'] == {'ros-ament-cmake-ros-core'}
    assert of['jazzy'] - of['kilted'] == {
        'ros-ament-cmake-gmock', 'ros-ament-cmake-gtest', 'ros-ament-cmake-ros',
        'ros-python-cmake-module',
    }  # fmt: skip


# ---- commands and files


def test_every_make_target_that_ci_and_documents_name_is_there():
    targets = set(re.findall(r'^([\w-]+):', MAKEFILE, re.M))
    documents = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'QUALITY_DECLARATION.md']
    documents += [
        *(ROOT / 'docs').rglob('*.md'),
        ROOT / '.ci/run',
        ROOT / '.github/workflows/ci.yaml',
    ]
    named = {
        name
        for page in documents
        for name in re.findall(r'(?:`|run: |^)make ([a-z][\w-]*)', page.read_text(), re.M)
    }
    assert {'test', 'test-jazzy', 'wheel', 'lint'} <= named
    assert named <= targets


def test_the_targets_of_make_are_phony():
    targets = set(re.findall(r'^([a-z][\w-]*):', MAKEFILE, re.M))
    assert targets == set(re.search(r'^\.PHONY: (.+)$', MAKEFILE, re.M)[1].split())


def test_ci_of_the_host_runs_what_ci_here_runs():
    here = re.findall(r'^make (\w+)', (ROOT / '.ci/run').read_text(), re.M)
    there = [step.get('run', '') for job in CI['jobs'].values() for step in job['steps']]
    assert len(here) > 3
    assert [name for name in here if f'make {name}' not in there] == []


def test_what_the_container_copies_is_there_and_sent():
    copied = [
        p for line in re.findall(r'^COPY (.+)$', DOCKERFILE, re.M) for p in line.split()[:-1]
    ]
    assert len(copied) > 3
    ignored = (ROOT / '.dockerignore').read_text().split()
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path not in ignored


def test_the_dev_container_builds_a_stage_of_the_dockerfile_with_its_arguments():
    build = DEVCONTAINER['build']
    stages = re.findall(r'^FROM \S+ AS (\w+)$', DOCKERFILE, re.M)
    assert build['target'] in stages
    assert stages[-1] == 'runtime', 'what `docker build .` makes'
    assert set(build['args']) <= set(re.findall(r'^ARG (\w+)', DOCKERFILE, re.M))
    root = (ROOT / '.devcontainer' / build['context']).resolve()
    assert (ROOT / '.devcontainer' / build['dockerfile']).resolve() == root / 'Dockerfile'
    assert f'/opt/ros/{build["args"]["ROS_DISTRO"]}/' in DEVCONTAINER['postCreateCommand']


def test_one_environment_is_made_and_used():
    script = (ROOT / 'tools/install_dependencies.sh').read_text()
    made = re.search(r'VENV:-(\S+?)}', script)[1]
    for text in (DOCKERFILE, (ROOT / '.github/workflows/ci.yaml').read_text()):
        assert f'-DPython3_EXECUTABLE={made}/bin/python3' in text
        assert set(re.findall(r'VIRTUAL_ENV=(\S+)', text)) == {made}
    assert made in DEVCONTAINER['postCreateCommand']


def test_the_renderer_that_containers_get_is_the_one_that_the_set_up_asks_for():
    check = (ROOT / 'tools/check_machine.sh').read_text()
    [renderer] = re.findall(r"need '(.+?)' 'an OpenGL", check)
    assert renderer in (ROOT / 'tools/install_dependencies.sh').read_text()


def test_rosdep_leaves_to_pip_what_the_requirements_have():
    script = (ROOT / 'tools/install_dependencies.sh').read_text()
    expression = re.search(r"sed -n '(.+?)' package.xml", script)[1]
    done = subprocess.run(
        ['sed', '-n', expression, str(ROOT / 'package.xml')], capture_output=True, text=True
    )
    skipped = done.stdout.split()
    assert set(skipped) == {key for key in keys('exec_depend') if key.endswith('-pip')}
    for key in skipped:
        name = key.removeprefix('python3-').removesuffix('-pip').replace('pytorch', 'torch')
        assert name in requirements('base')


@pytest.mark.parametrize('name', ['install_dependencies', 'container_entrypoint'])
def test_scripts_of_the_container_are_shell(name):
    assert subprocess.run(['sh', '-n', str(ROOT / f'tools/{name}.sh')]).returncode == 0


def test_without_a_sourced_ros_the_script_says_what_to_do():
    done = subprocess.run(
        ['sh', str(ROOT / 'tools/install_dependencies.sh')], capture_output=True, text=True,
        env={'PATH': '/usr/bin:/bin'},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'Expected a sourced ROS 2' in done.stderr
    assert '/opt/ros/' in done.stderr


# ---- conda


def test_pixi_has_the_ros_packages_of_package_xml(pixi):
    of_ros = keys('buildtool_depend', 'depend', 'exec_depend', 'test_depend')
    of_ros = {key for key in of_ros if not key.startswith('python3-')} - {'pinocchio'}
    wanted = {f'ros-jazzy-{key.replace("_", "-")}' for key in of_ros} | {'pinocchio'}
    assert wanted <= set(pixi['dependencies'])
    extra = {name for name in pixi['dependencies'] if name.startswith('ros-')} - wanted
    assert extra == {'ros-jazzy-rmw-fastrtps-cpp', 'ros-jazzy-ros2launch'}


def test_pixi_has_the_python_packages_of_the_requirements(pixi):
    base = requirements('base')
    for name in ('pin', 'setuptools', 'wheel'):
        del base[name]
    assert pixi['pypi-dependencies'] == base


def test_pixi_names_files_and_channels_that_fit(pixi):
    assert pixi['workspace']['channels'][0].endswith('robostack-jazzy')
    assert pixi['workspace']['name'] == 'worldvla_ros'
    for task in pixi['tasks'].values():
        for wanted in task.get('depends-on', []) if isinstance(task, dict) else []:
            assert wanted in pixi['tasks']


# ---- what colcon tests


def test_colcon_tests_files_that_are_there():
    text = (ROOT / 'CMakeLists.txt').read_text().replace('\\\n', '')
    paths = re.search(r'set\(WORLDVLA_TEST "(.+?)"', text)[1].split(';')
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


# ---- Python


SOURCES = sorted((ROOT / 'worldvla_ros').rglob('*.py'))


def test_every_source_is_python_3_10():
    """By its grammar; `make types` asks for names of the library that came later."""
    for path in SOURCES:
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))
    assert len(SOURCES) > 200


# ---- linters


def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run(
        [tool('hadolint'), str(ROOT / 'Dockerfile')], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_workflow_has_the_fields_that_its_host_knows():
    done = subprocess.run(
        [tool('check-jsonschema'), '--builtin-schema', 'vendor.github-workflows',
         str(ROOT / '.github/workflows/ci.yaml')], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing_in_the_workflow():
    done = subprocess.run(
        [tool('actionlint'), str(ROOT / '.github/workflows/ci.yaml')],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
