"""One whole tiny run, from episodes to a checkpoint, and going on after an interruption."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
import torch
import yaml

from worldvla_ros.checkpoint import folder as checkpoint
from worldvla_ros.errors import ConfigError, EpisodeError
from worldvla_ros.learn.batches import Mixture, TokenEpisode
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import ModelTraining
from worldvla_ros.learn.train import run as train
from worldvla_ros.learn.train_model import ModelLearner, model_trainer
from worldvla_ros.learn.trainer import Trainer
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.sim.collect import collect
from worldvla_ros.sim.tasks import Goal, paraphrase
from worldvla_ros.sim.wording import SOURCE, TabletopWording
from worldvla_ros.world_model import WorldModel

pytestmark = pytest.mark.slow

run = functools.partial(train, wordings={SOURCE: TabletopWording()})
STEPS, SAVED_AT, INTERRUPTED_AT = 8, 4, 5
SCHEDULE = {
    'steps': STEPS,
    'batch': 4,
    'warmup': 2,
    'evaluate_every': SAVED_AT,
    'validation_batches': 1,
}
WEIGHTS = (checkpoint.MODEL_FILE, checkpoint.VQGAN_FILE)


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    """Four episodes to train on and two to validate with."""
    folder = tmp_path_factory.mktemp('data')
    options = {'cameras': ('front',), 'progress': False}
    assert collect('pick', 4, 0, folder / 'pick', **options)[0] == 4
    assert collect('pick', 2, 8000, folder / 'val_pick', **options)[0] == 2
    return folder


@pytest.fixture(scope='module')
def write_config(episodes, tiny_spec):
    """Return a function that writes a configuration for a run in a folder."""
    action, state = vars(tiny_spec.action), vars(tiny_spec.state)
    sizes = {
        'hidden_size': 32,
        'intermediate_size': 48,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        'qk_norm_heads': 2,
    }

    def write(folder, **changes):
        content = {
            'name': 'small',
            'robot': tiny_spec.robot,
            'work': str(folder / 'work'),
            'checkpoint': str(folder / 'checkpoint'),
            'data': {
                'train': [str(episodes / 'pick')],
                'validation': [str(episodes / 'val_pick')],
            },
            'cameras': ['front'],
            'image_size': tiny_spec.image_size,
            'text_size': 300,
            'action': action,
            'state': state,
            'world': vars(tiny_spec.world),
            'vqgan': vars(tiny_spec.vqgan),
            'image_training': {'steps': 12, 'batch': 4, 'continuous_steps': 4, 'landmarks': 0.2},
            'transformer': sizes,
            'training': SCHEDULE,
        }
        file = folder / 'train.yaml'
        file.write_text(json.dumps(content | changes))  # JSON is YAML, and writes tuples as lists
        return file

    return write


@pytest.fixture(scope='module')
def whole_run(write_config, tmp_path_factory):
    """The folder of a run that was never interrupted; do not write to it."""
    folder = tmp_path_factory.mktemp('whole')
    assert run(write_config(folder)) == folder / 'checkpoint'
    return folder


def watch_steps(monkeypatch, watch):
    """Call `watch` with the number of each step of the unified model before it is taken."""
    step = Trainer.step

    def watched(self, number):
        if self.learner.name == 'model':
            watch(number)
        return step(self, number)

    monkeypatch.setattr(Trainer, 'step', watched)


def interrupt(monkeypatch):
    """Interrupt the unified model's training once; return the numbers of the steps begun."""
    taken = []

    def watch(number):
        taken.append(number)
        if taken == [*range(INTERRUPTED_AT + 1)]:
            raise KeyboardInterrupt

    watch_steps(monkeypatch, watch)
    return taken


def trained(trainer):
    """Train to the end; return the averaged weights."""
    trainer.train()
    return trainer.weights


def state_of(trainer):
    return {k: v.clone() for k, v in trainer.learner.module.state_dict().items()}


