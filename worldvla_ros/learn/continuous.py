"""The loss of the continuous action head: mean |prediction - centre of the label's bin|.

(RynnVLA-002, arXiv 2511.17502; repository `modeling_xllmx_chameleon_ck_action_head.py`.) Targets
are the centres of the bins that the labels name, not the raw actions, and the gradient flows on
into the transformer. Sequences whose response is a chunk count; where a chunk was thinned, those
of its actions that were kept. Deviation: the reference knows a chunk by its having more than one
action, so it never trains a head for chunks of one; here the role of the tokens tells.

Knows hidden states and labels. Must not know how sequences are made.
Legend: b sequences, t tokens, d width, n actions kept, K horizon, D action dimension.
"""

import torch
from torch import Tensor

from worldvla_ros.learn.mixture import Batch
from worldvla_ros.model.action_head import ActionHead
from worldvla_ros.tokenizers.bins import CENTRES
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary


def head_error(
    head: ActionHead, batches: tuple[Batch, ...], states: list[Tensor], vocab: Vocabulary
) -> Tensor:
    """Return the mean distance of the head's numbers from their labels: an fp32 scalar.

    Args:
        head: The head.
        batches: Batches of both tasks; 0 is returned where none has a chunk.
        states: float[b, t, d] per batch, hidden states after the final norm.
        vocab: Ids of the labels.
    """
    distances = [
        _distances(head, batch, hidden, vocab).flatten()
        for batch, hidden in zip(batches, states, strict=True)
        if (batch.blocks > 0).any()
    ]
    if not distances:
        return torch.zeros((), device=states[0].device)
    return torch.cat(distances).mean()


def labelled_actions(batch: Batch, dim: int, vocab: Vocabulary) -> tuple[Tensor, Tensor]:
    """Return the actions that the labels of chunks name.

    Returns:
        int64[b, n], the place of each in its chunk, from 0; float32[b, n, D], the centres of its
        bins in [-1, 1].
    """
    bins = batch.labels - vocab.action_bins.start
    shown = (batch.blocks > 0) & (bins >= 0) & (bins < BINS)
    shape = (len(bins), -1, dim)
    centres = torch.from_numpy(CENTRES).to(bins.device)
    targets = centres[bins[shown].clamp(max=BINS - 2)].view(shape)
    return batch.blocks[shown].view(shape)[..., 0] - 1, targets


def _distances(head: ActionHead, batch: Batch, hidden: Tensor, vocab: Vocabulary) -> Tensor:
    """Return |prediction - label| of every number: fp32[b, n, D]."""
    longest = int(batch.prompt_lengths.max())
    made = head(hidden[:, :longest], batch.prompt_lengths).float()  # [b, K, D]
    places, targets = labelled_actions(batch, head.config.dim, vocab)
    return (made.gather(1, places[..., None].expand_as(targets)) - targets).abs()
