"""The reference that `make docs` generates is what the code has, and the site needs no network."""

import ast
from pathlib import Path
import re
import runpy
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / 'docs'
sys.path.insert(0, str(ROOT))

from tools.reference import pages  # noqa: E402
from tools.reference.commands import commands_page, launch_page, verbs  # noqa: E402
from tools.reference.fields import fields_page  # noqa: E402
from tools.reference.interfaces import files, interface, interfaces_page, tables  # noqa: E402
from worldvla_ros.cli.verbs import parser  # noqa: E402
from worldvla_ros.graph import ARGUMENTS  # noqa: E402
from worldvla_ros.robot.description import RobotConfig  # noqa: E402


def rows(text):
    """Return the rows of all tables, each a list of cells."""
    lines = (line for line in text.splitlines() if line.startswith('| '))
    return [[c.strip() for c in re.split(r'(?<!\\)\|', line)[1:-1]] for line in lines]


@pytest.fixture(scope='module')
def nodes():
    """All nodes, as the generator describes them."""
    pytest.importorskip('rclpy')
    return pages.ask()


# ---- nodes


def test_every_executable_is_described(nodes):
    listed = re.findall(r'^(\w+) *=', (ROOT / 'nodes.txt').read_text(), re.M)
    assert list(dict.fromkeys(node['executable'] for node in nodes)) == listed
    assert [n['name'] for n in nodes if n['executable'] == 'model'] == ['policy', 'world_model']


def declared_names():
    """Return the names of all parameters that the sources declare."""
    calls = (
        node
        for file in sorted((ROOT / 'worldvla_ros/nodes').rglob('*.py'))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'declare'
    )
    return {call.args[1].value for call in calls if isinstance(call.args[1], ast.Constant)}


def test_every_declared_parameter_is_in_the_reference(nodes):
    described = {p['name'] for node in nodes for p in node['parameters']}
    assert len(declared_names()) > 30
    assert declared_names() <= described


@pytest.mark.parametrize(
    ('name', 'parameter', 'kind', 'default', 'limits'),
    [
        ('action_player', 'control_rate', 'double', 100.0, [1.0, 500.0]),
        ('action_player', 'blending', 'string', 'latest', []),
        ('policy', 'max_image_age', 'double', 0.5, [0.01, 10.0]),
        ('sim', 'image_size', 'integer', 128, [32, 512]),
        ('recorder', 'exclude', 'string_array', ['wrist_image'], []),
    ],
)
def test_a_parameter_is_what_its_node_declares(nodes, name, parameter, kind, default, limits):
    [found] = [
        p
        for n in nodes
        if n['executable'] == name
        for p in n['parameters']
        if p['name'] == parameter
    ]
    assert (found['type'], found['default'], found['limits']) == (kind, default, limits)
    assert found['description']


def test_topics_have_the_qos_of_the_running_node(nodes):
    [player] = [node for node in nodes if node['name'] == 'action_player']
    ends = {(e['role'], e['name'], e['type'], e['qos']) for e in player['endpoints']}
    twist = 'geometry_msgs/msg/TwistStamped'
    assert ('publishes', 'delta_twist_cmds', twist, 'reliable, volatile, depth 1') in ends
    joints = 'sensor_msgs/msg/JointState'
    assert ('subscribes', 'joint_states', joints, 'best effort, volatile, depth 100') in ends
    assert ('serves', '~/hold', 'std_srvs/srv/Trigger', '') in ends
    [more] = player['variants']['output: trajectory']
    assert more['type'] == 'trajectory_msgs/msg/JointTrajectory'
    [server] = [node for node in nodes if node['name'] == 'instruction_server']
    assert 'worldvla_ros/action/ExecuteInstruction' in {e['type'] for e in server['endpoints']}


def test_the_page_shows_what_was_described(nodes, monkeypatch):
    monkeypatch.setattr(pages, 'ask', lambda: nodes)
    text = pages.nodes_page()
    headings = re.findall(r'^## (\w+)', text, re.M)
    assert set(headings) >= {node['name'] for node in nodes}
    assert len(headings) == len(set(headings))
    assert [
        '`control_rate`',
        'double',
        '`100.0`',
        '1 to 500',
        'commands per second \\[Hz\\]',
    ] in rows(text)


