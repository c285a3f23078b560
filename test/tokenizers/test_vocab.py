"""Token ids: the published table, and compact vocabularies without overlaps."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from worldvla_ros.errors import CheckpointError
from worldvla_ros.tokenizers.vocab import BINS, MAX_GRID, PUBLISHED, compact

SPECIAL = (
    'bos', 'pad', 'sep', 'image_start', 'image_end', 'new_line',
    'action_start', 'action_end', 'state_start', 'state_end',
)  # fmt: skip


def id_ranges(vocab):
    """Return the ids of each kind that can occur in a sequence."""
    ranges = {name: range(getattr(vocab, name), getattr(vocab, name) + 1) for name in SPECIAL}
    ranges['grid'] = range(vocab.grid_base + 1, vocab.grid_base + MAX_GRID + 1)
    ranges['action bins'] = range(vocab.action_bin_base + 1, vocab.action_bin_base + BINS + 1)
    ranges['state bins'] = range(vocab.state_bin_base + 1, vocab.state_bin_base + BINS + 1)
    ranges['codes'] = range(vocab.code_base, vocab.code_base + vocab.codebook_size)
    ranges['text'] = range(vocab.text_base, vocab.text_base + vocab.text_size)
    return ranges


def assert_disjoint(ranges):
    ordered = sorted(ranges.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in zip(ordered[:-1], ordered[1:], strict=True))


def test_published_ids_are_those_of_the_papers():
    assert (PUBLISHED.size, PUBLISHED.codebook_size) == (65536, 8192)
    assert (PUBLISHED.bos, PUBLISHED.pad, PUBLISHED.sep) == (0, 1, 8710)
    assert (PUBLISHED.image_end, PUBLISHED.image_start, PUBLISHED.new_line) == (8196, 8197, 8803)
    assert (PUBLISHED.action_start, PUBLISHED.action_end) == (10004, 15004)
    assert (PUBLISHED.state_start, PUBLISHED.state_end) == (15504, 16004)
    assert (PUBLISHED.grid_base + 8, PUBLISHED.grid_base + 16) == (8812, 8820)
    assert (PUBLISHED.action_bin_base, PUBLISHED.state_bin_base) == (10005, 15505)


def test_published_codes_are_4_to_8195():
    assert PUBLISHED.codes == slice(4, 8196)


def test_published_ids_other_than_text_are_disjoint():
    ranges = id_ranges(PUBLISHED)
    del ranges['text']
    assert_disjoint(ranges)


@settings(deadline=None)
@given(codebook_size=st.integers(1, 20000), text_size=st.integers(1, 70000))
def test_compact_ids_are_disjoint_and_below_size(codebook_size, text_size):
    vocab = compact(codebook_size, text_size)
    ranges = id_ranges(vocab)
    assert_disjoint(ranges)
    assert min(r.start for r in ranges.values()) == 0
    assert max(r.stop for r in ranges.values()) == vocab.size


@settings(deadline=None)
@given(codebook_size=st.integers(1, 500), text_size=st.integers(1, 500))
def test_exactly_codebook_size_ids_are_codes(codebook_size, text_size):
    vocab = compact(codebook_size, text_size)
    assert vocab.codes.stop - vocab.codes.start == codebook_size
    assert list(range(vocab.size))[vocab.codes] == list(id_ranges(vocab)['codes'])


@pytest.mark.parametrize(
    'name',
    ['code_base', 'action_bin_base', 'state_bin_base', 'text_base', 'sep', 'bos', 'new_line'],
)
def test_id_beyond_the_vocabulary_is_refused(name):
    with pytest.raises(CheckpointError, match=f'vocabulary: {name}.*ids in 0 … 65535') as caught:
        replace(PUBLISHED, **{name: PUBLISHED.size})
    assert str(PUBLISHED.size) in caught.value.got


@pytest.mark.parametrize('name', ['sep', 'bos'])
def test_negative_id_is_refused(name):
    with pytest.raises(CheckpointError, match=name):
        replace(PUBLISHED, **{name: -1})


def test_vocabulary_one_id_too_small_is_refused():
    vocab = compact(32, 300)
    with pytest.raises(CheckpointError, match='text_base'):
        replace(vocab, size=vocab.size - 1)


@pytest.mark.parametrize(
    ('name', 'count'),
    [('code_base', 8191), ('action_bin_base', BINS), ('state_bin_base', BINS)],
)
def test_last_id_of_a_kind_must_lie_inside(name, count):
    highest = PUBLISHED.size - 1 - count
    assert getattr(replace(PUBLISHED, **{name: highest}), name) == highest
    with pytest.raises(CheckpointError, match=name):
        replace(PUBLISHED, **{name: highest + 1})


@pytest.mark.parametrize(
    ('change', 'kinds'),
    [
        ({'code_base': 10200}, 'action bins and image codes'),
        ({'state_bin_base': 10100}, 'action bins and state bins'),
        ({'sep': 8197}, 'sep and image_start'),
        ({'new_line': 4}, '(image codes and new_line|new_line and image codes)'),
        ({'grid_base': 8702}, '(sep and grid numbers|grid numbers and sep)'),
    ],
    ids=str,
)
def test_two_meanings_of_one_id_are_refused(change, kinds):
    with pytest.raises(CheckpointError, match=f'vocabulary: {kinds} overlap'):
        replace(PUBLISHED, **change)


def test_grid_numbers_must_lie_inside():
    with pytest.raises(CheckpointError, match='vocabulary: grid_base'):
        replace(PUBLISHED, grid_base=PUBLISHED.size - MAX_GRID)


def test_spans_hold_the_ids_of_the_papers():
    bins = (10006, 10006 + BINS), (15506, 15506 + BINS)
    assert (PUBLISHED.action_bins, PUBLISHED.state_bins) == tuple(slice(*span) for span in bins)
    assert PUBLISHED.grid_numbers == slice(8805, 8805 + MAX_GRID)


@pytest.mark.parametrize('token_id', [-1, 1 << 31, PUBLISHED.size])
def test_ids_outside_of_the_text_are_no_text(token_id):
    assert not PUBLISHED.is_text(token_id)
    assert PUBLISHED.is_text(20000)


def test_text_begins_and_ends_with_its_own_ids_and_goes_around_those_of_other_kinds():
    vocab = compact(32, 300)
    ids = (vocab.text_base - 1, vocab.text_base, vocab.text_base + 299, vocab.text_base + 300)
    assert [vocab.is_text(i) for i in ids] == [False, True, True, False]
    # codes are 4 to 8195 there, with image_end behind them, and bins of actions 10006 to 10261
    ids = (3, 4, 8195, 8196, 10005, 10006, 10261, 10262)
    text = [True, False, False, False, True, False, False, True]
    assert [PUBLISHED.is_text(i) for i in ids] == text


def test_a_single_id_may_be_the_last_one():
    assert replace(PUBLISHED, sep=65535).sep == 65535
