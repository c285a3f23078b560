"""The recorder as a process, and in this process beside publishers of the test's own."""

import errno
import os
import shutil
import signal
import subprocess
import time

from mcap.reader import NonSeekingReader, make_reader
import numpy as np
import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from probe import Probe, running
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import String
import yaml

from worldvla_ros.errors import ConfigError
from worldvla_ros.graph import NodeSpec
from worldvla_ros.nodes.convert import array_to_image, image_to_array
from worldvla_ros.nodes.definitions import message_class, message_definition
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.recorder import RecorderNode

VOLATILE_BEST_EFFORT = QoSProfile(
    depth=5,
    reliability=QoSReliabilityPolicy.BEST_EFFORT,
    durability=QoSDurabilityPolicy.VOLATILE,
)


@pytest.fixture
def probe():
    made = Probe()
    made.listen(DiagnosticArray, 'recorder/status', LATCHED_QOS)
    yield made
    made.close()


def read(folder, reader=make_reader):
    """Return (type, topic, message) of every message of a bag."""
    with (folder / 'bag_0.mcap').open('rb') as stream:
        return [
            (schema.name, channel.topic, message)
            for schema, channel, message in reader(stream).iter_messages()
        ]


def words(folder, topic='/instruction'):
    return [deserialize_message(m.data, String).data for _, t, m in read(folder) if t == topic]


def information(folder):
    content = yaml.safe_load((folder / 'metadata.yaml').read_text())
    return content['rosbag2_bagfile_information']


def record(probe, folder, picture, number):
    """Record one latched sentence and three images until a signal; return (status, output)."""
    with running(NodeSpec('recorder', parameters={'folder': str(folder)})) as processes:
        probe.status('recorder', 'recording')
        probe.say(String(data='pick up the red cube'), 'instruction', LATCHED_QOS)
        for stamp in (1.0, 2.0, 3.0):
            probe.say(array_to_image(picture, stamp, 'camera'), 'image', SENSOR_QOS)
            probe.until(lambda s=stamp: stamps(folder)[-1:] == [s], f'image {stamp} in the bag')
        probe.until(lambda: words(folder), 'the sentence in the bag')
        processes.children['recorder'].send_signal(number)
        return processes.children['recorder'].wait(15), processes.output.getvalue()


def stamps(folder):
    images = [deserialize_message(m.data, Image) for _, t, m in read(folder) if t == '/image']
    return [float(i.header.stamp.sec) for i in images]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_messages_are_recorded_byte_for_byte(probe, picture, tmp_path, number):
    status, output = record(probe, tmp_path, picture, number)
    assert status == 0
    assert 'Traceback' not in output
    images = [deserialize_message(m.data, Image) for _, t, m in read(tmp_path) if t == '/image']
    assert [i.header.stamp.sec for i in images] == [1, 2, 3]
    np.testing.assert_array_equal(image_to_array(images[0]), picture)
    assert words(tmp_path) == ['pick up the red cube']
    found = information(tmp_path)
    assert found['message_count'] == len(read(tmp_path))


def test_a_killed_recorder_leaves_a_bag_that_every_reader_reads(probe, picture, tmp_path):
    status, _ = record(probe, tmp_path, picture, signal.SIGKILL)
    assert status == -signal.SIGKILL
    for reader in (make_reader, NonSeekingReader):
        assert [t for _, t, _ in read(tmp_path, reader)].count('/image') == 3
    listed = information(tmp_path)['topics_with_message_count']
    assert {t['topic_metadata']['name'] for t in listed} >= {'/image', '/instruction'}


def test_a_folder_that_cannot_be_written_ends_a_recorder_that_the_graph_needs(tmp_path):
    (tmp_path / 'file').write_text('no folder')
    given = {'folder': str(tmp_path / 'file/bag'), 'end_on_failure': True}
    with running(NodeSpec('recorder', parameters=given)) as processes:
        assert processes.children['recorder'].wait(30) == 1
    output = processes.output.getvalue()
    assert 'file/bag' in output
    assert 'cannot be written' in output
    assert 'Traceback' not in output


@pytest.fixture
def bench(request, tmp_path):
    """Yield a recorder of this process, with further arguments as the fixture's parameter."""
    parameters = [
        *getattr(request, 'param', []),
        '-p',
        f'folder:="{tmp_path / "bag"}"',
        '-p',
        'autostart:=false',
    ]
    rclpy.init(args=['--ros-args', *parameters])
    made = RecorderNode(), rclpy.create_node('talker')
    executor = SingleThreadedExecutor()
    for node in made:
        executor.add_node(node)
    yield Talk(*made, executor, tmp_path / 'bag')
    made[0].close()
    executor.shutdown()
    for node in made:
        node.destroy_node()
    rclpy.shutdown()


