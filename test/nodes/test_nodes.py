"""Nodes in processes of their own: what they do with good input, bad input and signals."""

from collections import deque
from copy import deepcopy
import signal

import numpy as np
import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from probe import Probe, running
import publish
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import MarkerArray

from worldvla_ros.checkpoint.folder import save
from worldvla_ros.graph import NodeSpec
from worldvla_ros.msg import ActionChunk, TaskState
from worldvla_ros.nodes.convert import array_to_image, time_message
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.srv import ResetScene

ROBOT = load_robot('sim_panda')
ARM = Arm(ROBOT)
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04]


@pytest.fixture(scope='module')
def probe():
    made = Probe()
    for node in ('policy', 'world_model', 'action_player', 'sim'):
        made.listen(DiagnosticArray, f'{node}/status', LATCHED_QOS)
    made.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
    made.listen(Image, 'imagined_image', RELIABLE_QOS)
    made.listen(Image, 'imagined_strip', RELIABLE_QOS)
    made.listen(Image, 'image', SENSOR_QOS)
    made.listen(JointState, 'joint_states', SENSOR_QOS)
    made.listen(TwistStamped, 'delta_twist_cmds', RELIABLE_QOS)
    made.listen(JointTrajectory, 'joint_trajectory', RELIABLE_QOS)
    made.listen(Float64MultiArray, 'gripper_command', RELIABLE_QOS)
    made.listen(MarkerArray, 'planned_path', RELIABLE_QOS)
    made.listen(TaskState, 'sim/task_state', RELIABLE_QOS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def forget(probe):
    probe.spin(0.1)
    for messages in probe.heard.values():
        messages.clear()


def now_s(probe):
    return probe.node.get_clock().now().nanoseconds * 1e-9


def joint_state(probe, positions=HOME):
    message = JointState(name=JOINTS, position=[float(p) for p in positions])
    message.header.stamp = time_message(now_s(probe))
    return message


def camera_image(probe, seed=0, size=128):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return array_to_image(pixels, now_s(probe), 'camera')


def change_state(probe, node, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return probe.call(ChangeState, f'{node}/change_state', request).success


def state(probe, node):
    answer = probe.call(GetState, f'{node}/get_state', GetState.Request(), again_s=2.0)
    return answer.current_state.label


def wait_active(probe, node):
    """Wait until a node takes input."""
    probe.until(lambda: state(probe, node) == 'active', f'{node} to be active')


@pytest.fixture(scope='class')
def model_process(probe, tiny_folder):
    spec = NodeSpec('model', parameters={
        'checkpoint': str(tiny_folder), 'max_rate': 50.0, 'max_image_age': 5.0,
        'max_joint_age': 5.0,
    })  # fmt: skip
    with running(spec) as processes:
        wait_active(probe, 'policy')
        wait_active(probe, 'world_model')
        yield processes


class TestModel:
    """Policy and world model in one process, with random weights."""

    def observe(self, probe, image=None, joints=None, instruction='pick up the red cube'):
        probe.say(String(data=instruction), 'instruction', LATCHED_QOS)
        probe.say(joints or joint_state(probe), 'joint_states', SENSOR_QOS)
        image = image or camera_image(probe)
        probe.say(image, 'image', SENSOR_QOS)
        return image

    def until(self, probe, holds, what, seed=0):
        """Observe until something holds; return what holds, and the stamps of the images."""
        stamps = []

        def observed():
            stamps.append(self.observe(probe, camera_image(probe, seed)).header.stamp)
            return holds()

        return probe.until(observed, what), stamps

    def test_an_image_is_answered_by_a_chunk_with_its_stamp(self, probe, model_process):
        chunks, stamps = self.until(probe, lambda: probe.heard['action_chunk'], 'a chunk')
        chunk = chunks[0]
        assert chunk.header.stamp in stamps
        assert (chunk.horizon, chunk.dim, len(chunk.data)) == (4, 7, 28)
        assert chunk.instruction == 'pick up the red cube'
        assert chunk.model_id.startswith('tiny@')
        assert 0 < chunk.latency < 30
        assert max(chunk.log_prob) <= 0
        assert np.isfinite(chunk.data).all()

    def test_a_chunk_is_imagined_at_the_times_that_it_reaches(self, probe, model_process):
        own = [seconds(self.observe(probe, camera_image(probe, 1)).header.stamp)]

        def imagined():
            # images of the test before may still be imagined
            own.append(seconds(self.observe(probe, camera_image(probe, 1)).header.stamp))
            heard = (seconds(image.header.stamp) for image in probe.heard['imagined_image'])
            return [s for s in heard if any(abs(s - own_s - 0.1) < 1e-6 for own_s in own)]

        def compared():
            """Show what was seen a moment after the time that is imagined."""
            for stamp_s in imagined()[-1:]:
                later = array_to_image(np.zeros((128, 128, 3), np.uint8), stamp_s + 0.01, 'camera')
                probe.say(later, 'image', SENSOR_QOS)
            return probe.heard['imagined_strip']

        strip = probe.until(compared, 'an image imagined for 0.1 s after one of ours')[0]
        assert (strip.height, strip.width) == (128, 3 * 128)

    def test_a_policy_can_be_configured_anew(self, probe, model_process):
        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
        ):
            assert change_state(probe, 'policy', transition)
        probe.heard['action_chunk'].clear()
        self.until(probe, lambda: probe.heard['action_chunk'], 'a chunk', seed=6)


def test_a_continuous_policy_keeps_to_the_range_of_training(probe, head_checkpoint, tmp_path):
    old, model = head_checkpoint, deepcopy(head_checkpoint.model)
    model.action_head.output_projection['model'].fc2.bias += 3
    save(tmp_path, old.spec, model, old.vqgan, old.text)
    parameters = {'checkpoint': str(tmp_path), 'max_image_age': 5.0, 'max_joint_age': 5.0}
    with running(NodeSpec('policy', parameters=parameters)):
        wait_active(probe, 'policy')
        TestModel().until(probe, lambda: probe.heard['action_chunk'], 'a chunk')
        chunk = probe.heard['action_chunk'][-1]
        assert max(chunk.data) == 1.0
        assert len(chunk.data) == 28
        assert len(chunk.log_prob) == 0


def test_a_policy_without_a_head_cannot_be_continuous(probe, tiny_folder):
    parameters = {'checkpoint': str(tiny_folder), 'decoding': 'continuous'}
    with running(NodeSpec('policy', parameters=parameters)):
        assert 'with an action head' in probe.status('policy', 'not configured')


def test_a_verified_policy_says_when_the_answer_is_no_action(probe, tiny_folder):
    # random weights answer with anything but actions
    parameters = {
        'checkpoint': str(tiny_folder), 'decoding': 'verified', 'max_image_age': 5.0,
        'max_joint_age': 5.0,
    }  # fmt: skip
    with running(NodeSpec('policy', parameters=parameters)):
        wait_active(probe, 'policy')
        words = 'does not begin with'

        def said():
            found = (s.message for a in probe.heard['policy/status'] for s in a.status)
            return next((m for m in found if words in m), '')

        reason, _ = TestModel().until(probe, said, words)
        assert 'no chunk: the answer of the model' in reason
    assert not probe.heard['action_chunk']


def still(probe):
    """Return the joints of an arm that has come to rest: equal for five control periods."""
    recent = deque(maxlen=5)

    def rests():
        recent.append(probe.next('joint_states'))
        positions = np.array([m.position[:7] for m in recent])
        return len(recent) == 5 and np.ptp(positions, axis=0).max() < 1e-3

    probe.until(rests, 'the arm to rest')
    return recent[-1]


@pytest.fixture(scope='class')
def sim_process(probe):
    with running(NodeSpec('sim')) as processes:
        probe.next('image')
        yield processes


class TestSim:
    """The simulated arm alone."""

    def height(self, message):
        return ARM.pose(np.array(message.position[:7]))[2, 3]

    def test_it_publishes_images_and_joints_at_the_same_times(self, probe, sim_process):
        image = probe.next('image')

        def common():
            images, joints = (
                {(m.header.stamp.sec, m.header.stamp.nanosec) for m in probe.heard[topic]}
                for topic in ('image', 'joint_states')
            )
            return len(images & joints) >= 5  # one or the other may be lost

        probe.until(common, 'five images with joints of the same times')
        assert (image.height, image.width, image.encoding) == (128, 128, 'rgb8')
        assert probe.heard['joint_states'][0].name == JOINTS

    def test_a_twist_moves_it_and_silence_stops_it(self, probe, sim_process):
        before = self.height(probe.next('joint_states'))
        twist = TwistStamped()
        twist.twist.linear.z = -0.2

        def lower():
            probe.say(twist, 'delta_twist_cmds', RELIABLE_QOS)
            return self.height(probe.heard['joint_states'][-1]) < before - 0.06

        probe.until(lower, 'the tip to go down')
        assert self.height(still(probe)) > before - 0.16

    def test_a_trajectory_moves_it(self, probe, sim_process):
        goal = np.array(probe.next('joint_states').position[:7]) + 0.05
        point = JointTrajectoryPoint(positions=goal.tolist())
        message = JointTrajectory(joint_names=list(ROBOT.joints.names), points=[point])
        probe.say(message, 'joint_trajectory', RELIABLE_QOS)
        probe.next('joint_states', lambda m: np.abs(np.array(m.position[:7]) - goal).max() < 0.02)

    @pytest.mark.parametrize('topic', ['delta_twist_cmds', 'joint_trajectory', 'gripper_command'])
    def test_garbage_does_not_move_it(self, probe, sim_process, topic):
        twist = TwistStamped()
        twist.twist.linear.x = float('nan')
        garbage = {
            'delta_twist_cmds': twist,
            'joint_trajectory': JointTrajectory(joint_names=['nose']),
            'gripper_command': Float64MultiArray(data=[1.0, 2.0]),
        }[topic]
        before = np.array(still(probe).position)
        probe.say(garbage, topic, RELIABLE_QOS)
        assert 'refused' in probe.status('sim', 'refused')
        for _ in range(5):  # control periods
            after = np.array(probe.next('joint_states').position)
        np.testing.assert_allclose(after[:7], before[:7], atol=5e-3)

    def test_a_reset_lays_out_the_scene_of_a_seed(self, probe, sim_process):
        request = ResetScene.Request(
            seed=8123, task='push', instruction='push the red cube to the left'
        )
        answer = probe.call(ResetScene, 'sim/reset', request)
        assert answer.success, answer.message
        state = probe.next('sim/task_state', lambda m: m.seed == 8123)
        assert (state.task, state.success) == ('push', False)
        assert answer.instruction == 'push the red cube to the left'

    def test_a_reset_that_makes_no_sense_is_refused_with_a_reason(self, probe, sim_process):
        request = ResetScene.Request(seed=8123, task='push', instruction='be nice')
        answer = probe.call(ResetScene, 'sim/reset', request)
        assert not answer.success
        assert 'which cube' in answer.message


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('node', ['model', 'action_player', 'sim', 'recorder', 'say'])
def test_a_signal_ends_a_node_cleanly(node, number, tiny_folder, tmp_path, monkeypatch):
    known = {
        'model': {'checkpoint': str(tiny_folder)},
        'recorder': {'folder': str(tmp_path)},
    }
    with running(NodeSpec(node, parameters=known.get(node, {}))) as processes:
        child = processes.children[node]
        if node == 'say':
            child.wait(40)  # it has nothing to say, and says so
            assert child.returncode == 2
            assert 'nothing to say' in processes.output.getvalue()
            return
        watcher = Probe()
        watcher.listen(
            DiagnosticArray, f'{"policy" if node == "model" else node}/status', LATCHED_QOS
        )
        if node != 'sim':
            watcher.status('policy' if node == 'model' else node, '')
        else:
            watcher.listen(Image, 'image', SENSOR_QOS)
            watcher.next('image')
        watcher.close()
        child.send_signal(number)
        assert child.wait(15) == 0, processes.output.getvalue()
        assert 'Traceback' not in processes.output.getvalue()


@pytest.mark.parametrize(
    ('node', 'parameters', 'words'),
    [
        ('policy', {'checkpoint': '/nowhere'}, 'no checkpoint at /nowhere'),
        ('policy', {'max_rate': -1.0}, 'parameter max_rate'),
        ('policy', {'device': 'abacus'}, 'parameter device'),
        ('policy', {'dtype': 'int9'}, 'precision int9'),
        ('policy', {'robot': 'r2d2'}, "no robot description 'r2d2'"),
        ('action_player', {'output': 'dance'}, 'expected one of twist, pose, trajectory'),
        ('action_player', {'control_rate': 'fast'}, 'parameter control_rate'),
        ('sim', {'image_size': 7}, 'parameter image_size'),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_and_the_node_lives(
    probe, node, parameters, words
):
    with running(NodeSpec(node, parameters=parameters)) as processes:
        said = probe.status(node, words)
        assert said.startswith('not configured')
        assert state(probe, node) == 'unconfigured'
        assert processes.dead() == {}


def figures(message):
    return {v.key: v.value for v in message.status[0].values}


def test_quantised_weights_are_named_in_the_status(probe, tiny_folder):
    pytest.importorskip('torchao')
    parameters = {'checkpoint': str(tiny_folder), 'dtype': 'int8'}
    with running(NodeSpec('policy', parameters=parameters)):
        probe.next('policy/status', lambda m: figures(m).get('model', '').endswith('/int8'))


def test_truncated_weights_are_refused_by_name(probe, tiny_folder, tmp_path):
    for file in tiny_folder.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(
            content[:200] if file.suffix == '.safetensors' else content
        )
    with running(NodeSpec('policy', parameters={'checkpoint': str(tmp_path)})):
        assert 'model.safetensors' in probe.status('policy', 'not configured')


def test_when_the_policy_is_killed_the_arm_holds_still(probe, tiny_folder):
    policy = NodeSpec('policy', parameters={'checkpoint': str(tiny_folder), 'max_rate': 20.0})
    with running(NodeSpec('sim'), policy, NodeSpec('action_player')) as processes:
        probe.next('image')
        probe.say(String(data='pick up the red cube'), 'instruction', LATCHED_QOS)
        probe.next('action_chunk')
        processes.children['policy'].kill()
        # the last chunk lasts 0.2 s
        late_s = now_s(probe) + 1.0
        probe.next('joint_states', lambda m: seconds(m.header.stamp) > late_s)
        before = np.array(still(probe).position)
        for _ in range(10):  # control periods
            after = np.array(probe.next('joint_states').position)
        np.testing.assert_allclose(after[:7], before[:7], atol=1e-3)
        assert set(processes.dead()) == {'policy'}


def test_a_published_folder_under_another_name_is_configured_with_its_profile(probe, tmp_path):
    folder = publish.write_published(tmp_path, 'mine')
    parameters = {'checkpoint': str(folder), 'robot': 'libero'}
    with running(NodeSpec('policy', 'policy', parameters=parameters)):
        assert 'name its profile' in probe.status('policy', 'not configured')
    parameters['profile'] = 'worldvla_256_libero_goal'
    probe.heard['policy/status'].clear()
    with running(NodeSpec('policy', 'policy', parameters=parameters)) as processes:
        wait_active(probe, 'policy')
        words = 'active, waiting for images of camera front on topic image'
        probe.until(lambda: words in processes.output.getvalue(), words)


def test_a_published_folder_acts_on_two_views_and_their_past(probe, tmp_path):
    folder = publish.write_published(tmp_path, 'VLA_model_256/libero_goal')
    spec = NodeSpec('policy', 'policy', parameters={
        'checkpoint': str(folder), 'robot': 'libero', 'max_image_age': 10.0,
        'max_joint_age': 10.0, 'max_camera_skew': 10.0, 'max_rate': 50.0,
    })  # fmt: skip
    with running(spec):
        wait_active(probe, 'policy')
        probe.say(String(data='turn on the stove'), 'instruction', LATCHED_QOS)
        seeds = iter(range(10**6))

        def answered():
            probe.say(joint_state(probe), 'joint_states', SENSOR_QOS)
            probe.say(camera_image(probe, next(seeds), 256), 'wrist_image', SENSOR_QOS)
            probe.say(camera_image(probe, next(seeds), 256), 'image', SENSOR_QOS)
            return probe.heard['action_chunk']

        chunk = probe.until(answered, 'a chunk')[0]
    assert chunk.model_id.startswith('rynnvla_vla_256_libero_goal@')
    assert (chunk.horizon, chunk.dim) == (5, 7)
    assert list(chunk.action_scale)[:4] == pytest.approx([0.05, 0.05, 0.05, 0.5])
