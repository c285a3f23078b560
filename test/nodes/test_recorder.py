import signal

import numpy as np
import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from mcap.reader import make_reader
from probe import Probe, running
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import String
import yaml

from worldvla_ros.graph import NodeSpec
from worldvla_ros.nodes.convert import array_to_image, image_to_array
from worldvla_ros.nodes.recorder import message_definition
from worldvla_ros.nodes.runtime import LATCHED_QOS, SENSOR_QOS


@pytest.fixture
def probe():
    made = Probe()
    made.listen(DiagnosticArray, 'recorder/status', LATCHED_QOS)
    yield made
    made.close()


def record(probe, folder, picture, number=signal.SIGINT):
    """Record one latched sentence and three images; return what the recorder printed."""
    with running(NodeSpec('recorder', parameters={'folder': str(folder)})) as processes:
        probe.status('recorder', 'recording')
        for stamp in (1.0, 2.0, 3.0):
            probe.say(array_to_image(picture, stamp, 'camera'), 'image', SENSOR_QOS)
            probe.spin(0.1)
        probe.say(String(data='pick up the red cube'), 'instruction', LATCHED_QOS)
        probe.spin(1.5)  # discovery of the instruction's topic
        processes.children['recorder'].send_signal(number)
        assert processes.children['recorder'].wait(15) == 0
        return processes.output.getvalue()


def messages(folder):
    with (folder / 'bag_0.mcap').open('rb') as stream:
        return [
            (schema.name, channel.topic, message)
            for schema, channel, message in make_reader(stream).iter_messages()
        ]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_messages_are_recorded_byte_for_byte(probe, picture, tmp_path, number):
    assert 'Traceback' not in record(probe, tmp_path, picture, number)
    found = messages(tmp_path)
    images = [deserialize_message(m.data, Image) for name, topic, m in found if topic == '/image']
    assert [i.header.stamp.sec for i in images] == [1, 2, 3]
    np.testing.assert_array_equal(image_to_array(images[0]), picture)
    said = [deserialize_message(m.data, String).data for _, t, m in found if t == '/instruction']
    assert said == ['pick up the red cube']


def test_the_metadata_tells_what_is_in_the_bag(probe, picture, tmp_path):
    record(probe, tmp_path, picture)
    content = yaml.safe_load((tmp_path / 'metadata.yaml').read_text())
    information = content['rosbag2_bagfile_information']
    counts = {
        t['topic_metadata']['name']: t['message_count']
        for t in information['topics_with_message_count']
    }
    assert counts['/image'] == 3
    assert information['message_count'] == len(messages(tmp_path)) == sum(counts.values())
    assert information['relative_file_paths'] == ['bag_0.mcap']


def test_a_folder_that_cannot_be_written_is_named(probe, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    folder = str(tmp_path / 'file/bag')
    with running(NodeSpec('recorder', parameters={'folder': folder})) as processes:
        assert 'cannot be written' in probe.status('recorder', 'not configured')
        assert processes.dead() == {}


def test_a_definition_holds_all_messages_inside():
    text = message_definition('sensor_msgs/msg/Image')
    assert text.startswith('#') or text.startswith('std_msgs')
    assert 'MSG: std_msgs/Header' in text
    assert 'MSG: builtin_interfaces/Time' in text
