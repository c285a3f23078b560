"""Which observation goes with which action: every step of an episode tells its own number."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.checkpoint.folder import sequence_builder
from worldvla_ros.learn.batches import IGNORE, Mixture, TokenEpisode, collate
from worldvla_ros.learn.forward import forward

HORIZON, AHEAD, STEPS, BLOCK = 4, 2, 9, 9


@pytest.fixture(scope='module')
def sequences(tiny_checkpoint):
    return sequence_builder(tiny_checkpoint.spec, tiny_checkpoint.text)


def telling(spec, steps=STEPS):
    """Return an episode in which codes, state, actions and target are those of one step alone."""
    share = np.arange(steps + 1, dtype=np.float32) / steps
    low, high = np.array(spec.state.minimum), np.array(spec.state.maximum)
    return TokenEpisode(
        codes=np.broadcast_to(np.arange(steps + 1)[:, None, None, None], (steps + 1, 1, 4, 4)),
        state=(low + share[:, None] * (high - low)).astype(np.float32),
        action=np.repeat(0.2 + 0.8 * share[:-1, None], 7, 1),
        executed=np.repeat(-0.2 - 0.8 * share[:-1, None], 7, 1),
        target=np.repeat(share[:, None], 5, 1),
        instruction=lambda rng: 'pick up the red cube',
    )


@pytest.fixture
def mixture(tiny_spec, sequences):
    return Mixture((telling(tiny_spec),), sequences, HORIZON, AHEAD, 0.5, HORIZON)


def images_of(ids, sequences):
    """Return the step that each image in a sequence shows."""
    length = sequences.image.block_length(4, 4)
    starts = np.flatnonzero(ids == sequences.vocab.image_start)
    blocks = [sequences.image.decode(ids[start : start + length]) for start in starts]
    assert all((block == block[0, 0]).all() for block in blocks)
    return [int(block[0, 0]) for block in blocks]


def actions_of(ids, sequences):
    """Return float[n, 7], the actions in a sequence."""
    starts = np.flatnonzero(ids == sequences.vocab.action_start)
    return sequences.action.decode(np.stack([ids[s : s + BLOCK] for s in starts]))


def state_of(ids, sequences):
    (start,) = np.flatnonzero(ids == sequences.vocab.state_start)
    return sequences.state.decode(ids[start : start + BLOCK])


def drawn(make, episode, count=60):
    return [make(episode, np.random.default_rng(seed)) for seed in range(count)]


def test_an_action_sequence_is_of_one_instant(mixture, sequences):
    (episode,), seen = mixture.episodes, set()
    for example in drawn(mixture.action_sequence, episode):
        ids = example.sequence.ids
        (step,) = images_of(ids, sequences)
        seen.add(step)
        np.testing.assert_allclose(state_of(ids, sequences), episode.state[step], atol=0.003)
        np.testing.assert_array_equal(example.target, episode.target[step])
        steps = np.minimum(np.arange(step, step + HORIZON), STEPS - 1)
        np.testing.assert_allclose(actions_of(ids, sequences), episode.action[steps], atol=0.005)
    assert seen == set(range(STEPS))


def test_a_world_sequence_leads_by_what_was_executed_to_the_image_that_followed(
    mixture, sequences
):
    (episode,), seen = mixture.episodes, set()
    for example in drawn(mixture.world_sequence, episode):
        before, after = images_of(example.sequence.ids, sequences)
        seen.add(before)
        assert after == before + AHEAD
        executed = episode.executed[before : before + AHEAD]
        found = actions_of(example.sequence.ids, sequences)
        np.testing.assert_allclose(found, executed, atol=0.005)
        assert np.isnan(example.target).all()
    assert seen == set(range(STEPS - AHEAD + 1))


def test_the_response_is_supervised_and_nothing_of_the_prompt(mixture, sequences):
    vocab = sequences.vocab
    action, world = mixture.batches(12, np.random.default_rng(0))
    for batch, length in (
        (action, HORIZON * BLOCK + 1), (world, sequences.image.block_length(4, 4) + 1),
    ):  # fmt: skip
        assert ((batch.labels != IGNORE).sum(1) == length).all()
        for row, prompt in enumerate(batch.prompt_lengths):
            assert (batch.labels[row, :prompt] == IGNORE).all()
            assert batch.ids[row, prompt - 1] == vocab.sep
    assert (action.labels == vocab.action_start).sum() == len(action.ids) * HORIZON
    assert not (action.labels == vocab.image_start).any()


@pytest.mark.parametrize('share', [0.25, 1.0])
def test_a_share_of_the_prompts_codes_is_supervised_where_asked_for(mixture, share):
    plain, more = (
        replace(mixture, prompt_images=s).batches(200, np.random.default_rng(0))[0]
        for s in (0.0, share)
    )
    added = (plain.labels == IGNORE) & (more.labels != IGNORE)
    vocab = mixture.sequences.vocab
    code = (more.ids >= vocab.code_base) & (more.ids < vocab.code_base + vocab.codebook_size)
    assert (more.labels[added] == more.ids[added]).all()
    assert code[added].all()
    assert added.sum() / code.sum() == pytest.approx(share, abs=0.03)


def test_the_score_of_an_id_is_that_of_the_token_before_it(tiny_checkpoint, mixture):
    batches = mixture.batches(4, np.random.default_rng(0))
    outputs = forward(tiny_checkpoint.model, batches)
    wanted = []
    for batch, states in zip(outputs.batches, outputs.states, strict=True):
        for row, column in (batch.labels != IGNORE).nonzero().tolist():
            wanted.append((batch.ids[row, column], states[row, column - 1]))
    assert outputs.labels.tolist() == [int(label) for label, _ in wanted]
    for logits, (_, state) in zip(outputs.logits[::7], wanted[::7], strict=True):
        np.testing.assert_allclose(
            logits, tiny_checkpoint.model.logits(state), rtol=1e-4, atol=1e-4
        )


def test_rows_keep_the_facts_of_their_own_example(mixture):
    (episode,) = mixture.episodes
    examples = drawn(mixture.action_sequence, episode, 5)
    batch = collate(examples, pad=1)
    for row, example in enumerate(examples):
        length = len(example.sequence.ids)
        np.testing.assert_array_equal(batch.ids[row, :length], example.sequence.ids)
        np.testing.assert_array_equal(batch.positions[row, :length], example.positions)
        np.testing.assert_array_equal(batch.roles[row, :length], example.sequence.roles)
        np.testing.assert_array_equal(batch.targets[row], example.target)
        assert batch.prompt_lengths[row] == example.sequence.prompt_length
