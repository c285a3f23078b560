"""Recordings of ROS 2 topics, read without ROS: MCAP files of `ros2 bag` or of our recorder.

    BAG/            metadata.yaml names the files, in order
        bag_0.mcap  schemas (ros2msg) · channels (topics) · messages (CDR), as they arrived

Messages are decoded by the definitions that lie in the file, so their packages need not be
installed. A file whose writer was killed is read up to where it was cut off. Must not know what
messages mean.
"""

from collections.abc import Callable, Collection, Iterator
import contextlib
from dataclasses import dataclass
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any

from worldvla_ros.config import load_yaml
from worldvla_ros.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from mcap.records import Channel, McapRecord, Message, Schema

LARGEST_RECORD = 1 << 30
"""A damaged length must not ask for all memory."""
READABLE = ('ros2msg', 'cdr')
"""Encoding of definitions and of messages."""


@dataclass(frozen=True)
class Record:
    """One message of a recording.

    Attributes:
        topic: Its topic, with namespace.
        type_name: Its type, such as sensor_msgs/msg/Image.
        message: Has the fields of the definition as attributes; uint8[] is bytes, other arrays
            are lists.
        arrived_ns: When the recorder received it, since the epoch [ns].
    """

    topic: str
    type_name: str
    message: Any
    arrived_ns: int


@dataclass(frozen=True)
class _Channel:
    """A topic of one file, and what decodes its messages, where that is known."""

    topic: str
    type_name: str
    decode: Callable[[bytes], Any] | None


class Recording:
    """A recording; each call of `records` reads it from the start."""

    def __init__(self, path: str | Path) -> None:
        """Find the files of a recording.

        Args:
            path: An MCAP file, or a folder of them as `ros2 bag` writes it.

        Raises:
            ConfigError: There is none.
            MissingDependencyError: The packages that read MCAP are not installed.
        """
        try:
            import mcap_ros2.decoder  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                'reading a recording needs mcap and mcap-ros2-support',
                remedy="pip install 'worldvla_ros[record]'",
            ) from error
        self.files = _files(Path(path))
        self.size = sum(file.stat().st_size for file in self.files)
        """Bytes of all files."""
        self.done = 0
        """Bytes that `records` has read, of `size`."""
        self.problems: list[str] = []
        """What `records` could not read: the end of a cut-off file, damaged messages."""

    def topics(self) -> dict[str, str]:
        """Return the type of each topic."""
        return {channel.topic: channel.type_name for channel, _ in self._read()}

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their arrival.

        Messages that cannot be decoded are left out and named in `problems`.
        """
        for channel, raw in self._read():
            if raw is None or channel.topic not in topics:
                continue
            if channel.decode is None:
                self._problem(channel.topic, f'{channel.type_name} cannot be decoded')
                continue
            try:
                message = channel.decode(raw.data)
            except Exception as error:  # a foreign library's boundary: bytes of any kind
                self._problem(channel.topic, f'damaged: {type(error).__name__}')
            else:
                yield Record(channel.topic, channel.type_name, message, raw.log_time)

    def _problem(self, topic: str, problem: str) -> None:
        line = f'{topic}: {problem}'
        if line not in self.problems:
            self.problems.append(line)

    def _read(self) -> 'Iterator[tuple[_Channel, Message | None]]':
        """Yield every channel, and every message with its channel."""
        from mcap.records import Channel, Message, Schema

        self.problems, self.done = [], 0
        for file in self.files:
            before = self.done
            schemas: dict[int, Schema] = {}
            channels: dict[int, _Channel] = {}
            with file.open('rb') as stream:
                for record in self._until_damaged(file, stream):
                    self.done = before + stream.tell()
                    if isinstance(record, Schema):
                        schemas[record.id] = record
                    elif isinstance(record, Channel):
                        found = _channel(record, schemas.get(record.schema_id))
                        channels[record.id] = found
                        yield found, None
                    elif isinstance(record, Message) and record.channel_id in channels:
                        yield channels[record.channel_id], record
            self.done = before + file.stat().st_size

    def _until_damaged(self, file: Path, stream: Any) -> 'Iterator[McapRecord]':
        """Yield the records of a file up to its end, or to where its writer was cut off."""
        from mcap.stream_reader import StreamReader

        records = iter(StreamReader(stream, record_size_limit=LARGEST_RECORD).records)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception as error:  # a foreign library's boundary: cut-off bytes of any kind
                if not stream.tell():
                    raise ConfigError(
                        f'{file} is empty', remedy='Name another recording.'
                    ) from error
                if type(error).__name__ == 'InvalidMagic' and stream.tell() <= 8:
                    raise ConfigError(
                        f'{file} is no MCAP file', remedy='Name a recording in MCAP.'
                    ) from error
                self._problem(file.name, f'cut off after {stream.tell()} bytes')
                return
            yield record


def _channel(channel: 'Channel', schema: 'Schema | None') -> _Channel:
    """Return a channel with its decoder, which is None for encodings of other software."""
    from mcap_ros2.decoder import DecoderFactory

    type_name, decode = schema.name if schema else '', None
    if schema is not None and (schema.encoding, channel.message_encoding) == READABLE:
        # a foreign library's boundary: a definition of any kind
        with contextlib.suppress(Exception):
            decode = DecoderFactory().decoder_for(channel.message_encoding, schema)
    return _Channel(channel.topic, type_name, decode)


def _files(path: Path) -> list[Path]:
    """Return the MCAP files of a path in the order in which they were written."""
    if path.is_file():
        return [path]
    metadata = path / 'metadata.yaml'
    found: list[Path] = []
    if metadata.is_file():
        content = load_yaml(metadata).get('rosbag2_bagfile_information')
        listed = content.get('relative_file_paths') if isinstance(content, dict) else None
        names = [str(n) for n in listed] if isinstance(listed, list) else []
        found = [path / name for name in names if name == Path(name).name]
    found = [file for file in found if file.suffix == '.mcap' and file.is_file()]
    if not found and path.is_dir():
        found = sorted(path.glob('*.mcap'), key=_natural)
    if not found:
        raise ConfigError(
            f'no recording at {path}',
            expected='an MCAP file, or a folder that holds one',
            remedy='Record one with record:=FOLDER of the launch.',
        )
    return found


def _natural(file: Path) -> list[object]:
    """Return a key that puts bag_10 behind bag_9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', file.name)]
