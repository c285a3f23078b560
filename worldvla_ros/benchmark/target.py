"""What is measured: a checkpoint folder, or a random model of the published sizes.

    demo                the checkpoint of this repository
    7b                  random weights of the published sizes, made in memory
    a profile           the same, with the cameras, images and chunk of a published folder
    a folder            its own weights

Everything is checked before weights are read or made. Must not know clocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import functools
from pathlib import Path

import numpy as np
import torch

from worldvla_ros.benchmark.random_model import (
    INSTRUCTION,
    random_checkpoint,
    random_spec,
    random_text,
)
from worldvla_ros.checkpoint.bounds import MAX_HISTORY, MAX_HORIZON
from worldvla_ros.checkpoint.folder import (
    Checkpoint,
    demo_path,
    load,
    open_folder,
    sequence_builder,
)
from worldvla_ros.checkpoint.profiles import load_profile, profile_names
from worldvla_ros.checkpoint.quantise import AUTO
from worldvla_ros.checkpoint.spec import TASKS, CheckpointSpec
from worldvla_ros.errors import ConfigError
from worldvla_ros.tokenizers.image import CODES_PER_CELL
from worldvla_ros.tokenizers.text import TextTokenizer
from worldvla_ros.tokenizers.vocab import MAX_GRID

DEMO, RANDOM = 'demo', '7b'
SIMULATED = 'sim_panda'
"""The robot of the simulation."""
RANDOM_PROFILE = 'worldvla_256_libero_goal'
MOST = {'horizon': MAX_HORIZON, 'images_per_camera': MAX_HISTORY, 'resolution': 1 << 16}
"""Largest sizes that are looked at; far more than any model has room for."""
Load = Callable[[torch.device, str], Checkpoint]


@dataclass(frozen=True)
class Target:
    """A model to measure, not loaded yet.

    Attributes:
        spec: What its weights mean, with the sizes to measure.
        text: Its text tokenizer.
        load: Loads or makes the weights, with their own sizes.
        simulated: Whether its weights were trained on the built-in simulation.
    """

    spec: CheckpointSpec
    text: TextTokenizer
    load: Load
    simulated: bool = False

    def loaded(self, device: torch.device, dtype: str) -> Checkpoint:
        """Return the checkpoint with the sizes to measure.

        Raises:
            MemoryLimitError: The weights do not fit into memory.
            CheckpointError: The weights are damaged.
        """
        return replace(self.load(device, dtype), spec=self.spec)


def open_target(model: str) -> Target:
    """Return the target of a name or path, without reading weights.

    Raises:
        ConfigError: There is no such model.
        CheckpointError: The folder is damaged.
    """
    folder = demo_path() if model == DEMO else Path(model)
    if folder.is_dir():
        opened = open_folder(folder)

        def read(device: torch.device, dtype: str) -> Checkpoint:
            return load(folder, device, dtype)

        return Target(opened.spec, opened.text, read, opened.spec.robot == SIMULATED)
    if model != RANDOM and model not in profile_names() and folder.suffix not in ('.yaml', '.yml'):
        raise ConfigError(
            f'no model {model!r}',
            expected=f'{DEMO}, {RANDOM}, a checkpoint folder, a YAML profile or the name of one',
            remedy='config/models holds the profiles.',
        )
    profile = load_profile(RANDOM_PROFILE if model == RANDOM else model)
    return random_target(random_spec(profile))


def random_target(spec: CheckpointSpec) -> Target:
    """Return a random model of the published vocabulary with a specification."""
    text = random_text(spec)

    def make(device: torch.device, dtype: str) -> Checkpoint:
        return random_checkpoint(spec, text, device, 'bfloat16' if dtype == AUTO else dtype)

    return Target(spec, text, make)


def resize(
    target: Target,
    horizon: int | None = None,
    images_per_camera: int | None = None,
    resolution: int | None = None,
) -> Target:
    """Return the target with other sizes, trained to do everything.

    Speed does not depend on what weights were trained for.

    Raises:
        ConfigError: A size is impossible, or the sequences become too long for the model.
    """
    old = target.spec
    for name, value in (
        ('horizon', horizon),
        ('images_per_camera', images_per_camera),
        ('resolution', resolution),
    ):
        if value is not None and not 1 <= value <= MOST[name]:
            raise ConfigError(_flag(name), expected=f'1 … {MOST[name]}', got=value)
    _check_head(old, horizon)
    _check_patch(old, resolution)
    spec = replace(
        old,
        action=replace(old.action, horizon=horizon or old.action.horizon),
        images_per_camera=images_per_camera or old.images_per_camera,
        image_size=resolution or old.image_size,
        tasks=TASKS,
    )
    _check_room(spec, target.text)
    return replace(target, spec=spec)


def sequence_lengths(spec: CheckpointSpec, text: TextTokenizer) -> tuple[int, int]:
    """Return the tokens of acting and of imagining all views once, prompts included."""
    builder, action, views = sequence_builder(spec, text), spec.action, len(spec.cameras)
    side = spec.image_size // spec.vqgan.reduction
    block = builder.image.block_length(side, side)
    state = None if spec.state is None else np.array(spec.state.minimum, np.float32)
    act = len(builder.action_prompt(INSTRUCTION, [], state).ids)
    moved = np.zeros((spec.world.actions_per_image, action.dim))
    imagine = len(builder.world_prompt([], moved).ids)
    chunk = action.horizon * (action.dim + 2)
    return act + spec.images_per_camera * views * block + chunk, imagine + 2 * views * block


def _fits(spec: CheckpointSpec, text: TextTokenizer) -> bool:
    cells = spec.image_size // (spec.vqgan.reduction * CODES_PER_CELL)
    longest = max(sequence_lengths(spec, text))
    return cells <= MAX_GRID and longest <= spec.transformer.max_position_embeddings


def _check_room(spec: CheckpointSpec, text: TextTokenizer) -> None:
    """Refuse sequences that are too long, naming what would fit of each size."""
    if _fits(spec, text):
        return
    patch, action = spec.vqgan.reduction * CODES_PER_CELL, spec.action

    def changed(name: str, n: int) -> CheckpointSpec:
        if name == 'horizon':
            return replace(spec, action=replace(action, horizon=n), action_head=None)
        if name == 'images_per_camera':
            return replace(spec, images_per_camera=n)
        return replace(spec, image_size=n * patch)

    def fits(name: str, n: int) -> bool:
        return _fits(changed(name, n), text)

    sizes = {'horizon': (action.horizon, 1), 'images_per_camera': (spec.images_per_camera, 1),
             'resolution': (spec.image_size // patch, patch)}  # fmt: skip
    found = {
        name: step * _largest(functools.partial(fits, name), below)
        for name, (below, step) in sizes.items()
    }
    offers = [f'{_flag(name)} {value}' for name, value in found.items() if value]
    raise ConfigError(
        f'{spec.name}: {action.horizon} actions after {spec.images_per_camera} × '
        f'{len(spec.cameras)} images '
        f'of {spec.image_size} px are too long for the model',
        expected=f'at most {spec.transformer.max_position_embeddings} tokens '
        f'and {MAX_GRID * patch} px',
        got='{} tokens to act and {} to imagine'.format(*sequence_lengths(spec, text)),
        remedy=f'With the other sizes unchanged, the largest that fits is {" or ".join(offers)}.'
        if offers
        else 'Lowering one size is not enough; lower several.',
    )


def _largest(fits: Callable[[int], bool], below: int) -> int:
    """Return the largest number from 1 up that fits, or 0; what fits, fits if smaller."""
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _check_head(spec: CheckpointSpec, horizon: int | None) -> None:
    if spec.action_head is not None and horizon not in (None, spec.action_head.horizon):
        raise ConfigError(
            '--horizon',
            expected=f'{spec.action_head.horizon}, which the action head was made for',
            got=horizon,
            remedy='Leave it out.',
        )


def _check_patch(spec: CheckpointSpec, resolution: int | None) -> None:
    patch = spec.vqgan.reduction * CODES_PER_CELL
    most = MAX_GRID * patch
    if resolution is not None and (resolution % patch or resolution > most):
        near = min(max(round(resolution / patch), 1) * patch, most)
        raise ConfigError(
            '--resolution',
            expected=f'a multiple of {patch} px, up to {most} px',
            got=resolution,
            remedy=f'Use {near}.',
        )


def _flag(name: str) -> str:
    """Return the flag of `worldvla bench` that sets a size."""
    return f'--{name.replace("_", "-")}'
