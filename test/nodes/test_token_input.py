"""Policy and world model that take tokens: the same answers, and the same refusals, as of images.

Tokenizer, policy and world model are the real ones; only the weights are tiny and random.
"""

from dataclasses import replace
import io
import itertools

from fakes import FakeHost
import numpy as np
from PIL import Image as Picture
import pytest

pytest.importorskip('rclpy')
from probe import InProcess
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from worldvla_ros.msg import ActionChunk, ImageTokens
from worldvla_ros.nodes.convert import (
    array_to_image,
    codes_to_message,
    image_to_array,
    time_message,
)
from worldvla_ros.nodes.policy import PolicyNode
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.tokenizer import TokenizerNode
from worldvla_ros.nodes.world_model import WorldModelNode
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04]


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)


def several(checkpoint, cameras=('front', 'wrist'), images_per_camera=2):
    spec = replace(checkpoint.spec, cameras=cameras, images_per_camera=images_per_camera)
    return replace(checkpoint, spec=spec)


class Bench(InProcess):
    """Nodes of one graph, with cameras that send pixels, or codes as a tokenizer would."""

    def __init__(self, checkpoint, *factories, **parameters):
        self.checkpoint = checkpoint
        self._seeds = itertools.count(100)
        given = {'max_rate': 200.0, 'max_joint_age': 10.0, 'max_image_age': 10.0} | parameters
        super().__init__(*(lambda f=f: f(FakeHost(checkpoint)) for f in factories), **given)
        self.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
        self.chunks = self.heard['action_chunk']
        for number in range(len(factories)):
            self.wait_state('active', number)

    def now_s(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def joints(self, positions=HOME):
        message = JointState(name=JOINTS, position=[float(p) for p in positions])
        message.header.stamp = time_message(self.now_s())
        self.send(message, 'joint_states', JOINTS_QOS)

    def ready(self, node=0):
        """Give joints and an instruction, and wait until the policy has them."""
        self.send(String(data='pick up the red cube'), 'instruction', LATCHED_QOS)
        self.joints()
        policy = self.nodes[node]
        self.until(lambda: policy._has_joints and policy._instruction is not None, 'both')

    def codes(self, seed=None, stamp_s=None, camera='front', **changes):
        """Send the codes of an image as a tokenizer does."""
        seed = next(self._seeds) if seed is None else seed
        image = array_to_image(pixels(seed), self.now_s() if stamp_s is None else stamp_s)
        codes = self.checkpoint.images.encode([pixels(seed)])[0]
        message = codes_to_message(codes, image.header, camera, self.checkpoint.codebook)
        for name, value in changes.items():
            setattr(message, name, value)
        self.send(message, {'front': 'image', 'wrist': 'wrist_image'}[camera] + '_tokens',
                  SENSOR_QOS)  # fmt: skip
        return message


@pytest.fixture
def bench(tiny_checkpoint):
    made = []

    def make(*factories, checkpoint=tiny_checkpoint, **parameters):
        made.append(Bench(checkpoint, *factories, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def policy(bench):
    return lambda **parameters: bench(PolicyNode, input='tokens', **parameters)


# ---- the same chunks


def answer(on, policy, images):
    """Send (seed, age in steps) per camera, oldest first; return the chunk of the newest ones."""
    on.ready(policy)
    now = on.now_s()
    kept = on.nodes[policy]._configured.images
    for step in range(len(images['front'])):
        # a wrist image waits for the one in front of it
        for camera, topic in (('wrist', 'wrist_image'), ('front', 'image')):
            if camera not in images:
                continue
            seed, age = images[camera][step]
            message = array_to_image(pixels(seed), now - 0.05 * age, 'camera')
            stamp_s = seconds(message.header.stamp)

            def arrived(camera=camera, topic=topic, message=message, stamp_s=stamp_s):
                if kept._kept[camera].nearest(stamp_s, 1e-6) is not None:
                    return True
                on.send(message, topic, SENSOR_QOS)
                on.spin(0.02)
                return False

            on.until(arrived, f'{camera} image {seed}')
    stamp = time_message(now - 0.05 * images['front'][-1][1])
    return on.until(
        lambda: next((c for c in on.chunks if c.header.stamp == stamp), None), 'a chunk'
    )


@pytest.mark.parametrize('decoding', ['discrete', 'continuous'])
def test_chunks_are_identical_whether_images_or_tokens_come(
    tiny_checkpoint, head_checkpoint, decoding
):
    checkpoint = tiny_checkpoint if decoding == 'discrete' else head_checkpoint
    shown = {'front': [(1, 0)]}
    chunks = []
    for factories, given in (
        ([PolicyNode], {}),
        ([PolicyNode, TokenizerNode], {'input': 'tokens'}),
    ):
        on = Bench(checkpoint, *factories, decoding=decoding, **given)
        try:
            chunks.append(answer(on, 0, shown))
        finally:
            on.close()
    assert chunks[0].data == chunks[1].data
    assert chunks[0].log_prob == chunks[1].log_prob
    assert len(set(chunks[0].data)) > 1


def test_history_and_a_second_camera_come_as_tokens_too(tiny_checkpoint):
    checkpoint = several(tiny_checkpoint)
    shown = {'front': [(1, 1), (2, 0)], 'wrist': [(3, 1), (4, 0)]}
    chunks = []
    for factories, given in (
        ([PolicyNode], {}),
        ([PolicyNode, TokenizerNode], {'input': 'tokens'}),
    ):
        on = Bench(checkpoint, *factories, **given)
        try:
            chunks.append(answer(on, 0, shown))
        finally:
            on.close()
    assert chunks[0].data == chunks[1].data
    np.testing.assert_array_equal(chunks[0].log_prob, chunks[1].log_prob)


# ---- the same refusals


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'codebook': 'vqgan32@000000000000'}, 'another codebook'),
        ({'camera': 'wrist'}, 'another camera'),
        ({'rows': 2, 'columns': 8}, '4 × 4 codes'),
        ({'rows': 2**32 - 1, 'columns': 2**32 - 1}, '4 × 4 codes'),
        ({'codes': [0] * 50_000}, 'got 50000 codes'),
        ({'codes': []}, 'got 0 codes'),
        ({'codes': [31] * 15 + [32]}, '0 … 31, got 32'),
    ],
)
def test_tokens_that_do_not_fit_are_refused_and_the_next_ones_answered(policy, changes, words):
    on = policy()
    on.ready()
    message = on.codes()
    on.until(lambda: on.chunks, 'a chunk')
    on.chunks.clear()
    for name, value in changes.items():
        setattr(message, name, value)
    message.header.stamp = time_message(on.now_s())
    on.send(message, 'image_tokens', SENSOR_QOS)
    assert on.wait_message(words).startswith('no chunk: ')
    assert not on.chunks
    on.codes()
    on.until(lambda: on.chunks, 'a chunk')
    assert on.nodes[0]._host.worker.alive


