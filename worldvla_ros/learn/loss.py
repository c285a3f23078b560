"""The two terms that the paper trains with: class-weighted cross-entropy, and large logits.

    L = Σ w(y)·CE / Σ w(y) + z · mean(logsumexp²)

(WorldVLA, arXiv 2506.21539, equation for L, as its code implements it: per-token class weights
with one normaliser.) Deviation, switched by `bin_spread`: the target of a bin may be spread over
neighbouring bins, since bins are ordered and one-hot targets do not say so. Legend: m supervised
tokens, v vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional

from worldvla_ros.learn.forward import Outputs
from worldvla_ros.learn.objective import Term
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary


class CrossEntropy(Term[Outputs]):
    """Cross-entropy of the supervised tokens, weighted by class."""

    name = 'cross_entropy'

    def __init__(
        self,
        vocab: Vocabulary,
        image_weight: float,
        bin_spread: float = 0.0,
        reference_span: bool = False,
    ) -> None:
        """Keep what `learn.settings.ModelTraining` says of the names."""
        super().__init__()
        self._vocab, self._image_weight = vocab, image_weight
        self._bin_spread, self._reference_span = bin_spread, reference_span

    def forward(self, outputs: Outputs) -> Tensor:
        """Return Σ w(y)·CE / Σ w(y)."""
        logits, labels = outputs.logits, outputs.labels
        chosen = logits.gather(-1, labels[:, None])[:, 0]  # [m]
        if self._bin_spread > 0:
            chosen = self._spread(logits, labels, chosen)
        weight = self.class_weights(labels)
        return (weight * (outputs.normaliser - chosen)).sum() / weight.sum()

    def class_weights(self, labels: Tensor) -> Tensor:
        """Return the weight of each label: image codes weigh `image_weight`, all others 1.

        The reference's span begins and ends one id early (its ids 3 … 8194, where codes are
        4 … 8195); `reference_span` does the same.
        """
        early, span = int(self._reference_span), self._vocab.codes
        code = (labels >= span.start - early) & (labels < span.stop - early)
        return torch.where(code, self._image_weight, 1.0)

    def figures(self, outputs: Outputs) -> dict[str, float]:
        """Return `token_figures`."""
        return token_figures(outputs.logits, outputs.labels, self._vocab)

    def _spread(self, logits: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
        """Replace the score of a bin by the mean score under a normal distribution around it."""
        span = self._vocab.action_bins
        bins = labels - span.start
        is_bin = (bins >= 0) & (bins < BINS)
        targets = bin_targets(self._bin_spread, labels.device)[bins[is_bin]]  # [bins, 256]
        spread = (targets * logits[is_bin, span]).sum(-1)
        return chosen.masked_scatter(is_bin, spread)


class ZLoss(Term[Outputs]):
    """Mean of logsumexp², which keeps logits from growing."""

    name = 'z_loss'

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the mean over supervised tokens."""
        return outputs.normaliser.square().mean()


def bin_targets(spread: float, device: torch.device) -> Tensor:
    """Return the target over bins for each true bin: float32[256, 256], rows sum to 1."""
    index = torch.arange(BINS, device=device, dtype=torch.float32)
    return functional.softmax(-((index[:, None] - index) ** 2) / (2 * spread**2), dim=-1)


def token_figures(logits: Tensor, labels: Tensor, vocab: Vocabulary) -> dict[str, float]:
    """Return teacher-forced figures of supervised tokens: fp32[m, v] scores, int64[m] ids.

    Returns:
        action_error: Mean distance of the best bin from the true one, in action units of a [-1, 1]
            range.
        action_accuracy: Share of bins hit within one bin.
        code_accuracy: Share of image codes hit.
    """
    bins = vocab.action_bins
    is_bin = (labels >= bins.start) & (labels < bins.stop)
    best = logits[is_bin, bins].argmax(-1)
    distance = (best - (labels[is_bin] - bins.start)).abs().float()
    codes = vocab.codes
    is_code = (labels >= codes.start) & (labels < codes.stop)
    hit = logits[is_code, codes].argmax(-1) == labels[is_code] - codes.start
    return {
        'action_error': (distance.mean() * 2 / (BINS - 1)).item(),
        'action_accuracy': (distance <= 1).float().mean().item(),
        'code_accuracy': hit.float().mean().item(),
    }
