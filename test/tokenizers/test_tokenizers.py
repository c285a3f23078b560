"""Tokenizers: every encoding has a decoding, and what cannot be encoded is refused."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from worldvla_ros.errors import CheckpointError, ObservationError
from worldvla_ros.sim.tasks import corpus
from worldvla_ros.tokenizers.bins import BinTokenizer, action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer, crop_sizes, fit_image
from worldvla_ros.tokenizers.sequence import Prompts
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer
from worldvla_ros.tokenizers.vocab import BINS, PUBLISHED, compact

UNIT = action_tokenizer(PUBLISHED, (-1.0,), (1.0,))
VOCAB = compact(codebook_size=64, text_size=300)
IMAGE = ImageTokenizer(VOCAB)
TEXT_BASE = 1000

sides = st.integers(1, 6).map(lambda n: 2 * n)
numbers = st.floats(-100, 100, width=32)


@pytest.fixture(scope='module')
def text():
    return TextTokenizer(train_text_tokenizer(corpus()[:200], 300), TEXT_BASE)


# numbers


@pytest.mark.parametrize(
    ('value', 'bin_number'),
    [(-1.0, 1), (-1 + 1 / 255, 1), (-1 + 3 / 255, 2), (0.0, 128), (1 - 1 / 255, 255), (1.5, 256)],
)
def test_bin_of_value(value, bin_number):
    assert UNIT.bins(np.array([value])).tolist() == [bin_number - 1]
    # while its published id is 10005 + that number
    assert UNIT.encode(np.array([value])).tolist() == [10004, 10005 + bin_number, 15004]


def test_range_has_255_intervals_and_a_boundary_bin():
    edges = np.linspace(-1, 1, 256)
    inside = (edges[:-1] + edges[1:]) / 2
    assert UNIT.bins(inside[:, None])[:, 0].tolist() == list(range(255))
    assert UNIT.bins(np.array([[2.0]])).item() == BINS - 1


def test_boundary_bin_decodes_as_the_last_interval():
    assert UNIT.values(np.array([255])) == UNIT.values(np.array([254]))
    assert UNIT.values(np.array([254])) > UNIT.values(np.array([253]))


def test_centres_keep_their_bins():
    bins = np.arange(255)[:, None]
    np.testing.assert_array_equal(UNIT.bins(UNIT.values(bins)), bins)


def test_denormalised_values_are_those_of_the_reference():
    tokenizer = BinTokenizer((-0.9375, -0.32571429), (0.9375, 0.375), 0, 1, 2)
    normalised = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [1.2, -2.0]])
    values = tokenizer.denormalise(normalised)
    expected = [[-0.9375, -0.32571429], [0, 0.024642855], [0.9375, 0.375], [1.125, -0.676071435]]
    np.testing.assert_allclose(values, expected, atol=1e-7)
    assert values.dtype == np.float32


def test_numbers_in_single_precision_are_scaled_in_double():
    tokenizer = BinTokenizer((-1.0,), (1.0,), 0, 1, 2)
    small = np.array([1e-5], np.float32)  # 1 + 1e-5 is 1.0000100136 in single precision
    assert tokenizer.denormalise(small) == pytest.approx(1.0005e-5, rel=1e-6)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match='a value is NaN'):
        UNIT.encode(np.array([np.nan]))


@settings(deadline=None)
@given(low=numbers, span=st.floats(1e-3, 100), parts=st.lists(st.floats(0, 1), min_size=1))
def test_round_trip_errs_by_half_a_bin_at_most(low, span, parts):
    tokenizer = BinTokenizer((low,), (low + span,), 1, 2, 3)
    values = low + span * np.array(parts)[:, None]
    error = np.abs(tokenizer.decode(tokenizer.encode(values)) - values)
    assert error.max() <= span / 255 / 2 + 1e-5 * max(1, abs(low))


@settings(deadline=None)
@given(low=numbers, span=st.floats(1e-3, 100), beyond=st.floats(0, 1e6))
def test_out_of_range_is_clipped(low, span, beyond):
    tokenizer = BinTokenizer((low,), (low + span,), 1, 2, 3)
    assert tokenizer.bins(np.array([low - beyond])) == 0
    assert tokenizer.bins(np.array([low + span + beyond])) >= 254


@settings(deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=2).map(sorted))
def test_bins_grow_with_values(values):
    assert (np.diff(UNIT.bins(np.array(values)[:, None])[:, 0]) >= 0).all()


def test_constant_dimension_keeps_its_value():
    tokenizer = BinTokenizer((0.5,), (0.5,), 1, 2, 3)
    np.testing.assert_allclose(tokenizer.decode(tokenizer.encode(np.array([0.5]))), 0.5)


def test_each_dimension_has_its_own_range():
    tokenizer = BinTokenizer((0.0, -10.0), (1.0, 10.0), 1, 2, 3)
    assert tokenizer.bins(np.array([1.0, 1.0])).tolist() == [254, 140]


@pytest.mark.parametrize(
    ('make', 'start', 'base', 'end'),
    [(action_tokenizer, 10004, 10005, 15004), (state_tokenizer, 15504, 15505, 16004)],
)
def test_block_is_start_bins_end(make, start, base, end):
    tokenizer = make(PUBLISHED, (-1.0, -1.0), (1.0, 1.0))
    assert tokenizer.block_length == 4
    assert tokenizer.encode(np.array([-1.0, 2.0])).tolist() == [start, base + 1, base + 256, end]


def test_blocks_keep_leading_dimensions():
    blocks = UNIT.encode(np.zeros((5, 2, 1)))
    assert (blocks.shape, blocks.dtype) == ((5, 2, 3), np.int64)
    decoded = UNIT.decode(blocks)
    assert (decoded.shape, decoded.dtype) == ((5, 2, 1), np.float32)


def test_id_that_is_no_bin_decodes_to_the_nearest():
    block = np.array([PUBLISHED.action_start, 0, PUBLISHED.action_end])
    assert UNIT.decode(block) == UNIT.values(np.array([0]))


@pytest.mark.parametrize('shape', [(2,), (3, 2), (0,)])
def test_values_of_another_dimension_are_refused(shape):
    with pytest.raises(ValueError, match='expected'):
        UNIT.encode(np.zeros(shape))


def test_block_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r'\[\.\.\., 3\] ids'):
        UNIT.decode(np.zeros(4, int))


@pytest.mark.parametrize(('low', 'high'), [((1.0,), (0.0,)), ((0.0, 2.0), (1.0, 1.0))])
def test_empty_range_is_refused(low, high):
    with pytest.raises(CheckpointError, match='minimum <= maximum'):
        BinTokenizer(low, high, 1, 2, 3)


def test_ranges_of_unequal_length_are_refused():
    with pytest.raises(CheckpointError, match='each dimension'):
        BinTokenizer((0.0,), (1.0, 1.0), 1, 2, 3)


# text


@settings(deadline=None)
@given(sentence=st.text(max_size=80))
def test_text_returns_unchanged(text, sentence):
    assert text.decode(text.encode(sentence)) == sentence


def test_every_prompt_returns_unchanged(text):
    prompts = Prompts()
    sentences = [prompts.world, *(prompts.action.format(task=s) for s in set(corpus()))]
    assert len(sentences) > 100
    for sentence in sentences:
        assert text.decode(text.encode(sentence)) == sentence


@settings(deadline=None)
@given(sentence=st.text(min_size=1, max_size=80))
def test_text_ids_lie_at_the_base(text, sentence):
    ids = text.encode(sentence)
    assert ids
    assert all(TEXT_BASE <= i < TEXT_BASE + text.size for i in ids)


def test_trained_tokenizer_has_the_wanted_size_and_merges(text):
    assert text.size == 300
    assert len(text.encode('pick up the red cube')) < len('pick up the red cube')


def test_saved_tokenizer_encodes_alike(text, tmp_path):
    text.save(tmp_path / 'text.json')
    loaded = TextTokenizer.load(tmp_path / 'text.json', TEXT_BASE + 7)
    sentence = 'put the green cube on the plate'
    assert [i - 7 for i in loaded.encode(sentence)] == text.encode(sentence)


def test_missing_tokenizer_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='no text tokenizer.*absent.json'):
        TextTokenizer.load(tmp_path / 'absent.json', 0)


@pytest.mark.parametrize('content', ['', '{}', 'not json'])
def test_damaged_tokenizer_file_is_refused(tmp_path, content):
    file = tmp_path / 'text.json'
    file.write_text(content)
    with pytest.raises(CheckpointError, match='text.json is (not a tokenizer file|damaged)'):
        TextTokenizer.load(file, 0)


def split(pattern):
    return {
        'type': 'Split',
        'pattern': {'Regex': pattern},
        'behavior': 'Isolated',
        'invert': False,
    }


def replacing(pattern, content):
    return {'type': 'Replace', 'pattern': pattern, 'content': content}


def written(text, tmp_path, **changes):
    """Write the tokenizer with other parts; return the file."""
    text.save(tmp_path / 'text.json')
    content = json.loads((tmp_path / 'text.json').read_text())
    (tmp_path / 'text.json').write_text(json.dumps(content | changes))
    return tmp_path / 'text.json'


DOUBLE = replacing({'String': 'a'}, 'aa')


@pytest.mark.parametrize(
    ('place', 'part', 'words'),
    [
        (
            'normalizer',
            {'type': 'Sequence', 'normalizers': [DOUBLE] * 30},
            "Replace of 'a' by 'aa'",
        ),
        ('normalizer', DOUBLE, "Replace of 'a' by 'aa'"),
        ('normalizer', replacing({'Regex': ''}, 'a'), "Replace of '' by 'a'"),
        ('normalizer', {'type': 'Prepend', 'prepend': 'a' * 9}, 'Prepend of 9 letters'),
        ('normalizer', {'type': 'Precompiled', 'precompiled_charsmap': ''}, 'Precompiled'),
        ('normalizer', {'type': 'Sequence', 'normalizers': [{'type': 'NFC'}] * 33}, '34 parts'),
        ('normalizer', 3, 'got 3'),
        ('pre_tokenizer', split('a' * 1001), 'a pattern of 1001 letters'),
        ('pre_tokenizer', {'type': 'Mine'}, 'Mine'),
        ('decoder', {'type': 'Sequence', 'decoders': [DOUBLE]}, "Replace of 'a' by 'aa'"),
        ('model', {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': 'a'}, 'WordLevel'),
        ('model', None, 'BPE without dropout'),
    ],
)
def test_parts_that_multiply_a_text_are_refused_before_they_run(
    text, tmp_path, place, part, words
):
    with pytest.raises(CheckpointError, match=f'this package: {place}') as caught:
        TextTokenizer.load(written(text, tmp_path, **{place: part}), 0)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_a_tokenizer_that_draws_by_chance_is_refused(text, tmp_path):
    model = json.loads(written(text, tmp_path).read_text())['model']
    with pytest.raises(CheckpointError, match='BPE without dropout'):
        TextTokenizer.load(written(text, tmp_path, model=model | {'dropout': 0.5}), 0)


@pytest.mark.parametrize(
    'parts',
    [
        {'normalizer': {'type': 'Sequence', 'normalizers': [
            {'type': 'Prepend', 'prepend': '_'}, replacing({'String': ' '}, '_')]}},
        {'normalizer': replacing({'Regex': '[0-9]'}, '')},
        {'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
            split('<sentinel:[0-9]+>'), {'type': 'Digits', 'individual_digits': True},
            {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True,
             'use_regex': True}]}},
        {'padding': {'strategy': {'Fixed': 10**9}, 'direction': 'Right', 'pad_id': 0,
                     'pad_to_multiple_of': None, 'pad_type_id': 0, 'pad_token': 'x'}},
        {'truncation': {'max_length': 1, 'strategy': 'LongestFirst', 'stride': 0,
                        'direction': 'Right'}},
    ],
)  # fmt: skip
def test_parts_of_published_tokenizers_are_taken_and_no_text_is_padded_or_cut_off(
    text, tmp_path, parts
):
    loaded = TextTokenizer.load(written(text, tmp_path, **parts), 0)
    assert 1 < len(loaded.encode('pick up the cube')) <= len('_pick up the cube')


def test_a_pattern_that_gives_up_is_an_error_of_our_own(text, tmp_path, capfd):
    loaded = TextTokenizer.load(written(text, tmp_path, pre_tokenizer=split('(a|a|aa)+$')), 0)
    assert loaded.encode('pick')
    with pytest.raises(CheckpointError, match='gave up on the text') as caught:
        loaded.encode('a' * 60 + '!')
    assert caught.value.remedy


def test_ids_far_apart_count_as_all_between_them(text, tmp_path):
    model = json.loads(written(text, tmp_path).read_text())['model']
    model['vocab'] |= {'far': 2**31}
    assert TextTokenizer.load(written(text, tmp_path, model=model), 0).size == 2**31 + 1


@pytest.mark.parametrize(
    'parts',
    [
        {'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFC'}] * 31}},
        {'normalizer': {'type': 'Prepend', 'prepend': '_' * 8}},
        {'pre_tokenizer': split('a' * 1000)},
    ],
    ids=['32 parts', '8 letters', 'a pattern of 1000'],
)
def test_parts_at_their_limits_are_taken(text, tmp_path, parts):
    assert TextTokenizer.load(written(text, tmp_path, **parts), 0).encode('pick')


def test_a_model_without_a_type_is_a_byte_pair_encoding(text, tmp_path):
    model = json.loads(written(text, tmp_path).read_text())['model']
    del model['type']
    loaded = TextTokenizer.load(written(text, tmp_path, model=model), TEXT_BASE)
    assert loaded.encode('pick up') == text.encode('pick up')


@pytest.mark.parametrize(
    ('part', 'got'),
    [
        ({'type': 'Sequence', 'normalizers': {'type': 'Mine'}}, "'Mine'"),
        ({'type': 'Replace', 'pattern': 'a', 'content': 'b'}, "Replace of 'a' by 'b'"),
        ({'type': 'Mine'}, "got 'Mine'"),
        (['Mine'], "got ['Mine']"),
    ],
)
def test_odd_parts_are_refused_by_what_they_are(text, tmp_path, part, got):
    with pytest.raises(CheckpointError) as caught:
        TextTokenizer.load(written(text, tmp_path, normalizer=part), 0)
    assert got in str(caught.value)


@pytest.mark.parametrize('model', [{'type': 'Unigram'}, 'Unigram'])
def test_another_model_is_refused_by_its_name(text, tmp_path, model):
    with pytest.raises(CheckpointError, match="got 'Unigram'"):
        TextTokenizer.load(written(text, tmp_path, model=model), 0)


@pytest.mark.parametrize('content', ['{"model":' * 200_000, '[' * 200_000])
def test_a_tokenizer_nested_without_end_is_damaged(tmp_path, content):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(CheckpointError, match='x.json is damaged'):
        TextTokenizer.load(tmp_path / 'x.json', 0)


# image blocks


def test_image_block_is_height_width_rows_with_new_lines():
    codes = np.arange(8).reshape(2, 4)
    base, line, grid = VOCAB.code_base, VOCAB.new_line, VOCAB.grid_base
    assert IMAGE.encode(codes).tolist() == [
        VOCAB.image_start, grid + 1, grid + 2,
        base, base + 1, base + 2, base + 3, line,
        base + 4, base + 5, base + 6, base + 7, line,
        VOCAB.image_end,
    ]  # fmt: skip


def test_published_image_of_256_pixels_is_276_ids():
    assert ImageTokenizer(PUBLISHED).encode(np.zeros((16, 16))).shape == (276,)


@settings(deadline=None)
@given(rows=sides, columns=sides, seed=st.integers(0, 1000))
def test_image_block_returns_its_codes(rows, columns, seed):
    codes = np.random.default_rng(seed).integers(0, VOCAB.codebook_size, (rows, columns))
    ids = IMAGE.encode(codes)
    assert len(ids) == IMAGE.block_length(rows, columns)
    np.testing.assert_array_equal(IMAGE.decode(ids), codes)


@pytest.mark.parametrize('shape', [(3, 4), (4, 3), (4,), (1, 2, 2)])
def test_codes_of_odd_shape_are_refused(shape):
    with pytest.raises(ValueError, match='even number'):
        IMAGE.encode(np.zeros(shape))


@pytest.mark.parametrize('code', [-1, VOCAB.codebook_size])
def test_code_outside_the_codebook_is_refused(code):
    with pytest.raises(ValueError, match='codes outside'):
        IMAGE.encode(np.full((2, 2), code))


@pytest.mark.parametrize(
    ('place', 'token_id', 'complaint'),
    [
        (0, VOCAB.image_end, 'image_start'),
        (1, VOCAB.grid_base, 'grid'),
        (1, VOCAB.grid_base - 3, 'grid'),
        (1, VOCAB.grid_base + 2, 'grid'),
        (2, VOCAB.grid_base + 1, 'grid'),
        (3, VOCAB.code_base - 1, 'no image code'),
        (3, VOCAB.code_base + VOCAB.codebook_size, 'no image code'),
        (7, VOCAB.code_base, 'new_line'),
        (12, VOCAB.code_base, 'new_line'),
        (13, VOCAB.image_start, 'image_end'),
    ],
)
def test_malformed_image_block_is_refused(place, token_id, complaint):
    ids = IMAGE.encode(np.zeros((2, 4)))
    ids[place] = token_id
    with pytest.raises(ValueError, match=complaint):
        IMAGE.decode(ids)


@pytest.mark.parametrize('grid', [(0, 0), (0, 2), (2, 0)])
def test_image_block_without_codes_is_refused(grid):
    rows, columns = grid[0] * 2, grid[1] * 2
    head = [VOCAB.image_start, VOCAB.grid_base + grid[0], VOCAB.grid_base + grid[1]]
    lines = [VOCAB.new_line] * rows
    with pytest.raises(ValueError, match=f'grid {rows} × {columns} codes does not fit'):
        IMAGE.decode(np.array([*head, *lines, VOCAB.image_end]))


@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.float32])
def test_codes_and_ids_of_any_type_become_int64(dtype):
    ids = ImageTokenizer(PUBLISHED).encode(np.full((2, 2), 255, dtype))
    assert ids.dtype == np.int64
    assert ids.tolist() == [8197, 8805, 8805, 259, 259, 8803, 259, 259, 8803, 8196]
    codes = ImageTokenizer(PUBLISHED).decode(ids.astype(np.int32))
    assert (codes.dtype, codes.tolist()) == (np.int64, [[255, 255], [255, 255]])


def test_the_refusal_of_a_code_says_the_range():
    with pytest.raises(ValueError, match='codes outside 0…63$'):
        IMAGE.encode(np.full((2, 2), 64))


@pytest.mark.parametrize('length', range(14))
def test_cut_off_image_block_is_refused(length):
    with pytest.raises(ValueError, match='image_start|grid'):
        IMAGE.decode(IMAGE.encode(np.zeros((2, 4)))[:length])


# pixels


@settings(deadline=None)
@given(patches=st.integers(2, 20), patch=st.sampled_from([2, 16, 32]))
def test_crop_sizes_are_the_largest_of_their_width_within_the_budget(patches, patch):
    sizes = crop_sizes(patches * patch, patch)
    assert (patches * patch, patches * patch) in sizes
    for width, height in sizes:
        assert width % patch == height % patch == 0
        assert width * height <= (patches * patch) ** 2
        assert max(width, height) <= 4 * min(width, height)
    for width in {w for w, _ in sizes}:
        highest = patches**2 // (width // patch)
        if highest * patch <= 4 * width:
            assert (width, highest * patch) in sizes


def test_crop_sizes_of_two_patches():
    wide, high = [(64, 16), (48, 16)], [(16, 48), (16, 64)]
    assert crop_sizes(32, 16) == [*wide, (32, 16), (32, 32), (16, 32), *high]
    assert crop_sizes(16, 16) == [(16, 16)]


def test_square_of_the_target_size_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_image(image, 64, 16), image)


@settings(deadline=None, max_examples=30)
@given(side=st.integers(1, 300))
def test_any_square_becomes_the_target_size(side):
    assert fit_image(np.zeros((side, side, 3), np.uint8), 64, 16).shape == (64, 64, 3)


@pytest.mark.parametrize('times', [2, 4])
def test_halving_averages_pixels(times):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = small.repeat(times, 0).repeat(times, 1)
    np.testing.assert_array_equal(fit_image(large, 32, 16), small)


def test_halving_uses_a_box_filter():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mean = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(fit_image(image, 32, 16) - mean).max() <= 1


def test_non_square_is_cropped_at_the_centre():
    # 64 × 32 fits as it is; two columns more on each side are cut off
    core = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    margin = np.full((32, 2, 3), 255, np.uint8)
    wide = np.concatenate([margin, core, margin], axis=1)
    assert (64, 32) in crop_sizes(48, 16)
    np.testing.assert_array_equal(fit_image(wide, 48, 16), core)
    np.testing.assert_array_equal(fit_image(wide.swapaxes(0, 1), 48, 16), core.swapaxes(0, 1))


@pytest.mark.parametrize(('shape', 'fitted'), [((200, 64), (96, 32)), ((64, 200), (32, 96))])
def test_one_side_of_the_target_size_does_not_make_an_image_fit(shape, fitted):
    assert fit_image(np.zeros((*shape, 3), np.uint8), 64, 16).shape == (*fitted, 3)


def test_of_an_odd_margin_the_larger_part_is_behind():
    # 67 × 32 fits 64 × 32; three columns are cut off, one before and two behind
    wide = np.arange(67, dtype=np.uint8)[None, :, None] * np.ones((32, 1, 3), np.uint8)
    assert fit_image(wide, 48, 16)[0, :, 0].tolist() == list(range(1, 65))
    assert fit_image(wide.swapaxes(0, 1), 48, 16)[:, 0, 0].tolist() == list(range(1, 65))


@pytest.mark.parametrize(
    ('shape', 'scaled', 'cut'), [((66, 63), (32, 34), (0, 1)), ((63, 66), (34, 32), (1, 0))]
)
def test_an_image_is_not_halved_while_one_side_is_below_twice_the_size(shape, scaled, cut):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    at_once = Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)
    expected = at_once.crop((*cut, cut[0] + 32, cut[1] + 32))
    np.testing.assert_array_equal(fit_image(image, 32, 16), np.asarray(expected))


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_any_image_gets_a_crop_size(height, width):
    fitted = fit_image(np.zeros((height, width, 3), np.uint8), 64, 16)
    assert fitted.dtype == np.uint8
    assert (fitted.shape[1], fitted.shape[0]) in crop_sizes(64, 16)


def test_target_below_one_patch_is_refused():
    with pytest.raises(ObservationError, match='^no crop size') as caught:
        fit_image(np.zeros((4, 4, 3), np.uint8), 8, 16)
    assert caught.value.remedy == 'Use a larger target size.'
