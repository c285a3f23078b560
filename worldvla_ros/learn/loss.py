"""The training loss: class-weighted cross-entropy with a penalty on large logits.

    L = Σ w(y)·CE / Σ w(y) + z · mean(logsumexp²)

(WorldVLA, arXiv 2506.21539, equation for L, as its code implements it: per-token class weights
with one normaliser.) Deviation, switched by `bin_spread`: the target of a bin may be spread over
neighbouring bins, since bins are ordered and one-hot targets do not say so. Legend: m supervised
tokens, v vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldvla_ros.tokenizers.vocab import BINS, Vocabulary


@dataclass(frozen=True)
class Loss:
    """Weights of the loss; see `learn.settings.ModelTraining`."""

    vocab: Vocabulary
    image_weight: float
    z_loss: float
    bin_spread: float
    reference_span: bool = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of supervised tokens: fp32[m, v] scores, int64[m] ids → scalar."""
        normaliser = logits.logsumexp(-1)
        chosen = logits.gather(-1, labels[:, None])[:, 0]
        if self.bin_spread > 0:
            chosen = self._spread(logits, labels, chosen)
        weight = self.class_weights(labels)
        cross_entropy = (weight * (normaliser - chosen)).sum() / weight.sum()
        return cross_entropy + self.z_loss * normaliser.square().mean()

    def class_weights(self, labels: Tensor) -> Tensor:
        """Return the weight of each label: image codes weigh `image_weight`, all others 1.

        The reference's span begins and ends one id early (its ids 3 … 8194, where codes are
        4 … 8195); `reference_span` does the same.
        """
        early = int(self.reference_span)
        span = self.vocab.codes
        code = (labels >= span.start - early) & (labels < span.stop - early)
        return torch.where(code, self.image_weight, 1.0)

    def _spread(self, logits: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
        """Replace the score of a bin by the mean score under a normal distribution around it."""
        span = self.vocab.action_bins
        bins = labels - span.start
        is_bin = (bins >= 0) & (bins < BINS)
        targets = bin_targets(self.bin_spread, labels.device)[bins[is_bin]]  # [m', 256]
        spread = (targets * logits[is_bin, span]).sum(-1)
        return chosen.masked_scatter(is_bin, spread)


def bin_targets(spread: float, device: torch.device) -> Tensor:
    """Return the target over bins for each true bin: float32[256, 256], rows sum to 1."""
    index = torch.arange(BINS, device=device, dtype=torch.float32)
    return functional.softmax(-((index[:, None] - index) ** 2) / (2 * spread**2), dim=-1)
