"""The world model: images and actions in, the images that follow out.

Knows rollouts. Must not know ROS. The image imagined last is fed back, as codes, for the next one.
"""

from collections.abc import Iterator

import numpy as np
import torch

from worldvla_ros.checkpoint import Checkpoint
from worldvla_ros.engine import Engine, Select, greedy
from worldvla_ros.errors import ObservationError
from worldvla_ros.observation import Observation
from worldvla_ros.policy import camera_images, check_task, encode_images
from worldvla_ros.spec import IMAGINE


class WorldModel:
    """Imagines what the cameras will see."""

    def __init__(self, checkpoint: Checkpoint, select: Select = greedy) -> None:
        """Use a loaded checkpoint; `select` chooses each code, greedily by default.

        Raises:
            CheckpointError: It was not trained to imagine.
        """
        check_task(checkpoint, IMAGINE)
        self._checkpoint = checkpoint
        self._engine = Engine(checkpoint.model, checkpoint.spec.vocabulary)
        self._select = select

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights and what they mean."""
        return self._checkpoint

    def imagine(self, observation: Observation, actions: np.ndarray) -> np.ndarray:
        """Return the images that follow if the actions are executed.

        Args:
            observation: Its newest images are the start.
            actions: float[n, dim], as the checkpoint speaks them.

        Returns:
            uint8[m, h, w, 3] of the first camera, m = n // actions_per_image, each that many
            actions later.

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        images = [i for i in self.imagine_stepwise(observation, actions) if i is not None]
        return np.stack(images)

    def imagine_views(
        self, observation: Observation, actions: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return what `imagine` does for each camera: camera name → uint8[m, h, w, 3].

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        found = [views for views in self._codes_stepwise(observation, actions) if views]
        return {
            name: np.stack([self.decode(views[i]) for views in found])
            for i, name in enumerate(self._checkpoint.spec.cameras)
        }

    def imagine_stepwise(
        self, observation: Observation, actions: np.ndarray
    ) -> Iterator[np.ndarray | None]:
        """Imagine step by step, so that the caller can do something more urgent in between.

        Yields:
            None between decoding steps, uint8[h, w, 3] of the first camera when an image is done.

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        for views in self._codes_stepwise(observation, actions):
            yield self.decode(views[0]) if views else None

    def _codes_stepwise(
        self, observation: Observation, actions: np.ndarray
    ) -> Iterator[list[np.ndarray] | None]:
        """Yield None between decoding steps, and each instant's codes: int64[r, c] per camera."""
        strides = self._strides(actions)
        images = camera_images(self._checkpoint, observation.images)
        codes = encode_images(self._checkpoint, images)
        for stride in strides:
            prompt = self._checkpoint.sequences.world_prompt(codes, stride)
            imagined = []
            for step in self._engine.imagine(
                prompt, *codes[0].shape, images=len(codes), select=self._select
            ):
                if step is not None:
                    imagined.append(step)
                if len(imagined) < len(codes):
                    yield None
            codes = imagined
            yield codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the image of codes: int64[rows, columns] → uint8[h, w, 3]."""
        batch = torch.from_numpy(codes)[None].to(self._checkpoint.device)
        return self._checkpoint.vqgan.decode(batch)[0].cpu().numpy()

    def _strides(self, actions: np.ndarray) -> np.ndarray:
        """Return the actions of each image: float[m, actions_per_image, dim]."""
        spec = self._checkpoint.spec
        per_image, dim = spec.world.actions_per_image, len(spec.action.names)
        actions = np.asarray(actions)
        usable = actions.ndim == 2 and actions.shape[1] == dim and np.isfinite(actions).all()
        if not usable or len(actions) < per_image:
            raise ObservationError(
                'actions to imagine',
                expected=f'at least {per_image} finite actions of {dim} numbers',
                got=f'shape {list(actions.shape)}',
                remedy=f'Give a multiple of {per_image} actions.',
            )
        count = len(actions) // per_image
        return actions[: count * per_image].reshape(count, per_image, dim)
