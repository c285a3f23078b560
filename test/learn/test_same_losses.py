"""Losses and weights of fixed batches, as measured before training was split into its parts.

The literals were computed at commit 4cd37a5, whose loop for each stage was one function.
"""

import numpy as np
import pytest
import torch

from worldvla_ros.checkpoint.folder import sequence_builder
from worldvla_ros.learn.batches import Mixture, TokenEpisode
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import ImageTraining, ModelTraining
from worldvla_ros.learn.train_model import ModelLearner, model_trainer
from worldvla_ros.learn.train_vqgan import (
    CLIP,
    DECAY_SHARE,
    SAVE_EVERY,
    WARMUP,
    ImageLearner,
    train_vqgan,
)
from worldvla_ros.learn.trainer import Trainer
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer

SENTENCES = ('pick up the red cube', 'robot, try to take the blue block off the table')
UNCLIPPED = 1e9
EVERYTHING = {'optimiser': 'muon', 'grounding_weight': 2.0, 'clip': UNCLIPPED}
CLOSE = 2e-5


@pytest.fixture(scope='module')
def sequences(tiny_spec, tmp_path_factory):
    file = tmp_path_factory.mktemp('text') / 'text.json'
    train_text_tokenizer(list(SENTENCES), 300).save(str(file))
    return sequence_builder(tiny_spec, TextTokenizer.load(file, tiny_spec.vocabulary.text_base))


@pytest.fixture
def new_trainer(tiny_spec, sequences, tmp_path):
    def make(*, head=False, prompt_images=0.0, **changes):
        rng = np.random.default_rng(0)
        episode = TokenEpisode(
            codes=rng.integers(0, 32, (13, 1, 4, 4), np.int16),
            state=rng.uniform(0, 0.1, (13, 7)),
            action=rng.uniform(-1, 1, (12, 7)),
            executed=rng.uniform(-1, 1, (12, 7)),
            target=rng.uniform(0, 0.5, (13, 5)).astype(np.float32),
            instruction=lambda draw: SENTENCES[draw.integers(2)],
        )
        mixture = Mixture((episode,), sequences, 4, 2, 0.5, 2, prompt_images)
        sizes = ActionHeadConfig(
            context_size=32, hidden_size=16, intermediate_size=24, horizon=4, dim=7
        )
        torch.manual_seed(0)
        model = Transformer(tiny_spec.transformer, sizes if head else None)
        model.initialise()
        settings = ModelTraining(
            steps=8, batch=4, warmup=2, evaluate_every=4, validation_batches=1, **changes
        )
        learner = ModelLearner(model, settings, mixture, mixture, torch.device('cpu'))
        return model_trainer(learner, settings, Run(tmp_path, 'model'))

    return make


def total(weights):
    return sum(values.double().abs().sum().item() for values in weights.values())


@pytest.mark.parametrize(
    ('changes', 'losses', 'figures', 'weights'),
    [
        (
            {},
            [6.843428611755371, 6.80945348739624, 6.77100944519043],
            {
                'validation_loss': 6.74636, 'action_error': 0.56218, 'action_accuracy': 0.10714,
                'code_accuracy': 0.0625,
            },
            1400.566459833072,
        ),
        (
            {'head': True, 'prompt_images': 0.1, **EVERYTHING},
            [29.316267013549805, 30.25588607788086, 25.53146743774414],
            {
                'validation_loss': 6.7832, 'action_error': 0.77955, 'action_accuracy': 0.0,
                'code_accuracy': 0.0, 'grounding_error_m': 0.52028, 'pointer_accuracy': 0.5,
                'head_error': 0.52628,
            },
            1973.6169635423116,
        ),
    ],
    ids=['paper', 'everything'],
)  # fmt: skip
def test_the_models_training_is_as_it_was(new_trainer, changes, losses, figures, weights):
    trainer = new_trainer(**changes)
    assert [trainer.step(n).total.item() for n in range(3)] == pytest.approx(losses, rel=CLOSE)
    found = trainer.evaluate()
    assert found == pytest.approx(figures, rel=CLOSE, abs=1e-4)
    assert list(found) == list(figures)
    assert total(trainer.weights) == pytest.approx(weights, rel=1e-6)


