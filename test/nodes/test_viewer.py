"""The viewer as a node: what it shows of messages, and what orders become."""

import contextlib
import threading

from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('viser', reason='viser is not installed')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point
from probe import InProcess
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker, MarkerArray

from worldvla_ros.msg import ActionChunk, PlayerState, Reason, TaskState
from worldvla_ros.nodes.convert import array_to_image
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS, STATES_QOS
from worldvla_ros.nodes.viewer import ViewerNode
from worldvla_ros.nodes.viewer_words import imagined_words, player_words, policy_words, task_words
from worldvla_ros.robot.description import load_robot
from worldvla_ros.srv import ResetScene

PANDA = load_robot('sim_panda')
NAMES = [*PANDA.joints.names, *PANDA.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785, 0.04, 0.04]


class FakeDrawing:
    def __init__(self):
        self.joints, self.path = {}, None

    def move(self, joints):
        self.joints = dict(joints)

    def show_path(self, points, colors):
        self.path = points, colors


class FakePage:
    """Keeps what it is told; `watched` is set by the test."""

    def __init__(self, server, scene, orders):
        self.scene, self.orders, self.watched = scene, orders, False
        self.drawing, self.images, self.words = FakeDrawing(), {}, {}
        self.state, self.instruction, self.notices, self.offered = None, '', [], {}
        self.recording, self.closed, self.charts = False, False, 0
        from worldvla_ros.page.speeds import Speeds

        self.speeds = Speeds(scene.speed_limit)

    def show_state(self, kind, text):
        self.state = kind, text

    def show_image(self, name, image):
        self.images[name] = image

    def show_words(self, name, text):
        self.words[name] = text

    def show_instruction(self, text):
        self.instruction = text

    def show_chart(self, now_s):
        self.charts += 1

    def offer(self, **what):
        self.offered = what

    def show_recording(self, on):
        self.recording = on

    def notice(self, title, text):
        self.notices.append((title, text))

    def close(self):
        self.closed = True


@pytest.fixture
def rig(monkeypatch):
    from worldvla_ros.page import page, server

    monkeypatch.setattr(page, 'Page', FakePage)
    monkeypatch.setattr(server, 'serve', lambda *place: (None, f'http://{place[0]}:{place[1]}/'))
    made = InProcess(ViewerNode)
    made.wait_message('the page is at http://127.0.0.1:8080/')
    yield made
    made.close()


@pytest.fixture
def page(rig):
    return rig.nodes[0]._configured.page


def ordered(call, *arguments):
    """Give an order in a thread of its own, as the page does."""
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def test_a_state_is_shown_in_words(rig, page):
    reason = Reason(code='operator_hold', text='~/hold was called', remedy='Call ~/enable.')
    state = PlayerState(mode=PlayerState.HELD, reasons=[reason])
    rig.send(state, 'action_player/state', LATCHED_QOS)
    rig.until(lambda: page.state, 'a state')
    assert page.state == ('held', 'held: ~/hold was called. Call ~/enable.')


@pytest.mark.parametrize(
    ('state', 'expected'),
    [
        (
            {'mode': 'enabled', 'moving': True, 'slowdown': 1.0},
            ('moving', 'enabled: playing a chunk'),
        ),
        (
            {'mode': 'enabled', 'moving': True, 'slowdown': 2.0},
            ('moving', 'enabled: playing a chunk, 2.0 times slower'),
        ),
        ({'mode': 'enabled'}, ('held', 'enabled')),
        (
            {'mode': 'stopped', 'reasons': [Reason(text='stop said true', remedy='Release it.')]},
            ('stopped', 'STOPPED: stop said true. Release it.'),
        ),
        (
            {'mode': 'dry run', 'moving': True, 'reasons': [Reason(text='late', remedy='Wait.')]},
            ('held', 'dry run: nothing is sent: late. Wait.'),
        ),
    ],
)
def test_words_of_a_player(state, expected):
    assert player_words(PlayerState(**state)) == expected


def test_what_the_policy_says_is_shown_to_who_looks(rig, page):
    page.watched = True
    status = DiagnosticArray(status=[DiagnosticStatus(message='no chunk: image 2.00 s old')])
    rig.send(status, 'policy/status', LATCHED_QOS)
    rig.until(lambda: 'policy' in page.words, 'words of the policy')
    assert page.words['policy'] == 'policy: no chunk: image 2.00 s old'
    assert policy_words(DiagnosticArray()) == ''


