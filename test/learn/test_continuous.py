"""Training of the continuous action head: its labels, its loss, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldvla_ros.learn.continuous import head_error, labelled_actions
from worldvla_ros.learn.mixture import Example, Mixture, TokenEpisode, collate, thin
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import HeadSettings, ModelTraining
from worldvla_ros.learn.train_model import Trainer, answers
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.bins import CENTRES

HORIZON, DIM, CODES = 4, 7, 16
NOWHERE = np.full(5, np.nan, np.float32)
SENTENCES = ('pick up the red cube', 'robot, try to take the blue block off the table')


def token_episode(length=9):
    rng = np.random.default_rng(length)
    return TokenEpisode(
        codes=rng.integers(0, 32, (length + 1, 1, 4, 4), np.int16),
        state=rng.uniform(0, 0.1, (length + 1, DIM)).astype(np.float32),
        action=rng.uniform(-1.1, 1.1, (length, DIM)).astype(np.float32),
        executed=rng.uniform(-1, 1, (length, DIM)).astype(np.float32),
        target=rng.uniform(0, 0.5, (length + 1, 5)).astype(np.float32),
        instruction=lambda rng: SENTENCES[rng.integers(2)],
    )


@pytest.fixture
def sequences(head_checkpoint):
    return head_checkpoint.sequences


@pytest.fixture
def vocab(head_checkpoint):
    return head_checkpoint.spec.vocabulary


@pytest.fixture
def mixture(sequences):
    return Mixture((token_episode(),), sequences, HORIZON, 2, 0.5, 2)


@pytest.fixture
def batches(mixture):
    """A batch of action sequences and one of world sequences."""
    return mixture.batches(8, np.random.default_rng(0))


def action_example(sequences, episode, kept, sentence=SENTENCES[0]):
    prompt = sequences.action_prompt(sentence, list(episode.codes[0]), episode.state[0])
    whole = sequences.with_actions(prompt, episode.action[:HORIZON])
    return Example(*thin(whole, np.array(kept)), NOWHERE)


def hidden_states(model, batch):
    return model(batch.ids, batch.positions, sequence_mask(batch.positions, batch.blocks))


@pytest.mark.parametrize('kept', [[1, 2, 3, 4], [2, 4], [3]])
def test_labels_are_bin_centres_of_the_kept_actions(sequences, vocab, kept):
    episode = token_episode()
    episode.action[[1, 2], 0] = 1.1  # beyond the range, with the centre of the last interval
    batch = collate([action_example(sequences, episode, kept)] * 2, vocab.pad)
    places, targets = labelled_actions(batch, DIM, vocab)
    assert places.tolist() == [[k - 1 for k in kept]] * 2
    actions = episode.action[np.array(kept) - 1]
    bins = sequences.action.bins(actions)
    assert bins.max() == 255
    expected = CENTRES[np.minimum(bins, 254)]
    np.testing.assert_array_equal(targets.numpy(), np.stack([expected] * 2))
    assert np.abs(targets[0].numpy() - actions.clip(-1, 1)).max() < 0.005


def test_error_is_the_mean_distance_of_chunks_alone(head_checkpoint, sequences, batches, vocab):
    model = head_checkpoint.model
    states = [hidden_states(model, batch) for batch in batches]
    found = head_error(model.action_head, batches, states, vocab)
    action, distances = batches[0], []
    for row, prompt in enumerate(action.prompt_lengths):
        made = model.action_head(states[0][row, :prompt][None])[0]
        for k in range(1, HORIZON + 1):
            ids = action.labels[row][action.blocks[row] == k]
            if len(ids):
                true = sequences.action.decode(ids.numpy())  # a range of [-1, 1]: normalised
                distances.append((made[k - 1] - torch.from_numpy(true)).abs())
    assert len(distances) == len(action.ids) * 2
    torch.testing.assert_close(found, torch.stack(distances).mean(), rtol=1e-4, atol=1e-6)
    alone = head_error(model.action_head, batches[:1], states[:1], vocab)
    torch.testing.assert_close(alone, found)


def test_world_sequences_alone_have_no_error(head_checkpoint, batches, vocab):
    model = head_checkpoint.model
    states = [hidden_states(model, batches[1])]
    assert head_error(model.action_head, batches[1:], states, vocab) == 0


def test_one_action_is_a_chunk(head_checkpoint, sequences, vocab):
    batch = collate([action_example(sequences, token_episode(), [3])], vocab.pad)
    states = [hidden_states(head_checkpoint.model, batch)]
    assert head_error(head_checkpoint.head, (batch,), states, vocab) > 0


def test_error_does_not_depend_on_the_longest_prompt(head_checkpoint, sequences, vocab):
    examples = [action_example(sequences, token_episode(), [1, 2], s) for s in SENTENCES]
    assert examples[0].sequence.prompt_length < examples[1].sequence.prompt_length
    model = head_checkpoint.model

    def error(*chosen):
        batch = collate(list(chosen), vocab.pad)
        return head_error(model.action_head, (batch,), [hidden_states(model, batch)], vocab)

    together, alone = error(*examples), [error(e) for e in examples]
    torch.testing.assert_close(together, sum(alone) / 2, rtol=1e-4, atol=1e-6)


def test_gradient_flows_into_the_transformer(head_checkpoint, batches, vocab):
    model = Transformer(head_checkpoint.spec.transformer, head_checkpoint.spec.action_head)
    model.initialise(std=0.2)
    answers(model, batches, vocab, CODES).head_error.backward()
    assert model.model.embed_tokens.weight.grad[vocab.image_start].abs().max() > 0
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().max() > 0
    assert model.action_head.action_token_embeddings.weight.grad.abs().max() > 0
    assert model.lm_head.weight.grad is None


def test_model_without_a_head_has_no_error(tiny_checkpoint, batches, vocab):
    assert answers(tiny_checkpoint.model, batches, vocab, CODES).head_error is None


def new_trainer(head_checkpoint, mixture, folder, **changes):
    torch.manual_seed(0)
    spec = head_checkpoint.spec
    model = Transformer(spec.transformer, replace(spec.action_head, hidden_size=32))
    model.initialise(std=0.1)
    settings = ModelTraining(
        steps=60, batch=8, learning_rate=5e-3, warmup=5, evaluate_every=60, average=0.9,
        validation_batches=2, **changes,
    )  # fmt: skip
    return Trainer(model, settings, mixture, mixture, Run(folder, 'model'), torch.device('cpu'))


@pytest.mark.parametrize(
    'changes', [{}, {'optimiser': 'muon', 'precision': 'bfloat16'}], ids=['adamw', 'muon, bf16']
)
def test_a_few_steps_lower_the_error(head_checkpoint, mixture, tmp_path, changes):
    # one observation, always the same chunk
    episode = replace(token_episode(1), instruction=lambda rng: SENTENCES[0])
    one = replace(mixture, episodes=(episode,), action_share=1.0, actions_kept=HORIZON)
    trainer = new_trainer(head_checkpoint, one, tmp_path, **changes)
    before = trainer.evaluate()['head_error']
    trained = trainer.train()
    after = trainer.evaluate()['head_error']
    assert before > 0.3
    assert after < 0.3 * before
    assert trained.action_head.config == trainer.model.action_head.config
    assert not trained.action_head.training


def test_loss_holds_the_error_with_its_weight(head_checkpoint, mixture, tmp_path):
    none, weighed, default = (
        new_trainer(head_checkpoint, mixture, tmp_path / name, **changes).step(0)
        for name, changes in (('a', {'head_weight': 0.0}), ('b', {'head_weight': 1.0}), ('c', {}))
    )
    assert weighed > none
    assert default - none == pytest.approx(10 * (weighed - none), rel=1e-3)


def test_default_sizes_make_a_head():
    assert HeadSettings().hidden_size % HeadSettings().num_attention_heads == 0
