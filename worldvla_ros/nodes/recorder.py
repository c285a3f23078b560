"""The recorder: everything said on the topics of the graph, as it came, in an MCAP bag.

Messages are written as the serialised bytes that arrived; nothing is converted. The bag is what
`ros2 bag` writes (profile ros2, encoding cdr, definitions inside) with its metadata.yaml. Must not
know what messages mean.
"""

from dataclasses import dataclass
import importlib
from pathlib import Path
import time

from ament_index_python.packages import get_package_share_directory
from mcap.writer import Writer
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
import yaml

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.spin import run

BAG_NAME = 'bag_0.mcap'
DISCOVERY_PERIOD_S = 0.5
QUEUE_DEPTH = 50
IGNORED = ('/rosout', '/parameter_events')
PLAIN = ('bool', 'byte', 'char', 'float32', 'float64', 'string', 'wstring',
         *(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)))  # fmt: skip


@dataclass
class Channel:
    """A topic being recorded."""

    id: int
    type_name: str
    durable: bool
    count: int = 0


class RecorderNode(ManagedNode):
    """Unconfigured: no file. Active: every topic that appears is recorded from then on."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('recorder')
        self._writer: Writer | None = None
        self._channels: dict[str, Channel] = {}

    def configure(self) -> None:
        """Open the bag.

        Raises:
            ConfigError: The folder cannot be written.
        """
        folder = declare(self, 'folder', 'bag', 'folder of the bag')
        self._excluded = set(IGNORED) | {
            self.resolve_topic_name(name)
            for name in declare(self, 'exclude', ['wrist_image'], 'topics not to record')
        }
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._stream = (self._folder / BAG_NAME).open('wb')
        except OSError as error:
            raise ConfigError(
                f'parameter folder: {folder!r} cannot be written: {error.strerror}',
                remedy='Name a folder that you may write to.',
            ) from error
        self._writer = Writer(self._stream)
        self._writer.start(profile='ros2', library='worldvla_ros')
        self._first_ns = self._last_ns = 0
        self.every(DISCOVERY_PERIOD_S, self._discover)
        self.status.ok('recording', folder=str(self._folder))

    def clean_up(self) -> None:
        """Close the bag."""
        super().clean_up()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.finish()
            self._stream.close()
            (self._folder / 'metadata.yaml').write_text(yaml.safe_dump(self._metadata()))
            self._channels = {}

    def _discover(self) -> None:
        """Subscribe to the topics that have appeared."""
        for topic, types in self.get_topic_names_and_types():
            unknown = topic not in self._channels and topic not in self._excluded
            if unknown and self.get_publishers_info_by_topic(topic):
                self._subscribe(topic, types[0])

    def _subscribe(self, topic: str, type_name: str) -> None:
        try:
            package, _, name = type_name.split('/')
            cls = getattr(importlib.import_module(f'{package}.msg'), name)
            definition = message_definition(type_name)
        except (ImportError, AttributeError, ValueError, KeyError, OSError) as error:
            self._excluded.add(topic)
            self.status.warn(f'{topic} is not recorded: type {type_name} is not here ({error})')
            return
        qos = self._matching_qos(topic)
        schema = self._writer.register_schema(type_name, 'ros2msg', definition.encode())
        channel = self._writer.register_channel(topic, 'cdr', schema)
        durable = qos.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
        self._channels[topic] = Channel(channel, type_name, durable)
        self.subscribe(cls, topic, lambda data: self._write(topic, data), qos, raw=True)

    def _matching_qos(self, topic: str) -> QoSProfile:
        """Return a profile that hears all present publishers of a topic."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        reliable = all(q.reliability == QoSReliabilityPolicy.RELIABLE for q in offered)
        durable = all(q.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for q in offered)
        return QoSProfile(
            depth=QUEUE_DEPTH,
            reliability=QoSReliabilityPolicy.RELIABLE
            if reliable
            else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
            if durable
            else QoSDurabilityPolicy.VOLATILE,
        )

    def _write(self, topic: str, data: bytes) -> None:
        if self._writer is None or not self.active:
            return
        now = time.time_ns()
        channel = self._channels[topic]
        try:
            self._writer.add_message(channel.id, now, bytes(data), now, channel.count)
        except OSError as error:
            self._writer = None
            self.status.error(f'recording ended: {error.strerror}; free some space and restart')
            return
        channel.count += 1
        self._first_ns = self._first_ns or now
        self._last_ns = now

    def _metadata(self) -> dict:
        """Return what `ros2 bag info` and `ros2 bag play` read beside the bag."""
        topics = [
            {
                'topic_metadata': {
                    'name': topic,
                    'type': channel.type_name,
                    'serialization_format': 'cdr',
                    'offered_qos_profiles': '',
                },
                'message_count': channel.count,
            }
            for topic, channel in sorted(self._channels.items())
        ]
        start = {'nanoseconds_since_epoch': self._first_ns}
        duration = {'nanoseconds': self._last_ns - self._first_ns}
        total = sum(c.count for c in self._channels.values())
        file = {
            'path': BAG_NAME,
            'starting_time': start,
            'duration': duration,
            'message_count': total,
        }
        information = {
            'version': 5,
            'storage_identifier': 'mcap',
            'duration': duration,
            'starting_time': start,
            'message_count': total,
            'topics_with_message_count': topics,
            'compression_format': '',
            'compression_mode': '',
            'relative_file_paths': [BAG_NAME],
            'files': [file],
        }
        return {'rosbag2_bagfile_information': information}


def message_definition(type_name: str) -> str:
    """Return the definition of a message with those of all messages in it, as MCAP stores it.

    Raises:
        OSError: A definition is not installed.
    """
    parts, waiting, known = [], [type_name], {type_name}
    while waiting:
        current = waiting.pop(0)
        package, _, name = current.split('/')
        text = (Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg').read_text()
        head = f'{"=" * 80}\nMSG: {package}/{name}\n' if parts else ''
        parts.append(head + text)
        fresh = [t for t in _used_types(text, package) if t not in known]
        known.update(fresh)
        waiting += fresh
    return '\n'.join(parts)


def _used_types(text: str, package: str) -> list[str]:
    """Return the message types of the fields of a definition, in order."""
    found = []
    for line in text.splitlines():
        words = line.split('#')[0].split()
        if len(words) < 2:
            continue
        base = words[0].split('[')[0].split('<')[0]
        if base in PLAIN:
            continue
        names = base.split('/')
        full = f'{names[0] if len(names) > 1 else package}/msg/{names[-1]}'
        if full not in found:
            found.append(full)
    return found


def main() -> int:
    """Run the recorder."""
    return run(RecorderNode)


if __name__ == '__main__':
    raise SystemExit(main())