class Talk:
    """A recorder, a node to publish with, and the executor that spins both."""

    def __init__(self, recorder, talker, executor, folder):
        self.recorder, self.talker, self.executor, self.folder = recorder, talker, executor, folder

    def start(self):
        self.recorder.trigger_configure()
        self.recorder.trigger_activate()
        return self

    def until(self, holds, what, timeout_s=30):
        end = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < end, f'waited {timeout_s} s for {what}'
            self.executor.spin_once(timeout_sec=0.02)

    def publisher(self, qos, topic='instruction'):
        """Return a publisher that the recorder hears by a subscription of its kind."""
        made = self.talker.create_publisher(String, topic, qos)
        kind = (qos.reliability, qos.durability)

        def heard():
            found = self.recorder._topics.get(f'/{topic}')
            return found and kind in found.kinds and made.get_subscription_count()

        self.until(heard, 'the recorder to hear')
        return made

    def say(self, publisher, text):
        publisher.publish(String(data=text))
        self.until(lambda: text in words(self.folder), f'{text} in the bag')

    def message(self):
        return self.recorder.status._present.message


def test_weaker_publishers_that_come_later_are_recorded_and_nothing_twice(bench):
    bench.start()
    latched = bench.publisher(LATCHED_QOS)
    bench.say(latched, 'one')
    plain = bench.publisher(RELIABLE_QOS)
    bench.say(plain, 'two')
    weak = bench.publisher(VOLATILE_BEST_EFFORT)
    bench.say(weak, 'three')
    bench.say(latched, 'four')
    bench.recorder.trigger_deactivate()
    bench.recorder.trigger_cleanup()
    assert words(bench.folder) == ['one', 'two', 'three', 'four']


def test_what_was_latched_before_is_recorded_beside_a_plain_publisher(bench):
    latched = bench.talker.create_publisher(String, 'instruction', LATCHED_QOS)
    latched.publish(String(data='before'))
    plain = bench.talker.create_publisher(String, 'instruction', RELIABLE_QOS)
    bench.start()
    bench.until(lambda: bench.folder.is_dir() and words(bench.folder) == ['before'], 'the past')
    bench.publisher(RELIABLE_QOS)
    bench.say(plain, 'now')
    assert words(bench.folder) == ['before', 'now']


def test_the_qos_of_publishers_is_recorded_for_playing_back(bench):
    bench.start()
    bench.say(bench.publisher(LATCHED_QOS), 'one')
    bench.recorder.trigger_deactivate()
    bench.recorder.trigger_cleanup()
    topics = information(bench.folder)['topics_with_message_count']
    [offered] = [
        yaml.safe_load(t['topic_metadata']['offered_qos_profiles'])
        for t in topics
        if t['topic_metadata']['name'] == '/instruction'
    ]
    assert (offered[0]['reliability'], offered[0]['durability']) == (1, 1)  # transient local
    assert offered[0]['lifespan'] == {'sec': 9223372036, 'nsec': 854775807}


def test_a_full_disk_ends_the_recording_with_an_error_and_not_the_node(bench, monkeypatch):
    bench.start()
    talker = bench.publisher(RELIABLE_QOS)
    bench.say(talker, 'kept')
    real = os.pwrite

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'pwrite', full)
    talker.publish(String(data='lost'))
    bench.until(lambda: 'recording ended' in bench.message(), 'the error')
    assert 'No space left' in bench.message()
    monkeypatch.setattr(os, 'pwrite', real)
    other = bench.talker.create_publisher(String, 'another_topic', RELIABLE_QOS)
    for number in range(20):  # a topic that appears afterwards, and messages
        other.publish(String(data=str(number)))
        talker.publish(String(data=str(number)))
        bench.executor.spin_once(timeout_sec=0.1)
    assert bench.recorder.active
    assert 'recording ended' in bench.message()
    assert words(bench.folder) == ['kept']


def test_a_disk_that_is_full_at_the_end_is_reported_without_a_traceback(bench, monkeypatch, capfd):
    bench.start()
    bench.say(bench.publisher(RELIABLE_QOS), 'kept')

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bench.recorder.trigger_deactivate()
    monkeypatch.setattr(os, 'pwrite', full)
    bench.recorder.close()
    assert 'the end of the recording is lost: No space left' in bench.message()
    assert 'Traceback' not in ''.join(capfd.readouterr())
    assert words(bench.folder) == ['kept']


def test_a_removed_bag_is_said_and_goes_on_with_all_that_was_recorded(bench):
    bench.start()
    talker = bench.publisher(RELIABLE_QOS)
    bench.say(talker, 'kept')
    shutil.rmtree(bench.folder)
    talker.publish(String(data='later'))
    bench.until(lambda: 'the bag was removed' in bench.message(), 'the warning')
    assert f'{bench.folder} has all of it' in bench.message()
    bench.until(lambda: words(bench.folder) == ['kept', 'later'], 'both words')


