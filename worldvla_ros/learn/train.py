"""A whole training run: episodes in, checkpoint folder out.

    episodes ─ text tokenizer ─ image tokenizer ─ token cache ─ unified model ─ checkpoint folder

Each stage resumes from what it left in the run's folder. Knows the order of the stages; must not
know how each one works, or any source of episodes: how a source words its tasks is handed over.
"""

import logging
from pathlib import Path
import shutil

import torch

from worldvla_ros.checkpoint.folder import (
    TEXT_FILE,
    Checkpoint,
    CheckpointSpec,
    load,
    save,
    sequence_builder,
)
from worldvla_ros.data.outputs import check_folder
from worldvla_ros.data.wording import Wordings
from worldvla_ros.errors import ConfigError
from worldvla_ros.learn.batches import Mixture
from worldvla_ros.learn.recordings import image_samples, source_corpus, token_episodes
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import HeadSettings, Settings, read_settings
from worldvla_ros.learn.start import start_distances, start_tables
from worldvla_ros.learn.train_model import ModelLearner, train_model
from worldvla_ros.learn.train_vqgan import train_vqgan
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.tokenizers import vocab
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer

LOG = logging.getLogger(__name__)


def run(config: str | Path, *, resume: bool = False, wordings: Wordings | None = None) -> Path:
    """Train as a configuration file says; return the checkpoint folder.

    Args:
        config: YAML file, see `learn.settings.Settings`.
        resume: Go on from the run's folder; otherwise start anew.
        wordings: Sources of episodes that word their tasks in many ways; the others' sentences
            are those that were recorded.

    Raises:
        ConfigError: The file or a field is wrong, sizes differ from those of the start, a folder
            cannot be written to, or the saved state is of another run.
        CheckpointError: The checkpoint to start from cannot be used.
        EpisodeError: There are no episodes, or one is damaged.
    """
    settings, wordings = read_settings(config), wordings or {}
    check_folder(settings.work, 'work')
    check_folder(settings.checkpoint, 'checkpoint')
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    torch.manual_seed(settings.seed)
    if not resume:
        _forget(settings.work)
    settings.work.mkdir(parents=True, exist_ok=True)
    start = load(settings.start) if settings.start else None
    text = _text_tokenizer(settings, wordings)
    vqgan = start.vqgan if start else _image_tokenizer(settings)
    spec = checkpoint_spec(settings, text)
    if start:
        _check_same_sizes(settings, spec, start.spec)
    text = TextTokenizer.load(settings.work / 'text.json', spec.vocabulary.text_base)
    train, validation = (
        _mixture(settings, spec, text, vqgan, folders, wordings)
        for folders in (settings.data.train, settings.data.validation)
    )
    model = _train_model(settings, spec, vqgan, start, train, validation)
    save(settings.checkpoint, spec, model, vqgan, text)
    return settings.checkpoint


def _forget(work: Path) -> None:
    """Remove what an earlier run left, and nothing else that may lie there."""
    for name in ('image_tokenizer', 'model'):
        Run(work, name).clear()
    for file in [work / 'text.json', *work.glob('codes_*.npz')]:
        file.unlink(missing_ok=True)


def _check_same_sizes(settings: Settings, spec: CheckpointSpec, start: CheckpointSpec) -> None:
    names = ['vocabulary', 'transformer', 'vqgan', 'image_size', 'cameras']
    if start.action_head is not None:  # one that the start lacks is trained from nothing
        names.append('action_head')
    for name in names:
        expected, got = getattr(start, name), getattr(spec, name)
        if expected != got:
            raise ConfigError(
                f'{name} differs from the checkpoint to start from',
                expected=expected,
                got=got,
                remedy=f'Give the run the sizes of {settings.start}, or start from nothing.',
            )


def checkpoint_spec(settings: Settings, text: TextTokenizer) -> CheckpointSpec:
    """Return what the weights of a run will mean."""
    vocabulary = vocab.compact(settings.vqgan.n_embed, text.size)
    sizes, head = vars(settings.transformer), settings.action_head
    return CheckpointSpec(
        name=settings.name,
        robot=settings.robot,
        cameras=settings.cameras,
        image_size=settings.image_size,
        action=settings.action,
        state=settings.state,
        world=settings.world,
        prompts=settings.prompts,
        vocabulary=vocabulary,
        transformer=TransformerConfig(vocab_size=vocabulary.size, **sizes),
        vqgan=settings.vqgan,
        action_head=None if head is None else _head_config(settings, head),
    )


def _head_config(settings: Settings, head: HeadSettings) -> ActionHeadConfig:
    return ActionHeadConfig(
        context_size=settings.transformer.hidden_size,
        horizon=settings.action.horizon,
        dim=len(settings.action.names),
        **vars(head),
    )


def _text_tokenizer(settings: Settings, wordings: Wordings) -> TextTokenizer:
    """Learn the text tokenizer, or read it; its ids begin at 0 here."""
    file = settings.work / 'text.json'
    if settings.start:
        shutil.copyfile(settings.start / TEXT_FILE, file)
    elif not file.is_file():
        sentences = source_corpus(settings, wordings)
        prompts = [settings.prompts.action.format(task=s) for s in sentences]
        prompts.append(settings.prompts.world)
        train_text_tokenizer(prompts, settings.text_size).save(str(file))
    return TextTokenizer.load(file, 0)


def _image_tokenizer(settings: Settings) -> VQGAN:
    run_state = Run(settings.work, 'image_tokenizer')
    state = run_state.load()
    if state is not None and state['step'] >= settings.image_training.steps:
        vqgan = VQGAN(settings.vqgan)
        vqgan.load_state_dict(state['vqgan'])
        return vqgan.eval().requires_grad_(False)
    images, places = image_samples(settings)
    return train_vqgan(settings.vqgan, settings.image_training, images, places, run_state)


def _mixture(
    settings: Settings,
    spec: CheckpointSpec,
    text: TextTokenizer,
    vqgan: VQGAN,
    folders: tuple[str, ...],
    wordings: Wordings,
) -> Mixture:
    episodes = [e for f in folders for e in token_episodes(settings, f, vqgan, wordings)]
    per_image = spec.world.actions_per_image
    usable = tuple(e for e in episodes if e.length >= per_image)
    LOG.info('%d episodes, %d steps', len(usable), sum(e.length for e in usable))
    sequences = sequence_builder(spec, text)
    training = settings.training
    return Mixture(
        usable,
        sequences,
        spec.action.horizon,
        per_image,
        training.action_share,
        min(training.actions_kept, spec.action.horizon),
        training.prompt_images,
    )


def _train_model(
    settings: Settings,
    spec: CheckpointSpec,
    vqgan: VQGAN,
    start: Checkpoint | None,
    train: Mixture,
    validation: Mixture,
) -> Transformer:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = Transformer(spec.transformer, spec.action_head)
    model.initialise()
    if start:
        model.load_state_dict(start.model.state_dict(), strict=start.head is not None)
    else:
        start_tables(model, spec.vocabulary, vqgan.quantize.embedding.weight)
        if spec.transformer.qk_norm_heads > 1:
            start_distances(model)
    learner = ModelLearner(model, settings.training, train, validation, device)
    return train_model(learner, settings.training, Run(settings.work, 'model')).cpu()
