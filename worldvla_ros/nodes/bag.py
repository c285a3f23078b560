"""A bag as `ros2 bag` writes it: an MCAP file, profile ros2, encoding cdr, and a metadata.yaml.

Both can be read while the bag is written, and after whatever ended its writer: the file ends
rightly after every flush, and metadata.yaml is there from the start and replaced as a whole. A bag
that is removed while it is written goes on in a new folder, with all that it held. Knows MCAP and
files. Must not know rclpy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import itertools
import os
from pathlib import Path
from typing import IO, TypeVar, cast

from mcap.writer import IndexType, Writer
import yaml

from worldvla_ros.nodes.ended_file import EndedFile

BAG_NAME = 'bag_0.mcap'
METADATA_NAME = 'metadata.yaml'
LARGEST_WAIT = 1 << 20
"""Bytes that wait in memory at most, whatever the time since the last flush."""
METADATA_EVERY = 10
"""Flushes between two updates of the numbers in metadata.yaml."""
INDEXED = IndexType.CHUNK | IndexType.ATTACHMENT | IndexType.METADATA
"""Without the optional index of messages in each chunk, which takes 1.1 kB of memory per flush."""
Made = TypeVar('Made')


@dataclass
class Channel:
    """A topic of the bag: its id in the file, what it carries, and the QoS offered so far."""

    id: int
    type_name: str
    offered: list[Mapping[str, object]] = field(default_factory=list)
    count: int = 0


class Bag:
    """A new bag, open for messages."""

    def __init__(self, folder: str | Path) -> None:
        """Create the bag in a folder, or beside it where there is one in it already.

        Args:
            folder: Where the bag should lie. If it holds a bag, then `<folder>_1` is taken, or the
                first number that is free. Nothing that exists is overwritten.

        Raises:
            OSError: No folder can be made or written.
        """
        self._channels: dict[str, Channel] = {}
        self._first_ns = self._last_ns = self._flushes = 0
        self._asked = Path(folder).resolve()
        self.moves = 0
        """How often the bag was removed and written anew."""
        self.folder, self._file = _create(self._asked)
        self._writer = Writer(cast('IO[bytes]', self._file), index_types=INDEXED)
        self._writer.start(profile='ros2', library='worldvla_ros')
        self.flush()

    def __contains__(self, topic: str) -> bool:
        """Whether a topic has been added."""
        return topic in self._channels

    def add(self, topic: str, type_name: str, definition: str) -> None:
        """Add a topic whose messages have this type and this definition."""
        schema = self._writer.register_schema(type_name, 'ros2msg', definition.encode())
        number = self._writer.register_channel(topic, 'cdr', schema)
        self._channels[topic] = Channel(number, type_name)

    def offer(self, topic: str, profiles: Iterable[Mapping[str, object]]) -> None:
        """Note with which QoS a topic is published; each profile is kept once.

        Args:
            topic: A topic that has been added.
            profiles: Fields as in `offered_qos_profiles` of a bag's metadata, version 5.

        Raises:
            OSError: The metadata cannot be written.
        """
        offered = self._channels[topic].offered
        fresh = [profile for profile in profiles if profile not in offered]
        offered += [p for i, p in enumerate(fresh) if p not in fresh[:i]]
        if fresh:
            self._follow()
            self._write_metadata()

    def write(self, topic: str, data: bytes, received_ns: int, published_ns: int) -> None:
        """Add a serialised message of a topic that has been added.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        channel = self._channels[topic]
        self._writer.add_message(channel.id, received_ns, data, published_ns, channel.count)
        channel.count += 1
        self._first_ns = self._first_ns or received_ns
        self._last_ns = received_ns
        if self._file.waiting > LARGEST_WAIT:
            self.flush()

    @property
    def in_place(self) -> bool:
        """Whether the file still lies in `folder`."""
        return self._file.in_place

    def flush(self) -> None:
        """Bring all messages so far into the file; `folder` may be another one afterwards.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        if self._follow():
            self._write_metadata()
        self._writer.flush()
        if self._flushes % METADATA_EVERY == 0:
            self._write_metadata()
        self._flushes += 1

    def _follow(self) -> bool:
        """Go on in a new folder, with all that there was, where the bag was removed."""
        if self.in_place:
            return False
        self.folder = _first_free(self._asked, self._file.move)[0]
        self.moves += 1
        return True

    def close(self) -> None:
        """Write the rest, a summary and the final metadata.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        try:
            self.flush()
            self._writer.finish()
            self._file.finish()
            self._write_metadata()
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close the file as the last flush left it."""
        self._file.close()

    def _write_metadata(self) -> None:
        """Replace metadata.yaml as a whole; a link of that name is replaced, not followed."""
        part = self.folder / f'.{METADATA_NAME}.part'
        part.unlink(missing_ok=True)
        try:
            with part.open('x') as stream:
                yaml.safe_dump(self._metadata(), stream)
            part.replace(self.folder / METADATA_NAME)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _metadata(self) -> dict[str, object]:
        """Return what `ros2 bag info` and `ros2 bag play` read beside the bag."""
        span = {
            'starting_time': {'nanoseconds_since_epoch': self._first_ns},
            'duration': {'nanoseconds': self._last_ns - self._first_ns},
            'message_count': sum(channel.count for channel in self._channels.values()),
        }
        channels = sorted(self._channels.items())
        information = {
            'version': 5,
            'storage_identifier': 'mcap',
            **span,
            'topics_with_message_count': [_topic(*pair) for pair in channels],
            'compression_format': '',
            'compression_mode': '',
            'relative_file_paths': [BAG_NAME],
            'files': [{'path': BAG_NAME, **span}],
        }
        return {'rosbag2_bagfile_information': information}


def _topic(name: str, channel: Channel) -> dict[str, object]:
    offered = [dict(profile) for profile in channel.offered]
    return {
        'topic_metadata': {
            'name': name,
            'type': channel.type_name,
            'serialization_format': 'cdr',
            'offered_qos_profiles': yaml.safe_dump(offered, sort_keys=False) if offered else '',
        },
        'message_count': channel.count,
    }


def _create(folder: Path) -> tuple[Path, EndedFile]:
    """Create the file in the first of folder, folder_1, folder_2 … that has no bag."""
    return _first_free(folder, EndedFile)


def _first_free(folder: Path, create: Callable[[Path], Made]) -> tuple[Path, Made]:
    """Return the first of folder, folder_1, folder_2 … without a bag, and what was created there.

    Raises:
        OSError: No folder can be made, or the file cannot be created.
    """
    for number in itertools.count():
        place = folder.with_name(f'{folder.name}_{number}') if number else folder
        place.mkdir(parents=True, exist_ok=True)
        if not any(os.path.lexists(place / name) for name in (BAG_NAME, METADATA_NAME)):
            try:
                return place, create(place / BAG_NAME)
            except FileExistsError:  # another recorder was faster
                continue
    raise AssertionError('unreachable: numbers do not end')
