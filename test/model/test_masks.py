"""The chunk mask against its rule, spelt out pair by pair."""

from hypothesis import given, settings
from hypothesis import strategies as st
import torch

from worldvla_ros.model.masks import chunk_mask, sequence_mask

tokens = st.lists(st.tuples(st.integers(0, 30), st.integers(-1, 4)), min_size=1, max_size=20)

# prompt of two, a past action, two actions of one chunk, final sep
BLOCKS = [0, 0, -1, 1, 1, 2, 2, 0]
DRAWN = """
    1.......
    11......
    111.....
    11.1....
    11.11...
    11...1..
    11...11.
    11111111
"""


def may_see(query, key):
    """Say whether one token sees another, each a pair of position and block."""
    position, block = query
    key_position, key_block = key
    if key_position > position:
        return False
    if block > 0:
        return key_block in (0, block)
    return True


def slow_mask(queries, keys):
    return [[may_see(query, key) for key in keys] for query in queries]


def columns(pairs):
    return torch.tensor([p for p, _ in pairs]), torch.tensor([b for _, b in pairs])


@settings(deadline=None)
@given(queries=tokens, keys=tokens)
def test_mask_follows_the_rule(queries, keys):
    mask = chunk_mask(*columns(queries), *columns(keys))
    assert mask.dtype == torch.bool
    assert mask.tolist() == slow_mask(queries, keys)


def test_mask_of_a_small_sequence_is_as_drawn():
    drawn = [[c == '1' for c in row] for row in DRAWN.split()]
    positions, blocks = torch.arange(len(BLOCKS)), torch.tensor(BLOCKS)
    assert chunk_mask(positions, blocks, positions, blocks).tolist() == drawn


def test_docstring_example_holds():
    drawn = ['1......', '11.....', '111....', '1111...', '11..1..', '11..11.', '1111111']
    positions, blocks = torch.arange(7), torch.tensor([0, 0, 1, 1, 2, 2, 0])
    mask = chunk_mask(positions, blocks, positions, blocks)
    assert mask.tolist() == [[c == '1' for c in row] for row in drawn]


def test_sequence_without_a_chunk_is_causal():
    positions = torch.arange(6)[None]
    mask = sequence_mask(positions, torch.zeros(1, 6, dtype=torch.long))
    assert torch.equal(mask[0, 0], torch.ones(6, 6, dtype=torch.bool).tril())


@settings(deadline=None)
@given(pairs=tokens, seed=st.integers(0, 100))
def test_sequence_mask_goes_by_position_not_by_order(pairs, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pairs), generator=generator)
    positions, blocks = columns(pairs)
    batch = torch.stack([positions, positions[order]]), torch.stack([blocks, blocks[order]])
    mask = sequence_mask(*batch)
    assert mask.shape == (2, 1, len(pairs), len(pairs))
    assert mask[0, 0].tolist() == slow_mask(pairs, pairs)
    assert torch.equal(mask[1, 0], mask[0, 0][order][:, order])


def test_tokens_fed_side_by_side_keep_their_positions():
    # two actions of three ids each after a prompt of two; their first ids are fed together
    positions = torch.tensor([[0, 1, 2, 5, 3, 6]])
    blocks = torch.tensor([[0, 0, 1, 2, 1, 2]])
    assert sequence_mask(positions, blocks)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1],
    ]
