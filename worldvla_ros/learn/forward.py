"""From batches to what a model says of them.

    batches ─ transformer ─┬─ scores of the supervised tokens          always
                           ├─ hidden states after half the layers      where grounding asks
                           └─ numbers of the continuous action head    where its error is asked for

Knows models and batches. Must not know what is minimised. Legend: b sequences, t tokens, d width,
m supervised tokens, v vocabulary, K horizon, D action dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import functools

import torch
from torch import Tensor

from worldvla_ros.learn.batches import IGNORE, Batch
from worldvla_ros.model.action_head import ActionHead
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer


@dataclass(frozen=True)
class Outputs:
    """What a model says of batches.

    Attributes:
        logits: fp32[m, v], scores of the supervised tokens.
        labels: int64[m].
        batches: Those that were asked about, one per task.
        states: float[b, t, d] per batch, hidden states after the final norm.
        half_way: float[b, t, d] per batch, hidden states that leave the middle layer; empty where
            nobody asked.
        head: fp32[b, K, D] per batch, numbers of the continuous action head, None for a batch
            without chunks; empty where nobody asked.
    """

    logits: Tensor
    labels: Tensor
    batches: tuple[Batch, ...] = ()
    states: tuple[Tensor, ...] = ()
    half_way: tuple[Tensor, ...] = ()
    head: tuple[Tensor | None, ...] = ()

    @functools.cached_property
    def normaliser(self) -> Tensor:
        """The logsumexp of the scores, fp32[m]; several terms share it."""
        return self.logits.logsumexp(-1)


def forward(
    model: Transformer, batches: tuple[Batch, ...], *, half_way: bool = False, head: bool = False
) -> Outputs:
    """Run batches through a model.

    Args:
        model: The model.
        batches: One per task.
        half_way: Whether to keep the hidden states of the middle layer.
        head: Whether to ask the continuous action head, which the model must have.
    """
    states: list[Tensor] = []
    halves: list[Tensor] = []
    asked = model.action_head if head else None
    for batch in batches:
        mask = sequence_mask(batch.positions, batch.roles)
        with _middle_states(model, halves if half_way else None):
            states.append(model(batch.ids, batch.positions, mask))  # [b, t, d]
    pairs = list(zip(batches, states, strict=True))
    # the state of a token scores the token after it
    wanted = [batch.labels[:, 1:] != IGNORE for batch in batches]
    hidden = [state[:, :-1][w] for state, w in zip(states, wanted, strict=True)]
    labels = [batch.labels[:, 1:][w] for batch, w in zip(batches, wanted, strict=True)]
    return Outputs(
        logits=model.logits(torch.cat(hidden)),
        labels=torch.cat(labels),
        batches=batches,
        states=tuple(states),
        half_way=tuple(halves),
        head=tuple(head_numbers(asked, *pair) for pair in pairs) if asked is not None else (),
    )


def head_numbers(head: ActionHead, batch: Batch, states: Tensor) -> Tensor | None:
    """Return a head's numbers for the prompts of a batch: fp32[b, K, D]; None without chunks."""
    if not (batch.roles > 0).any():
        return None
    longest = int(batch.prompt_lengths.max())
    return head(states[:, :longest], batch.prompt_lengths).float()


@contextmanager
def _middle_states(model: Transformer, into: list[Tensor] | None) -> Iterator[None]:
    """Append the hidden states that leave the middle layer to a list, if there is one."""
    if into is None:
        yield
        return
    middle = model.model.layers[(len(model.model.layers) - 1) // 2]
    handle = middle.register_forward_hook(lambda _module, _given, made: into.append(made))
    try:
        yield
    finally:
        handle.remove()