def test_a_removed_bag_that_cannot_be_made_again_is_an_error(bench):
    bench.start()
    bench.say(bench.publisher(RELIABLE_QOS), 'gone')
    shutil.rmtree(bench.folder)
    bench.folder.write_text('no folder any more')
    bench.until(lambda: 'recording ended' in bench.message(), 'the error')
    assert f'{bench.folder} was removed with what it held' in bench.message()
    assert bench.recorder.active


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / 'disk'
    place.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip('a tmpfs may be mounted by root only')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)


def test_a_disk_that_fills_up_is_said_and_the_bag_can_be_read(probe, small_disk):
    given = {'folder': str(small_disk / 'bag')}
    with running(NodeSpec('recorder', parameters=given)) as processes:
        probe.status('recorder', 'recording')
        pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
        probe.listen(DiagnosticArray, 'recorder/status', LATCHED_QOS)

        def full():
            probe.say(array_to_image(pixels, 1.0, 'camera'), 'image', RELIABLE_QOS)
            said = [s.message for a in probe.heard['recorder/status'] for s in a.status]
            return next((m for m in said if 'recording ended' in m), '')

        message = probe.until(full, 'the disk to be full')
        assert 'No space left on device' in message
        assert 'can be read up to here' in message
        assert processes.children['recorder'].poll() is None
    assert len(read(small_disk / 'bag')) > 3
    assert 'Traceback' not in processes.output.getvalue()
    assert information(small_disk / 'bag')['storage_identifier'] == 'mcap'


def test_configuring_again_begins_another_bag(bench):
    for text in ('one', 'two'):
        bench.start()
        folder = bench.recorder._bag.folder
        publisher = bench.publisher(RELIABLE_QOS)
        publisher.publish(String(data=text))
        bench.until(lambda f=folder, t=text: words(f) == [t], text)
        bench.talker.destroy_publisher(publisher)
        bench.recorder.trigger_deactivate()
        bench.recorder.trigger_cleanup()
    assert words(bench.folder) == ['one']
    assert words(bench.folder.with_name('bag_1')) == ['two']


@pytest.mark.parametrize('bench', [['-p', 'exclude:=[]']], indirect=True)
def test_nothing_to_exclude_is_accepted(bench):
    bench.start()
    publisher = bench.publisher(RELIABLE_QOS, 'wrist_image')
    publisher.publish(String(data='one'))
    bench.until(lambda: words(bench.folder, '/wrist_image') == ['one'], 'the message')


def test_an_unknown_type_is_named_and_the_rest_recorded(bench):
    bench.start()
    bench.recorder._hear('/odd', 'nowhere_msgs/msg/Odd', [RELIABLE_QOS])
    assert '/odd is not recorded' in bench.message()
    bench.say(bench.publisher(RELIABLE_QOS), 'one')


def no_more_files(type_name):
    raise OSError(errno.EMFILE, 'Too many open files')


def test_a_topic_whose_definition_cannot_be_opened_now_is_recorded_later(bench, monkeypatch):
    bench.start()
    kind = 'std_msgs/msg/String'
    with monkeypatch.context() as patched:
        patched.setattr('worldvla_ros.nodes.recorder.message_definition', no_more_files)
        bench.recorder._hear('/late', kind, [RELIABLE_QOS])
    assert '/late is not recorded yet: Too many open files' in bench.message()
    bench.recorder._hear('/late', kind, [RELIABLE_QOS])
    assert '/late' in bench.recorder._bag


@pytest.mark.parametrize(
    'name',
    ['os/msg/system', 'os/msg/Path', '../x/msg/Image', 'sensor_msgs/srv/SetCameraInfo',
     'sensor_msgs.msg/msg/Image', 'sensor_msgs/msg/', 'a/msg/../Image', 'sensor_msgs/msg/Image\n'],
)  # fmt: skip
def test_a_type_name_from_the_network_imports_nothing_but_messages(name):
    with pytest.raises(ConfigError):
        message_class(name)
    with pytest.raises(ConfigError):
        message_definition(name)


def test_a_module_beside_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / 'evil_msgs/msg').mkdir(parents=True)
    (tmp_path / 'evil_msgs/msg/__init__.py').write_text('raise SystemExit("imported")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match='evil_msgs/msg/Image is not installed'):
        message_class('evil_msgs/msg/Image')


def test_a_definition_holds_all_messages_inside():
    text = message_definition('sensor_msgs/msg/Image')
    assert text.startswith('#') or text.startswith('std_msgs')
    assert 'MSG: std_msgs/Header' in text
    assert 'MSG: builtin_interfaces/Time' in text
    assert message_class('sensor_msgs/msg/Image') is Image
