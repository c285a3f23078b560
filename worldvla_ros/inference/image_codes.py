"""Images ⇄ codes: cropped, encoded in one batch, and encoded only once.

An image that comes back — as history, as the start of an imagined one, as what surprise is asked
about — is recognised by its content.

Knows the VQ-GAN. Must not know ids.
Legend: h, w pixels, r, c rows and columns of codes.
"""

from collections import OrderedDict
import hashlib
import threading

import numpy as np
import torch

from worldvla_ros.errors import ObservationError
from worldvla_ros.inference.shortage import explain_shortage
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.observation import EncodedObservation, Observation, camera_images
from worldvla_ros.tokenizers.image import CODES_PER_CELL, fit_image

REMEMBERED = 64
"""Codes of this many images are kept."""


class ImageCodes:
    """Encodes and decodes images of one checkpoint."""

    def __init__(self, vqgan: VQGAN, size: int, device: torch.device) -> None:
        """Use a network; `size` is the side of a square image in the model [px]."""
        self._vqgan, self._size, self._device = vqgan, size, device
        self._patch = vqgan.config.reduction * CODES_PER_CELL
        self._remembered: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Return an image as the model sees it: uint8[h, w, 3], as `Observation` accepts it."""
        return np.array(fit_image(image, self._size, self._patch))

    def of(
        self,
        observation: Observation | EncodedObservation,
        cameras: tuple[str, ...],
        instants: int,
    ) -> list[np.ndarray]:
        """Return the codes of an observation's images: int64[r, c] each.

        Oldest instant first, cameras within an instant.

        Args:
            observation: Images are encoded, codes checked.
            cameras: Which cameras, in the order of a prompt.
            instants: How many of the newest instants.

        Raises:
            ObservationError: A camera is missing, or codes cannot be of this network.
            MemoryLimitError: Memory is short.
        """
        if isinstance(observation, EncodedObservation):
            encoded, newest = True, observation.codes
        else:
            encoded, newest = False, observation.images
        kept = [*observation.history, newest][-instants:]
        images = [image for instant in kept for image in camera_images(instant, cameras)]
        if not encoded:
            return self.encode(images)
        for codes in images:
            self._check(codes)
        return images

    def encode(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Return the codes of images of any size: uint8[h, w, 3] each → int64[r, c] each.

        Images as `Observation` accepts them; those of one size that are not remembered are encoded
        in one batch.

        Raises:
            MemoryLimitError: Memory is short.
        """
        with explain_shortage('encoding images', f'{len(images)} images'):
            fitted = [self.fit(image) for image in images]
            with self._lock:  # a node may be configured while another one computes
                return self._encode(fitted)

    def _check(self, codes: np.ndarray) -> None:
        """Raise ObservationError for codes that this network cannot have made."""
        config = self._vqgan.config
        most, codebook = (self._size // config.reduction) ** 2, config.n_embed
        if codes.size > most or codes.min() < 0 or codes.max() >= codebook:
            raise ObservationError(
                'image codes do not fit the checkpoint',
                expected=f'at most {most} codes in 0 … {codebook - 1}',
                got=f'{codes.size} codes in {codes.min()} … {codes.max()}',
                remedy='Encode the image with the tokenizer of this checkpoint.',
            )

    def _encode(self, fitted: list[np.ndarray]) -> list[np.ndarray]:
        keys = [_key(image) for image in fitted]
        new = {k: i for k, i in zip(keys, fitted, strict=True) if k not in self._remembered}
        for shape in {image.shape for image in new.values()}:
            self._encode_new({k: i for k, i in new.items() if i.shape == shape})
        for key in keys:
            self._remembered.move_to_end(key)
        found = [self._remembered[key].copy() for key in keys]
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the images of codes: int64[..., r, c] → uint8[..., h, w, 3].

        Raises:
            MemoryLimitError: Memory is short.
        """
        batch = torch.from_numpy(codes.reshape(-1, *codes.shape[-2:])).to(self._device)
        with explain_shortage('decoding images', f'{len(batch)} images'):
            images = self._vqgan.decode(batch).cpu().numpy()
        return images.reshape(*codes.shape[:-2], *images.shape[1:])

    def _encode_new(self, images: dict[tuple, np.ndarray]) -> None:
        batch = torch.from_numpy(np.stack(list(images.values()))).to(self._device)
        codes = self._vqgan.encode(batch).cpu().numpy()  # the host waits: a prompt needs them
        self._remembered.update(zip(images, codes, strict=True))


def _key(image: np.ndarray) -> tuple:
    return image.shape, hashlib.blake2b(image.tobytes(), digest_size=16).digest()
