"""Free decoding: one id after another, the likeliest of the whole vocabulary, as the reference.

What comes out need not be a chunk. `well_formed` says how much of it is: the whole actions that it
begins with. An end without a start, a start inside an action, an action of more or fewer numbers,
an id among them that is no bin, or any other id where an action must start ends the chunk there.

Knows ids and the grammar of chunks. Must not know caches' insides, prompts' wording or robots.
Legend: P prompt length, D action dimension, d model width.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.inference.caches import Session
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

Logits = Callable[[Tensor], Tensor]


def decode_freely(
    session: Session,
    logits: Logits,
    vocab: Vocabulary,
    prompt: int,
    response: list[int],
    most: int,
) -> tuple[list[int], list[Tensor]]:
    """Go on behind a response of which all ids but the last have been fed.

    Args:
        session: Holds prompt and response.
        logits: Scores of all ids: [d] → [vocabulary].
        vocab: Token ids.
        prompt: Length of the prompt.
        response: At least one id.
        most: Ids that the response may have.

    Returns:
        The response until its sep, and the hidden state [d] before each id that is new.
    """
    response, hidden = list(response), []
    while not _ends(response, vocab) and len(response) < most:
        place = prompt + len(response) - 1
        session.mark(place, open_block(response, vocab))
        ids = torch.tensor([[response[-1]]], device=session.device)
        at = torch.tensor([[place]], device=session.device)
        hidden.append(session.feed(ids, at, place + 1)[0, 0])
        response.append(int(logits(hidden[-1]).argmax()))
    return response, hidden


def _ends(response: list[int], vocab: Vocabulary) -> bool:
    """Whether nothing that follows could still belong to the chunk."""
    restarts = response[-1] == vocab.action_start and open_block(response[:-1], vocab, False) > 0
    return response[-1] == vocab.sep or restarts


def open_block(response: list[int], vocab: Vocabulary, inside: bool = True) -> int:
    """Return the block of a response's last id, or the one that stays open behind it.

    Blocks are counted as the reference's mask does, start by start; 0 is outside of all.
    """
    count, block, last = 0, 0, 0
    for each in response:
        if each == vocab.action_start:
            count += 1
            block = count
        last = block
        if each == vocab.action_end:
            block = 0
    return last if inside else block


def well_formed(response: list[int], vocab: Vocabulary, dim: int) -> np.ndarray:
    """Return the bins of the actions that a response begins with: int64[actions, dim]."""
    size = dim + 2
    whole = len(response) // size
    ids = np.asarray(response[: whole * size], np.int64).reshape(whole, size)
    bins = ids[:, 1:-1] - vocab.action_bin_base
    good = (ids[:, 0] == vocab.action_start) & (ids[:, -1] == vocab.action_end)
    good &= ((bins >= 1) & (bins <= BINS)).all(1)
    return bins[: len(good) if good.all() else int(good.argmin())]
