"""Free decoding gives what the reference gives, and what is no chunk has a defined result."""

from dataclasses import replace
import functools

import numpy as np
import pytest
from tiny import CONFIG, VOCAB, make_model, make_prompt, scanned_mask
import torch

from worldvla_ros.errors import DecodingError
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.free_decoding import BUDGET, action_role, well_formed
from worldvla_ros.inference.reference import act_freely
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.sequence import Sequence
from worldvla_ros.tokenizers.vocab import BINS

START, END, SEP, BIN = VOCAB.action_start, VOCAB.action_end, VOCAB.sep, VOCAB.action_bin_base
WORD = VOCAB.text_base + 3
WIDTH = CONFIG.hidden_size
DIM, HORIZON = 3, 3


def block(*bins):
    return [START, *(BIN + b for b in bins), END]


WHOLE = block(10, 20, 30)
MALFORMED = {
    'an end without a start': ([END, *WHOLE], 0),
    'two starts': ([*WHOLE, START, *WHOLE], 1),
    'too few numbers': ([*WHOLE, *block(1, 2), *WHOLE], 1),
    'too many numbers': ([*WHOLE, *block(1, 2, 3, 4), *WHOLE], 1),
    'a word among the numbers': ([*WHOLE, START, BIN + 1, WORD, BIN + 2, END, *WHOLE], 1),
    'a code among the numbers': ([START, BIN + 1, VOCAB.code_base, BIN + 2, END], 0),
    'no end': ([*WHOLE, *WHOLE, START, BIN + 1, BIN + 2, BIN + 3], 2),
    'a word between actions': ([*WHOLE, WORD, *WHOLE], 1),
    'nothing': ([SEP], 0),
    'one action more than usual': (WHOLE * 4 + [SEP], 4),
}


@pytest.mark.parametrize(('response', 'actions'), MALFORMED.values(), ids=MALFORMED)
def test_a_response_is_worth_the_whole_actions_that_it_begins_with(response, actions):
    bins = well_formed(response, VOCAB, DIM)
    np.testing.assert_array_equal(bins, np.tile([9, 19, 29], (actions, 1)))
    assert bins.shape == (actions, DIM)


def test_roles_are_counted_start_by_start():
    response = [WORD, *block(1), WORD, *block(2), SEP]
    found = [action_role(response[: i + 1], VOCAB) for i in range(len(response))]
    assert found == [0, 1, 1, 1, 0, 2, 2, 2, 0]


@pytest.fixture
def follow(monkeypatch):
    """Return an engine whose model wants one response, whatever came before."""

    def make(prompt, response):
        model, first = make_model(0), len(prompt.ids) - 1
        script = torch.full((first + BUDGET + 1,), SEP)
        script[first : first + len(response)] = torch.tensor(response)[: len(script) - first]
        engine = Engine(model, VOCAB)

        # hidden states tell the position alone, and scores look it up in the script
        def forward(ids, positions, cache, end):
            hidden = torch.zeros(*ids.shape, WIDTH)
            hidden[..., 0] = positions.float()
            return hidden

        def logits(hidden, span=None):
            wanted = script[hidden[..., 0].long()]
            return torch.nn.functional.one_hot(wanted, VOCAB.size).float()[
                ..., span or slice(None)
            ]

        monkeypatch.setattr(engine.fast, 'forward', forward)
        monkeypatch.setattr(engine.fast, 'logits', logits)
        return engine

    return make


def test_a_well_formed_response_is_proven_in_one_more_pass(follow):
    prompt = make_prompt(1)
    engine = follow(prompt, [*WHOLE * HORIZON, SEP])
    chunk = engine.chunks.act_verified(prompt, HORIZON, DIM)
    assert chunk.free_from is None
    assert chunk.passes == DIM + 1
    np.testing.assert_array_equal(chunk.bins, np.tile([9, 19, 29], (HORIZON, 1)))


CRAFTED = {
    'no start at once': ([WORD, *WHOLE * 3, SEP], 0),
    'end at once': ([SEP], 0),
    'a word as a number': ([*WHOLE, START, BIN + 10, WORD, BIN + 30, END, *WHOLE, SEP], 7),
    'an early end': ([*WHOLE, *block(10, 20), *WHOLE, SEP], 8),
    'a late end': ([*WHOLE, *block(10, 20, 30, 30), *WHOLE, SEP], 9),
    'a code as a number': ([*WHOLE * 2, START, VOCAB.code_base, BIN + 1, BIN + 2, END, SEP], 11),
    'the end of the turn too early': ([*WHOLE * 2, SEP], 10),
    'one action too many': ([*WHOLE * 4, SEP], 15),
    'a word behind an action': ([*WHOLE, WORD, *WHOLE, SEP], 5),
    'a start inside an action': ([*WHOLE, START, BIN + 10, START, BIN + 10, SEP], 7),
}


@pytest.mark.parametrize(('response', 'place'), CRAFTED.values(), ids=CRAFTED)
def test_every_malformed_response_fails_the_proof_at_its_first_odd_id(follow, response, place):
    prompt = make_prompt(2)
    actions = well_formed(response, VOCAB, DIM)
    engine = follow(prompt, response)
    for decode in (engine.chunks.act_verified, functools.partial(act_freely, engine)):
        if not len(actions):
            with pytest.raises(DecodingError, match='does not begin with an action'):
                decode(prompt, HORIZON, DIM)
            continue
        chunk = decode(prompt, HORIZON, DIM)
        np.testing.assert_array_equal(chunk.bins, actions)
        assert chunk.free_from == (place if decode == engine.chunks.act_verified else 0)
    # while the grammar alone always gives what was asked for
    assert engine.chunks.act(prompt, HORIZON, DIM).bins.shape == (HORIZON, DIM)


