"""A bag can be read at every moment, whatever ends its writer."""

import contextlib
import errno
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

from mcap.reader import NonSeekingReader, make_reader
import pytest
import yaml

from worldvla_ros.nodes import bag as bag_module
from worldvla_ros.nodes.bag import Bag
from worldvla_ros.nodes.bag_file import LARGEST_WAIT, MOST_FLUSHES
from worldvla_ros.nodes.ended_file import END, EndedFile

ROOT = Path(__file__).parents[2]
DEFINITION = 'string data'
LATCHED = {'reliability': 1, 'durability': 1}
PLAIN = {'reliability': 1, 'durability': 2}


def filled(folder, count=3, *, closed=False):
    """Return a bag with messages b'0', b'1' … that are flushed."""
    bag = Bag(folder)
    bag.add('/words', 'std_msgs/msg/String', DEFINITION)
    for number in range(count):
        bag.write('/words', str(number).encode(), 100 + number, 90 + number)
    bag.close() if closed else bag.flush()
    return bag


def messages(folder):
    """Return the messages of a bag, which both readers of mcap must agree upon."""
    found = []
    for reader in (make_reader, NonSeekingReader):
        found.append([])
        for name in information(folder)['relative_file_paths']:
            with (folder / name).open('rb') as stream:
                found[-1] += [m.data for _, _, m in reader(stream).iter_messages()]
    assert found[0] == found[1]
    return found[0]


def information(folder):
    content = yaml.safe_load((folder / 'metadata.yaml').read_text())
    return content['rosbag2_bagfile_information']


@pytest.mark.parametrize('closed', [False, True])
def test_what_was_flushed_can_be_read_before_and_after_the_end(tmp_path, closed):
    filled(tmp_path, closed=closed)
    assert messages(tmp_path) == [b'0', b'1', b'2']


def test_an_empty_bag_can_be_read(tmp_path):
    Bag(tmp_path)
    assert messages(tmp_path) == []
    assert information(tmp_path)['message_count'] == 0


def test_a_bag_grows_from_flush_to_flush(tmp_path):
    bag = filled(tmp_path)
    for number in range(3, 20):
        bag.write('/words', str(number).encode(), 100 + number, 90 + number)
        bag.flush()
        assert len(messages(tmp_path)) == number + 1
    bag.close()
    with (tmp_path / 'bag_0.mcap').open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary.statistics.message_count == 20
    assert len(summary.chunk_indexes) == 18
    assert all(index.message_index_offsets for index in summary.chunk_indexes)


def long(folder, files=3):
    """Return a bag of so many files that is open, with how many messages are in it."""
    bag = filled(folder, 0)
    bag.add('/later', 'std_msgs/msg/String', DEFINITION)
    count = (files - 1) * MOST_FLUSHES + 2
    for number in range(count):
        bag.write(('/words', '/later')[number % 2], str(number).encode(), 100 + number, number)
        bag.flush()
    return bag, count


