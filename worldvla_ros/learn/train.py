"""A whole training run: episodes in, checkpoint folder out.

    episodes ─ text tokenizer ─ image tokenizer ─ token cache ─ unified model ─ checkpoint folder

Each stage resumes from what it left in the run's folder. Knows the order of the stages; must not
know how each one works.
"""

import logging
from pathlib import Path
import re
import shutil

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.checkpoint.folder import (
    TEXT_FILE,
    Checkpoint,
    CheckpointSpec,
    load,
    save,
    sequence_builder,
)
from worldvla_ros.data.episodes import Episode, episode_files, load_episode, load_episodes
from worldvla_ros.errors import ConfigError
from worldvla_ros.learn.mixture import Mixture, TokenEpisode
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import HeadSettings, Settings, read_settings
from worldvla_ros.learn.start import start_distances, start_tables
from worldvla_ros.learn.train_model import Trainer
from worldvla_ros.learn.train_vqgan import fit_images, train_vqgan
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.sim.tasks import Goal, corpus, paraphrase
from worldvla_ros.tokenizers import vocab
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer

LOG = logging.getLogger(__name__)
IMAGES_KEPT = 40000
"""Most images that the image tokenizer learns from; they are held in memory."""
ENCODE_BATCH = 64


def run(config: str | Path, *, resume: bool = False) -> Path:
    """Train as a configuration file says; return the checkpoint folder.

    Args:
        config: YAML file, see `learn.settings.Settings`.
        resume: Go on from the run's folder; otherwise start anew.

    Raises:
        ConfigError: The file or a field is wrong, or sizes differ from those of the start.
        CheckpointError: The checkpoint to start from cannot be used.
        EpisodeError: There are no episodes, or one is damaged.
    """
    settings = read_settings(config)
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    torch.manual_seed(settings.seed)
    if not resume:
        _forget(settings.work)
    settings.work.mkdir(parents=True, exist_ok=True)
    start = load(settings.start) if settings.start else None
    text = _text_tokenizer(settings)
    vqgan = start.vqgan if start else _image_tokenizer(settings)
    spec = checkpoint_spec(settings, text)
    if start:
        _check_same_sizes(settings, spec, start.spec)
    text = TextTokenizer.load(settings.work / 'text.json', spec.vocabulary.text_base)
    model = _train_model(settings, spec, text, vqgan, start)
    save(settings.checkpoint, spec, model, vqgan, text)
    return settings.checkpoint


def _forget(work: Path) -> None:
    """Remove what an earlier run left, and nothing else that may lie there."""
    for name in ('image_tokenizer', 'model'):
        Run(work, name).clear()
    for file in [work / 'text.json', *work.glob('tokens_*.npz')]:
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


def tokenise(episode: Episode, vqgan: VQGAN, settings: Settings) -> dict[str, np.ndarray]:
    """Return an episode's arrays with images as codes: int16[T + 1, cameras, rows, columns]."""
    codes = []
    for camera in settings.cameras:
        reduction = vqgan.config.reduction
        images = fit_images(episode.images[camera], settings.image_size, reduction)
        batches = torch.from_numpy(images).split(ENCODE_BATCH)
        codes.append(torch.cat([vqgan.encode(b) for b in batches]).numpy().astype(np.int16))
    return {
        'codes': np.stack(codes, axis=1),
        'state': episode.state,
        'action': episode.action,
        'executed': episode.executed,
        'target': episode.target,
        'task': np.array(episode.task),
        'instruction': np.array(episode.instruction),
    }


def _text_tokenizer(settings: Settings) -> TextTokenizer:
    """Learn the text tokenizer, or read it; its ids begin at 0 here."""
    file = settings.work / 'text.json'
    if settings.start:
        shutil.copyfile(settings.start / TEXT_FILE, file)
    elif not file.is_file():
        prompts = [settings.prompts.action.format(task=s) for s in corpus()]
        train_text_tokenizer([*prompts, settings.prompts.world], settings.text_size).save(
            str(file)
        )
    return TextTokenizer.load(file, 0)


