"""What each node may publish, hear, serve and call: read off the running graph, as SROS2 policies.

    python tools/security_policies.py            writes config/security/<executable>.policy.xml
    python tools/security_policies.py --check    ends with status 1 where these files differ

Run it after a topic, service or action was added. Names are relative to the namespace of a node,
as in the code, so that a policy holds for every namespace: set `ns` of its profile.
"""

import argparse
from collections.abc import Iterator, Mapping
import difflib
import io
from pathlib import Path
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.action.graph import (
    get_action_client_names_and_types_by_node,
    get_action_server_names_and_types_by_node,
)
from rclpy.node import Node

from worldvla_ros.graph import describe
from worldvla_ros.nodes.qos import LATCHED_QOS
from worldvla_ros.processes.discovery import stay_on_this_machine
from worldvla_ros.processes.supervisor import MODULES, Processes

FOLDER = Path(__file__).resolve().parents[1] / 'config/security'
GRAPHS: tuple[dict[str, str], ...] = (
    {'instruction': 'pick up the red cube', 'record': 'bag', 'view': 'true'},
    {
        'output': 'trajectory',
        'imagine': 'false',
        'use_sim_time': 'true',
        'instruction_server': 'true',
    },
    {
        'input': 'tokens',
        'tokenizer': 'true',
        'detokenizer': 'true',
        'shadow': 'true',
        'use_sim_time': 'true',
    },
    {'robot': 'fr3_jtc', 'mock': 'sim', 'imagine': 'false'},
)
"""Launch arguments; a policy allows what any of these graphs does."""
TOGETHER = {'model': ('policy', 'world_model')}
"""Executables of several nodes."""
EVERYTHING = {'recorder': 'subscribe'}
"""Nodes that do this with every topic."""
WITH_TF2_MSGS = {'/tf', '/tf_static'}
WITH_URDF_TOPIC = {'/robot_description'}
WATCHED = {
    '/joint_states',
    '/image',
    '/imagined_strip',
    '/planned_path',
    '/action_chunk',
    '/sim/task_state',
}
"""Topics that the viewer hears while a browser shows its page."""
FURTHER = {
    'viewer': WATCHED | WITH_URDF_TOPIC,
    'policy': WITH_TF2_MSGS | WITH_URDF_TOPIC,
    **dict.fromkeys(('action_player', 'mock_controller', 'shadow', 'tokenizer'), WITH_URDF_TOPIC),
}
"""Topics that nodes hear where a package is installed, or a robot description asks for it."""
FURTHER_SAID = {'sim': WITH_TF2_MSGS}
"""Topics that nodes publish where a package is installed."""
START_S = 90.0
SETTLED_S = 5.0
RULES = {
    ('topics', 'publish'): Node.get_publisher_names_and_types_by_node,
    ('topics', 'subscribe'): Node.get_subscriber_names_and_types_by_node,
    ('services', 'reply'): Node.get_service_names_and_types_by_node,
    ('services', 'request'): Node.get_client_names_and_types_by_node,
    ('actions', 'execute'): get_action_server_names_and_types_by_node,
    ('actions', 'call'): get_action_client_names_and_types_by_node,
}
GLOBAL = ('/rosout', '/parameter_events', '/clock', '/tf', '/tf_static')
"""Topics that no namespace moves."""
Rules = dict[tuple[str, str], set[str]]


