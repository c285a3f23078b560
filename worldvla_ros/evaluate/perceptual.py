"""Distances that need trained weights, given as TorchScript files: LPIPS and the features of FVD.

Neither set of weights comes with this package. Knows the two files' conventions:

    LPIPS   module(x, y): float32[1, 3, h, w] each in [-1, 1] → one number; made by
            torch.jit.trace(lpips.LPIPS(net='vgg').eval(), (x, y)).save(file)
    FVD     module(clip, rescale=True, resize=True, return_features=True):
            float32[1, 3, t, h, w] in [0, 255] → [1, d]; StyleGAN-V's i3d_torchscript.pt

Must not know world models.
"""

from collections.abc import Callable
from pathlib import Path

from einops import rearrange
import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import ConfigError


class Lpips:
    """Learned perceptual distance of images (Zhang et al. 2018)."""

    def __init__(self, file: str | Path, device: str | torch.device = 'cpu') -> None:
        """Load the weights.

        Raises:
            ConfigError: The file is missing, no TorchScript, or of another convention.
        """
        self._device = torch.device(device)
        self._network = _load('lpips', file, self._device)
        black = np.zeros((1, 64, 64, 3), np.uint8)
        _try('lpips', file, lambda: self.distance(black, black))

    @torch.inference_mode()
    def distance(self, images: np.ndarray, others: np.ndarray) -> float:
        """Return the mean distance of images uint8[n, h, w, 3] to as many others."""
        pairs = zip(images, others, strict=True)
        found = [float(self._network(self._tensor(a), self._tensor(b))) for a, b in pairs]
        return float(np.mean(found))

    def _tensor(self, image: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.array(image)).to(self._device).float()
        return rearrange(pixels / 127.5 - 1, 'h w c -> 1 c h w')


class VideoFeatures:
    """What a video network sees in a clip; FVD is the Fréchet distance of such features."""

    def __init__(self, file: str | Path, device: str | torch.device = 'cpu') -> None:
        """Load the weights.

        Raises:
            ConfigError: The file is missing, no TorchScript, or of another convention.
        """
        self._device = torch.device(device)
        self._network = _load('fvd', file, self._device)
        _try('fvd', file, lambda: self.of(np.zeros((16, 64, 64, 3), np.uint8)))

    @torch.inference_mode()
    def of(self, clip: np.ndarray) -> np.ndarray:
        """Return the features of a clip: uint8[t, h, w, 3] → float64[d]."""
        pixels = torch.from_numpy(np.array(clip)).to(self._device).float()
        video = rearrange(pixels, 't h w c -> 1 c t h w')
        found = self._network(video, rescale=True, resize=True, return_features=True)
        return found.flatten().double().cpu().numpy()


def _load(name: str, file: str | Path, device: torch.device) -> torch.jit.ScriptModule:
    if not Path(file).is_file():
        raise ConfigError(name, expected='a TorchScript file', got=f'no file {file}')
    try:
        return torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        raise ConfigError(
            name,
            expected='a TorchScript file',
            got=f'{file}, which torch.jit.load refuses',
            remedy='Save the network with torch.jit.trace or torch.jit.script.',
        ) from error


def _try(name: str, file: str | Path, call: Callable[[], object]) -> None:
    """Call once on black images, so that a network of another convention is found now."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f'{name}: {file} is of another convention: {error}',
            remedy='See the head of worldvla_ros/evaluate/perceptual.py for what is asked of it.',
        ) from error
