"""Pictures for people: sizes and places of tiles, and videos that can be read back."""

import imageio.v2 as imageio
import numpy as np
import pytest

from worldvla_ros.pictures import GAP, PAPER, captioned, difference, enlarge, grid, write_video

COLOURS = [[(200, 0, 0), (0, 200, 0), (0, 0, 200)], [(9, 90, 9), (99, 9, 9), (9, 9, 99)]]


def flat(colour, height=8, width=8):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.fixture
def rows():
    return [[flat(colour) for colour in row] for row in COLOURS]


def test_enlarging_keeps_pixels_and_proportions(picture):
    large = enlarge(picture, 96)
    assert large.shape == (96, 128, 3)
    np.testing.assert_array_equal(large[::2, ::2], picture)
    np.testing.assert_array_equal(large[1::2, 1::2], picture)


def test_difference_does_not_wrap_around():
    made = difference(flat(10), flat(250))
    assert made.dtype == np.uint8
    assert (made == 240).all()
    np.testing.assert_array_equal(made, difference(flat(250), flat(10)))


def test_a_grid_holds_each_image_at_its_place(rows):
    sheet = np.asarray(grid(rows, ['a', 'b'], ['x', 'y', 'z'], side=32))
    left, top = sheet.shape[1] - 3 * (32 + GAP), sheet.shape[0] - 2 * (32 + GAP)
    assert left > 0
    assert top > 0
    for row, colours in enumerate(COLOURS):
        for column, colour in enumerate(colours):
            y, x = top + row * (32 + GAP), left + column * (32 + GAP)
            assert (sheet[y : y + 32, x : x + 32] == colour).all()
            assert (sheet[y : y + 32, x + 32 : x + 32 + GAP] == PAPER).all()


def test_labels_are_written_beside_and_above(rows):
    sheet = np.asarray(grid(rows, ['first', 'second'], ['x', 'y', 'z'], side=32))
    left, top = sheet.shape[1] - 3 * (32 + GAP), sheet.shape[0] - 2 * (32 + GAP)
    assert (sheet[top : top + 32, :left] != PAPER).any()
    assert (sheet[top + 32 + GAP :, :left] != PAPER).any()
    assert (sheet[:top, left : left + 32] != PAPER).any()


def test_longer_row_labels_widen_the_margin_and_a_title_raises_the_top(rows):
    plain = grid(rows, ['a', 'b'], ['x', 'y', 'z'], side=32)
    labelled = grid(rows, ['a', 'a much longer label'], ['x', 'y', 'z'], side=32)
    titled = grid(rows, ['a', 'b'], ['x', 'y', 'z'], 'What was seen', side=32)
    assert labelled.width > plain.width
    assert labelled.height == plain.height
    assert titled.height > plain.height
    assert titled.width == plain.width


def test_a_grid_needs_a_label_per_row(rows):
    with pytest.raises(ValueError, match='zip'):
        grid(rows, ['a'], ['x', 'y', 'z'])


@pytest.mark.parametrize('side', [31, 32, 57])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_captioned_pictures_have_an_even_size(side, count):
    images = [flat(colour) for colour in COLOURS[0][:count]]
    made = captioned(images, ['l'] * count, 'pick up the red cube', side=side)
    assert made.dtype == np.uint8
    assert made.shape[0] % 2 == made.shape[1] % 2 == 0
    assert made.shape[1] >= count * side


def test_captioned_images_stand_side_by_side_over_the_caption():
    made = captioned([flat(c) for c in COLOURS[0]], ['x', 'y', 'z'], 'caption', side=40)
    for index, colour in enumerate(COLOURS[0]):
        ys, xs = np.nonzero((made == colour).all(-1))
        assert (np.ptp(ys) + 1, np.ptp(xs) + 1, len(ys)) == (40, 40, 1600)
        assert xs.min() == GAP + index * (40 + GAP)
    assert (made[ys.max() + 1 :] != PAPER).any()
    assert (made[: ys.min()] != PAPER).any()


def test_captions_change_with_the_text():
    one, other = (captioned([flat(0)], ['l'], text, side=200) for text in ('red', 'blue'))
    assert (one != other).any()


def test_a_video_reads_back_as_written(tmp_path):
    images = [flat((20 * i, 128, 255 - 20 * i), 48, 64) for i in range(9)]
    file = tmp_path / 'new' / 'video.mp4'
    write_video(file, images, 10.0)
    with imageio.get_reader(file) as reader:
        read = list(reader.iter_data())
        assert reader.get_meta_data()['fps'] == pytest.approx(10)
        assert reader.get_meta_data()['codec'] == 'h264'
    assert len(read) == 9
    for image, wanted in zip(read, images, strict=True):
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - wanted).mean() < 12


def test_a_captioned_video_keeps_its_size(tmp_path):
    images = [captioned([flat(i)] * 2, ['a', 'b'], f'step {i}', side=51) for i in (0, 90, 180)]
    write_video(tmp_path / 'video.mp4', images, 5)
    with imageio.get_reader(tmp_path / 'video.mp4') as reader:
        assert [image.shape for image in reader] == [images[0].shape] * 3