@pytest.mark.parametrize(
    ('age_s', 'words'), [(0.8, 'max_image_age'), (-3.0, 'ahead'), (None, 'no time stamp')]
)
def test_ages_of_tokens_are_judged_as_those_of_images(policy, age_s, words):
    on = policy(max_image_age=0.5)
    on.ready()
    on.codes(stamp_s=0.0 if age_s is None else on.now_s() - age_s)
    on.wait_message(words)
    assert not on.chunks


def test_tokens_of_cameras_too_far_apart_are_refused(policy, tiny_checkpoint):
    on = policy(checkpoint=several(tiny_checkpoint, images_per_camera=1), max_camera_skew=0.05)
    on.ready()
    on.codes(camera='wrist', stamp_s=on.now_s() - 0.2)
    on.until(lambda: not on.nodes[0]._waiting_for().startswith('images of camera wrist'), 'wrist')
    on.codes()
    assert 'max_camera_skew' in on.wait_message('apart')


def test_equal_codes_under_a_moving_arm_are_a_frozen_camera(policy):
    on = policy()
    on.ready()
    on.codes(seed=1)
    on.until(lambda: on.chunks, 'a chunk')

    def frozen():
        on.joints([0.3, *HOME[1:]])
        on.codes(seed=1)
        on.spin(0.02)
        return 'same codes' in on.message()

    on.until(frozen, 'a frozen camera')
    on.chunks.clear()
    on.codes(seed=2)
    on.until(lambda: on.chunks, 'a chunk')


def test_what_is_missing_is_named_by_the_topic_of_the_tokens(policy):
    on = policy()
    on.ready()
    assert on.nodes[0]._waiting_for() == 'images of camera front on topic image_tokens'


def test_a_wrong_kind_of_input_is_refused_by_name(tiny_checkpoint):
    on = InProcess(lambda: PolicyNode(FakeHost(tiny_checkpoint)), input='sound')
    try:
        assert "images or tokens, got 'sound'" in on.wait_message('parameter input')
    finally:
        on.close()


# ---- compressed images


def jpeg(image, stamp_s, kind='JPEG'):
    stream = io.BytesIO()
    Picture.fromarray(image).save(stream, kind)
    message = CompressedImage(format=kind.lower(), data=stream.getvalue())
    message.header.stamp = time_message(stamp_s)
    return message


def test_compressed_images_are_answered_by_a_parameter(bench):
    on = bench(PolicyNode, image_transport='compressed')
    on.ready()
    message = jpeg(pixels(1), on.now_s())
    on.send(message, 'image/compressed', SENSOR_QOS)
    chunk = on.until(lambda: on.chunks, 'a chunk')[0]
    assert chunk.header.stamp == message.header.stamp


def test_a_compressed_bomb_is_refused_and_the_next_image_answered(bench):
    on = bench(PolicyNode, image_transport='compressed')
    on.ready()
    bomb = jpeg(np.zeros((4000, 4000), np.uint8), on.now_s(), 'PNG')
    on.send(bomb, 'image/compressed', SENSOR_QOS)
    assert on.wait_message('too large').startswith('no chunk: ')
    on.send(jpeg(pixels(1), on.now_s()), 'image/compressed', SENSOR_QOS)
    on.until(lambda: on.chunks, 'a chunk')


