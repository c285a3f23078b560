"""The recorder: everything said on the topics of the graph, as it came, in an MCAP bag.

Messages are written as the serialised bytes that arrived; nothing is converted. Everything runs in
the executor's thread. Must not know what messages mean.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
import time
from typing import Any, TypeAlias

from rclpy.duration import Duration
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bag import Bag
from worldvla_ros.nodes.definitions import message_class, message_definition
from worldvla_ros.nodes.distributions import SubscriptionEventCallbacks, with_info
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.spin import run

DISCOVER_S = 0.5
"""Time between looks for new topics."""
WRITE_S = 1.0
"""Time between writes to the disk; what came since is lost where the process is killed."""
QUEUE_DEPTH = 50
IGNORED = ('/rosout', '/parameter_events')
Kind: TypeAlias = tuple[QoSReliabilityPolicy, QoSDurabilityPolicy]


@dataclass
class Topic:
    """How a topic is heard: one subscription for each kind of QoS that is offered.

    A publisher may match two of them; `recent` has the marks of the last messages, so that each is
    written once.
    """

    cls: type[Any]
    kinds: set[Kind] = field(default_factory=set)
    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=4 * QUEUE_DEPTH))


class RecorderNode(ManagedNode):
    """Unconfigured: no bag. Active: every topic that appears is recorded from then on."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('recorder')
        self._bag: Bag | None = None
        self._moves = 0
        self._topics: dict[str, Topic] = {}

    def configure(self) -> None:
        """Create the bag.

        Raises:
            ConfigError: The folder cannot be written.
        """
        folder, exclude = self.read_parameters()
        self._excluded = {*IGNORED, *(self.resolve_topic_name(name) for name in exclude)}
        try:
            self._bag = Bag(folder)
            self._moves = 0
        except OSError as error:
            raise ConfigError(
                f'parameter folder: {folder!r} cannot be written: {error.strerror}',
                remedy='Name a folder that you may write to.',
            ) from error
        self.every(DISCOVER_S, self._discover)
        self.every(WRITE_S, self._flush)

    def read_parameters(self) -> tuple[str, list[str]]:
        """Return the folder of the bag, and the topics that are not recorded.

        Raises:
            ConfigError: A parameter is wrong.
        """
        folder = declare(self, 'folder', 'bag', 'folder of the bag; a number is added to its name '
                         'where it holds one already')  # fmt: skip
        return folder, declare(self, 'exclude', ['wrist_image'], 'topics not to record')

    def activate(self) -> None:
        """Begin to hear topics."""
        if self._bag is not None:
            folder = str(self._bag.folder)
            self.status.ok(f'recording to {folder}', folder=folder)

    def clean_up(self) -> None:
        """Close the bag."""
        super().clean_up()
        self._topics = {}
        bag, self._bag = self._bag, None
        if bag is not None:
            try:
                bag.close()
            except OSError as error:
                self.status.error(f'the end of the recording is lost: {error.strerror}')

    def _discover(self) -> None:
        """Subscribe to topics, and to kinds of publishers, that have appeared."""
        if not self.active:
            return
        for name, types in self.get_topic_names_and_types():
            if name not in self._excluded:
                infos = self.get_publishers_info_by_topic(name)
                self._hear(name, types[0], [info.qos_profile for info in infos])

    def _hear(self, name: str, type_name: str, offered: list[QoSProfile]) -> None:
        bag = self._bag
        if not offered or bag is None or not self._known(bag, name, type_name):
            return
        try:
            bag.offer(name, map(qos_fields, offered))
        except OSError as error:
            self._end(error)
        topic = self._topics[name]
        for profile in offered:
            kind = (profile.reliability, profile.durability)
            if kind not in topic.kinds:
                topic.kinds.add(kind)
                self._record(name, topic, kind)

    def _known(self, bag: Bag, name: str, type_name: str) -> bool:
        """Return whether a topic is in the bag, after trying to add it."""
        if name not in self._topics:
            try:
                topic, definition = Topic(message_class(type_name)), message_definition(type_name)
            except ConfigError as error:
                self._excluded.add(name)
                self.status.warn(f'{name} is not recorded: {error}')
                return False
            except OSError as error:  # no more files may be open, for example: it may pass
                self.status.warn(f'{name} is not recorded yet: {error.strerror or error}')
                return False
            bag.add(name, type_name, definition)
            self._topics[name] = topic
        return True

    def _record(self, name: str, topic: Topic, kind: Kind) -> None:
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=kind[0], durability=kind[1])

        def hear(data: bytes, info: Mapping[str, Any]) -> None:
            with self._stopping_on_error(f'topic {name}'):
                self._write(name, topic, data, info)

        # publishers of another kind have a subscription of their own
        quiet = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
        made = self.create_subscription(
            topic.cls, name, with_info(hear), qos, event_callbacks=quiet, raw=True
        )
        self._undo.append(lambda: self.destroy_subscription(made))

    def _write(self, name: str, topic: Topic, data: bytes, info: Mapping[str, Any]) -> None:
        if self._bag is None or not self.active:
            return
        now_ns = time.time_ns()
        sent_ns = info['source_timestamp']
        if len(topic.kinds) > 1 and sent_ns:
            mark = (sent_ns, hash(data))
            if mark in topic.recent:
                return
            topic.recent.append(mark)
        try:
            self._bag.write(name, bytes(data), now_ns, sent_ns or now_ns)
        except OSError as error:
            self._end(error)

    def _flush(self) -> None:
        if self._bag is not None:
            try:
                self._bag.flush()
            except OSError as error:
                self._end(error)
        self._say_where()

    def _say_where(self) -> None:
        """Say where the bag goes on, where it was removed."""
        if self._bag is not None and self._bag.moves > self._moves:
            self._moves = self._bag.moves
            self.status.warn(
                f'the bag was removed while it was written; {self._bag.folder} has all of it',
                key='removed',
                folder=self._bag.folder,
            )

    def _end(self, error: OSError) -> None:
        """Stop recording; the graph goes on without."""
        bag, self._bag = self._bag, None
        if bag is not None:
            kept = 'can be read up to here' if bag.in_place else 'was removed with what it held'
            bag.abandon()
            self.status.error(
                f'recording ended: {error.strerror}. {bag.folder} {kept}. '
                'Free some space, then clean up, configure and activate the recorder.'
            )


def qos_fields(profile: QoSProfile) -> dict[str, object]:
    """Return a profile as `offered_qos_profiles` of a bag's metadata has it, in version 5."""
    return {
        'history': int(profile.history),
        'depth': profile.depth,
        'reliability': int(profile.reliability),
        'durability': int(profile.durability),
        'deadline': _time(profile.deadline),
        'lifespan': _time(profile.lifespan),
        'liveliness': int(profile.liveliness),
        'liveliness_lease_duration': _time(profile.liveliness_lease_duration),
        'avoid_ros_namespace_conventions': profile.avoid_ros_namespace_conventions,
    }


def _time(duration: Duration) -> dict[str, int]:
    seconds, nanoseconds = divmod(duration.nanoseconds, 10**9)
    return {'sec': seconds, 'nsec': nanoseconds}


def main() -> int:
    """Run the recorder."""
    return run(RecorderNode)


if __name__ == '__main__':
    raise SystemExit(main())