def test_a_long_bag_is_several_files_that_hold_everything_in_order(tmp_path):
    bag, count = long(tmp_path)
    everything = [str(number).encode() for number in range(count)]
    bag.close()
    assert messages(tmp_path) == everything
    found = information(tmp_path)
    assert found['relative_file_paths'] == ['bag_0.mcap', 'bag_1.mcap', 'bag_2.mcap']
    assert [file['path'] for file in found['files']] == found['relative_file_paths']
    assert [file['message_count'] for file in found['files']] == [MOST_FLUSHES, MOST_FLUSHES, 2]
    assert [f['starting_time']['nanoseconds_since_epoch'] for f in found['files']] == [
        100, 100 + MOST_FLUSHES, 100 + 2 * MOST_FLUSHES,
    ]  # fmt: skip
    assert found['duration'] == {'nanoseconds': count - 1}
    assert found['message_count'] == count
    for name in found['relative_file_paths']:
        with (tmp_path / name).open('rb') as stream:
            summary = make_reader(stream).get_summary()
        assert {c.topic for c in summary.channels.values()} == {'/words', '/later'}
    with (tmp_path / 'bag_1.mcap').open('rb') as stream:
        numbers = [m.sequence for _, _, m in make_reader(stream).iter_messages(['/words'])]
    assert numbers == list(range(MOST_FLUSHES // 2, MOST_FLUSHES))


def test_a_long_bag_can_be_read_at_any_time(tmp_path):
    bag, count = long(tmp_path, 2)
    assert len(messages(tmp_path)) == count
    bag.abandon()
    assert len(messages(tmp_path)) == count
    with (tmp_path / 'bag_0.mcap').open('rb') as stream:
        assert make_reader(stream).get_summary().statistics.message_count == MOST_FLUSHES


def test_nothing_to_write_makes_no_further_file(tmp_path):
    bag = filled(tmp_path)
    for _ in range(2 * MOST_FLUSHES):
        bag.flush()
    bag.write('/words', b'3', 103, 93)
    bag.close()
    assert information(tmp_path)['relative_file_paths'] == ['bag_0.mcap']


def test_a_long_bag_that_is_removed_goes_on_with_all_its_files(tmp_path):
    bag, count = long(tmp_path / 'bag')
    shutil.rmtree(tmp_path / 'bag')
    bag.write('/words', b'last', 1 << 40, 1)
    bag.close()
    assert len(messages(tmp_path / 'bag')) == count + 1
    assert messages(tmp_path / 'bag')[-1] == b'last'


def is_open(path):
    """Return whether this process has a file open that is, or was, at a path."""
    for number in os.listdir('/proc/self/fd'):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f'/proc/self/fd/{number}').startswith(str(path)):
                return True
    return False


def test_a_finished_file_that_somebody_removes_is_let_go(tmp_path):
    """Its space is free only when nobody has it open."""
    bag, _ = long(tmp_path)
    (tmp_path / 'bag_0.mcap').unlink()
    assert is_open(tmp_path / 'bag_0.mcap')
    for number in range(MOST_FLUSHES):
        bag.write('/words', b'more', (1 << 40) + number, 1)
        bag.flush()
    assert not is_open(tmp_path / 'bag_0.mcap')
    bag.close()
    found = information(tmp_path)
    assert found['relative_file_paths'] == ['bag_1.mcap', 'bag_2.mcap', 'bag_3.mcap']
    assert len(messages(tmp_path)) == found['message_count'] == 2 * MOST_FLUSHES + 2


def test_only_some_finished_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_module, 'MOST_OPEN', 2)
    bag, count = long(tmp_path / 'bag', 4)
    assert len(messages(tmp_path / 'bag')) == count
    shutil.rmtree(tmp_path / 'bag')
    bag.close()
    assert information(tmp_path / 'bag')['relative_file_paths'] == ['bag_2.mcap', 'bag_3.mcap']
    assert len(messages(tmp_path / 'bag')) == MOST_FLUSHES + 2


def test_times_topic_and_type_are_those_given(tmp_path):
    filled(tmp_path, 1, closed=True)
    with (tmp_path / 'bag_0.mcap').open('rb') as stream:
        [(schema, channel, message)] = make_reader(stream).iter_messages()
    assert (schema.name, schema.encoding, schema.data) == (
        'std_msgs/msg/String', 'ros2msg', DEFINITION.encode(),
    )  # fmt: skip
    assert (channel.topic, channel.message_encoding) == ('/words', 'cdr')
    assert (message.log_time, message.publish_time) == (100, 90)


def test_large_messages_do_not_wait_for_the_time(tmp_path):
    bag = filled(tmp_path, 0)
    size = (tmp_path / 'bag_0.mcap').stat().st_size
    for number in range(2):
        bag.write('/words', os.urandom(LARGEST_WAIT), number, number)
    assert (tmp_path / 'bag_0.mcap').stat().st_size > size + LARGEST_WAIT
    assert len(messages(tmp_path)) == 2


def test_a_killed_writer_leaves_what_it_flushed(tmp_path):
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from worldvla_ros.nodes.bag import Bag
bag = Bag(Path({str(tmp_path)!r}))
bag.add('/words', 'std_msgs/msg/String', 'string data')
for number in range(100000):
    bag.write('/words', os.urandom(2000), number, number)
    if number % 7 == 0:
        bag.flush()
    if number == 200:
        print('going', flush=True)
