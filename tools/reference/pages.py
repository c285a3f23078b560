"""The generated parts of the reference, by name: docs/conf.py puts them where a page asks for one.

<!-- generated: nodes -->
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

from tools.reference.fields import fields_page
from tools.reference.interfaces import anchor, interfaces_page
from tools.reference.markdown import code, plain, table

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r'<!-- generated: (\w+) -->.*|^\.\. generated: (\w+)$', re.M)
"""What stands behind a mark is for those who read a page without the site."""
ENOUGH_S = 300
"""How long describing all nodes may take."""
ROLES = ('subscribes', 'publishes', 'serves', 'calls')
Node = Mapping[str, Any]


class NotAskedError(Exception):
    """The nodes cannot be asked here."""


def generated(text: str) -> tuple[str, list[str]]:
    """Return a page with the parts that it asks for, and what could not be written and why.

    Raises:
        KeyError: There is no part of this name.
    """
    problems: list[str] = []

    def write(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        try:
            return PARTS[name]()
        except (ImportError, NotAskedError) as error:
            problems.append(f'{name}: {error}')
            return left_out(str(error).splitlines()[-1])

    return MARK.sub(write, text), problems


def left_out(problem: str) -> str:
    """Return what stands in the place of a part that needs what is not installed."""
    return (
        '```{note}\n'
        f'This part is read off the code, which could not be run here: {problem}. '
        'On a machine with ROS 2 and the requirements of the package, `make docs` writes it; '
        '`ros2 param describe`, `ros2 node info` and `worldvla --help` show much of it.\n'
        '```'
    )


def nodes_page() -> str:
    """Return all nodes.

    Raises:
        NotAskedError: They cannot be started here.
    """
    found = ask()
    shared = common(found)
    once = {node['name']: node for node in reversed(found)}  # one that runs alone comes first
    sections = [
        node_section(once[name], shared) for name in dict.fromkeys(n['name'] for n in found)
    ]
    return '\n\n'.join([together(found), every_node(shared), *sections])


def ask(*executables: str) -> list[Node]:
    """Return the nodes of executables, of all by default, as a process of its own describes them.

    Raises:
        NotAskedError: ROS 2, or what nodes need, is not installed; or a node cannot be configured.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    try:
        done = subprocess.run(
            [sys.executable, '-m', 'tools.reference.nodes', *executables], timeout=ENOUGH_S,
            capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': path},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotAskedError(f'nodes were not described within {ENOUGH_S} s') from error
    if done.returncode:
        raise NotAskedError(done.stderr.strip())
    return json.loads(done.stdout)


def common(nodes: Sequence[Node]) -> list[Mapping[str, Any]]:
    """Return the parameters that all nodes have."""
    return [p for p in nodes[0]['parameters'] if all(p in n['parameters'] for n in nodes)]


def every_node(shared: Sequence[Mapping[str, Any]]) -> str:
    """Return what holds for all nodes."""
    return (
        '## Every node\n\n'
        'Every node has these parameters of ROS 2 and the standard services for parameters; '
        'all but `say` have the standard services of a life cycle. QoS can be overridden by '
        'parameters, see [launch](../launch.md).\n\n' + parameter_table(shared)
    )


def together(nodes: Sequence[Node]) -> str:
    """Return which nodes run in one process."""
    names: dict[str, list[str]] = {}
    for node in nodes:
        names.setdefault(node['executable'], []).append(node['name'])
    rows = [
        [code(executable), ', '.join(code(name) for name in held)]
        for executable, held in names.items()
    ]
    return f'## Executables\n\n{table(["`ros2 run worldvla_ros …`", "nodes"], rows)}'


def node_section(node: Node, shared: Sequence[Mapping[str, Any]]) -> str:
    """Return topics, services, actions and parameters of one node."""
    order = sorted(node['endpoints'], key=lambda e: ROLES.index(e['role']))
    rows = [endpoint_row(e, '') for e in order]
    for condition, more in node['variants'].items():
        parameter, value = condition.split(': ')
        rows += [endpoint_row(e, f'where {code(parameter)} is {code(value)}') for e in more]
    own = [p for p in node['parameters'] if p not in shared]
    given = ', '.join(code(f'{name}: {text}') for name, text in node['given'])
    blocks = [
        f'## {node["name"]}',
        node['about'] + (f' Shown with {given}.' if given else ''),
        table(['', 'name', 'type', 'QoS', 'only'], rows),
    ]
    if own:
        blocks.append(parameter_table(own))
    return '\n\n'.join(blocks)


def endpoint_row(endpoint: Mapping[str, str], condition: str) -> list[str]:
    """Return the row of a topic, service or action; types of this package are links."""
    kind = endpoint['type']
    shown = f'[{code(kind)}](#{anchor(kind)})' if kind.startswith('worldvla_ros/') else code(kind)
    return [endpoint['role'], code(endpoint['name']), shown, endpoint['qos'], condition]


def parameter_table(parameters: Sequence[Mapping[str, Any]]) -> str:
    """Return parameters with type, default and range."""
    rows = [
        [
            code(p['name']),
            p['type'].replace('_', ' '),
            value(p['default']),
            ' to '.join(f'{limit:g}' for limit in p['limits']) if p['limits'] else '',
            plain(p['description']) or 'as in every node of ROS 2',
        ]
        for p in parameters
    ]
    return table(['parameter', 'type', 'default', 'range', 'meaning'], rows)


def value(default: Any) -> str:
    """Return a default as YAML has it."""
    return code(json.dumps(default))


def commands_page() -> str:
    """Return all verbs of the command."""
    from tools.reference import commands

    return commands.commands_page()


def launch_page() -> str:
    """Return the arguments of all launch files."""
    from tools.reference import commands

    return commands.launch_page()


def robot_page() -> str:
    """Return the fields of a robot description."""
    from worldvla_ros.robot.description import RobotConfig

    return fields_page(RobotConfig, 'Top level')


def checkpoint_page() -> str:
    """Return the fields of worldvla.json."""
    from worldvla_ros.checkpoint.spec import CheckpointSpec

    return fields_page(CheckpointSpec, 'Top level')


REPOSITORY_PAGES = {
    'contributing': 'CONTRIBUTING.md',
    'security': 'SECURITY.md',
    'quality': 'QUALITY_DECLARATION.md',
    'changelog': 'CHANGELOG.rst',
}
"""Pages of docs/project/ that lie beside docs/."""


def repository_page(name: str) -> str:
    """Return a page that lies beside docs/, with its links as they are from docs/project/."""
    text = (ROOT / name).read_text().replace('](docs/', '](../')
    for page, other in REPOSITORY_PAGES.items():
        text = text.replace(f']({other})', f']({page}{Path(other).suffix})')
    return text


def example() -> str:
    """Return the Python of README.md."""
    block = (ROOT / 'README.md').read_text().split('```python\n')[1].split('```')[0]
    return f'```python\n{block}```'


PARTS: Mapping[str, Callable[[], str]] = {
    'nodes': nodes_page,
    'interfaces': interfaces_page,
    'commands': commands_page,
    'launch': launch_page,
    'example': example,
    'robot': robot_page,
    'checkpoint': checkpoint_page,
    **{name: partial(repository_page, file) for name, file in REPOSITORY_PAGES.items()},
}