def log(folder, stage='model'):
    lines = (folder / 'work' / f'{stage}.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(folder):
    return {
        f'{file} {name}': values
        for file in WEIGHTS
        for name, values in load_file(folder / 'checkpoint' / file).items()
    }


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_the_result_is_a_checkpoint_as_configured(whole_run, tiny_spec):
    loaded = checkpoint.load(whole_run / 'checkpoint')
    assert loaded.spec.name == 'small'
    assert loaded.spec.action == tiny_spec.action
    assert loaded.spec.state == tiny_spec.state
    assert loaded.spec.vocabulary.size == loaded.spec.transformer.vocab_size
    assert all(torch.isfinite(v).all() for v in loaded.model.state_dict().values())


def test_the_result_acts_and_imagines(whole_run, picture):
    loaded = checkpoint.load(whole_run / 'checkpoint')
    state = np.array([0.47, 0, 0.2, 0, 0, 0, 0.08], np.float32)
    chunk = Policy(loaded).act(Observation({'front': picture[:, :48]}, 'grab the red cube', state))
    assert chunk.actions.shape == (4, 7)
    assert np.abs(chunk.actions).max() <= 1
    imagined = WorldModel(loaded).imagine(Observation({'front': picture[:, :48]}), chunk.actions)
    assert imagined.shape == (2, 32, 32, 3)


def test_losses_are_logged(whole_run):
    lines = log(whole_run)
    assert [line['step'] for line in lines if 'loss' in line] == [0]
    validations = [line for line in lines if 'validation_loss' in line]
    assert [line['step'] for line in validations] == [SAVED_AT, STEPS]
    for line in validations:
        assert np.isfinite(line['validation_loss'])
        assert 0 < line['action_error'] <= 2
        assert 0 <= line['code_accuracy'] <= 1
    assert np.isfinite(log(whole_run, 'image_tokenizer')[0]['loss'])


def test_training_lowers_the_loss(whole_run):
    losses = [line['validation_loss'] for line in log(whole_run) if 'validation_loss' in line]
    assert losses[1] < losses[0]


def test_without_resume_a_run_starts_anew(whole_run, write_config, tmp_path, monkeypatch):
    config, taken = write_config(tmp_path), []
    watch_steps(monkeypatch, taken.append)
    for _ in range(2):
        run(config)
    assert taken == [*range(STEPS)] * 2
    assert_same_weights(tmp_path, whole_run)
    assert [line['step'] for line in log(tmp_path)] == [0, SAVED_AT, STEPS]


def test_a_run_without_episodes_is_refused_with_a_command(write_config, tmp_path):
    config = write_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    content['data']['train'] = [str(tmp_path / 'nothing')]
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(EpisodeError, match='worldvla collect'):
        run(config)


@pytest.fixture
def new_trainer(tiny_spec, tiny_checkpoint):
    """Return a function that starts or resumes the training of one model in a folder."""
    rng = np.random.default_rng(0)
    episode = TokenEpisode(
        codes=rng.integers(0, tiny_spec.vqgan.n_embed, (13, 1, 4, 4), np.int16),
        state=rng.uniform(0, 0.1, (13, 7)),
        action=rng.uniform(-1, 1, (12, 7)),
        executed=rng.uniform(-1, 1, (12, 7)),
        target=rng.uniform(0, 0.5, (13, 5)),
        instruction=lambda rng: paraphrase(Goal('pick', 'red'), rng),
    )
    mixture = Mixture((episode,), tiny_checkpoint.sequences, 4, 2, 0.5, 2)

    def make(folder, **changes):
        torch.manual_seed(0)
        model = Transformer(tiny_spec.transformer)
        model.initialise()
        settings = ModelTraining(**SCHEDULE | changes)
        learner = ModelLearner(model, settings, mixture, mixture, torch.device('cpu'))
        return model_trainer(learner, settings, Run(folder, 'model'))

    return make


def test_interrupted_training_ends_with_the_same_weights(new_trainer, tmp_path, monkeypatch):
    whole = trained(new_trainer(tmp_path / 'whole'))
    taken = interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        new_trainer(tmp_path / 'parts').train()
    resumed = trained(new_trainer(tmp_path / 'parts'))
    assert taken == [*range(INTERRUPTED_AT + 1), *range(SAVED_AT, STEPS)]
    for name, values in whole.items():
        assert torch.equal(values, resumed[name]), name


def test_finished_training_takes_no_more_steps(new_trainer, tmp_path, monkeypatch):
    first = trained(new_trainer(tmp_path))
    monkeypatch.setattr(Trainer, 'step', lambda *_: pytest.fail('a step was taken'))
    again = trained(new_trainer(tmp_path))
    assert all(torch.equal(values, again[name]) for name, values in first.items())


def test_resuming_a_finished_run_changes_nothing(whole_run):
    before = weights(whole_run), log(whole_run)
    run(whole_run / 'train.yaml', resume=True)
    after = weights(whole_run), log(whole_run)
    assert after[1] == before[1]
    for name, values in before[0].items():
        np.testing.assert_array_equal(values, after[0][name], err_msg=name)


def test_an_interrupted_run_ends_with_the_same_weights(
    whole_run, write_config, tmp_path, monkeypatch
):
    config, taken = write_config(tmp_path), interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    assert not (tmp_path / 'checkpoint').exists()
    run(config, resume=True)
    assert taken == [*range(INTERRUPTED_AT + 1), *range(SAVED_AT, STEPS)]
    assert_same_weights(tmp_path, whole_run)


def test_a_run_can_start_from_a_checkpoint(whole_run, write_config, tmp_path, monkeypatch):
    config = write_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    content['start'] = str(whole_run / 'checkpoint')
    config.write_text(yaml.safe_dump(content))
    seen = []

    monkeypatch.setattr(Trainer, 'train', lambda self: seen.append(state_of(self)))
    made = checkpoint.load(run(config))
    before = checkpoint.load(whole_run / 'checkpoint')
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(seen[0][name], tensor), name
    for name, tensor in before.vqgan.state_dict().items():
        assert torch.equal(made.vqgan.state_dict()[name], tensor), name
    assert not (tmp_path / 'work/image_tokenizer.pt').exists()


def test_a_start_of_another_size_is_refused_by_name(whole_run, write_config, tmp_path):
    config = write_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    content['start'] = str(whole_run / 'checkpoint')
    content['transformer']['num_hidden_layers'] += 1
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match='transformer differs from the checkpoint to start from'):
        run(config)


