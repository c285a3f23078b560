"""Training of the image tokenizer on recorded images.

Reconstruction (L1 + L2, more where something stands before the mean background), image gradients,
and a codebook that follows moving averages of the latents (van den Oord et al. 2017, appendix A.1)
with restarts of unused codes. No adversarial part: on flat-shaded images it brought nothing that
the gradient term does not.

Knows pixels and codes. Must not know token ids. Legend: b batch, z latent width, r, c rows and
columns.
"""

import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import trange

from worldvla_ros.learn.landmarks import Landmarks
from worldvla_ros.learn.runs import Run, trapezoid
from worldvla_ros.learn.settings import ImageTraining
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig, to_pixels
from worldvla_ros.tokenizers.image import fit_image

LOG = logging.getLogger(__name__)


class CodebookAverages:
    """Moving averages that move the codebook towards the latents assigned to each code."""

    def __init__(self, vqgan: VQGAN, settings: ImageTraining) -> None:
        """Start from the present codebook."""
        self._table = vqgan.quantize.embedding.weight
        self._settings = settings
        self._count = torch.ones(len(self._table))
        self._sum = self._table.detach().clone()

    def start(self, latents: Tensor) -> None:
        """Place the codes on random latents: float[many, z]."""
        chosen = latents[torch.randint(len(latents), (len(self._table),))]
        self._sum = chosen.clone()
        self._count.fill_(1.0)
        self._table.data.copy_(chosen)

    def update(self, latents: Tensor, codes: Tensor) -> None:
        """Follow latents float[many, z] assigned to codes int64[many]; restart unused codes."""
        decay = self._settings.codebook_decay
        count = torch.bincount(codes, minlength=len(self._table)).float()
        total = torch.zeros_like(self._sum).index_add_(0, codes, latents)
        self._count.mul_(decay).add_(count, alpha=1 - decay)
        self._sum.mul_(decay).add_(total, alpha=1 - decay)
        dead = (self._count < self._settings.restart_below).nonzero()[:, 0]
        if len(dead):
            chosen = latents[torch.randint(len(latents), (len(dead),))]
            self._sum[dead] = chosen
            self._count[dead] = 1.0
        self._table.data.copy_(self._sum / self._count[:, None].clamp_min(1e-5))

    def state_dict(self) -> dict:
        """Return what is needed to resume."""
        return {'count': self._count, 'sum': self._sum}

    def load_state_dict(self, state: dict) -> None:
        """Resume."""
        self._count, self._sum = state['count'], state['sum']


def fit_images(images: np.ndarray, size: int, reduction: int) -> np.ndarray:
    """Return images at the model's size: uint8[n, h, w, 3] → uint8[n, size, size, 3]."""
    return np.stack([fit_image(i, size, 2 * reduction) for i in images])


def reconstruction_loss(
    made: Tensor, pixels: Tensor, mean: Tensor, settings: ImageTraining
) -> Tensor:
    """Return the weighted difference of two batches of pixels float[b, 3, h, w]."""
    distance = (pixels - mean).abs().amax(1, keepdim=True)
    weight = 1 + settings.foreground * (distance / 0.3).clamp(max=1)
    error = made - pixels
    loss = (weight * (error.abs() + error.square())).mean() / weight.mean()
    for dim in (2, 3):
        loss = loss + settings.edges * error.diff(dim=dim).abs().mean()
    return loss


def train_vqgan(
    config: VQGANConfig,
    settings: ImageTraining,
    images: np.ndarray,
    places: np.ndarray,
    run: Run,
) -> VQGAN:
    """Train, resuming the run if it has a state.

    Args:
        config: Sizes of the network.
        settings: Steps and weights.
        images: uint8[n, h, w, 3].
        places: float32[n, objects, 2], column and row of each object in each image, 0 … 1; NaN
            where it is not there or nobody knows.
        run: Where log and state go.
    """
    vqgan = VQGAN(config).train().to(memory_format=torch.channels_last)  # faster on CPUs
    averages = CodebookAverages(vqgan, settings)
    landmarks = Landmarks(config.embed_dim, places.shape[1])
    trained = [p for n, p in vqgan.named_parameters() if not n.startswith('quantize')]
    trained += landmarks.parameters()
    optimiser = torch.optim.AdamW(trained, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
    parts = {'vqgan': vqgan, 'averages': averages, 'landmarks': landmarks, 'optimiser': optimiser}
    step = _resume(run, parts)
    sample = images[:: max(1, len(images) // 500)]
    mean = to_pixels(torch.from_numpy(sample)).mean(0, keepdim=True)
    progress = trange(
        step,
        settings.steps,
        desc='image tokenizer',
        initial=step,
        total=settings.steps,
        mininterval=5,
    )
    for step in progress:
        factor = trapezoid(step, settings.steps, 100, 0.3)
        for group in optimiser.param_groups:
            group['lr'] = settings.learning_rate * factor
        chosen = np.random.default_rng(step).integers(len(images), size=settings.batch)
        pixels = to_pixels(torch.from_numpy(images[chosen]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        loss, latents = _step(vqgan, averages, pixels, mean, step, settings)
        if settings.landmarks:
            shown = torch.from_numpy(places[chosen])
            loss = loss + settings.landmarks * landmarks.loss(latents, shown)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if step % 50 == 0:
            run.log(step=step, loss=round(loss.item(), 5))
            progress.set_postfix(loss=f'{loss.item():.4f}')
        if (step + 1) % 500 == 0 or step + 1 == settings.steps:
            states = {name: part.state_dict() for name, part in parts.items()}
            run.save(states | {'step': step + 1})
    return vqgan.eval().requires_grad_(False)


def _step(
    vqgan: VQGAN,
    averages: CodebookAverages,
    pixels: Tensor,
    mean: Tensor,
    step: int,
    settings: ImageTraining,
) -> tuple[Tensor, Tensor]:
    """Return the loss of one batch and its latents as quantised, moving the codebook along."""
    latents = vqgan.latents(pixels)
    if step < settings.continuous_steps:
        return reconstruction_loss(vqgan.pixels(latents), pixels, mean, settings), latents
    flat = latents.detach().movedim(1, -1).flatten(0, 2)
    if step == settings.continuous_steps:
        averages.start(_many_latents(vqgan, pixels, flat))
    codes = vqgan.quantize.codes(latents.detach())
    chosen = vqgan.quantize(codes).detach()
    through = latents + (chosen - latents).detach()
    loss = reconstruction_loss(vqgan.pixels(through), pixels, mean, settings)
    averages.update(flat, codes.flatten())
    return loss + settings.commitment * functional.mse_loss(latents, chosen), through


def _many_latents(vqgan: VQGAN, pixels: Tensor, flat: Tensor) -> Tensor:
    """Return latents to start the codebook from, with a little noise so that none coincide."""
    repeated = flat.repeat(1 + len(vqgan.quantize.embedding.weight) // len(flat), 1)
    return repeated + 0.01 * repeated.std() * torch.randn_like(repeated)


def _resume(run: Run, parts: dict) -> int:
    state = run.load()
    if state is None:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    LOG.info('image tokenizer: resuming at step %d', state['step'])
    return state['step']
