"""QoS and discovery: publishers and listeners of other kinds, many of them, and cut messages."""

from collections.abc import Callable
import time

from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from studies.faults.fault import Fault
from studies.faults.hands import LATCHED, RELIABLE, SENSOR
from studies.faults.trial import Scene
from worldvla_ros.msg import ActionChunk

BEST_EFFORT_CHUNKS = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED_SENSOR = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.BEST_EFFORT,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


def _through(topic: str, cls: type, qos: QoSProfile) -> Callable[[Scene], None]:
    """Return an injection: a sensor topic comes from a publisher of another kind."""

    def inject(scene: Scene) -> None:
        other = scene.hands.node.create_publisher(cls, topic, qos)
        scene.kept['other'] = other

        def change(message: object) -> list:
            other.publish(message)
            return []

        scene.hands.filters[topic] = change

    return inject


def _restore(scene: Scene) -> None:
    for topic in ('image', 'joint_states'):
        scene.hands.filters.pop(topic, None)
    if 'other' in scene.kept:
        scene.hands.node.destroy_publisher(scene.kept.pop('other'))


def _chunks(qos: QoSProfile) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        publisher = scene.hands.node.create_publisher(ActionChunk, 'action_chunk', qos)
        for _ in range(10):
            publisher.publish(scene.hands.chunk())
            time.sleep(0.1)
        scene.hands.node.destroy_publisher(publisher)

    return inject


def _listeners(cls: type, topic: str, qos: QoSProfile, count: int) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.kept['listeners'] = [
            scene.hands.node.create_subscription(cls, topic, lambda m: None, qos)
            for _ in range(count)
        ]

    return inject


def _deaf(scene: Scene) -> None:
    for made in scene.kept.pop('listeners', []):
        scene.hands.node.destroy_subscription(made)


def _come_and_go(scene: Scene) -> None:
    for _ in range(20):
        _listeners(TwistStamped, 'delta_twist_cmds', RELIABLE, 1)(scene)
        _deaf(scene)


def _publishers_come_and_go(scene: Scene) -> None:
    for _ in range(20):
        made = scene.hands.node.create_publisher(ActionChunk, 'action_chunk', RELIABLE)
        scene.hands.node.destroy_publisher(made)


def _cut(topic: str, message: object, qos: QoSProfile, share: float) -> Callable[[Scene], None]:
    """Return an injection of messages that end before they should, as bytes."""

    def inject(scene: Scene) -> None:
        data = serialize_message(message)
        publisher = scene.hands.node.create_publisher(type(message), topic, qos)
        scene.until(publisher.get_subscription_count)
        time.sleep(0.3)
        for _ in range(5):
            publisher.publish(data[: max(4, int(share * len(data)))])
            time.sleep(0.05)
        scene.hands.node.destroy_publisher(publisher)

    return inject


def _not_utf8(scene: Scene) -> None:
    """Publish an instruction whose bytes are no text."""
    data = b'\x00\x01\x00\x00' + (5).to_bytes(4, 'little') + b'\xff\xfe\xfa\xf0\x00'
    publisher = scene.hands.node.create_publisher(String, 'instruction', RELIABLE)
    scene.until(publisher.get_subscription_count)
    time.sleep(0.3)
    for _ in range(3):
        publisher.publish(data)
        time.sleep(0.05)
    scene.hands.node.destroy_publisher(publisher)


def _new_scene(scene: Scene) -> None:
    scene.renew()


FAULTS = [
    Fault('a reliable camera', 'image from a reliable publisher', _through('image', Image,
          RELIABLE), remove=_restore, source='policy'),
    Fault('a latched camera', 'image transient local', _through('image', Image, LATCHED_SENSOR),
          remove=_restore, source='policy'),
    Fault('reliable joint states', 'from a reliable publisher', _through('joint_states',
          JointState, RELIABLE), remove=_restore),
    Fault('latched joint states', 'transient local', _through('joint_states', JointState,
          LATCHED), remove=_restore),
    Fault('chunks as best effort', 'not connected: the good ones go on',
          _chunks(BEST_EFFORT_CHUNKS)),
    Fault('latched chunks', 'transient local', _chunks(LATCHED)),
    Fault('a controller that asks for latched commands', 'not connected',
          _listeners(TwistStamped, 'delta_twist_cmds', LATCHED, 1), remove=_deaf),
    Fault('a controller of best effort', 'connected', _listeners(TwistStamped,
          'delta_twist_cmds', SENSOR, 1), remove=_deaf),
    Fault('sixty listeners', 'to delta_twist_cmds', _listeners(TwistStamped, 'delta_twist_cmds',
          RELIABLE, 60), remove=_deaf),
    Fault('sixty listeners, trajectory', 'to joint_trajectory', _listeners(JointTrajectory,
          'joint_trajectory', RELIABLE, 60), remove=_deaf, output='trajectory'),
    Fault('listeners come and go', 'twenty in turn', _come_and_go),
    Fault('publishers come and go', 'twenty in turn', _publishers_come_and_go),
    Fault('chunks cut off on the wire', 'half of the bytes',
          _cut('action_chunk', ActionChunk(data=[0.0] * 70, action_names=['dx'] * 7), RELIABLE,
               0.5)),
    Fault('joint states cut off on the wire', 'half of the bytes',
          _cut('joint_states', JointState(name=['panda_joint1'] * 9, position=[0.0] * 9), SENSOR,
               0.5)),
    Fault('images cut off on the wire', 'half of the bytes',
          _cut('image', Image(encoding='rgb8', data=[0] * 999), SENSOR, 0.5), source='policy'),
    Fault('an instruction that is not UTF-8', 'bytes ff fe fa f0', _not_utf8, remove=_new_scene,
          source='policy', quiet=True),
]  # fmt: skip
