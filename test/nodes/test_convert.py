from dataclasses import replace
import io
import sys
import types

import numpy as np
from PIL import Image as Picture
import pytest

pytest.importorskip('rclpy')
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import TokenIds
from worldvla_ros.nodes.convert import (
    Grid,
    array_to_image,
    chunk_to_message,
    codes_to_message,
    ids_to_message,
    image_to_array,
    image_type,
    message_to_chunk,
    message_to_codes,
    time_message,
    to_array,
)
from worldvla_ros.observation import ActionChunk
from worldvla_ros.pixels import MOST_SCANS, compressed_pixels


def message(encoding, rows, step, width, height):
    return Image(encoding=encoding, data=rows, step=step, width=width, height=height)


def test_an_image_comes_back_as_it_was(picture):
    made = array_to_image(picture, 12.5, 'camera')
    assert (made.encoding, made.width, made.height, made.step) == ('rgb8', 64, 48, 192)
    assert made.header.stamp == time_message(12.5)
    assert made.header.frame_id == 'camera'
    np.testing.assert_array_equal(image_to_array(made), picture)


@pytest.mark.parametrize(
    ('encoding', 'pixel', 'rgb'),
    [
        ('bgr8', [1, 2, 3], [3, 2, 1]),
        ('rgba8', [1, 2, 3, 9], [1, 2, 3]),
        ('bgra8', [1, 2, 3, 9], [3, 2, 1]),
        ('mono8', [7], [7, 7, 7]),
        ('8UC3', [1, 2, 3], [3, 2, 1]),
    ],
)
def test_every_encoding_becomes_rgb(encoding, pixel, rgb):
    image = image_to_array(message(encoding, pixel * 6, 3 * len(pixel), 3, 2))
    assert image.shape == (2, 3, 3)
    assert (image == rgb).all()


def test_padding_at_the_end_of_rows_is_dropped(picture):
    padded = np.concatenate([picture.reshape(48, -1), np.full((48, 5), 255, np.uint8)], axis=1)
    made = message('rgb8', padded.tobytes(), 64 * 3 + 5, 64, 48)
    np.testing.assert_array_equal(image_to_array(made), picture)


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        (message('rgb8', b'', 0, 0, 0), 'without pixels'),
        (message('rgb8', bytes(100), 192, 64, 48), 'cut off'),
        (message('rgb8', bytes(9216), 10, 64, 48), 'cut off'),
        (message('plasma', bytes(9216), 192, 64, 48), 'plasma'),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_its_fault(bad, words):
    with pytest.raises(ObservationError, match=words):
        image_to_array(bad)


def test_png_is_decoded_and_garbage_refused(picture):
    stream = io.BytesIO()
    Picture.fromarray(picture).save(stream, 'PNG')
    good = CompressedImage(format='png', data=stream.getvalue())
    np.testing.assert_array_equal(compressed_pixels(good), picture)
    with pytest.raises(ObservationError, match='JPEG or PNG'):
        compressed_pixels(CompressedImage(format='jpeg', data=b'no picture'))


def png(picture, **how):
    stream = io.BytesIO()
    picture.save(stream, how.pop('kind', 'PNG'), **how)
    return CompressedImage(format='png', data=stream.getvalue())


def test_the_name_of_a_topic_says_whether_its_images_are_compressed(picture):
    assert image_type('wrist/image/compressed') is CompressedImage
    assert image_type('compressed_camera/image') is Image
    np.testing.assert_array_equal(to_array(png(Picture.fromarray(picture))), picture)
    np.testing.assert_array_equal(to_array(array_to_image(picture, 1.0)), picture)