HEAD = {'hidden_size': 16, 'intermediate_size': 24, 'num_attention_heads': 2}


@pytest.fixture(scope='module')
def head_run(whole_run, write_config, tmp_path_factory):
    """The folder of a run that gives the model of `whole_run` a continuous action head."""
    folder = tmp_path_factory.mktemp('head')
    run(write_config(folder, action_head=HEAD, start=str(whole_run / 'checkpoint')))
    return folder


def test_a_head_is_trained_exported_and_acts(head_run, picture):
    loaded = checkpoint.load(head_run / 'checkpoint')
    sizes = loaded.spec.action_head
    assert (sizes.horizon, sizes.dim, sizes.context_size) == (4, 7, 32)
    assert sizes.hidden_size == HEAD['hidden_size']
    errors = [line['head_error'] for line in log(head_run) if 'head_error' in line]
    assert len(errors) == 2
    assert all(0 < error < 2 for error in errors)
    state = np.array([0.47, 0, 0.2, 0, 0, 0, 0.08], np.float32)
    observation = Observation({'front': picture[:, :48]}, 'grab the red cube', state)
    continuous, discrete = (Policy(loaded, d).act(observation) for d in (None, 'discrete'))
    assert continuous.actions.shape == discrete.actions.shape == (4, 7)
    assert continuous.log_probs.size == 0 < discrete.log_probs.size
    assert np.isfinite(continuous.actions).all()


def test_a_head_goes_on_with_its_own_sizes_alone(head_run, write_config, tmp_path, monkeypatch):
    start, seen = str(head_run / 'checkpoint'), []
    larger = {**HEAD, 'hidden_size': 32}
    for other in (None, larger):
        with pytest.raises(ConfigError, match='action_head differs from the checkpoint'):
            run(write_config(tmp_path, action_head=other, start=start))

    monkeypatch.setattr(Trainer, 'train', lambda self: seen.append(state_of(self)))
    run(write_config(tmp_path, action_head=HEAD, start=start))
    for name, tensor in checkpoint.load(start).model.state_dict().items():
        assert torch.equal(seen[0][name], tensor), name


def test_a_run_without_a_head_exports_none(whole_run):
    assert checkpoint.load(whole_run / 'checkpoint').head is None
    assert not any('head_error' in line for line in log(whole_run))


def test_starting_anew_leaves_other_files_alone(write_config, tmp_path, monkeypatch):
    config = write_config(tmp_path)
    work = Path(yaml.safe_load(config.read_text())['work'])
    work.mkdir(parents=True, exist_ok=True)
    (work / 'thesis.txt').write_text('years of work')
    (work / 'model.pt').write_text('left by an earlier run')
    monkeypatch.setattr('worldvla_ros.learn.train._text_tokenizer', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(config)
    assert (work / 'thesis.txt').exists()
    assert not (work / 'model.pt').exists()


def test_bfloat16_and_compiled_layers_give_nearly_the_same_loss(new_trainer, tmp_path):
    def loss(name, **changes):
        return new_trainer(tmp_path / name, **changes).step(0).total.item()

    plain, lower = loss('plain'), loss('lower', precision='bfloat16')
    assert lower != plain
    assert lower == pytest.approx(plain, rel=0.01)
    compiled = loss('compiled', compile=True)
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_path_with_a_space_is_not_compiled_and_said(new_trainer, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch, '__file__', '/a folder/torch/__init__.py')
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda *_, **__: pytest.fail('compiled'))
    new_trainer(tmp_path, compile=True)
    assert 'path with a space' in caplog.text
