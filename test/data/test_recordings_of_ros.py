"""Recordings are read without ROS, whole or cut off, and what cannot be read is named."""

import subprocess
import sys

import numpy as np
import pytest
from recorded import FIRST_S, HOME, Tape, images

from worldvla_ros.data.bags import Recording
from worldvla_ros.errors import ConfigError, MissingDependencyError


def write(file, count=5):
    with Tape(file) as tape:
        for step, pixels in enumerate(images(count)):
            tape.joints(HOME, FIRST_S + step)
            tape.image(pixels, FIRST_S + step)
    return file


def test_messages_come_in_order_with_their_fields(tmp_path):
    recording = Recording(write(tmp_path / 'a.mcap'))
    assert recording.topics() == {
        '/joint_states': 'sensor_msgs/msg/JointState', '/image': 'sensor_msgs/msg/Image',
    }  # fmt: skip
    found = list(recording.records({'/image', '/joint_states'}))
    assert [r.topic for r in found] == ['/joint_states', '/image'] * 5
    assert [r.arrived_ns for r in found[:2]] == [10**12, 10**12 + 10**6]
    np.testing.assert_array_equal(
        np.frombuffer(found[1].message.data, np.uint8), images(1)[0].ravel()
    )
    assert found[2].message.position == HOME
    assert found[3].message.header.stamp.sec == 1001
    assert recording.problems == []
    assert recording.done == recording.size


def test_only_the_topics_asked_for_come(tmp_path):
    found = Recording(write(tmp_path / 'a.mcap')).records({'/image', '/absent'})
    assert {r.topic for r in found} == {'/image'}


@pytest.mark.parametrize('share', [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_read_up_to_there(tmp_path, share):
    whole = write(tmp_path / 'a.mcap', 200).read_bytes()
    (tmp_path / 'a.mcap').write_bytes(whole[: int(share * len(whole))])
    recording = Recording(tmp_path / 'a.mcap')
    found = list(recording.records({'/image'}))
    assert 0 < len(found) < 200
    assert found[0].message.header.stamp.sec == 1000
    assert recording.problems == [f'a.mcap: cut off after {int(share * len(whole))} bytes']


def test_a_file_with_bytes_changed_ends_in_a_problem_and_not_in_a_traceback(tmp_path):
    whole = bytearray(write(tmp_path / 'a.mcap', 200).read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4000] = b'\xff' * 4000
    (tmp_path / 'a.mcap').write_bytes(whole)
    recording = Recording(tmp_path / 'a.mcap')
    assert len(list(recording.records({'/image'}))) < 200
    assert recording.problems


def test_a_folder_is_read_file_after_file_in_the_order_of_its_metadata(tmp_path):
    for number in (9, 10):
        with Tape(tmp_path / f'bag_{number}.mcap') as tape:
            tape.joints(HOME, FIRST_S + number)
    assert [r.arrived_ns for r in Recording(tmp_path).records({'/joint_states'})] == [
        1009 * 10**9, 1010 * 10**9,
    ]  # fmt: skip
    (tmp_path / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information: {relative_file_paths: [bag_10.mcap, ../bag_9.mcap]}'
    )
    assert [f.name for f in Recording(tmp_path).files] == ['bag_10.mcap']


@pytest.mark.parametrize('content', [b'', b'no recording', b'x' * 100])
def test_what_is_no_recording_is_refused(tmp_path, content):
    (tmp_path / 'a.mcap').write_bytes(content)
    with pytest.raises(ConfigError, match='a.mcap is (empty|no MCAP file)'):
        Recording(tmp_path / 'a.mcap').topics()


def test_a_folder_without_a_recording_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / 'absent'):
        with pytest.raises(ConfigError, match='no recording at'):
            Recording(path)


def test_encodings_of_other_software_are_named(tmp_path):
    from mcap.writer import Writer

    with (tmp_path / 'a.mcap').open('wb') as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema('a_msgs/msg/A', 'jsonschema', b'{}')
        channel = writer.register_channel('/a', 'json', schema)
        writer.add_message(channel, 1, b'{}', 1)
        writer.finish()
    recording = Recording(tmp_path / 'a.mcap')
    assert list(recording.records({'/a'})) == []
    assert recording.problems == ['/a: a_msgs/msg/A cannot be decoded']


def test_a_message_that_is_too_short_is_named_and_the_next_one_read(tmp_path):
    from mcap.writer import Writer

    with (tmp_path / 'a.mcap').open('wb') as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema('a_msgs/msg/A', 'ros2msg', b'float64 x')
        channel = writer.register_channel('/a', 'cdr', schema)
        writer.add_message(channel, 1, b'\0\1\0\0', 1)
        writer.add_message(channel, 2, b'\0\1\0\0' + np.float64(2.5).tobytes(), 2)
        writer.finish()
    recording = Recording(tmp_path / 'a.mcap')
    assert [r.message.x for r in recording.records({'/a'})] == [2.5]
    assert recording.problems == ['/a: damaged: error']


def test_reading_needs_no_ros(tmp_path):
    write(tmp_path / 'a.mcap')
    code = (
        'import sys\nfrom worldvla_ros.data.bags import Recording\n'
        f'found = list(Recording({str(tmp_path / "a.mcap")!r}).records({{"/image"}}))\n'
        'ros = [m for m in sys.modules if m.split(".")[0] in ("rclpy", "rosidl_parser", '
        '"sensor_msgs", "ament_index_python")]\nprint(len(found), ros)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == '5 []\n', done.stderr


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write(tmp_path / 'a.mcap')
    monkeypatch.setitem(sys.modules, 'mcap_ros2.decoder', None)
    with pytest.raises(MissingDependencyError, match=r'worldvla_ros\[record\]'):
        Recording(tmp_path / 'a.mcap')