"""
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'going\n'
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    assert len(messages(tmp_path)) > 190
    assert information(tmp_path)['relative_file_paths'] == ['bag_0.mcap']


def interrupted(monkeypatch, after):
    """Let the disk be full after a number of further writes; each takes half of its last one."""
    real, left = os.pwrite, [after]

    def pwrite(file, data, place):
        left[0] -= 1
        if left[0] == -1:
            return real(file, data[: max(1, len(data) // 2)], place)
        if left[0] < -1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data, place)

    monkeypatch.setattr(os, 'pwrite', pwrite)


@pytest.mark.parametrize('after', [0, 1])
def test_a_full_disk_loses_only_what_was_not_flushed(tmp_path, monkeypatch, after):
    bag = filled(tmp_path)
    interrupted(monkeypatch, after)
    bag.write('/words', b'x' * 1000, 200, 200)
    with pytest.raises(OSError, match='No space left'):
        bag.flush()
    bag.abandon()
    assert messages(tmp_path) == [b'0', b'1', b'2']


def test_a_disk_that_is_full_at_the_end_loses_only_the_summary(tmp_path, monkeypatch):
    bag = filled(tmp_path)
    interrupted(monkeypatch, 0)
    with pytest.raises(OSError, match='No space left'):
        bag.close()
    assert messages(tmp_path) == [b'0', b'1', b'2']
    assert information(tmp_path)['relative_file_paths'] == ['bag_0.mcap']


@pytest.mark.parametrize('writes', [0, 1, 2, 3])
def test_a_file_reads_as_before_or_as_after_between_any_two_writes_of_a_flush(
    tmp_path, monkeypatch, writes
):
    bag = filled(tmp_path)
    real, left = os.pwrite, [writes]

    class Killed(BaseException):
        pass

    def pwrite(file, data, place):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(file, data, place)

    bag.write('/words', b'x' * 1000, 200, 200)
    monkeypatch.setattr(os, 'pwrite', pwrite)
    try:
        bag.flush()
    except Killed:
        assert messages(tmp_path) == [b'0', b'1', b'2']
    else:
        assert messages(tmp_path) == [b'0', b'1', b'2', b'x' * 1000]


def test_a_second_bag_gets_a_folder_of_its_own(tmp_path):
    folders = [filled(tmp_path / 'bag', n, closed=True).folder for n in (1, 2, 3)]
    assert [f.name for f in folders] == ['bag', 'bag_1', 'bag_2']
    assert [len(messages(f)) for f in folders] == [1, 2, 3]


@pytest.mark.parametrize('name', ['bag_0.mcap', 'metadata.yaml'])
@pytest.mark.parametrize('there', [True, False])
def test_a_link_is_neither_followed_nor_replaced(tmp_path, name, there):
    (tmp_path / 'bag').mkdir()
    precious = tmp_path / 'precious'
    if there:
        precious.write_text('precious')
    (tmp_path / 'bag' / name).symlink_to(precious)
    assert filled(tmp_path / 'bag', closed=True).folder.name == 'bag_1'
    assert precious.exists() == there
    assert not there or precious.read_text() == 'precious'
    assert (tmp_path / 'bag' / name).is_symlink()


def test_a_file_that_is_there_is_not_opened(tmp_path):
    (tmp_path / 'file').write_text('precious')
    with pytest.raises(FileExistsError):
        EndedFile(tmp_path / 'file')
    assert (tmp_path / 'file').read_text() == 'precious'


def test_the_metadata_counts_messages_and_keeps_each_offered_profile_once(tmp_path):
    bag = filled(tmp_path)
    bag.offer('/words', [LATCHED, LATCHED])
    bag.offer('/words', [LATCHED, PLAIN])
    bag.close()
    found = information(tmp_path)
    [topic] = found['topics_with_message_count']
    assert topic['message_count'] == found['message_count'] == 3
    assert found['files'][0]['message_count'] == 3
    assert found['starting_time'] == {'nanoseconds_since_epoch': 100}
    assert found['duration'] == {'nanoseconds': 2}
    assert yaml.safe_load(topic['topic_metadata']['offered_qos_profiles']) == [LATCHED, PLAIN]


def test_the_metadata_names_a_topic_as_soon_as_it_is_offered(tmp_path):
    bag = filled(tmp_path)
    bag.offer('/words', [LATCHED])
    [topic] = information(tmp_path)['topics_with_message_count']
    assert topic['topic_metadata']['name'] == '/words'


def test_the_end_of_a_file_is_what_the_format_asks_for():
    assert END[0] == 0x0F  # data end
    assert END[13] == 0x02  # footer
    assert END.endswith(b'\x89MCAP0\r\n')
    assert len(END) == 50


@pytest.mark.parametrize('how', ['removed', 'renamed', 'file alone'])
@pytest.mark.parametrize('closed', [False, True])
def test_a_bag_that_is_removed_goes_on_elsewhere_with_all_that_it_held(tmp_path, how, closed):
    bag = filled(tmp_path / 'bag')
    if how == 'removed':
        shutil.rmtree(bag.folder)
    elif how == 'renamed':
        bag.folder.rename(tmp_path / 'other')
    else:
        (bag.folder / 'bag_0.mcap').unlink()
    bag.write('/words', b'3', 103, 93)
    assert not bag.in_place
    bag.close() if closed else bag.flush()
    if not closed:
        assert bag.in_place
        bag.write('/words', b'4', 104, 94)
        bag.flush()
    # where metadata.yaml is still there, another folder
    assert bag.folder == tmp_path / ('bag_1' if how == 'file alone' else 'bag')
    assert messages(bag.folder) == [b'0', b'1', b'2', b'3', *([] if closed else [b'4'])]
    assert information(bag.folder)['topics_with_message_count'][0]['topic_metadata']['name']


def test_a_topic_that_appears_when_the_bag_was_removed_loses_nothing(tmp_path):
    bag = filled(tmp_path / 'bag')
    shutil.rmtree(bag.folder)
    bag.offer('/words', [PLAIN])
    assert (bag.in_place, bag.moves) == (True, 1)
    bag.flush()
    assert messages(bag.folder) == [b'0', b'1', b'2']
    assert bag.moves == 1


def test_a_removed_bag_that_cannot_be_written_again_says_so(tmp_path):
    bag = filled(tmp_path / 'in/bag')
    shutil.rmtree(tmp_path / 'in')
    (tmp_path / 'in').write_text('no folder any more')
    bag.write('/words', b'3', 103, 93)
    with pytest.raises(OSError, match='in/bag'):
        bag.flush()
    assert not bag.in_place


def test_a_move_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    file = EndedFile(tmp_path / 'a')
    file.write(b'x' * 100)
    file.flush()
    (tmp_path / 'b').write_text('precious')
    with pytest.raises(FileExistsError):
        file.move(tmp_path / 'b')
    assert (tmp_path / 'b').read_text() == 'precious'

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, 'copyfileobj', full)
    with pytest.raises(OSError, match='No space left'):
        file.move(tmp_path / 'c')
    assert not (tmp_path / 'c').exists()
    assert file.in_place
    assert (tmp_path / 'a').read_bytes() == b'x' * 100 + END


@pytest.mark.parametrize('limit', [3_000, 40_000, 70_000, 100_000])
def test_a_file_as_large_as_the_system_allows_can_be_read(tmp_path, limit):
    """RLIMIT_FSIZE, as a quota has it: a write takes a part, the next one fails."""
    code = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from worldvla_ros.nodes.bag import Bag
bag = Bag({str(tmp_path / 'bag')!r})
bag.add('/words', 'std_msgs/msg/String', 'string data')
try:
    for number in range(1000):
        bag.write('/words', str(number).encode() + os.urandom(500), number + 1, number + 1)
        bag.flush()
        print(number, flush=True)
except OSError as error:
    bag.abandon()
    print(error.strerror)
"""
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    *numbers, problem = done.stdout.split('\n')[:-1]
    assert problem == 'File too large', done.stderr
    assert len(messages(tmp_path / 'bag')) == len(numbers)
    assert (tmp_path / 'bag/bag_0.mcap').stat().st_size <= limit
    assert information(tmp_path / 'bag')['storage_identifier'] == 'mcap'
    assert not list((tmp_path / 'bag').glob('.*')), 'no half-written metadata stays'


def test_half_a_last_write_over_the_old_end_is_put_right(tmp_path, monkeypatch):
    """A file system that copies on write may refuse to overwrite as well."""
    bag = filled(tmp_path)
    real, left = os.pwrite, [3]

    def pwrite(file, data, place):
        left[0] -= 1
        if left[0] == 0:  # the third write of a flush is that over the old end
            real(file, data[:20], place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data, place)

    monkeypatch.setattr(os, 'pwrite', pwrite)
    bag.write('/words', b'x' * 1000, 200, 200)
    with pytest.raises(OSError, match='No space left'):
        bag.flush()
    bag.abandon()
    assert messages(tmp_path) == [b'0', b'1', b'2']
