"""The chunk mask, by role, against the reference's rule, which scans ids.

The reference pairs starts and ends of images and actions in a sequence; actions behind the last
image may not see any earlier action. `scanned_mask` says so pair by pair, in our own words.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from tiny import scanned_mask
import torch

from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.reference import act_sequentially
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.tokenizers.bins import action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import PAST_ACTION_ROLE, SHARED_ROLE, Sequence
from worldvla_ros.tokenizers.vocab import BINS, PUBLISHED, compact

SMALL = compact(codebook_size=24, text_size=30)
FIRST_WORD = {PUBLISHED: 20000, SMALL: SMALL.text_base}
"""From here on ids are text and nothing else."""

seeds = st.integers(0, 10**6)
vocabularies = st.sampled_from([PUBLISHED, SMALL])


def mask_by_role(sequence):
    positions = torch.arange(len(sequence.ids))[None]
    return sequence_mask(positions, torch.from_numpy(sequence.roles)[None])[0, 0].numpy()


class Draw:
    """Draws parts of sequences as ids, and puts them together with their roles."""

    def __init__(self, vocab, seed, dim=4):
        self.vocab, self.rng, self.dim = vocab, np.random.default_rng(seed), dim
        self.action = action_tokenizer(vocab, (-1.0,) * dim, (1.0,) * dim)
        self.state = state_tokenizer(vocab, (-1.0,) * 3, (1.0,) * 3)
        self.views = int(self.rng.integers(1, 3))

    def count(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def text(self):
        return self.rng.integers(0, 30, self.count(1, 6)) + FIRST_WORD[self.vocab]

    def state_block(self):
        return self.state.encode(self.rng.uniform(-1, 1, 3))

    def action_block(self):
        return self.action.encode(self.rng.uniform(-1, 1, self.dim))

    def instant(self):
        """Return the images of all views."""
        shapes = [(2 * self.count(1, 2), 2 * self.count(1, 2)) for _ in range(self.views)]
        size = self.vocab.codebook_size
        codes = [self.rng.integers(0, size, shape) for shape in shapes]
        return np.concatenate([ImageTokenizer(self.vocab).encode(c) for c in codes])

    def action_prompt(self):
        """Return a prompt with text, perhaps a state, images, and past actions between them."""
        parts = [([self.vocab.bos], SHARED_ROLE), (self.text(), SHARED_ROLE)]
        if self.rng.random() < 0.5:
            parts.append((self.state_block(), SHARED_ROLE))
        for _ in range(self.count(0, 3)):
            if self.rng.random() < 0.5:
                parts.append((self.instant(), SHARED_ROLE))
            parts += [(self.action_block(), PAST_ACTION_ROLE) for _ in range(self.count(0, 2))]
        parts += [(self.instant(), SHARED_ROLE), ([self.vocab.sep], SHARED_ROLE)]
        return together(parts, prompt=len(parts))

    def action_sequence(self):
        prompt = self.action_prompt()
        parts = [(self.action_block(), k + 1) for k in range(self.count(1, 5))]
        return self.answered(prompt, [*parts, ([self.vocab.sep], SHARED_ROLE)])

    def world_sequence(self):
        """Return images and actions, answered by images."""
        parts = [([self.vocab.bos], SHARED_ROLE), (self.text(), SHARED_ROLE)]
        for _ in range(self.count(1, 2)):
            parts.append((self.instant(), SHARED_ROLE))
            parts += [(self.action_block(), SHARED_ROLE) for _ in range(self.count(1, 3))]
        prompt = together([*parts, ([self.vocab.sep], SHARED_ROLE)], prompt=len(parts) + 1)
        return self.answered(
            prompt, [(self.instant(), SHARED_ROLE), ([self.vocab.sep], SHARED_ROLE)]
        )

    def answered(self, prompt, parts):
        return together([(prompt.ids, prompt.roles), *parts], prompt=1)


def together(parts, prompt):
    """Join parts of ids and role; the first `prompt` of them are the prompt."""
    ids = np.concatenate([np.asarray(i, np.int64) for i, _ in parts])
    blocks = np.concatenate([np.broadcast_to(b, len(i)) for i, b in parts])
    return Sequence(ids, blocks, sum(len(i) for i, _ in parts[:prompt]))


@settings(deadline=None)
@given(vocab=vocabularies, seed=seeds)
def test_mask_of_an_action_sequence_is_the_scanned_one(vocab, seed):
    sequence = Draw(vocab, seed).action_sequence()
    np.testing.assert_array_equal(mask_by_role(sequence), scanned_mask(sequence.ids, vocab))


@settings(deadline=None)
@given(vocab=vocabularies, seed=seeds)
def test_mask_of_a_world_sequence_is_the_scanned_one_and_causal(vocab, seed):
    sequence = Draw(vocab, seed).world_sequence()
    mask = mask_by_role(sequence)
    np.testing.assert_array_equal(mask, scanned_mask(sequence.ids, vocab))
    assert mask.sum() == len(mask) * (len(mask) + 1) // 2


@settings(deadline=None, max_examples=40)
@given(vocab=vocabularies, seed=seeds, world=st.booleans())
def test_rows_of_the_answer_are_scanned_from_what_came_before(vocab, seed, world):
    # in decoding the reference scans the ids so far, and uses the last row
    draw = Draw(vocab, seed)
    sequence = draw.world_sequence() if world else draw.action_sequence()
    mask = mask_by_role(sequence)
    for t in range(sequence.prompt_length, len(sequence.ids)):
        row = scanned_mask(sequence.ids[: t + 1], vocab)[-1]
        np.testing.assert_array_equal(mask[t, : t + 1], row)


def test_mask_hides_something_in_most_action_sequences():
    sequences = [Draw(SMALL, seed).action_sequence() for seed in range(30)]
    hidden = [~mask_by_role(s)[np.tril_indices(len(s.ids))] for s in sequences]
    assert sum(h.any() for h in hidden) > 20


def test_past_actions_behind_the_last_image_see_each_other_by_role_alone():
    # no published prompt has them; a scan takes them for actions of the chunk
    draw = Draw(SMALL, 0)
    prompt = together(
        [
            (draw.instant(), SHARED_ROLE),
            (draw.action_block(), PAST_ACTION_ROLE),
            (draw.action_block(), PAST_ACTION_ROLE),
        ],
        prompt=3,
    )
    length = draw.action.block_length
    assert mask_by_role(prompt)[-1].all()
    assert not scanned_mask(prompt.ids, SMALL)[-1, -2 * length : -length].any()


def make_model(seed):
    torch.manual_seed(seed)
    model = Transformer(
        TransformerConfig(
            vocab_size=SMALL.size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1 + seed % 3,
            num_attention_heads=2 + 2 * (seed % 2),
        )
    )
    model.initialise(std=0.4)
    return model.eval().requires_grad_(False)


def scores(model, sequence):
    positions, blocks = torch.arange(len(sequence.ids))[None], torch.from_numpy(sequence.roles)
    mask = sequence_mask(positions, blocks[None])
    return model.logits(model(torch.from_numpy(sequence.ids)[None], positions, mask))[0]


@pytest.mark.parametrize('seed', range(6))
def test_a_changed_action_changes_its_own_scores_and_those_of_the_final_sep(seed):
    draw, model = Draw(SMALL, seed), make_model(seed)
    parts = [(draw.action_block(), k) for k in (1, 2, 3, 4)]
    whole = draw.answered(draw.action_prompt(), [*parts, ([SMALL.sep], SHARED_ROLE)])
    before = scores(model, whole)
    for action in (1, 2, 3, 4):
        bins = np.flatnonzero(whole.roles == action)[1:-1]
        ids = whole.ids.copy()
        first = SMALL.action_bins.start
        ids[bins] = (ids[bins] - first + 100) % BINS + first
        changed = (scores(model, Sequence(ids, whole.roles, whole.prompt_length)) - before).abs()
        others = whole.roles != action
        others[-1] = False
        assert changed[others].max() <= 1e-5
        assert changed[bins].amax(-1).min() > 1e-2
        assert changed[-1].max() > 1e-3


def act_by_scanning(model, prompt, horizon, dim):
    """Decode as the reference does, a token at a time over all ids so far, inside the grammar."""
    span = SMALL.action_bins
    ids, bins = prompt.ids, np.zeros((horizon, dim), int)
    for k, d in np.ndindex(horizon, dim):
        if d == 0:
            ids = np.append(ids, SMALL.action_start)
        mask = torch.from_numpy(scanned_mask(ids, SMALL))[None, None]
        hidden = model(torch.from_numpy(ids)[None], mask=mask)
        best = int(model.logits(hidden[0, -1], span).argmax())
        bins[k, d] = best
        ids = np.append(ids, span.start + best)
        if d == dim - 1:
            ids = np.append(ids, SMALL.action_end)
    return bins


@pytest.mark.parametrize('seed', range(8))
def test_every_way_of_decoding_finds_what_scanning_finds(seed):
    draw, model = Draw(SMALL, seed), make_model(seed)
    prompt = draw.action_prompt()
    while not (prompt.roles == PAST_ACTION_ROLE).any():
        prompt = draw.action_prompt()
    expected = act_by_scanning(model, prompt, 3, 4)
    engine = Engine(model, SMALL)
    np.testing.assert_array_equal(engine.chunks.act(prompt, 3, 4).bins, expected)
    np.testing.assert_array_equal(act_sequentially(engine, prompt, 3, 4).bins, expected)
    assert len(np.unique(expected, axis=0)) > 1
