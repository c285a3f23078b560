"""The loss of the continuous action head: mean |prediction - centre of the label's bin|.

(RynnVLA-002, arXiv 2511.17502; repository `modeling_xllmx_chameleon_ck_action_head.py`.) Targets
are the centres of the bins that the labels name, not the raw actions, and the gradient flows on
into the transformer. Sequences whose response is a chunk count; where a chunk was thinned, those
of its actions that were kept. Deviation: the reference knows a chunk by its having more than one
action, so it never trains a head for chunks of one; here the role of the tokens tells.

Knows numbers and labels. Must not know how sequences are made.
Legend: b sequences, n actions kept, K horizon, D action dimension.
"""

import torch
from torch import Tensor

from worldvla_ros.learn.batches import Batch
from worldvla_ros.learn.forward import Outputs
from worldvla_ros.learn.objective import Term
from worldvla_ros.tokenizers.bins import CENTRES
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary


class HeadError(Term[Outputs]):
    """Mean distance of the head's numbers from their labels."""

    name = 'head_error'
    auxiliary = True

    def __init__(self, weight: float, vocab: Vocabulary) -> None:
        """Keep the ids of the labels."""
        super().__init__(weight)
        self._vocab = vocab

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the mean over all numbers of all chunks; 0 where no batch has a chunk."""
        pairs = zip(outputs.batches, outputs.head, strict=True)
        distances = [
            self._distances(batch, numbers).flatten()
            for batch, numbers in pairs
            if numbers is not None
        ]
        if not distances:
            return outputs.logits.new_zeros(())
        return torch.cat(distances).mean()

    def figures(self, outputs: Outputs) -> dict[str, float]:
        """Return the error itself."""
        return {self.name: self(outputs).item()}

    def _distances(self, batch: Batch, numbers: Tensor) -> Tensor:
        """Return |prediction - label| of every number: fp32[b, K, D] → [b, n, D]."""
        steps, targets = labelled_actions(batch, numbers.shape[-1], self._vocab)
        return (numbers.gather(1, steps[..., None].expand_as(targets)) - targets).abs()


def labelled_actions(batch: Batch, dim: int, vocab: Vocabulary) -> tuple[Tensor, Tensor]:
    """Return the actions that the labels of chunks name.

    Returns:
        int64[b, n], the place of each in its chunk, from 0; float32[b, n, D], the centres of its
        bins in [-1, 1].
    """
    bins = batch.labels - vocab.action_bins.start
    shown = (batch.roles > 0) & (bins >= 0) & (bins < BINS)
    shape = (len(bins), -1, dim)
    centres = torch.from_numpy(CENTRES).to(bins.device)
    targets = centres[bins[shown].clamp(max=BINS - 2)].view(shape)
    return batch.roles[shown].view(shape)[..., 0] - 1, targets
