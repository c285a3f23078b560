"""The world model: images and actions in, the images that follow out.

Knows rollouts. Must not know ROS. The image imagined last is fed back, as codes, for the next one.
"""

from collections.abc import Iterator, Mapping

from einops import rearrange
import numpy as np

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import IMAGINE
from worldvla_ros.errors import ObservationError
from worldvla_ros.inference.images import Sampling
from worldvla_ros.observation import (
    EncodedObservation,
    Observation,
    camera_images,
    grey_image,
)
from worldvla_ros.policy import check_task


class WorldModel:
    """Imagines what the cameras will see."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        sampling: Sampling | None = None,
        *,
        speculative: bool = True,
    ) -> None:
        """Use a loaded checkpoint.

        Args:
            checkpoint: The weights and what they mean.
            sampling: How codes are drawn; the likeliest are taken by default.
            speculative: Whether to guess ahead, see images.py; the images are the same.

        Raises:
            CheckpointError: It was not trained to imagine.
        """
        check_task(checkpoint, IMAGINE)
        self._checkpoint = checkpoint
        self._sampling, self._speculative = sampling, speculative
        self._code_span = checkpoint.spec.vocabulary.codes

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights and what they mean."""
        return self._checkpoint

    def imagine(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> np.ndarray:
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
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return what `imagine` does for each camera: camera name → uint8[m, h, w, 3].

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        found = self._codes(observation, np.asarray(actions)[None])
        names = self._checkpoint.spec.cameras
        # the cameras of one instant come one after another, each with a single future
        views = rearrange(np.stack(found), '(m n) 1 r c -> n m r c', n=len(names))
        return {n: self._checkpoint.images.decode(v) for n, v in zip(names, views, strict=True)}

    def imagine_each(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> np.ndarray:
        """Return what `imagine` does for several futures, imagined side by side.

        Args:
            observation: Its newest images are the start of all.
            actions: float[futures, n, dim], as the checkpoint speaks them.

        Returns:
            uint8[futures, m, h, w, 3] of the first camera.

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        found = self._codes(observation, actions)
        first = np.stack(found[:: len(self._checkpoint.spec.cameras)], 1)
        return self._checkpoint.images.decode(first)

    def surprise(
        self, observation: Observation, actions: np.ndarray, next_images: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return how unlikely what was seen is, given what was seen before and what was done.

        Args:
            observation: Its newest images are the start.
            actions: float[actions_per_image, dim], executed in between.
            next_images: Camera name → uint8[h, w, 3], seen after the actions.

        Returns:
            Camera name → float32[rows, columns]: minus log-probability of each code of the image,
            given the start, the actions and the codes before it, by rows [nat].

        Raises:
            ObservationError: A camera is missing, a next image cannot be used, or there are too
                few, too many or malformed actions.
        """
        stride = self._one_stride(np.asarray(actions))
        cameras = self._checkpoint.spec.cameras
        images = camera_images(observation.images, cameras)
        after = camera_images(Observation(next_images).images, cameras)
        codes = self._checkpoint.images.encode([*images, *after])
        prompt = self._checkpoint.sequences.world_prompt(codes[: len(images)], stride)
        maps = self._checkpoint.engine.images.surprise(prompt, codes[len(images) :])
        return dict(zip(cameras, maps, strict=True))

    def warm_up(self) -> None:
        """Imagine one image from grey ones, so that the first real one is not a slow one.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        spec = self._checkpoint.spec
        images = dict.fromkeys(spec.cameras, grey_image(spec.image_size))
        self.imagine(
            Observation(images), np.zeros((spec.world.actions_per_image, spec.action.dim))
        )

    def imagine_stepwise(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> Iterator[np.ndarray | None]:
        """Imagine step by step, so that the caller can do something more urgent in between.

        Yields:
            None between decoding steps, uint8[h, w, 3] of the first camera when an image is done.

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        for codes in self.imagine_codes_stepwise(observation, actions):
            yield None if codes is None else self.decode(codes)

    def imagine_codes_stepwise(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> Iterator[np.ndarray | None]:
        """Imagine as `imagine_stepwise` does, and leave decoding to whoever looks at the images.

        Yields:
            None between decoding steps, int64[rows, columns] when an image is done.

        Raises:
            ObservationError: A camera is missing, or there are too few or malformed actions.
        """
        cameras, done = len(self._checkpoint.spec.cameras), 0
        for codes in self._codes_stepwise(observation, np.asarray(actions)[None]):
            yield codes[0] if codes is not None and done % cameras == 0 else None
            done += codes is not None

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the images of codes: int64[..., rows, columns] → uint8[..., h, w, 3].

        Raises:
            MemoryLimitError: Memory is short.
        """
        return self._checkpoint.images.decode(codes)

    def _codes(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> list[np.ndarray]:
        return [i for i in self._codes_stepwise(observation, actions) if i is not None]

    def _codes_stepwise(
        self, observation: Observation | EncodedObservation, actions: np.ndarray
    ) -> Iterator[np.ndarray | None]:
        """Imagine several futures: float[futures, n, dim] actions.

        Yields:
            None between decoding steps, int64[futures, rows, columns] for each image, the cameras
            of one instant after another.
        """
        strides = self._strides(actions)
        codes = self._checkpoint.images.of(observation, self._checkpoint.spec.cameras, 1)
        sequences, decoder = self._checkpoint.sequences, self._checkpoint.engine.images
        first, *later = [
            [sequences.world_prompt(codes, stride) for stride in instant]
            for instant in strides.swapaxes(0, 1)  # [m, futures, actions_per_image, dim]
        ]
        # from the second instant on, the codes are those that are imagined before
        open_codes = [[p.undecided(self._code_span) for p in instant] for instant in later]
        rows, columns = codes[0].shape
        yield from decoder.rollout(
            [first, *open_codes],
            rows,
            columns,
            images=len(codes),
            speculative=self._speculative,
            sampling=self._sampling,
        )

    def _strides(self, actions: np.ndarray) -> np.ndarray:
        """Return the actions of each image: float[futures, m, actions_per_image, dim]."""
        spec = self._checkpoint.spec
        per_image, dim = spec.world.actions_per_image, len(spec.action.names)
        actions = np.asarray(actions)
        usable = actions.ndim == 3 and actions.shape[2] == dim and np.isfinite(actions).all()
        if not usable or not len(actions) or actions.shape[1] < per_image:
            raise _unusable(f'at least {per_image}', dim, per_image, actions)
        count = actions.shape[1] // per_image
        whole = actions[:, : count * per_image]
        return rearrange(whole, 'futures (m n) dim -> futures m n dim', n=per_image)

    def _one_stride(self, actions: np.ndarray) -> np.ndarray:
        """Return the actions between two images: float[actions_per_image, dim]."""
        strides = self._strides(actions[None])[0]
        if strides.size != actions.size or len(strides) != 1:
            spec = self._checkpoint.spec
            per_image = spec.world.actions_per_image
            raise _unusable(f'exactly {per_image}', len(spec.action.names), per_image, actions)
        return strides[0]


def _unusable(count: str, dim: int, per_image: int, actions: np.ndarray) -> ObservationError:
    return ObservationError(
        'actions to imagine',
        expected=f'{count} finite actions of {dim} numbers',
        got=f'shape {list(actions.shape)}',
        remedy=f'One image is imagined for each {per_image} actions.',
    )
