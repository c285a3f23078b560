"""The world-model node in this process, with a world that is imagined at once."""

import itertools

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fakes import FakeHost, FakeWorld
from probe import InProcess
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from worldvla_ros.errors import DecodingError
from worldvla_ros.metrics import psnr
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes import world_model as module
from worldvla_ros.nodes.convert import array_to_image, image_to_array, time_message
from worldvla_ros.nodes.qos import RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.world_model import WorldModelNode, strip
from worldvla_ros.robot.description import load_robot

ROBOT = load_robot('sim_panda')
STRIDE_S = 0.1  # two actions of 0.05 s per image
EVERY_ONE = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.RELIABLE)
GREY = np.full((128, 128, 3), 100, np.uint8)


class Bench(InProcess):
    """A world-model node, a camera and a publisher of chunks."""

    def __init__(self, checkpoint, **parameters):
        super().__init__(lambda: WorldModelNode(FakeHost(checkpoint)), **parameters)
        self._ids = itertools.count(1)
        self.listen(Image, 'imagined_image', EVERY_ONE)
        self.listen(Image, 'imagined_strip', EVERY_ONE)
        self.wait_state('active')
        self.world = self.nodes[0]._configured.world
        self.imagined = self.heard['imagined_image']
        self.strips = self.heard['imagined_strip']
        # the clock stands still, so that nothing depends on how fast this machine is
        self.now = self.node.get_clock().now().nanoseconds * 1e-9
        self.nodes[0].now_s = lambda: self.now

    def image(self, after_s, pixels=GREY):
        """Publish the image of a time after now, and wait until the node has it."""
        stamp_s = self.now + after_s
        kept = self.nodes[0]._configured.images['front']
        self.send(array_to_image(pixels, stamp_s, 'camera'), 'image', SENSOR_QOS)
        self.until(lambda: kept.nearest(stamp_s, 1e-4) is not None, 'the image')

    def chunk(self, after_s=0.0, value=0.5, **changes):
        message = ActionChunk(
            chunk_id=next(self._ids), model_id='fake@1', instruction='go', dt=0.05, horizon=4,
            dim=7, action_names=list(ROBOT.action.names), action_units=list(ROBOT.action.units),
            action_scale=[0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], data=[value] * 28,
        )  # fmt: skip
        message.header.stamp = time_message(self.now + after_s)
        for name, given in changes.items():
            setattr(message, name, given)
        self.send(message, 'action_chunk', RELIABLE_QOS)

    def times(self):
        """Return when the imagined images are, after now."""
        return [seconds(m.header.stamp) - self.now for m in self.imagined]


