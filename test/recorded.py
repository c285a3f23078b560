"""Writes recordings of a graph without ROS: what tests of reading them share."""

from dataclasses import replace
import math

from mcap_ros2.writer import Writer
import numpy as np

from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.state import JointReading, robot_state

RULE = f'\n{"=" * 80}\nMSG: '
HEADER = (
    f'{RULE}std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id'
    f'{RULE}builtin_interfaces/Time\nint32 sec\nuint32 nanosec'
)
STATUS = 'uint8 level\nstring name\nstring message\nstring hardware_id\nKeyValue[] values'
DEFINITIONS = {
    'sensor_msgs/msg/Image': 'std_msgs/Header header\nuint32 height\nuint32 width\n'
    'string encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data' + HEADER,
    'sensor_msgs/msg/CompressedImage': 'std_msgs/Header header\nstring format\nuint8[] data'
    + HEADER,
    'sensor_msgs/msg/JointState': 'std_msgs/Header header\nstring[] name\nfloat64[] position\n'
    'float64[] velocity\nfloat64[] effort' + HEADER,
    'worldvla_ros/msg/ActionChunk': 'std_msgs/Header header\nuint64 chunk_id\nstring model_id\n'
    'string instruction\nfloat64 dt\nuint32 horizon\nuint32 dim\nstring[] action_names\n'
    'string[] action_units\nfloat32[] action_scale\nfloat32[] data\nfloat32[] log_prob\n'
    'float64 latency' + HEADER,
    'diagnostic_msgs/msg/DiagnosticArray': 'std_msgs/Header header\nDiagnosticStatus[] status'
    f'{RULE}diagnostic_msgs/DiagnosticStatus\n{STATUS}'
    f'{RULE}diagnostic_msgs/KeyValue\nstring key\nstring value' + HEADER,
}
ARM = Arm(load_robot('sim_panda'))
ROBOT = ARM.robot
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, math.pi / 4, 0.04, 0.04]
SENTENCE = 'pick up the red cube'
FIRST_S = 1000.0
PERIOD_S = 0.05


class Tape:
    """A recording under construction; messages arrive in the order in which they are added."""

    def __init__(self, file, ns=''):
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open('wb')
        self._writer = Writer(self._stream, chunk_size=20_000)
        self._schemas = {}
        self._ns = ns

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._writer.finish()
        self._stream.close()

    def add(self, topic, type_name, content, arrived_s, stamp_s=None):
        if type_name not in self._schemas:
            made = self._writer.register_msgdef(type_name, DEFINITIONS[type_name])
            self._schemas[type_name] = made
        stamp_ns = round((arrived_s if stamp_s is None else stamp_s) * 1e9)
        stamp = {'sec': stamp_ns // 10**9, 'nanosec': stamp_ns % 10**9}
        content = {'header': {'stamp': stamp, 'frame_id': 'camera'}, **content}
        self._writer.write_message(
            f'{self._ns}/{topic}', self._schemas[type_name], content, round(arrived_s * 1e9)
        )

    def image(self, pixels, stamp_s, topic='image', delay_s=0.001):
        height, width, _ = pixels.shape
        content = {
            'height': height, 'width': width, 'encoding': 'rgb8', 'is_bigendian': 0,
            'step': 3 * width, 'data': pixels.tobytes(),
        }  # fmt: skip
        self.add(topic, 'sensor_msgs/msg/Image', content, stamp_s + delay_s, stamp_s)

    def joints(self, positions, stamp_s, names=JOINTS):
        content = {'name': list(names), 'position': [float(p) for p in positions]}
        content |= {'velocity': [], 'effort': []}
        self.add('joint_states', 'sensor_msgs/msg/JointState', content, stamp_s)

    def chunk(self, chunk, arrived_s, **changes):
        content = {
            'chunk_id': chunk.chunk_id, 'model_id': chunk.model_id,
            'instruction': chunk.instruction, 'dt': chunk.dt, 'horizon': chunk.horizon,
            'dim': chunk.dim, 'action_names': list(chunk.names),
            'action_units': list(chunk.units), 'action_scale': chunk.scale.tolist(),
            'data': np.asarray(chunk.actions, np.float32).ravel().tolist(),
            'log_prob': chunk.log_probs.ravel().tolist(), 'latency': 0.01,
        } | changes  # fmt: skip
        kind = 'worldvla_ros/msg/ActionChunk'
        self.add('action_chunk', kind, content, arrived_s, chunk.stamp_s)

    def status(self, arrived_s, **values):
        pairs = [{'key': key, 'value': value} for key, value in values.items()]
        status = {'level': 0, 'name': 'policy', 'message': 'acting', 'hardware_id': ''}
        content = {'status': [status | {'values': pairs}]}
        self.add('policy/status', 'diagnostic_msgs/msg/DiagnosticArray', content, arrived_s)


def images(count, size=48, seed=0):
    """Return random images: uint8[size, size, 3] each."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def reach(step):
    """Return joints that differ from step to step by several bins of the state."""
    return [h + 0.05 * (step % 8) * (i < 4) for i, h in enumerate(HOME)]


def answer(policy, pixels, positions, stamp_s):
    """Return what a policy's node publishes for an image and joints."""
    recipe = policy.checkpoint.spec.state.recipe
    reading = JointReading(np.array(positions[:7]), float(sum(positions[7:])), stamp_s)
    state = robot_state(ARM, recipe, reading)
    chunk = policy.act(Observation({'front': pixels}, SENTENCE, state, stamp_s=stamp_s))
    action = policy.checkpoint.spec.action
    return replace(chunk, actions=np.clip(chunk.actions, action.minimum, action.maximum))


def record(file, checkpoint, count=4, *, seen=None, ns='', joints_late=0, **status):
    """Record a moving arm and its policy.

    Args:
        file: Where to write.
        checkpoint: Of the policy.
        count: Images; each is answered.
        seen: Images that are recorded, where the policy saw others.
        ns: Namespace.
        joints_late: How many joint states too early those were that the policy had.
        status: Figures of the policy's status.
    """
    policy, pictures = Policy(checkpoint), images(count)
    with Tape(file, ns) as tape:
        tape.status(FIRST_S - 1, **{'model': checkpoint.model_id, 'robot': 'sim_panda'} | status)
        tape.joints(reach(0), FIRST_S - 1)
        for step, (real, shown) in enumerate(zip(pictures, seen or pictures, strict=True)):
            stamp_s = FIRST_S + step * PERIOD_S
            tape.joints(reach(step), stamp_s)
            tape.image(shown, stamp_s)
            made = answer(policy, real, reach(max(0, step - joints_late)), stamp_s)
            tape.chunk(made, stamp_s + 0.02)
    return policy