def test_words_of_images_and_tasks():
    assert imagined_words(0.31, 24.06) == 'imagined for 0.3 s ago; PSNR to what was seen: 24.1 dB'
    assert imagined_words(0.0, float('inf')).endswith('seen: the same')
    task = TaskState(seed=7, instruction='push it', success=True)
    assert task_words(task) == 'scene 7: push it: done'
    task.success = False
    assert task_words(task) == 'scene 7: push it: not yet'


class TestWatched:
    def test_only_then_are_busy_topics_heard(self, rig, page):
        node = rig.nodes[0]
        busy = {'/joint_states', '/image', '/imagined_strip', '/planned_path', '/action_chunk'}

        def heard():
            return busy & {s.topic_name for s in node.subscriptions}

        assert not heard()
        page.watched = True
        rig.until(lambda: heard() == busy, 'all topics')
        page.watched = False
        rig.until(lambda: not heard(), 'no topic')
        page.watched = True
        rig.until(lambda: heard() == busy, 'all topics again')

    def test_joints_move_the_arm_and_the_chart(self, rig, page):
        page.watched = True
        message = JointState(name=[*NAMES, 'odd'], position=[*HOME, float('nan')])
        message.header.stamp = rig.node.get_clock().now().to_msg()
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        rig.send(message, 'joint_states', STATES_QOS)
        rig.until(lambda: page.charts, 'a chart')
        assert page.drawing.joints == dict(zip(NAMES, HOME, strict=True))

    def test_images_are_shown_with_what_is_known_of_them(self, rig, page):
        page.watched = True
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        now_s = rig.node.get_clock().now().nanoseconds * 1e-9
        camera = np.full((8, 8, 3), 90, np.uint8)
        strip = np.hstack([camera, camera + 10, camera - 80]).astype(np.uint8)
        rig.send(array_to_image(camera, now_s), 'image', SENSOR_QOS)
        rig.send(array_to_image(strip, now_s - 2.0), 'imagined_strip', RELIABLE_QOS)
        rig.until(lambda: len(page.images) == 2 and page.words, 'both images')
        np.testing.assert_array_equal(page.images['camera'], camera)
        np.testing.assert_array_equal(page.images['imagined'], strip)
        # 20 log10(255 / 10)
        assert page.words['imagined'].endswith('PSNR to what was seen: 28.1 dB')
        assert page.words['imagined'].startswith(('imagined for 2.', 'imagined for 3.'))

    def test_an_image_that_nobody_can_read_changes_nothing(self, rig, page):
        page.watched = True
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        broken = array_to_image(np.zeros((8, 8, 3), np.uint8), 1.0)
        broken.encoding = 'secret'
        rig.send(broken, 'image', SENSOR_QOS)
        good = array_to_image(np.ones((8, 8, 3), np.uint8), 1.0)
        rig.until(
            lambda: rig.send(good, 'image', SENSOR_QOS) or page.images.get('camera') is not None,
            'the good one',
        )
        assert page.images['camera'].max() == 1
        assert rig.nodes[0].active

    def test_the_path_to_come_is_drawn(self, rig, page):
        page.watched = True
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        marker = Marker(
            points=[Point(x=0.1), Point(x=0.2)], colors=[ColorRGBA(r=1.0), ColorRGBA(g=1.0)]
        )
        rig.send(MarkerArray(markers=[marker]), 'planned_path', RELIABLE_QOS)
        rig.until(lambda: page.drawing.path, 'a path')
        points, colors = page.drawing.path
        np.testing.assert_allclose(points, [[0.1, 0, 0], [0.2, 0, 0]])
        np.testing.assert_allclose(colors, [[1, 0, 0], [0, 1, 0]])

    def test_a_chunk_is_what_is_to_come_and_a_bad_one_is_ignored(self, rig, page):
        page.watched = True
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        joints = JointState(name=NAMES, position=HOME)
        rig.until(
            lambda: rig.send(joints, 'joint_states', STATES_QOS) or rig.nodes[0]._joints, 'joints'
        )
        chunk = ActionChunk(
            chunk_id=1, dt=0.05, horizon=2, dim=7, action_names=list(PANDA.action.names),
            action_units=list(PANDA.action.units), data=[0, 0.5, 0, 0, 0, 0, 1.0] * 2,
            action_scale=[0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0],
        )  # fmt: skip
        chunk.header.stamp.sec = 10
        bad = ActionChunk(chunk_id=2, horizon=3, dim=7, data=[0.0])
        rig.send(bad, 'action_chunk', RELIABLE_QOS)
        rig.send(chunk, 'action_chunk', RELIABLE_QOS)
        rig.until(lambda: len(page.speeds._coming[0]), 'a chunk')
        begins, speeds = page.speeds._coming
        np.testing.assert_allclose(begins, [10.0, 10.05])
        np.testing.assert_allclose(speeds, [0.2, 0.2], rtol=1e-5)
        assert rig.nodes[0].active


