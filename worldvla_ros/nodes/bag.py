"""A bag as `ros2 bag` writes it: MCAP files, profile ros2, encoding cdr, and a metadata.yaml.

    BAG/            metadata.yaml names the files, in order
        bag_0.mcap  finished, with its index
        bag_1.mcap  being written

All can be read while the bag is written, and after whatever ended its writer: a file ends rightly
after every flush, and metadata.yaml is there from the start and replaced as a whole. A bag that is
removed while it is written goes on in a new folder, with all that it held. Knows folders and
metadata; `bag_file.py` knows one file. Must not know rclpy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import itertools
import os
from pathlib import Path
from typing import TypeVar

import yaml

from worldvla_ros.nodes.bag_file import BagFile

METADATA_NAME = 'metadata.yaml'
METADATA_EVERY = 10
"""Flushes between two updates of the numbers in metadata.yaml."""
MOST_OPEN = 100
"""Finished files stay open, so that they go along where the bag goes on elsewhere."""
Made = TypeVar('Made')


@dataclass
class Channel:
    """A topic of the bag: what it carries, and the QoS offered so far."""

    type_name: str
    definition: str
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
        self._flushes = 0
        self._asked = Path(folder).resolve()
        self.moves = 0
        """How often the bag was removed and written anew."""
        self.folder, self._file = _first_free(self._asked, lambda at: BagFile(at / _name(0)))
        self._files, self._open = [self._file], [self._file]
        self._numbers = itertools.count(1)
        self.flush()

    def __contains__(self, topic: str) -> bool:
        """Whether a topic has been added."""
        return topic in self._channels

    def add(self, topic: str, type_name: str, definition: str) -> None:
        """Add a topic whose messages have this type and this definition."""
        self._file.add(topic, type_name, definition)
        self._channels[topic] = Channel(type_name, definition)

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
        if self._file.full:
            self._go_on_in_another_file()
        channel = self._channels[topic]
        self._file.write(topic, data, received_ns, published_ns, channel.count)
        channel.count += 1

    @property
    def in_place(self) -> bool:
        """Whether the file that is written still lies in `folder`."""
        return self._file.in_place

    def flush(self) -> None:
        """Bring all messages so far into the file; `folder` may be another one afterwards.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        if self._follow():
            self._write_metadata()
        self._file.flush()
        if self._flushes % METADATA_EVERY == 0:
            self._write_metadata()
        self._flushes += 1

    def _follow(self) -> bool:
        """Go on in a new folder, with all that there was, where the bag was removed."""
        if self.in_place:
            return False
        self.folder = _first_free(self._asked, self._move)[0]
        self.moves += 1
        return True

    def _move(self, folder: Path) -> None:
        self._files = list(self._open)
        for file in self._files:
            file.move(folder / file.name)

    def _go_on_in_another_file(self) -> None:
        """Finish the file, and begin the next one with the same topics."""
        self._follow()
        self._file.finish()
        for file in [file for file in self._open if not file.in_place]:
            # somebody wants its space, which is free once it is closed
            self._files.remove(file)
            self._close(file)
        if len(self._open) == MOST_OPEN:
            self._close(self._open[0])
        self._file = BagFile(self.folder / _name(next(self._numbers)))
        self._files.append(self._file)
        self._open.append(self._file)
        for topic, channel in self._channels.items():
            self._file.add(topic, channel.type_name, channel.definition)
        self._write_metadata()

    def close(self) -> None:
        """Write the rest, a summary and the final metadata.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        try:
            self.flush()
            self._file.finish()
            self._write_metadata()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as the last flush left them."""
        for file in list(self._open):
            self._close(file)

    def _close(self, file: BagFile) -> None:
        self._open.remove(file)
        file.close()

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
        firsts, lasts, counts = zip(*(file.span for file in self._files), strict=True)
        channels = sorted(self._channels.items())
        information = {
            'version': 5,
            'storage_identifier': 'mcap',
            **_span(next(filter(None, firsts), 0), max(lasts), sum(counts)),
            'topics_with_message_count': [_topic(*pair) for pair in channels],
            'compression_format': '',
            'compression_mode': '',
            'relative_file_paths': [file.name for file in self._files],
            'files': [{'path': file.name, **_span(*file.span)} for file in self._files],
        }
        return {'rosbag2_bagfile_information': information}


def _name(number: int | str) -> str:
    return f'bag_{number}.mcap'


def _span(first_ns: int, last_ns: int, count: int) -> dict[str, object]:
    return {
        'starting_time': {'nanoseconds_since_epoch': first_ns},
        'duration': {'nanoseconds': last_ns - first_ns},
        'message_count': count,
    }


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


def _first_free(folder: Path, create: Callable[[Path], Made]) -> tuple[Path, Made]:
    """Return the first of folder, folder_1, folder_2 … without a bag, and what was created there.

    Raises:
        OSError: No folder can be made, or a file cannot be created.
    """
    for number in itertools.count():
        place = folder.with_name(f'{folder.name}_{number}') if number else folder
        place.mkdir(parents=True, exist_ok=True)
        if not any(place.glob(_name('*'))) and not os.path.lexists(place / METADATA_NAME):
            try:
                return place, create(place)
            except FileExistsError:  # another recorder was faster
                continue
    raise AssertionError('unreachable: numbers do not end')
