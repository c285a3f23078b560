"""Tokenizer and detokenizer in this process, with the tiny checkpoint's own codebook."""

from dataclasses import replace
import io

from fakes import FakeHost
import numpy as np
from PIL import Image as Picture
import pytest

pytest.importorskip('rclpy')
from probe import InProcess
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from worldvla_ros.errors import MemoryLimitError
from worldvla_ros.msg import ImageTokens, TokenIds
from worldvla_ros.nodes.convert import array_to_image, image_to_array, time_message
from worldvla_ros.nodes.detokenizer import DetokenizerNode
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.tokenizer import TokenizerNode
from worldvla_ros.package_files import share_folder
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
JOINTS = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04]


def pixels(seed=0, size=128):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


class Bench(InProcess):
    """Nodes, cameras and whoever listens."""

    def now_s(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def image(self, topic='image', seed=0, size=128):
        message = array_to_image(pixels(seed, size), self.now_s(), 'camera')
        self.send(message, topic, SENSOR_QOS)
        return message

    def until_encoded(self, topic='image', tokens='image_tokens', **image):
        """Send images until one is answered; discovery of the listener may take a while."""

        def answered():
            self.image(topic, **image)
            self.spin(0.02)
            return self.heard[tokens]

        return self.until(answered, tokens)[-1]


@pytest.fixture
def bench():
    made = []

    def make(*factories, **parameters):
        made.append(Bench(*factories, **parameters))
        for number in range(len(factories)):
            made[-1].wait_state('active', number)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def tokenizer(bench, tiny_checkpoint):
    def make(checkpoint=tiny_checkpoint, **parameters):
        return bench(lambda: TokenizerNode(FakeHost(checkpoint)), **parameters)

    return make


def cameras(checkpoint, *names):
    return replace(checkpoint, spec=replace(checkpoint.spec, cameras=names))


def test_an_image_becomes_the_codes_of_the_checkpoint(tokenizer, tiny_checkpoint):
    on = tokenizer()
    on.listen(ImageTokens, 'image_tokens', SENSOR_QOS)
    made = on.until_encoded(seed=3)
    assert made.header.frame_id == 'camera'
    assert on.now_s() - 5 < seconds(made.header.stamp) < on.now_s()
    assert (made.camera, made.codebook) == ('front', tiny_checkpoint.codebook)
    codes = np.array(made.codes).reshape(made.rows, made.columns)
    np.testing.assert_array_equal(codes, tiny_checkpoint.images.encode([pixels(3)])[0])


def test_the_real_host_loads_tokenizers_alone(bench, tiny_folder):
    on = bench(TokenizerNode, checkpoint=str(tiny_folder))
    assert on.nodes[0]._host._loaded is None
    on.listen(ImageTokens, 'image_tokens', SENSOR_QOS)
    assert on.until_encoded()


def test_nothing_is_encoded_where_nobody_listens(tokenizer):
    on = tokenizer()
    on.image()
    on.wait_message('nobody listens to /image_tokens')
    assert not on.nodes[0]._count


def test_encoding_may_be_asked_for_in_any_case(tokenizer):
    on = tokenizer(always=True)
    on.image()
    on.wait_message('encoding')


def test_every_camera_of_the_checkpoint_is_encoded(tokenizer, tiny_checkpoint):
    on = tokenizer(cameras(tiny_checkpoint, 'front', 'wrist'))
    on.listen(ImageTokens, 'image_tokens', SENSOR_QOS)
    on.listen(ImageTokens, 'wrist_image_tokens', SENSOR_QOS)
    assert on.until_encoded('wrist_image', 'wrist_image_tokens').camera == 'wrist'
    assert on.until_encoded().camera == 'front'


def test_a_camera_that_sends_garbage_does_not_stop_the_other(tokenizer, tiny_checkpoint):
    on = tokenizer(cameras(tiny_checkpoint, 'front', 'wrist'), always=True)
    node = on.nodes[0]
    broken = array_to_image(pixels(), on.now_s())
    broken.data = broken.data[:100]
    node._configured.mail.put('front', broken)
    node._configured.mail.put('wrist', array_to_image(pixels(), on.now_s()))
    node.hand_over('front')
    on.until(lambda: node._count == 1, 'the image of the wrist')


@pytest.mark.parametrize(
    ('fault', 'words'),
    [
        ('size', '64 x 64'),
        ('no stamp', 'no time stamp'),
        ('encoding', 'image encoding'),
        ('cut off', 'image data is cut off'),
    ],
)
def test_an_image_that_must_not_be_encoded_is_refused_with_a_reason(tokenizer, fault, words):
    on = tokenizer(always=True)
    message = array_to_image(pixels(size=64 if fault == 'size' else 128), on.now_s())
    if fault == 'no stamp':
        message.header.stamp = time_message(0.0)
    elif fault == 'encoding':
        message.encoding = 'plasma'
    elif fault == 'cut off':
        message.data = message.data[:100]
    on.send(message, 'image', SENSOR_QOS)
    assert on.wait_message(words).startswith('not encoded: ')
    on.image()
    on.until(lambda: on.nodes[0]._count == 1, 'the next image')


def compressed(image, kind='PNG'):
    stream = io.BytesIO()
    image.save(stream, kind)
    return CompressedImage(format=kind.lower(), data=stream.getvalue())


def test_compressed_images_are_heard_beside_the_raw_topic(tokenizer, tiny_checkpoint):
    on = tokenizer(image_transport='compressed')
    on.listen(ImageTokens, 'image_tokens', SENSOR_QOS)
    message = compressed(Picture.fromarray(pixels(5)))
    message.header.stamp = time_message(on.now_s())

    def answered():
        on.send(message, 'image/compressed', SENSOR_QOS)
        on.spin(0.02)
        return on.heard['image_tokens']

    made = on.until(answered, 'tokens')[0]
    expected = tiny_checkpoint.images.encode([pixels(5)])[0]
    np.testing.assert_array_equal(np.array(made.codes), expected.ravel())


@pytest.mark.parametrize(
    ('picture', 'words'),
    [
        (Picture.new('1', (12000, 12000)), 'too large'),
        (Picture.new('RGB', (128, 129)), 'at most 16384 pixels'),
        (Picture.new('RGB', (64, 64)), '64 x 64'),
        (None, 'cannot be decoded'),
    ],
    ids=['bomb', 'one row more', 'small', 'garbage'],
)
def test_a_compressed_image_of_another_size_is_refused(tokenizer, picture, words):
    on = tokenizer(image_transport='compressed', always=True)
    message = CompressedImage(format='jpeg', data=bytes(1000))
    if picture is not None:
        message = compressed(picture)
    message.header.stamp = time_message(on.now_s())
    on.send(message, 'image/compressed', SENSOR_QOS)
    assert on.wait_message(words).startswith('not encoded: ')
    assert on.nodes[0]._host.worker.alive


def test_an_instruction_is_latched_as_ids(tokenizer, tiny_checkpoint):
    on = tokenizer()
    on.send(String(data=' lift it '), 'instruction', QoSProfile(depth=1))
    on.wait_message("instruction: 'lift it'")
    on.listen(TokenIds, 'instruction_tokens', LATCHED_QOS)
    made = on.until(lambda: on.heard['instruction_tokens'], 'ids')[0]
    assert (made.kind, made.text) == (TokenIds.KIND_INSTRUCTION, 'lift it')
    assert list(made.ids) == tiny_checkpoint.text.encode('lift it')
    assert made.tokenizer.startswith('text')
    assert on.now_s() - 30 < seconds(made.header.stamp) <= on.now_s()


@pytest.mark.parametrize('words', ['x' * 1000])
def test_an_instruction_that_is_no_sentence_is_refused(tokenizer, words):
    on = tokenizer()
    on.send(String(data=words), 'instruction', QoSProfile(depth=1))
    assert on.wait_message('the instruction is too long').startswith('not encoded: ')


def test_a_state_becomes_ids_where_somebody_listens(tokenizer, tiny_checkpoint):
    on = tokenizer(max_joint_age=5.0)

    def moved():
        message = JointState(name=JOINTS, position=HOME)
        message.header.stamp = time_message(on.now_s())
        on.send(message, 'joint_states', JOINTS_QOS)
        on.spin(0.02)
        return message

    moved()
    on.listen(TokenIds, 'state_tokens', SENSOR_QOS)
    on.until(lambda: moved() and on.heard['state_tokens'], 'ids')
    made = on.heard['state_tokens'][0]
    assert made.kind == TokenIds.KIND_STATE
    assert made.header.frame_id == ROBOT.base_frame
    assert on.now_s() - 5 < seconds(made.header.stamp) < on.now_s()
    state = tiny_checkpoint.sequences.state.decode(np.array(made.ids))
    assert state[-1] == pytest.approx(0.08, abs=1e-3)  # both fingers


def test_joints_that_are_not_finite_are_refused_by_name(tokenizer):
    on = tokenizer(always=True)
    message = JointState(name=JOINTS, position=[np.nan, *HOME[1:]])
    message.header.stamp = time_message(on.now_s())
    on.send(message, 'joint_states', JOINTS_QOS)
    assert JOINTS[0] in on.wait_message('not finite')


def test_bad_joints_are_nobodys_concern_where_no_state_is_asked_for(tokenizer):
    on = tokenizer()
    message = JointState(name=JOINTS, position=[np.nan, *HOME[1:]])
    message.header.stamp = time_message(on.now_s())
    on.send(message, 'joint_states', JOINTS_QOS)
    on.image()
    on.wait_message('nobody listens')


def test_an_instruction_from_before_keeps_its_time(tokenizer):
    on = tokenizer()
    node = on.nodes[0]
    node.trigger_deactivate()
    on.send(String(data='lift it'), 'instruction', QoSProfile(depth=1))
    on.until(lambda: node._instruction, 'the instruction')
    told_s = on.now_s()
    node.trigger_activate()
    on.listen(TokenIds, 'instruction_tokens', LATCHED_QOS)
    made = on.until(lambda: on.heard['instruction_tokens'], 'ids')[0]
    assert seconds(made.header.stamp) <= told_s


def test_a_checkpoint_without_a_state_hears_no_joints(tokenizer, tiny_checkpoint):
    spec = replace(tiny_checkpoint.spec, state=None)
    on = tokenizer(replace(tiny_checkpoint, spec=spec))
    heard = {s.topic_name for s in on.nodes[0].subscriptions}
    assert '/joint_states' not in heard
    assert '/image' in heard


def test_a_shortage_of_memory_stops_the_node(tokenizer, monkeypatch):
    on = tokenizer(always=True)

    def short(images):
        raise MemoryLimitError('short of memory')

    monkeypatch.setattr(on.nodes[0]._configured.tokenizers.images, 'encode', short)
    on.image()
    on.wait_message('stopped: short of memory')
    on.wait_state('inactive')


def test_an_inactive_tokenizer_is_silent_and_can_be_configured_anew(tokenizer):
    on = tokenizer(always=True)
    node = on.nodes[0]
    node.trigger_deactivate()
    on.image()
    on.spin(0.1)
    assert not node._count
    node.trigger_cleanup()
    node.trigger_configure()
    node.trigger_activate()
    on.until(lambda: on.image() and on.spin(0.02) or node._count, 'an image')


def test_a_wrong_transport_is_refused_by_name(tiny_checkpoint):
    on = Bench(lambda: TokenizerNode(FakeHost(tiny_checkpoint)), image_transport='pigeon')
    try:
        said = on.wait_message('parameter image_transport')
        assert "raw or compressed, got 'pigeon'" in said
    finally:
        on.close()


def test_a_description_may_say_that_a_camera_is_compressed(tokenizer, tmp_path):
    text = (share_folder() / 'config/robots/sim_panda.yaml').read_text()
    (tmp_path / 'arm.yaml').write_text(text.replace('topic: image,', 'topic: image/compressed,'))
    on = tokenizer(robot=str(tmp_path / 'arm.yaml'))
    assert on.nodes[0]._configured.cameras.topics == {'front': '/image/compressed'}
    assert on.nodes[0]._configured.images['front'].topic_name == '/image_tokens'


# ---- detokenizer


@pytest.fixture
def detokenizer(bench, tiny_checkpoint):
    def make(**parameters):
        return bench(lambda: DetokenizerNode(FakeHost(tiny_checkpoint)), **parameters)

    return make


def tokens(on, checkpoint, **changes):
    codes = checkpoint.images.encode([pixels(2)])[0]
    message = ImageTokens(
        camera='front', codebook=checkpoint.codebook, rows=4, columns=4,
        codes=codes.ravel().tolist(),
    )  # fmt: skip
    message.header.stamp = time_message(on.now_s())
    message.header.frame_id = 'lens'
    for name, value in changes.items():
        setattr(message, name, value)
    on.send(message, 'image_tokens', SENSOR_QOS)
    return message


def test_codes_become_an_image_under_their_header(detokenizer, tiny_checkpoint):
    on = detokenizer()
    on.listen(Image, 'image', RELIABLE_QOS)
    sent = []

    def answered():
        sent.append(tokens(on, tiny_checkpoint))
        on.spin(0.02)
        return on.heard['image']

    made = on.until(answered, 'an image')[0]
    assert made.header in [message.header for message in sent]
    codes = tiny_checkpoint.images.encode([pixels(2)])[0]
    np.testing.assert_array_equal(image_to_array(made), tiny_checkpoint.images.decode(codes))


def test_nothing_is_decoded_where_nobody_listens(detokenizer, tiny_checkpoint):
    on = detokenizer()
    tokens(on, tiny_checkpoint)
    on.wait_message('nobody listens to /image')
    assert not on.nodes[0]._count


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'codebook': 'vqgan32@000000000000'}, 'another codebook'),
        ({'camera': 'wrist'}, 'another camera'),
        ({'rows': 2**31, 'columns': 2**31}, '4 × 4 codes'),
        ({'codes': [32] * 16}, '0 … 31'),
        ({'codes': []}, 'got 0 codes'),
    ],
)
def test_codes_of_another_tokenizer_are_refused_and_the_next_ones_decoded(
    detokenizer, tiny_checkpoint, changes, words
):
    on = detokenizer(always=True)
    tokens(on, tiny_checkpoint, **changes)
    assert on.wait_message(words).startswith('not decoded: ')
    tokens(on, tiny_checkpoint)
    on.wait_message('decoding')
    assert on.nodes[0]._count == 1


def test_decoded_images_are_not_mixed_with_those_of_a_camera(detokenizer, tiny_checkpoint):
    on = detokenizer(always=True)
    on.node.create_publisher(Image, 'image', SENSOR_QOS)
    on.until(lambda: on.nodes[0].count_publishers('image') > 1, 'the camera')
    tokens(on, tiny_checkpoint)
    assert 'Remap this topic' in on.wait_message('/image has another publisher')
    assert not on.nodes[0]._count


def test_an_inactive_detokenizer_is_silent_and_can_be_configured_anew(
    detokenizer, tiny_checkpoint
):
    on = detokenizer(always=True)
    node = on.nodes[0]
    node.trigger_deactivate()
    tokens(on, tiny_checkpoint)
    on.spin(0.1)
    assert not node._count
    node.trigger_cleanup()
    node.trigger_configure()
    node.trigger_activate()
    on.until(lambda: tokens(on, tiny_checkpoint) and on.spin(0.02) or node._count, 'an image')
