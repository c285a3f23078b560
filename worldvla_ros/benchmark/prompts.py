"""Inputs to measure with: prompts that no cache knows beyond their wording.

Codes are random, or those of the expert's episode in the simulation where the weights know it:
only there is the next image like the present one, which is what guessing ahead lives on.

Knows sequences and episodes. Must not know clocks or devices.
"""

from dataclasses import dataclass
import functools

import numpy as np

from worldvla_ros.benchmark.random_model import INSTRUCTION
from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.data.episodes import Episode
from worldvla_ros.observation import Observation
from worldvla_ros.tokenizers.sequence import Sequence

EPISODE = ('pick', 8500)
"""Task and seed of the episode."""


@dataclass(frozen=True)
class Scene:
    """A world prompt with what follows.

    Attributes:
        prompt: Present images and actions.
        codes: int64[rows, columns] of the images after them, one per camera.
    """

    prompt: Sequence
    codes: list[np.ndarray]


class Prompts:
    """Makes inputs for one checkpoint, each by its number.

    Attributes:
        guessable: Whether the next image is like the present one.
        views: Cameras.
        side: Rows and columns of codes of an image.
    """

    guessable = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Make random codes."""
        self._checkpoint, self._spec = checkpoint, checkpoint.spec
        self.views = len(self._spec.cameras)
        self.side = self._spec.image_size // self._spec.vqgan.reduction

    def action(self, number: int) -> Sequence:
        """Return a prompt that asks for actions."""
        codes = self._codes(number, self._spec.images_per_camera * self.views)
        return self._checkpoint.sequences.action_prompt(INSTRUCTION, codes, self.state())

    def scene(self, number: int) -> Scene:
        """Return a prompt that asks for images."""
        codes = self._codes(number, 2 * self.views)
        return self._scene(codes, self._still())

    def observation(self, number: int) -> Observation:
        """Return random images with sentence and state."""
        size, random = self._spec.image_size, np.random.default_rng(number)
        count = (self._spec.images_per_camera, self.views, size, size, 3)
        images = random.integers(0, 256, count, np.uint8)
        instants = [dict(zip(self._spec.cameras, each, strict=True)) for each in images]
        return Observation(instants[-1], INSTRUCTION, self.state(), tuple(instants[:-1]))

    def codes(self, number: int) -> np.ndarray:
        """Return codes of one image: int64[rows, columns]."""
        return self._codes(number, 1)[0]

    def state(self) -> np.ndarray | None:
        """Return the state in all prompts: float32[state_dim], or None where there is none."""
        state = self._spec.state
        return None if state is None else np.array(state.minimum, np.float32)

    def _codes(self, number: int, images: int) -> list[np.ndarray]:
        """Return random codes, of which the first tells two numbers that follow each other."""
        codebook = self._spec.vqgan.n_embed
        shape = (images, self.side, self.side)
        codes = np.random.default_rng(number).integers(0, codebook, shape)
        codes[0, 0, 0] = number % codebook
        return list(codes)

    def _scene(self, codes: list[np.ndarray], actions: np.ndarray) -> Scene:
        before, after = codes[: self.views], codes[self.views :]
        return Scene(self._checkpoint.sequences.world_prompt(before, actions), after)

    def _still(self) -> np.ndarray:
        return np.zeros((self._spec.world.actions_per_image, self._spec.action.dim))


class SimulatedPrompts(Prompts):
    """Takes scenes from an episode, recorded when the first is asked for."""

    guessable = True

    def scene(self, number: int) -> Scene:
        """Return a prompt and what was seen, a little later for each number."""
        stride = self._spec.world.actions_per_image
        start = number % (self._episode.length - stride + 1)
        codes = [view[i] for i in (start, start + stride) for view in self._seen]
        return self._scene(codes, self._episode.executed[start : start + stride])

    @functools.cached_property
    def _episode(self) -> Episode:
        from worldvla_ros.sim.collect import expert_episode  # loads MuJoCo

        return expert_episode(*EPISODE, self._checkpoint.spec.cameras)

    @functools.cached_property
    def _seen(self) -> list[list[np.ndarray]]:
        """Codes of all images of each camera: int64[rows, columns]."""
        encode = self._checkpoint.images.encode
        return [encode(list(self._episode.images[name])) for name in self._spec.cameras]
