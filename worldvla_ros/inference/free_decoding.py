"""Free decoding: one id after another, the likeliest of the whole vocabulary.

This is how the official code decodes actions. What comes out need not be a chunk: `well_formed`
says how much of it is, the whole actions that it begins with. An end without a start, a start
inside an action, an action of more or fewer numbers, an id among them that is no bin, or any other
id where an action must start ends the chunk there.

Knows ids and the grammar of chunks. Must not know caches' insides, prompts' wording or robots.
Legend: P prompt length, D action dimension, A well-formed actions, t tokens, d model width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import DecodingError
from worldvla_ros.inference.caches import Session, leading
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

BUDGET = 300
"""Ids that a response may have, whatever the chunk (`max_new_tokens` of the official code)."""


@dataclass(frozen=True)
class FreeDecoder:
    """Decodes responses freely, with one transformer and its vocabulary."""

    fast: FastTransformer
    vocab: Vocabulary

    def room(self, prompt_length: int, chunk_length: int) -> int:
        """Return how many ids a response may have: `BUDGET`, a whole chunk, or what is left.

        Where the model has no positions for so many, free decoding ends with its positions.
        """
        left = self.fast.config.max_position_embeddings - prompt_length
        return max(chunk_length, min(BUDGET, left))

    def go_on(
        self,
        session: Session,
        prompt_length: int,
        response: list[int],
        hidden_before: Tensor,
        *,
        dim: int,
        room: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decode the rest of a response of which all ids but the last have been fed.

        Args:
            session: Holds one prompt and the response so far.
            prompt_length: Tokens of the prompt (P).
            response: At least one id.
            hidden_before: [t, d], hidden state before each id of the response.
            dim: Numbers of an action (D).
            room: Ids that the response may have.

        Returns:
            int64[A, D] bins and float32[A, D] log-probabilities of the actions that the response
            begins with.

        Raises:
            DecodingError: It does not begin with an action.
        """
        response, hidden = self._decode(session, prompt_length, response, room)
        bins = well_formed(response, self.vocab, dim)
        if not len(bins):
            raise DecodingError(
                'the answer of the model does not begin with an action',
                expected=f'actions of {dim} numbers',
                got=f'ids {response[: dim + 2]}',
                remedy='Use a checkpoint trained for this robot, or decoding discrete.',
            )
        rows = torch.cat([hidden_before, *(h[None] for h in hidden)])  # [response, d]
        return bins, self._log_probs(rows, bins)

    def _decode(
        self, session: Session, prompt_length: int, response: list[int], room: int
    ) -> tuple[list[int], list[Tensor]]:
        """Return the response until its sep, and the hidden state [d] before each new id."""
        response, hidden = list(response), []
        device = self.fast.device
        while not self._ends(response) and len(response) < room:
            place = prompt_length + len(response) - 1
            session.set_role(place, action_role(response, self.vocab))
            ids = torch.tensor([[response[-1]]], device=device)
            at = torch.tensor([[place]], device=device)
            hidden.append(session.feed(ids, at, place + 1)[0, 0])
            # the host waits for each id, since the role of the next one depends on it
            response.append(int(self.fast.logits(hidden[-1]).argmax()))
        return response, hidden

    def _ends(self, response: list[int]) -> bool:
        """Whether nothing that follows could still belong to the chunk."""
        open_before = action_role(response[:-1], self.vocab, inside=False) > 0
        restarts = response[-1] == self.vocab.action_start and open_before
        return response[-1] == self.vocab.sep or restarts

    def _log_probs(self, rows: Tensor, bins: np.ndarray) -> np.ndarray:
        """Return float32[A, D], of bins among all bins; `rows` are [response, d]."""
        actions, dim = bins.shape
        places = (dim + 2) * np.arange(actions)[:, None] + np.arange(1, dim + 1)  # [A, D]
        hidden = rows[torch.as_tensor(places, device=rows.device)]  # [A, D, d]
        scores = self.fast.logits(hidden, self.vocab.action_bins).log_softmax(-1)  # [A, D, 256]
        chosen = torch.as_tensor(bins, device=rows.device)[..., None]
        return scores.gather(-1, chosen)[..., 0].cpu().numpy()


def action_role(response: list[int], vocab: Vocabulary, inside: bool = True) -> int:
    """Return the mask role of a response's last id, or the one that stays open behind it.

    Actions are counted as the official mask does, start by start; 0 is outside of all.
    """
    count, role, last = 0, 0, 0
    for each in response:
        if each == vocab.action_start:
            count += 1
            role = count
        last = role
        if each == vocab.action_end:
            role = 0
    return last if inside else role


def well_formed(response: list[int], vocab: Vocabulary, dim: int) -> np.ndarray:
    """Return the bins of the actions that a response begins with: int64[A, dim]."""
    size = dim + 2
    whole = len(response) // size
    ids = np.asarray(response[: whole * size], np.int64).reshape(whole, size)
    bins = ids[:, 1:-1] - vocab.action_bins.start
    good = (ids[:, 0] == vocab.action_start) & (ids[:, -1] == vocab.action_end)
    good &= ((bins >= 0) & (bins < BINS)).all(1)
    return bins[: leading(good)]