def test_a_16_bit_png_keeps_its_upper_bits():
    grey = np.array([[0, 256, 65535]], np.uint16)
    found = compressed_pixels(png(Picture.fromarray(grey)))
    assert found[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


def test_a_picture_is_turned_as_its_exif_data_say(picture):
    exif = Picture.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = compressed_pixels(png(Picture.fromarray(picture), exif=exif))
    np.testing.assert_array_equal(found, np.rot90(picture, -1))


def test_a_picture_of_too_many_pixels_is_not_decoded():
    huge = png(Picture.new('1', (70000, 1000)))
    assert len(huge.data) < 100_000
    with pytest.raises(ObservationError, match='too large'):
        compressed_pixels(huge)


def test_a_picture_larger_than_the_camera_is_not_decoded(picture, monkeypatch):
    whole = png(Picture.fromarray(picture))
    assert compressed_pixels(whole, 64 * 48).shape == (48, 64, 3)
    monkeypatch.setattr(Picture.Image, 'load', None)
    with pytest.raises(ObservationError, match='at most 3071 pixels .* got 64 × 48'):
        compressed_pixels(whole, 64 * 48 - 1)


def test_a_progressive_picture_of_endless_scans_is_not_decoded(picture):
    stream = io.BytesIO()
    Picture.fromarray(picture).save(stream, 'JPEG', progressive=True)
    few = CompressedImage(format='jpeg', data=stream.getvalue())
    assert compressed_pixels(few).shape == (48, 64, 3)
    scan = stream.getvalue()[stream.getvalue().index(b'\xff\xda') : -2]
    many = CompressedImage(format='jpeg', data=stream.getvalue()[:-2] + scan * MOST_SCANS)
    with pytest.raises(ObservationError, match=f'in {MOST_SCANS} scans'):
        compressed_pixels(many)


@pytest.mark.parametrize(
    'data', [b'', b'\xff', b'\xff\xd8\xff', bytes(1000), b'GIF89a' + bytes(99)]
)
def test_bytes_that_are_no_picture_are_refused(data):
    with pytest.raises(ObservationError, match="cannot be decoded.*'jpeg'"):
        compressed_pixels(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize('cut', [10, 20, 30, 100, 1000])
def test_a_picture_that_is_cut_off_is_refused(picture, cut):
    whole = png(Picture.fromarray(picture))
    whole.data = whole.data[:cut]
    with pytest.raises(ObservationError, match='cannot be decoded'):
        compressed_pixels(whole)


def test_the_last_row_may_lack_its_padding(picture):
    padded = np.concatenate([picture.reshape(48, -1), np.full((48, 5), 255, np.uint8)], axis=1)
    made = message('rgb8', padded.tobytes()[:-5], 64 * 3 + 5, 64, 48)
    np.testing.assert_array_equal(image_to_array(made), picture)
    made.data = made.data[:-1]
    with pytest.raises(ObservationError, match='cut off'):
        image_to_array(made)


@pytest.mark.parametrize('error', [ImportError, ValueError, RuntimeError, AttributeError])
def test_whatever_cv_bridge_raises_is_a_refusal(monkeypatch, error):
    class Bridge:
        def imgmsg_to_cv2(self, message, encoding):
            raise error('its own trouble')

    monkeypatch.setitem(sys.modules, 'cv_bridge', types.SimpleNamespace(CvBridge=Bridge))
    with pytest.raises(ObservationError, match='bayer_rggb8'):
        image_to_array(message('bayer_rggb8', bytes(4), 2, 2, 2))


def chunk():
    rng = np.random.default_rng(0)
    return ActionChunk(
        actions=rng.normal(size=(4, 2)).astype(np.float32),
        names=('dx', 'gripper'),
        units=('m', '1'),
        scale=np.array([0.02, 1.0], np.float32),
        dt=0.05,
        stamp_s=100.25,
        chunk_id=7,
        model_id='tiny@0',
        instruction='pick up the red cube',
        log_probs=-rng.random((4, 2)).astype(np.float32),
        latency_s=0.06,
    )


def test_a_chunk_comes_back_as_it_was():
    made, came = chunk(), message_to_chunk(chunk_to_message(chunk(), 'base'))
    for name in ('actions', 'scale', 'log_probs'):
        np.testing.assert_array_equal(getattr(made, name), getattr(came, name))
    for name in (
        'names', 'units', 'dt', 'stamp_s', 'chunk_id', 'model_id', 'instruction', 'latency_s',
    ):  # fmt: skip
        assert getattr(made, name) == getattr(came, name)
    assert chunk_to_message(made, 'base').header.frame_id == 'base'


def test_a_chunk_without_log_probabilities_comes_back_without():
    made = replace(chunk(), log_probs=np.zeros((0, 0), np.float32))
    message = chunk_to_message(made, 'base')
    assert len(message.log_prob) == 0
    assert message_to_chunk(message).log_probs.shape == (0, 0)


def test_a_chunk_with_too_few_values_is_refused():
    cut = chunk_to_message(chunk(), 'base')
    cut.data = cut.data[:-1]
    with pytest.raises(ObservationError, match='4 × 2'):
        message_to_chunk(cut)


GRID = Grid('front', 'vqgan32@1', 32, 4, 6)
CODES = np.arange(24).reshape(4, 6)
HEADER = Header(stamp=time_message(12.5), frame_id='camera')


def tokens(**changes):
    made = codes_to_message(CODES, HEADER, 'front', 'vqgan32@1')
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_codes_come_back_as_they_were():
    made = tokens()
    assert (made.rows, made.columns, made.codes[7]) == (4, 6, 7)
    assert made.header == HEADER
    found = message_to_codes(made, GRID)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, CODES)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'codebook': 'vqgan32@2'}, "another codebook: expected vqgan32@1, got 'vqgan32@2'"),
        ({'codebook': ''}, 'another codebook'),
        ({'codebook': 'x' * 100_000}, 'another codebook'),
        ({'camera': 'wrist'}, "another camera: expected front, got 'wrist'"),
        ({'rows': 6, 'columns': 4}, '4 × 6 codes, got 24 codes for 6 × 4'),
        ({'rows': 2**32 - 1, 'columns': 2**32 - 1}, '4294967295 × 4294967295'),
        ({'rows': 0, 'columns': 0, 'codes': []}, 'got 0 codes'),
        ({'codes': list(range(23))}, 'got 23 codes'),
        ({'codes': [0] * 100_000}, 'got 100000 codes'),
        ({'codes': [*range(23), 32]}, '0 … 31, got 32'),
        ({'codes': [65535] * 24}, 'got 65535'),
    ],
)
def test_tokens_that_are_no_image_of_this_camera_are_refused(changes, words):
    with pytest.raises(ObservationError, match=words) as found:
        message_to_codes(tokens(**changes), GRID)
    assert len(str(found.value)) < 400


def test_a_code_that_a_message_cannot_hold_is_refused():
    with pytest.raises(ObservationError, match='at most 65535, got 65536'):
        codes_to_message(np.full((2, 2), 65536), HEADER, 'front', 'c')


def test_ids_keep_what_they_were_made_from():
    made = ids_to_message([3, 70_000], HEADER, TokenIds.KIND_INSTRUCTION, 'text@1', 'go')
    assert (made.kind, made.tokenizer, made.text, list(made.ids)) == (
        'instruction', 'text@1', 'go', [3, 70_000]
    )  # fmt: skip
    assert made.header == HEADER