def serving(rig, cls, name, answer):
    """Answer a service, and keep what is asked."""
    asked = []

    def on(request, response):
        asked.append(request)
        return answer(response)

    rig.node.create_service(cls, name, on)
    return asked


def done(response):
    response.success = True
    return response


def refused(response):
    response.success, response.message = False, 'the stop topic said true'
    return response


def ready(rig, client):
    rig.until(getattr(rig.nodes[0]._configured, client).service_is_ready, f'the service {client}')


class TestOrders:
    def test_an_instruction_is_published_and_heard_back(self, rig, page):
        rig.listen(String, 'instruction', LATCHED_QOS)
        ordered(page.orders.instruct, 'pick up the red cube')
        rig.until(lambda: rig.heard['instruction'], 'the instruction')
        assert rig.heard['instruction'][-1].data == 'pick up the red cube'
        rig.until(lambda: page.instruction == 'pick up the red cube', 'it on the page')

    def test_hold_and_enable_ask_the_player(self, rig, page):
        held = serving(rig, Trigger, 'action_player/hold', done)
        enabled = serving(rig, SetBool, 'action_player/enable', done)
        ready(rig, 'hold'), ready(rig, 'enable')
        ordered(page.orders.hold)
        ordered(page.orders.enable, True)
        ordered(page.orders.enable, False)
        rig.until(lambda: held and len(enabled) == 2, 'both services')
        assert [request.data for request in enabled] == [True, False]
        assert not page.notices

    def test_what_is_refused_is_shown(self, rig, page):
        serving(rig, SetBool, 'action_player/enable', refused)
        ready(rig, 'enable')
        ordered(page.orders.enable, True)
        rig.until(lambda: page.notices, 'a notice')
        assert page.notices == [('enable', 'the stop topic said true')]

    def test_nobody_to_ask_is_shown(self, rig, page):
        ordered(page.orders.hold)
        assert page.notices == [('hold', 'nobody answers /action_player/hold')]

    def test_a_new_scene_is_another_one(self, rig, page):
        asked = serving(rig, ResetScene, 'sim/reset', done)
        ready(rig, 'reset')
        page.watched = True
        rig.until(lambda: rig.nodes[0]._ears, 'the node to listen')
        task = TaskState(seed=8000)
        rig.until(
            lambda: rig.send(task, 'sim/task_state', RELIABLE_QOS) or rig.nodes[0]._seed, 'a seed'
        )
        ordered(page.orders.reset)
        rig.until(lambda: asked, 'the service')
        assert asked[0].seed == 8001
        rig.until(lambda: page.offered == {'reset': True, 'record': False}, 'the button')

    @pytest.mark.parametrize(('on', 'steps'), [(True, [1, 3]), (False, [4, 2])])
    def test_recording_is_two_steps_of_the_recorder(self, rig, page, on, steps):
        asked = serving(rig, ChangeState, 'recorder/change_state', done)
        ready(rig, 'record')
        ordered(page.orders.record, on)
        rig.until(lambda: len(asked) == 2, 'both steps')
        assert [request.transition.id for request in asked] == steps
        rig.until(lambda: page.recording is on, 'the page to say so')

    def test_a_recorder_that_refuses_is_shown(self, rig, page):
        def no(response):
            response.success = False
            return response

        asked = serving(rig, ChangeState, 'recorder/change_state', no)
        ready(rig, 'record')
        ordered(page.orders.record, True)
        rig.until(lambda: page.notices, 'a notice')
        assert len(asked) == 1
        assert not page.recording


def test_the_page_closes_with_the_node(rig, page):
    rig.nodes[0].trigger_deactivate()
    rig.nodes[0].trigger_cleanup()
    assert page.closed


def test_without_viser_it_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def no_viser(name, *rest):
        if name.startswith('worldvla_ros.page'):
            raise ModuleNotFoundError("No module named 'viser'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, '__import__', no_viser)
    made = InProcess(ViewerNode)
    with contextlib.closing(made):
        made.wait_message('pip install viser')
        assert made.nodes[0].status.state == 'unconfigured'