def _image_tokenizer(settings: Settings) -> VQGAN:
    run_state = Run(settings.work, 'image_tokenizer')
    state = run_state.load()
    if state is not None and state['step'] >= settings.image_training.steps:
        vqgan = VQGAN(settings.vqgan)
        vqgan.load_state_dict(state['vqgan'])
        return vqgan.eval().requires_grad_(False)
    images, places = _images(settings)
    return train_vqgan(settings.vqgan, settings.image_training, images, places, run_state)


def _images(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return images of all cameras and folders at the model's size, a few of each episode.

    Returns:
        uint8[n, h, w, 3], and float32[n, objects, 2], where each object known by name is in each.
    """
    rng = np.random.default_rng(settings.seed)
    files = [f for folder in settings.data.train for f in episode_files(folder)]
    each = max(1, IMAGES_KEPT // (len(files) * len(settings.cameras)))
    kept, seen = [], []
    for file in tqdm(files, desc='images', mininterval=5):
        episode = load_episode(file)
        for camera in settings.cameras:
            images = episode.images[camera]
            chosen = rng.choice(len(images), size=min(each, len(images)), replace=False)
            kept.append(fit_images(images[chosen], settings.image_size, settings.vqgan.reduction))
            # places are told in the image of the first camera
            known = episode.objects if camera == settings.cameras[0] else ()
            seen += [{o: episode.places[t, i, 3:] for i, o in enumerate(known)} for t in chosen]
    return np.concatenate(kept), _by_name(seen)


def _by_name(seen: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Return float32[n, objects, 2], one object for each name that any image has."""
    names = sorted({name for objects in seen for name in objects})
    places = np.full((len(seen), len(names), 2), np.nan, np.float32)
    for row, objects in enumerate(seen):
        for name, place in objects.items():
            places[row, names.index(name)] = place
    return places


def _token_episodes(settings: Settings, folder: str, vqgan: VQGAN) -> list[TokenEpisode]:
    """Return the episodes of a folder as tokens, from the run's cache where it has them."""
    name = re.sub(r'\W+', '_', str(Path(folder)).strip('/'))
    file = settings.work / f'tokens_{name}.npz'
    if not file.is_file():
        made = [
            tokenise(e, vqgan, settings)
            for e in tqdm(load_episodes(folder), desc=f'tokens of {folder}', mininterval=5)
        ]
        arrays = {f'{i}/{k}': v for i, episode in enumerate(made) for k, v in episode.items()}
        np.savez(file, count=np.array(len(made)), **arrays)
    with np.load(file) as content:
        names = ('codes', 'state', 'action', 'executed', 'target', 'task', 'instruction')
        count = int(content['count'])
        rows = [{n: content[f'{i}/{n}'] for n in names} for i in range(count)]
    return [_token_episode(row) for row in rows]


def _token_episode(row: dict[str, np.ndarray]) -> TokenEpisode:
    goal = Goal.from_text(str(row['task']), str(row['instruction']))
    return TokenEpisode(
        codes=row['codes'],
        state=row['state'],
        action=row['action'],
        executed=row['executed'],
        target=row['target'],
        instruction=lambda rng: paraphrase(goal, rng),
    )


def _mixture(
    settings: Settings,
    spec: CheckpointSpec,
    text: TextTokenizer,
    vqgan: VQGAN,
    folders: tuple[str, ...],
) -> Mixture:
    episodes = [e for f in folders for e in _token_episodes(settings, f, vqgan)]
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
    text: TextTokenizer,
    vqgan: VQGAN,
    start: Checkpoint | None,
) -> Transformer:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    train, validation = (
        _mixture(settings, spec, text, vqgan, f)
        for f in (settings.data.train, settings.data.validation)
    )
    model = Transformer(spec.transformer, spec.action_head)
    model.initialise()
    if start:
        model.load_state_dict(start.model.state_dict(), strict=start.head is not None)
    else:
        start_tables(model, spec.vocabulary, vqgan.quantize.embedding.weight)
        if spec.transformer.qk_norm_heads > 1:
            start_distances(model)
    run_state = Run(settings.work, 'model')
    trainer = Trainer(model, settings.training, train, validation, run_state, device)
    return trainer.train().cpu()