def test_the_written_table_of_parameters_agrees(nodes):
    """docs/nodes.md explains the parameters in groups; its figures are those of the nodes."""
    known = {(n['name'], p['name']): p for n in nodes for p in n['parameters']}
    text = (DOCS / 'nodes.md').read_text().split('## Parameters')[1].split('## Launch')[0]
    compared = 0
    for named, parameter, _, default, limits in rows(text)[2:]:
        for node in re.findall(r'\w+', named):
            found = known.get((node, parameter.strip('`')))
            if found is None:
                continue
            span = [float(n) for n in limits.split(' to ')] if limits else []
            assert found['limits'] == span, (node, parameter)
            if re.fullmatch(r'[\d.]+', default):
                assert found['default'] == float(default), (node, parameter)
            compared += 1
    assert compared > 30


def test_the_written_table_of_topics_agrees(nodes):
    """docs/nodes.md says what topics mean; types and QoS are those of the nodes."""
    words = {
        'sensor': 'best effort, volatile, depth 1',
        'reliable': 'reliable, volatile, depth 1',
        'latched': 'reliable, transient local, depth 1',
    }
    ends = {}
    for node in nodes:
        for end in [*node['endpoints'], *(e for more in node['variants'].values() for e in more)]:
            name = end['name'].replace('~/', f'{node["name"]}/')
            ends.setdefault(name, set()).add((end['type'].replace('/msg/', '/'), end['qos']))
    text = (DOCS / 'nodes.md').read_text().split('| topic |')[1].split('| service |')[0]
    compared = 0
    for names, kind, qos, _ in rows(text)[1:]:
        for name in re.findall(r'`([^`]+)`', names):
            found = ends.get(name.replace('~/', 'sim/'), set())
            if found and qos.split(',')[0] in words:
                assert (kind.strip('`'), words[qos.split(',')[0]]) in found, name
                compared += 1
    assert compared > 15


def test_without_ros_the_page_says_so(monkeypatch):
    def nothing():
        raise pages.NotAskedError("warning\nNo module named 'rclpy'")

    monkeypatch.setattr(pages, 'ask', nothing)
    text, problems = pages.generated('# Nodes\n\n<!-- generated: nodes -->\n')
    assert text.startswith('# Nodes\n\n```{note}')
    assert "run here: No module named 'rclpy'." in text
    assert problems == ["nodes: warning\nNo module named 'rclpy'"]


def test_a_package_that_is_missing_is_one_line(tmp_path):
    (tmp_path / 'rclpy.py').write_text('raise ModuleNotFoundError("No module named rclpy")\n')
    done = subprocess.run(
        [sys.executable, '-c',
         f'import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; '
         "sys.argv = ['nodes', 'shadow']; from tools.reference.nodes import main; "
         'raise SystemExit(main())'],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, 'No module named rclpy\n')


# ---- interfaces, commands, files


def test_every_interface_is_on_its_page_with_all_fields():
    text = interfaces_page()
    for kind in ('msg', 'srv', 'action'):
        assert files(kind)
        for file in files(kind):
            assert f'### {file.stem}' in text
            names = re.findall(r'^[\w/]+(?:\[\d*\])? +(\w+)', file.read_text(), re.M)
            assert {f'`{name}`' for name in names} <= {row[0] for row in rows(interface(file))}


def test_what_is_no_line_of_an_interface_is_refused():
    with pytest.raises(ValueError, match='not a line of an interface'):
        list(tables('float64\n'))


def test_every_verb_and_launch_argument_is_on_its_page():
    text = commands_page()
    names = [verb.prog for verb in verbs(parser())]
    assert {'worldvla up', 'worldvla eval libero', 'worldvla robot check'} <= set(names)
    assert re.findall(r'^## (.+)', text, re.M) == names
    listed = {row[0]: row[1] for row in rows(launch_page())[2:]}
    assert list(listed) == [f'`{name}`' for name in ARGUMENTS]
    assert listed['`log_level`'] == '`info`'


