"""What each executable of nodes.txt declares and connects to, by rclpy's own account.

    python -m tools.reference.nodes            all executables, as JSON
    python -m tools.reference.nodes shadow     some of them

Each node is created and configured with the demo checkpoint, and never activated. Discovery is off
and all names lie in a namespace of their own, so that no robot hears what nodes say.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from dataclasses import asdict, dataclass, field
import importlib
import inspect
import json
import os
from pathlib import Path
import sys
import tempfile
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = '/reference'
OUTPUTS = ('twist', 'pose', 'trajectory', 'position', 'velocity')
VARIANTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    'policy': (('input', 'tokens'), ('image_transport', 'compressed')),
    'world_model': (('input', 'tokens'), ('image_transport', 'compressed')),
    'tokenizer': (('image_transport', 'compressed'),),
    'action_player': tuple(('output', kind) for kind in OUTPUTS),
    'sim': (('publish_clock', 'true'),),
    'mock_controller': (*(('kind', kind) for kind in OUTPUTS), ('drives', 'nothing')),
}
"""Parameters that change what a node connects to; each is tried alone."""
NEEDED = {'mock_controller': (('robot', 'panda_servo'), ('gripper', 'width'))}
"""Parameters without which a node is not configured: the simulated arm needs no mock."""
STANDARD = ('lifecycle_msgs', 'rcl_interfaces', 'type_description_interfaces')
"""Packages of services and topics that every node has."""
QOS_PREFIX = 'qos_overrides.'


@dataclass(frozen=True)
class Parameter:
    """A parameter as `ros2 param describe` shows it; `limits` is empty without a range."""

    name: str
    type: str
    default: Any
    limits: tuple[float, ...]
    description: str


@dataclass(frozen=True)
class Endpoint:
    """A topic, service or action of a node; `qos` is empty for services and actions."""

    role: str
    name: str
    type: str
    qos: str


@dataclass
class Described:
    """A node; `variants` has what only a value of a parameter adds, by `parameter: value`.

    `given` are the parameters with which it was configured, where its defaults do not do.
    """

    executable: str
    name: str
    about: str
    parameters: tuple[Parameter, ...]
    given: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    variants: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)


def executables() -> dict[str, str]:
    """Return nodes.txt: executable to module:function."""
    lines = (ROOT / 'nodes.txt').read_text().splitlines()
    pairs = (line.split('=') for line in lines if '=' in line and not line.startswith('#'))
    return {name.strip(): target.strip() for name, target in pairs}


def describe(executable: str) -> list[Described]:
    """Return the nodes of an executable.

    Raises:
        ImportError: ROS 2, or what the node needs, is not installed.
        RuntimeError: A node could not be configured.
    """
    always = NEEDED.get(executable, ())
    with created(executable) as nodes:
        found = [
            Described(executable, n.get_name(), about(n), parameters(n), always) for n in nodes
        ]
    with created(executable, *always) as nodes:
        for node, known in zip(nodes, found, strict=True):
            configure(node)
            known.endpoints = endpoints(node)
    for variant in VARIANTS.get(executable, ()):
        with created(executable, *always, variant) as nodes:
            for node, known in zip(nodes, found, strict=True):
                configure(node)
                fresh = tuple(e for e in endpoints(node) if e not in known.endpoints)
                known.variants |= {': '.join(variant): fresh} if fresh else {}
    return found


@contextlib.contextmanager
def created(executable: str, *values: tuple[str, str]) -> Iterator[list[Any]]:
    """Give the nodes of an executable in an empty folder, with parameters, and destroy them."""
    import rclpy

    given = [word for name, value in values for word in ('-p', f'{name}:={value}')]
    factories = nodes_of(executable)
    with empty_folder():
        rclpy.init(args=['--ros-args', '-r', f'__ns:={NAMESPACE}', *given])
        nodes: list[Any] = []
        try:
            for factory in factories:
                nodes.append(factory())
            yield nodes
        finally:
            for node in reversed(nodes):
                getattr(node, 'close', bool)()
                node.destroy_node()
            rclpy.shutdown()


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Work in a folder of its own: a recorder writes where it is."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def nodes_of(executable: str) -> list[Callable[[], Any]]:
    """Return what makes the nodes of an executable: what its main function hands to `run`."""
    module_name, function = executables()[executable].split(':')
    module = importlib.import_module(module_name)
    taken: list[Callable[[], Any]] = []

    def take(*factories: Callable[[], Any]) -> int:
        taken.extend(factories)
        return 0

    with mock.patch.object(module, 'run', take), mock.patch('sys.argv', [executable, 'words']):
        getattr(module, function)()
    return taken


def configure(node: Any) -> None:
    """Configure a node that has a life cycle.

    Raises:
        RuntimeError: It says why it cannot be configured.
    """
    from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

    if not isinstance(node, LifecycleNode):
        return
    if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        raise RuntimeError(f'{node.get_name()} was not configured: see the log above')


def about(node: Any) -> str:
    """Return what the module of a node says of it: the first paragraph of its docstring."""
    words = inspect.getdoc(sys.modules[type(node).__module__]) or ''
    return ' '.join(words.split('\n\n')[0].split())


def parameters(node: Any) -> tuple[Parameter, ...]:
    """Return the parameters of a node by name, without QoS overrides."""
    names = sorted(n for n in node.list_parameters([], 0).names if not n.startswith(QOS_PREFIX))
    descriptors = node.describe_parameters(names)
    return tuple(
        Parameter(
            name,
            node.get_parameter(name).type_.name.lower(),
            plain_value(node.get_parameter(name).value),
            limits(descriptor),
            descriptor.description,
        )
        for name, descriptor in zip(names, descriptors, strict=True)
    )


def plain_value(value: Any) -> Any:
    """Return a value as JSON has it."""
    return value if isinstance(value, (bool, int, float, str)) else list(value or ())


def limits(descriptor: Any) -> tuple[float, ...]:
    """Return the least and greatest value of a parameter, or nothing."""
    ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
    return (ranges[0].from_value, ranges[0].to_value) if ranges else ()


def endpoints(node: Any) -> tuple[Endpoint, ...]:
    """Return topics, services and actions of a node, without those that every node has."""
    topics = [('publishes', p, p.msg_type) for p in node.publishers]
    topics += [('subscribes', s, s.msg_type) for s in node.subscriptions]
    services = [('serves', s.service_name, s.srv_type) for s in node.services]
    services += [('calls', c.service_name, c.srv_type) for c in node.clients]
    found = [
        Endpoint(role, relative(node, end.topic_name), type_name(cls), qos(end.qos_profile))
        for role, end, cls in topics
    ]
    found += [Endpoint(role, relative(node, n), type_name(cls), '') for role, n, cls in services]
    found += [Endpoint('serves', relative(node, n), kind, '') for n, kind in actions(node)]
    unique = dict.fromkeys(e for e in found if not standard(e))
    return tuple(sorted(unique, key=lambda e: (e.role, e.name, e.qos)))


def standard(endpoint: Endpoint) -> bool:
    """Whether every node of ROS 2 has it."""
    return endpoint.name == '/rosout' or endpoint.type.split('/')[0] in STANDARD


def actions(node: Any) -> list[tuple[str, str]]:
    """Return names and types of the actions that a node serves."""
    from rclpy.action.graph import get_action_server_names_and_types_by_node

    listed = get_action_server_names_and_types_by_node(node, node.get_name(), NAMESPACE)
    return [(name, kinds[0]) for name, kinds in listed]


def relative(node: Any, name: str) -> str:
    """Return a name as the code of a node has it: private, relative, or absolute."""
    own = f'{NAMESPACE}/{node.get_name()}/'
    if name.startswith(own):
        return f'~/{name.removeprefix(own)}'
    return name.removeprefix(f'{NAMESPACE}/')


def type_name(cls: type) -> str:
    """Return a type as ROS writes it: sensor_msgs/msg/Image."""
    package, kind = cls.__module__.split('.')[:2]
    return f'{package}/{kind}/{cls.__name__}'


def qos(profile: Any) -> str:
    """Return a QoS profile in words."""
    words = (profile.reliability.name, profile.durability.name)
    reliability, durability = (word.lower().replace('_', ' ') for word in words)
    return f'{reliability}, {durability}, depth {profile.depth}'


def main() -> int:
    """Print the nodes as JSON, or what is not installed."""
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    os.environ |= {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF', 'ROS_LOCALHOST_ONLY': '1'}
    chosen = sys.argv[1:] or list(executables())
    try:
        found = [asdict(node) for name in chosen for node in describe(name)]
    except ImportError as error:
        print(f'{error}', file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
