"""The layouts for RViz and Foxglove: what they name exists in the running graph."""

import json
import re

import pytest
import yaml

pytest.importorskip('rclpy')
from probe import Probe, running
from sensor_msgs.msg import JointState

from worldvla_ros.graph import describe
from worldvla_ros.msg import PlayerState
from worldvla_ros.nodes.definitions import message_class
from worldvla_ros.nodes.sim_frames import TF_QOS, TF_STATIC_QOS
from worldvla_ros.package_files import share_folder

DISPLAYS = {
    'rviz_default_plugins/RobotModel': 'std_msgs/msg/String',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
    'rviz_default_plugins/Image': 'sensor_msgs/msg/Image',
}
"""What each display of RViz subscribes to."""
ELEMENTS = {
    'imageTopic': 'sensor_msgs/msg/Image',
    'calibrationTopic': 'sensor_msgs/msg/CameraInfo',
    'topicToRender': 'diagnostic_msgs/msg/DiagnosticArray',
}
"""What each setting of Foxglove subscribes to."""


def rviz():
    """Return the fixed frame, and the type of each topic that RViz's layout names."""
    layout = yaml.safe_load((share_folder() / 'config/rviz/worldvla.rviz').read_text())
    manager = layout['Visualization Manager']
    topics = {}
    for display in manager['Displays']:
        topic = display.get('Topic') or display.get('Description Topic')
        if topic:
            topics[f'/{topic["Value"]}'] = DISPLAYS[display['Class']]
    return manager['Global Options']['Fixed Frame'], topics


def foxglove():
    """Return the configuration of Foxglove's panels, and the names in the layout's tree."""
    content = json.loads((share_folder() / 'config/foxglove/worldvla.json').read_text())
    placed = re.findall(r'"([A-Za-z0-9]+![a-z]+)"', json.dumps(content['layout']))
    return content['configById'], placed


def settings(value, key=''):
    """Yield every (key, value) of a nested configuration."""
    if isinstance(value, dict):
        for inner, of in value.items():
            yield from settings(of, inner)
    elif isinstance(value, list):
        for of in value:
            yield from settings(of, key)
    else:
        yield key, value


def test_every_panel_is_placed_once():
    panels, placed = foxglove()
    assert sorted(placed) == sorted(panels)


def test_what_foxglove_publishes_fits_the_type():
    for name, panel in foxglove()[0].items():
        if name.startswith('Publish!'):
            message_class(panel['datatype'])(**json.loads(panel['value']))


def test_what_foxglove_plots_are_fields_of_the_messages():
    classes = {'/joint_states': JointState, '/action_player/state': PlayerState}
    plotted = [v for k, v in settings(foxglove()[0]) if k == 'value' and v.startswith('/')]
    assert plotted
    for path in plotted:
        topic, _, field = path.partition('.')
        assert field.partition('[')[0] in classes[topic].get_fields_and_field_types(), path


@pytest.mark.timeout(300)
def test_every_topic_type_and_frame_is_in_the_running_graph(lookalikes, monkeypatch):
    from tf2_msgs.msg import TFMessage

    for name, value in lookalikes.items():
        monkeypatch.setenv(name, value)
    fixed, topics = rviz()
    panels, _ = foxglove()
    for key, value in settings(panels):
        if key in ELEMENTS:
            topics[value] = ELEMENTS[key]
    arm = panels['3D!arm']
    topics[arm['layers']['arm']['topic']] = 'std_msgs/msg/String'
    topics |= dict.fromkeys(('/tf', '/tf_static'), 'tf2_msgs/msg/TFMessage')
    heard = {p['topicName']: p['datatype'] for n, p in panels.items() if n.startswith('Publish!')}
    paths = [v for k, v in settings(panels) if k in ('value', 'topicPath') and v.startswith('/')]
    frames = {fixed, arm['followTf'], *(v for k, v in settings(panels) if k == 'frameId')}
    probe = Probe()
    probe.listen(TFMessage, '/tf', TF_QOS)
    probe.listen(TFMessage, '/tf_static', TF_STATIC_QOS)
    try:
        with running(*describe({})):

            def said():
                published = {
                    name: types
                    for name, types in probe.node.get_topic_names_and_types()
                    if probe.node.count_publishers(name)
                }
                there = {path.split('.')[0] for path in paths} | set(arm['topics'])
                return (
                    all(kind in published.get(name, []) for name, kind in topics.items())
                    and there <= set(published)
                    and all(probe.node.count_subscribers(name) for name in heard)
                )

            probe.until(said, f'{topics}, {paths} and {heard}')
            probe.until(lambda: probe.heard['/tf'] and probe.heard['/tf_static'], 'frames')
            named = {
                frame
                for message in (*probe.heard['/tf'], *probe.heard['/tf_static'])
                for t in message.transforms
                for frame in (t.header.frame_id, t.child_frame_id)
            }
            assert frames | {'front_camera', 'panda_hand_tcp'} <= named
    finally:
        probe.close()