def test_fields_of_a_robot_description_are_those_of_its_blocks():
    text = fields_page(RobotConfig, 'Top level')
    assert re.findall(r'^## (.+)', text, re.M)[:4] == [
        'Top level', '`joints`', '`gripper`', '`gripper.output`',
    ]  # fmt: skip
    by_name = {row[0]: row for row in rows(text)}
    assert by_name['`max_slowdown`'][1:3] == ['number', '`1.0`']
    assert by_name['`linear_speed`'][2:] == ['*required*', 'Of the tip \\[m/s\\].']
    assert all(row[3] for row in rows(text)), 'each field says what it means'


# ---- the pages


def sources():
    return [*sorted(DOCS.rglob('*.md')), *sorted(DOCS.rglob('*.rst'))]


def test_every_page_is_in_one_of_the_groups():
    listed = set()
    for page in sources():
        blocks = re.findall(r'^```{toctree}\n(.*?)```', page.read_text(), re.M | re.S)
        blocks += re.findall(r'^\.\. toctree::\n(.*?)\n(?=\S|\Z)', page.read_text(), re.M | re.S)
        for line in ' \n'.join(blocks).split('\n'):
            name = line.strip()
            if name and not name.startswith(':'):
                listed.add((page.parent / name).resolve())
    assert {page.with_suffix('') for page in sources()} - {DOCS / 'index'} == listed


@pytest.mark.parametrize('group', sorted(DOCS.glob('*/index.md')), ids=lambda p: p.parent.name)
def test_a_group_links_each_of_its_pages(group):
    """The table of contents is drawn on the site alone."""
    text = group.read_text()
    named = re.search(r'^```{toctree}\n:hidden:\n\n(.*?)^```', text, re.M | re.S)[1].split()
    linked = re.findall(r'\]\(([^)]+)\.(?:md|rst)\)', text)
    assert len(named) > 2
    assert set(named) <= set(linked)


def test_marks_of_generated_parts_have_a_part():
    asked = [m for page in sources() for m in pages.MARK.findall(page.read_text())]
    assert sorted(a or b for a, b in asked) == sorted(pages.PARTS)


def test_anchors_of_links_are_headings():
    for page in DOCS.rglob('*.md'):
        for target, anchor in re.findall(r'\]\(([^)#:]*)#([\w-]+)\)', page.read_text()):
            text = ((page.parent / target) if target else page).read_text()
            titles = [re.sub(r'[^\w -]', '', t.lower()).replace(' ', '-')
                      for t in re.findall(r'^#+ (.+)', text, re.M)]  # fmt: skip
            assert anchor in titles, f'{page.name}: {target}#{anchor}'


def test_rosdoc2_finds_its_settings_and_the_repository(tmp_path):
    """rosdoc2 0.2 copies the folder of conf.py and runs conf.py from a file that it writes."""
    named = ElementTree.parse(ROOT / 'package.xml').getroot().findtext('export/rosdoc2')
    attic, config = yaml.safe_load_all((ROOT / named).read_text())
    assert attic == {'type': 'rosdoc2 config', 'version': 1}
    assert set(config) == {'settings', 'builders'}
    [builder] = config['builders']
    conf = ((ROOT / named).parent / builder['sphinx']['sphinx_sourcedir'] / 'conf.py').resolve()
    wrapper = tmp_path / 'wrapped/conf.py'
    wrapper.parent.mkdir()
    wrapper.write_text(f'import os\n\nexec(open("{conf}").read())\n')
    for file in (conf, wrapper):
        settings = runpy.run_path(str(file))
        assert settings['ROOT'] == ROOT.resolve()
        assert settings['project'] == 'worldvla_ros'


def test_what_is_built_loads_nothing_from_the_network():
    built = ROOT / 'out/docs/html'
    if not built.is_dir():
        pytest.skip('make docs has not been run')
    loading = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="((?:https?:)?//[^"]+)"')
    for page in built.rglob('*.html'):
        assert loading.findall(page.read_text()) == [], page
    for style in built.rglob('*.css'):
        assert not re.search(r'(?:url\(|@import)[^;)]*//', style.read_text()), style


def test_nothing_is_fetched_while_building():
    text = (DOCS / 'conf.py').read_text()
    assert 'intersphinx' not in text
    assert re.search(
        r'^docs: .*\n\t@\$\(BIN\)/python -m sphinx -W ', (ROOT / 'Makefile').read_text(), re.M
    )