def main() -> int:
    """Write or check the policies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing; 1 where files differ')
    check, stale = parser.parse_args().check, differing()
    for file, text in stale.items():
        if check:
            sys.stdout.writelines(difference(file, text))
        else:
            file.write_text(text)
    print('\n'.join(file.name for file in stale) or 'all policies are up to date')
    return 1 if check and stale else 0


def differing() -> dict[Path, str]:
    """Return the policies that their files do not say, by file."""
    found = {FOLDER / f'{name}.policy.xml': text for name, text in policies().items()}
    return {f: text for f, text in found.items() if not f.is_file() or f.read_text() != text}


def difference(file: Path, text: str) -> Iterator[str]:
    """Return what a file lacks and has too much, as lines of a diff."""
    before = file.read_text() if file.is_file() else ''
    return difflib.unified_diff(
        before.splitlines(True), text.splitlines(True), file.name, 'what is seen'
    )


def policies() -> dict[str, str]:
    """Return the policy of each executable as XML."""
    found: dict[str, Rules] = {}
    for arguments in GRAPHS:
        for name, rules in observe(arguments).items():
            own = found.setdefault(name, {key: set() for key in RULES})
            for key, names in rules.items():
                own[key] |= names
    nodes = {name: TOGETHER.get(name, (name,)) for name in MODULES}
    return {
        executable: policy(executable, {name: found[name] for name in names})
        for executable, names in nodes.items()
        if set(names) <= set(found)
    }


def observe(arguments: Mapping[str, str]) -> dict[str, Rules]:
    """Return what the nodes of a graph do, by name; the graph is started and stopped."""
    stay_on_this_machine()
    nodes = describe(arguments)
    names = {n for spec in nodes for n in TOGETHER.get(spec.executable, (spec.executable,))}
    processes = Processes(nodes, io.StringIO())
    rclpy.init()
    probe = rclpy.create_node('policies')
    try:
        return wait_for(probe, names)
    finally:
        probe.destroy_node()
        rclpy.shutdown()
        processes.stop()


def wait_for(probe: Node, names: set[str]) -> dict[str, Rules]:
    """Return what nodes do once all are active and nothing has changed for a while.

    Raises:
        TimeoutError: They did not become active.
    """
    active: set[str] = {'say'}  # has no life cycle

    def on_status(message: DiagnosticArray) -> None:
        for status in message.status:
            if any((v.key, v.value) == ('state', 'active') for v in status.values):
                active.add(status.name.strip('/'))

    for name in names:
        probe.create_subscription(DiagnosticArray, f'{name}/status', on_status, LATCHED_QOS)
    end_s, settled_s = time.monotonic() + START_S, time.monotonic()
    found: dict[str, Rules] = {}
    while not (names <= active and time.monotonic() - settled_s > SETTLED_S):
        if time.monotonic() > end_s:
            raise TimeoutError(f'not active: {", ".join(sorted(names - active))}')
        rclpy.spin_once(probe, timeout_sec=0.2)
        here = set(probe.get_node_names())
        for name in names & here:
            rules = rules_of(probe, name)
            old = found.get(name, {key: set() for key in RULES})
            new = {key: old[key] | rules[key] for key in RULES}
            if new != old:
                found[name], settled_s = new, time.monotonic()
    return found


def rules_of(probe: Node, name: str) -> Rules:
    """Return what a node does at present."""
    rules: Rules = {}
    for (kind, rule), ask in RULES.items():
        listed = {topic for topic, _ in ask(probe, name, '/')}
        if kind != 'actions':
            listed = {topic for topic in listed if '/_action/' not in topic}
        if rule == EVERYTHING.get(name):
            listed = {'/*'}
        if (kind, rule) == ('topics', 'subscribe'):
            listed |= FURTHER.get(name, set())
        if (kind, rule) == ('topics', 'publish'):
            listed |= FURTHER_SAID.get(name, set())
        rules[kind, rule] = {relative(topic, name) for topic in listed}
    return rules


def relative(topic: str, name: str) -> str:
    """Return a name as the code of a node has it: private, relative, or of ROS itself."""
    if topic.startswith(f'/{name}/'):
        return '~' + topic.removeprefix(f'/{name}')
    return topic if topic in GLOBAL else topic[1:]


def policy(executable: str, nodes: Mapping[str, Rules]) -> str:
    """Return a policy in the schema of SROS2, version 0.2.0."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<!-- written by tools/security_policies.py -->',
        '<policy version="0.2.0">',
        '  <enclaves>',
        f'    <enclave path="/worldvla/{executable}">',
        '      <profiles>',
        *(line for name, rules in nodes.items() for line in profile(name, rules)),
        '      </profiles>',
        '    </enclave>',
        '  </enclaves>',
        '</policy>',
    ]
    return '\n'.join(lines) + '\n'


def profile(name: str, rules: Rules) -> Iterator[str]:
    """Yield the lines of the profile of one node."""
    yield f'        <profile ns="/" node="{name}">'
    for (kind, rule), names in rules.items():
        if names:
            yield f'          <{kind} {rule}="ALLOW">'
            for each in sorted(names):
                yield f'            <{kind[:-1]}>{each}</{kind[:-1]}>'
            yield f'          </{kind}>'
    yield '        </profile>'


if __name__ == '__main__':
    sys.exit(main())