def test_free_decoding_ends_where_the_reference_gives_up(follow):
    prompt = make_prompt(3)
    engine = follow(prompt, [*WHOLE, *[WORD] * BUDGET])
    chunk = engine.chunks.act_verified(prompt, HORIZON, DIM)
    assert len(chunk.bins) == 1
    # the first odd id comes with the proof; the last of the 300 ids is not fed
    assert chunk.passes == DIM + 1 + BUDGET - len(WHOLE) - 1


@pytest.mark.parametrize('count', [10, BUDGET // len(WHOLE)])
def test_all_actions_of_an_answer_are_taken_whatever_the_horizon(follow, count):
    prompt = make_prompt(3)
    engine = follow(prompt, [*WHOLE * count, SEP])
    for decode in (engine.chunks.act_verified, functools.partial(act_freely, engine)):
        assert decode(prompt, HORIZON, DIM).bins.shape == (count, DIM)


def test_free_decoding_ends_with_the_positions_of_the_model(follow):
    prompt = make_prompt(3)
    engine = follow(prompt, [*WHOLE, *[WORD] * BUDGET])
    limit = len(prompt.ids) + HORIZON * len(WHOLE) + 7
    engine.fast.config = replace(engine.fast.config, max_position_embeddings=limit)
    chunk = engine.chunks.act_verified(prompt, HORIZON, DIM)
    assert chunk.passes == DIM + 1 + limit - len(prompt.ids) - len(WHOLE) - 1


def freely_without_cache(model, prompt, most):
    """Return the likeliest ids by whole passes under the reference's mask, which scans ids.

    The reference raises where a start stands inside an action; there the response ends.
    """
    ids = prompt.ids.tolist()
    for _ in range(most):
        try:
            mask = torch.from_numpy(scanned_mask(np.array(ids), VOCAB))[None, None]
        except ValueError:
            break
        hidden = model(torch.tensor([ids]), torch.arange(len(ids)), mask)
        ids.append(int(model.logits(hidden[0, -1]).argmax()))
        if ids[-1] == SEP:
            break
    return ids[len(prompt.ids) :]


HABITS = (
    WHOLE,
    block(10, 20),
    [START, BIN + 10, WORD, BIN + 30, END],
    block(10, 20, 30, 40),
    [*WHOLE, WORD],
)


def draw_example(rng):
    """Return a prompt whose first word says how the actions behind it look, and its response."""
    habit = int(rng.integers(len(HABITS)))
    words = [WORD + habit, *(WORD + 5 + rng.integers(0, 5, 5))]
    response = []
    for each in HABITS[habit] * HORIZON:
        inside = BIN < each <= BIN + BINS
        response.append(int(each + rng.integers(0, 3)) if inside else each)
    return words, [*response, SEP]


@pytest.fixture(scope='module')
def habitual():
    """Return a small model that has learnt to answer with actions, well-formed and other ones."""
    torch.manual_seed(0)
    model, rng = Transformer(CONFIG), np.random.default_rng(0)
    model.initialise(std=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(250):
        examples = [draw_example(rng) for _ in range(16)]
        longest = max(len(w) + len(r) for w, r in examples)
        ids = torch.full((16, longest), SEP)
        blocks = torch.zeros_like(ids)
        for row, (words, response) in enumerate(examples):
            ids[row, : len(words) + len(response)] = torch.tensor(words + response)
            for i in range(len(response)):
                blocks[row, len(words) + i] = action_role(response[: i + 1], VOCAB)
        positions = torch.arange(longest).expand(16, -1)
        hidden = model(ids, positions, sequence_mask(positions, blocks))
        scores = model.logits(hidden[:, 5:-1])
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), ids[:, 6:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def test_a_trained_model_is_followed_as_the_reference_follows_it(habitual):
    rng, engine = np.random.default_rng(1), Engine(habitual, VOCAB)
    lengths, proven = [], 0
    for _ in range(40):
        words, _ = draw_example(rng)
        prompt = Sequence(np.array(words), np.zeros(6, int), 6)
        response = freely_without_cache(habitual, prompt, BUDGET)
        actions = well_formed(response, VOCAB, DIM)
        for decode in (engine.chunks.act_verified, functools.partial(act_freely, engine)):
            try:
                chunk = decode(prompt, HORIZON, DIM)
                found, proven = chunk.bins, proven + (chunk.free_from is None)
            except DecodingError:
                found = np.zeros((0, DIM), int)
            np.testing.assert_array_equal(found, actions)
        lengths.append(len(actions))
    assert proven > 0
    assert len(set(lengths)) > 1  # well-formed and malformed responses were both met


def test_a_batch_is_verified_as_one_by_one(habitual):
    rng, engine = np.random.default_rng(2), Engine(habitual, VOCAB)
    prompts = []
    while len(prompts) < 12:  # those that begin with an action at all
        prompt = Sequence(np.array(draw_example(rng)[0]), np.zeros(6, int), 6)
        response = freely_without_cache(habitual, prompt, BUDGET)
        prompts += [prompt] * (len(well_formed(response, VOCAB, DIM)) > 0)
    alone = [engine.chunks.act_verified(prompt, HORIZON, DIM) for prompt in prompts]
    together = engine.chunks.act_verified_many(prompts, HORIZON, DIM)
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found.bins, expected.bins)
        np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)
        assert (found.free_from, found.passes) == (expected.free_from, expected.passes)
    assert {chunk.free_from is None for chunk in together} == {True, False}
