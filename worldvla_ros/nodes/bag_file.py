"""One MCAP file of a bag: topics and messages, whose index and number of messages it keeps.

The index that readers jump by takes memory until the file is finished, some 2 kB per flush; a bag
therefore goes on in another file after a while. Knows MCAP and files. Must not know folders.
"""

from pathlib import Path
from typing import IO, cast

from mcap.writer import Writer

from worldvla_ros.nodes.ended_file import EndedFile

LARGEST_WAIT = 1 << 20
"""Bytes that wait in memory at most, whatever the time since the last flush."""
MOST_FLUSHES = 500
"""Flushes of one file; 8 minutes where each comes after a second, about 1 GB where none waits."""


class BagFile:
    """A new file, open for messages."""

    def __init__(self, path: Path) -> None:
        """Create the file, which can be read from then on.

        Raises:
            FileExistsError: There is a file or a link of that name; it is left alone.
            OSError: The file cannot be created.
        """
        self.name = path.name
        self._file = EndedFile(path)
        self._channels: dict[str, int] = {}
        self._count = self._first_ns = self._last_ns = 0
        self._flushed = self._flushes = 0
        self._writer = Writer(cast('IO[bytes]', self._file))
        self._writer.start(profile='ros2', library='worldvla_ros')
        self.flush()

    def add(self, topic: str, type_name: str, definition: str) -> None:
        """Add a topic whose messages have this type and this definition."""
        schema = self._writer.register_schema(type_name, 'ros2msg', definition.encode())
        self._channels[topic] = self._writer.register_channel(topic, 'cdr', schema)

    def write(
        self, topic: str, data: bytes, received_ns: int, published_ns: int, number: int
    ) -> None:
        """Add a serialised message of a topic that has been added, with its number in the bag.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        channel = self._channels[topic]
        self._writer.add_message(channel, received_ns, data, published_ns, number)
        self._count += 1
        self._first_ns = self._first_ns or received_ns
        self._last_ns = received_ns
        if self._file.waiting > LARGEST_WAIT:
            self.flush()

    @property
    def full(self) -> bool:
        """Whether the bag should go on in another file."""
        return self._flushes >= MOST_FLUSHES

    @property
    def in_place(self) -> bool:
        """Whether the file still lies where it was created; what is written to it is lost else."""
        return self._file.in_place

    @property
    def span(self) -> tuple[int, int, int]:
        """When the first and the last message were received [ns], and how many there are."""
        return self._first_ns, self._last_ns, self._count

    def flush(self) -> None:
        """Bring all messages so far into the file.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        self._writer.flush()  # flushes the file, too
        self._flushes += self._count > self._flushed
        self._flushed = self._count

    def finish(self) -> None:
        """Write the rest and a summary; the file stays open, so that it can be moved.

        Raises:
            OSError: The disk is full, for example; what was flushed before can be read.
        """
        self._writer.finish()
        self._file.finish()
        del self._writer  # with its index

    def move(self, path: Path) -> None:
        """Go on in a new file, with all that the present one holds, removed as it may be.

        Raises:
            FileExistsError: There is a file or a link of that name; it is left alone.
            OSError: The file cannot be created or written; the present one stays.
        """
        self._file.move(path)

    def close(self) -> None:
        """Close the file as it is; what waits is lost."""
        self._file.close()