def test_lower_precision_is_as_it_was(new_trainer):
    trainer = new_trainer(head=True, precision='bfloat16', grounding_weight=2.0, clip=UNCLIPPED)
    losses = [trainer.step(n).total.item() for n in range(3)]
    # products in bfloat16 differ from processor to processor
    wanted = [29.316497802734375, 30.29435157775879, 25.580181121826172]
    assert losses == pytest.approx(wanted, rel=2e-3)


def test_heads_of_auxiliary_terms_are_trained_without_decay_and_clipped(new_trainer):
    trainer = new_trainer(head=True, **EVERYTHING)
    heads = trainer.learner.objective.terms['grounding'].heads
    (group,) = trainer.learner.optimisers[-1].param_groups
    assert [id(p) for p in group['params']] == [id(p) for p in heads.parameters()]
    assert group['weight_decay'] == 0
    moved = {id(p) for p in trainer.moved()}
    assert moved >= {id(p) for p in (*heads.parameters(), *trainer.learner.module.parameters())}
    gradients = [p.grad for p in new_clipped_step(new_trainer).moved() if p.grad is not None]
    assert torch.cat([g.flatten() for g in gradients]).norm() == pytest.approx(0.01, rel=1e-3)


def new_clipped_step(new_trainer):
    """Take a step of a new run whose gradients are far too large; heads have one of them."""
    trainer = new_trainer(head=True, grounding_weight=2.0, clip=0.01)
    trainer.step(0)
    assert trainer.learner.objective.terms['grounding'].heads.place.weight.grad.abs().max() > 0
    return trainer


def test_terms_are_named_and_weighed(new_trainer):
    found = new_trainer(head=True, prompt_images=0.1, **EVERYTHING).step(0).figures()
    assert found == pytest.approx(
        {
            'loss': 29.31627, 'loss_cross_entropy': 6.82862, 'loss_z_loss': 46.63687,
            'loss_grounding': 8.60449, 'loss_head_error': 0.52782,
        },
        rel=CLOSE,
    )  # fmt: skip
    terms = found['loss_cross_entropy'] + 1e-5 * found['loss_z_loss']
    terms += 2 * found['loss_grounding'] + 10 * found['loss_head_error']
    assert found['loss'] == pytest.approx(terms)


def test_the_image_tokenizers_schedule_has_these_numbers():
    assert (WARMUP, DECAY_SHARE, CLIP, SAVE_EVERY) == (100, 0.3, 1.0, 500)


@pytest.mark.parametrize(
    ('landmarks', 'losses', 'weights'),
    [
        (0.0, [2.49462, 2.4672973, 2.4766476, 2.474333, 2.4626536, 2.4714644], 3734.0557),
        (0.2, [2.7996347, 2.731034, 2.818058, 2.7830367, 2.755707, 2.7667346], 3734.0594),
    ],
)
def test_the_image_tokenizers_training_is_as_it_was(
    tiny_spec, tmp_path, monkeypatch, landmarks, losses, weights
):
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    places = np.random.default_rng(2).uniform(0, 1, (20, 2, 2)).astype(np.float32)
    places[::3] = np.nan
    settings = ImageTraining(steps=6, batch=4, continuous_steps=3, landmarks=landmarks)
    taken, step = [], Trainer.step

    def watched(self, number):
        taken.append(step(self, number))
        return taken[-1]

    monkeypatch.setattr(Trainer, 'step', watched)
    torch.manual_seed(0)
    vqgan = train_vqgan(tiny_spec.vqgan, settings, images, places, Run(tmp_path, 'image'))
    if not landmarks:  # their heads are not drawn any more, so the codebook starts elsewhere
        taken, losses = taken[:3], losses[:3]
    assert [losses.total.item() for losses in taken] == pytest.approx(losses, rel=CLOSE)
    if landmarks:
        assert total(vqgan.state_dict()) == pytest.approx(weights, rel=1e-6)


def test_without_known_objects_there_are_no_landmarks(tiny_spec):
    images, places = np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 0, 2), np.float32)
    settings = ImageTraining(batch=2, landmarks=0.2)
    learner = ImageLearner(tiny_spec.vqgan, settings, images, places)
    assert 'landmarks' not in learner.objective
    assert learner.losses(0).total.isfinite()