def test_a_remapped_camera_is_heard_compressed_under_its_own_name(tiny_checkpoint):
    on = InProcess(lambda: WorldModelNode(FakeHost(tiny_checkpoint)), image_transport='compressed')
    try:
        on.wait_state('active')
        node = on.nodes[0]
        node.trigger_deactivate()
        node.trigger_cleanup()
        node.resolve_topic_name = {'image': '/camera/image_raw'}.get
        node.trigger_configure()
        assert node._configured.cameras.topics == {'front': '/camera/image_raw/compressed'}
    finally:
        on.close()


# ---- the world model


def chunk(now, value=0.5):
    message = ActionChunk(
        chunk_id=1, model_id='fake@1', instruction='go', dt=0.05, horizon=4, dim=7,
        action_names=list(ROBOT.action.names), action_units=list(ROBOT.action.units),
        action_scale=[0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], data=[value] * 28,
    )  # fmt: skip
    message.header.stamp = time_message(now)
    return message


class Imagining(Bench):
    """A world model at a standing clock."""

    def __init__(self, checkpoint, **parameters):
        super().__init__(checkpoint, WorldModelNode, **parameters)
        self.now = self.now_s()
        self.nodes[0].now_s = lambda: self.now

    def start(self, encoded):
        """Show an image, then let a chunk be imagined."""
        if encoded:
            self.codes(seed=1, stamp_s=self.now)
        else:
            self.send(array_to_image(pixels(1), self.now), 'image', SENSOR_QOS)
        self.until_kept(self.now)
        self.send(chunk(self.now), 'action_chunk', RELIABLE_QOS)

    def until_kept(self, stamp_s):
        kept = self.nodes[0]._configured.images['front']
        self.until(lambda: kept.nearest(stamp_s, 1e-4) is not None, 'the image')

    def two(self, topic):
        return self.until(lambda: len(self.heard[topic]) == 2 and self.heard[topic], topic)

    def hear(self, cls, topic):
        """Listen, and wait until the node knows."""
        self.listen(cls, topic, 50)
        publishers = {p.topic_name: p for p in self.nodes[0].publishers}
        self.until(lambda: publishers[f'/{topic}'].get_subscription_count(), topic)


@pytest.fixture
def imagining(tiny_checkpoint):
    made = []

    def make(**parameters):
        made.append(Imagining(tiny_checkpoint, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_imagined_images_are_identical_whether_images_or_tokens_come(imagining):
    found = []
    for kind in ('images', 'tokens'):
        on = imagining(input=kind)
        on.hear(Image, 'imagined_image')
        on.start(kind == 'tokens')
        found.append([image_to_array(m) for m in on.two('imagined_image')])
        on.close()
        on.close = lambda: None
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize('kind', ['images', 'tokens'])
def test_imagined_codes_decode_to_the_imagined_images(imagining, tiny_checkpoint, kind):
    on = imagining(input=kind)
    on.hear(ImageTokens, 'imagined_tokens')
    on.hear(Image, 'imagined_image')
    on.start(kind == 'tokens')
    codes, images = on.two('imagined_tokens'), on.two('imagined_image')
    for tokens, image in zip(codes, images, strict=True):
        assert tokens.header == image.header
        assert (tokens.camera, tokens.codebook) == ('front', tiny_checkpoint.codebook)
        made = tiny_checkpoint.images.decode(np.array(tokens.codes, np.int64).reshape(4, 4))
        np.testing.assert_array_equal(made, image_to_array(image))


def test_beside_tokens_nothing_is_decoded_that_nobody_looks_at(imagining):
    on = imagining(input='tokens')
    decoded = []
    on.nodes[0]._configured.world.decode = decoded.append
    on.hear(ImageTokens, 'imagined_tokens')
    on.start(True)
    on.two('imagined_tokens')
    assert not decoded


def test_a_strip_beside_tokens_shows_what_their_codes_show(imagining, tiny_checkpoint):
    on = imagining(input='tokens')
    on.hear(Image, 'imagined_strip')
    on.start(True)
    waiting = on.nodes[0]._configured.pending._waiting
    on.until(lambda: len(waiting) == 2, 'both images')
    # the first instant that the machine is fast enough for
    on.codes(seed=5, stamp_s=waiting[0].stamp_s)
    made = image_to_array(on.until(lambda: on.heard['imagined_strip'], 'a strip')[0])
    observed = tiny_checkpoint.images.decode(tiny_checkpoint.images.encode([pixels(5)])[0])
    np.testing.assert_array_equal(made[:, :32], observed)


def test_foreign_tokens_are_not_imagined_and_the_next_ones_are(imagining):
    on = imagining(input='tokens')
    on.hear(ImageTokens, 'imagined_tokens')
    on.codes(seed=1, stamp_s=on.now, codebook='other@1')
    on.until_kept(on.now)
    on.send(chunk(on.now), 'action_chunk', RELIABLE_QOS)
    assert on.wait_message('another codebook').startswith('not imagined: ')
    on.now += 1.0
    on.start(True)
    on.two('imagined_tokens')
