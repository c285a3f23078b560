"""A codebook that follows moving averages of its latents (van den Oord et al. 2017, appendix A.1).

Codes that are hardly used restart at a random latent. Knows latents and codes. Must not know
pixels. Legend: z latent width.
"""

import torch
from torch import Tensor

from worldvla_ros.learn.settings import ImageTraining
from worldvla_ros.model.vqgan import VQGAN


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