@pytest.fixture
def bench(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(module, 'WorldModel', FakeWorld)
    made = []

    def make(**parameters):
        made.append(Bench(tiny_checkpoint, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_chunk_is_imagined_at_the_times_that_it_reaches(bench):
    on = bench()
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    on.image(-0.03)
    on.image(0.0, picture)
    on.chunk(0.0)
    on.until(lambda: len(on.imagined) == 2, 'both images')
    assert on.times() == pytest.approx([STRIDE_S, 2 * STRIDE_S], abs=1e-6)
    assert {m.header.frame_id for m in on.imagined} == {'camera'}
    assert [m.data[0] for m in on.imagined] == [10, 20]
    observation, actions = on.world.asked[0]
    np.testing.assert_array_equal(observation.images['front'], picture)
    assert actions.shape == (4, 7)


def test_a_strip_shows_the_observed_image_of_that_time(bench):
    on = bench()
    on.image(0.0)
    on.chunk(0.0)
    on.until(lambda: len(on.imagined) == 2, 'both images')
    right = np.full((128, 128, 3), 7, np.uint8)
    on.image(STRIDE_S - 0.04)
    on.image(STRIDE_S - 0.01, right)
    assert not on.strips  # its time has not come
    on.image(STRIDE_S + 0.02)
    made = on.until(lambda: on.strips, 'a strip')[0]
    assert seconds(made.header.stamp) - on.now == pytest.approx(STRIDE_S, abs=1e-6)
    assert made.header.frame_id == 'camera'
    pixels = image_to_array(made)
    assert pixels.shape == (128, 3 * 128, 3)
    assert pixels[0, [0, 128, 256], 0].tolist() == [7, 10, 3]  # |7 - 10|, not 253


def test_an_imagined_image_is_not_compared_with_one_of_another_time(bench):
    on = bench()
    on.image(0.0)
    on.chunk(0.0)
    on.until(lambda: len(on.imagined) == 2, 'both images')
    on.image(STRIDE_S + 0.05)
    on.image(2 * STRIDE_S + 0.05)
    on.image(3.0)
    assert not on.strips


def test_after_a_hold_images_are_of_when_the_chunk_began(bench):
    on = bench()
    on.image(-0.2)
    on.chunk(-0.2)
    on.until(lambda: len(on.imagined) == 2, 'both images')
    assert on.times() == pytest.approx([STRIDE_S, 2 * STRIDE_S], abs=1e-6)


def test_images_whose_time_is_past_are_skipped_where_they_were_observed(bench):
    on = bench()
    on.chunk(-0.4, horizon=8, data=[0.5] * 56)  # is played from now on, until 0.4
    seen = np.full((128, 128, 3), 42, np.uint8)
    on.wait_message('no image of camera front')
    on.image(0.0)
    on.image(0.1, seen)
    on.now += 0.15
    on.chunk(-0.15, data=[i / 28 for i in range(28)])
    on.until(lambda: on.imagined, 'an image')
    assert on.times() == pytest.approx([0.05], abs=1e-6)  # 0.2 after the stamp
    observation, actions = on.world.asked[-1]
    np.testing.assert_array_equal(observation.images['front'], seen)
    assert actions[0, 0] == pytest.approx(0.5)  # the third of four


def test_it_is_said_how_long_before_its_time_an_image_came(bench):
    on = bench()
    on.image(0.0)
    on.chunk(0.0)
    on.wait_message('imagining')
    on.until(lambda: len(on.imagined) == 2, 'both images')
    values = {v.key: v.value for v in on.nodes[0].status._present.values}
    assert values['images'] == '2'
    assert values['ahead'] == '0.20 s'
    assert values['in_time'] == '100%'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'dt': float('nan')}, 'dt nan'),
        ({'dt': float('inf')}, 'dt inf'),
        ({'dt': -1.0}, 'dt -1'),
        ({'dt': 0.1}, 'checkpoint 0.05 s'),
        ({'data': [float('nan')] * 28}, 'not finite'),
        ({'data': [3.0] * 28}, '3.000'),
        ({'data': [0.5] * 27}, '4 × 7'),
        ({'action_names': ['a'] * 7}, 'actions'),
        ({'action_scale': [float('inf')] * 7}, 'scale'),
        ({'horizon': 400, 'data': [0.5] * 2800}, 'chunk_duration'),
        ({'horizon': 0, 'data': []}, 'at least 1 action'),
    ],
)
def test_a_chunk_that_makes_no_sense_is_refused_and_the_next_one_imagined(bench, changes, words):
    on = bench()
    on.image(0.0)
    on.chunk(0.0, **changes)
    said = on.wait_message(words)
    assert said.startswith('not imagined: ')
    on.chunk(0.0)
    on.until(lambda: len(on.imagined) == 2, 'both images')
    assert on.nodes[0]._host.worker.alive


@pytest.mark.parametrize('error', [ValueError('unforeseen'), DecodingError('no image')])
def test_a_chunk_that_cannot_be_imagined_does_not_end_the_worker(bench, error):
    on = bench()
    on.world.raises = error
    on.image(0.0)
    on.chunk(0.0)
    on.wait_message(str(error))
    on.world.raises = None
    on.chunk(0.0)
    on.until(lambda: len(on.imagined) == 2, 'both images')


def test_cameras_too_far_from_a_chunk_are_named(bench):
    on = bench(max_camera_skew=0.05)
    on.image(-0.06)
    on.chunk(0.0)
    assert 'max_camera_skew 0.05 s' in on.wait_message('no image of camera front')
    on.image(-0.04)
    on.chunk(0.0)
    on.until(lambda: on.imagined, 'an image')


def test_an_image_out_of_order_drops_nothing(bench):
    on = bench()
    on.image(0.0)
    on.image(-0.05)
    on.chunk(0.0)
    on.until(lambda: on.imagined, 'an image')


def test_a_clock_that_was_set_back_drops_everything(bench):
    on = bench()
    on.image(0.0)
    on.image(-30.0)
    on.chunk(0.0)
    on.wait_message('no image of camera front')


def test_an_inactive_node_imagines_nothing(bench):
    on = bench()
    on.nodes[0].trigger_deactivate()
    on.image(0.0)
    on.chunk(0.0)
    on.spin(0.1)
    assert not on.world.asked
    on.nodes[0].trigger_activate()
    on.image(0.0)
    on.chunk(0.0)
    on.until(lambda: on.imagined, 'an image')


def test_a_strip_is_observed_imagined_and_their_difference():
    observed = np.full((4, 6, 3), 200, np.uint8)
    row, decibels = strip(observed, np.full((2, 2, 3), 190, np.uint8))
    assert row.shape == (4, 18, 3)
    assert [int(part.max()) for part in np.split(row, 3, axis=1)] == [200, 190, 10]
    assert decibels == pytest.approx(psnr(observed, np.full((4, 6, 3), 190, np.uint8)))
    darker, _ = strip(np.full((4, 6, 3), 190, np.uint8), np.full((2, 2, 3), 200, np.uint8))
    assert darker[0, -1, 0] == 10
