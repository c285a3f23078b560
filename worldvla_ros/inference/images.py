"""Decoding images: guess ahead, check the guesses in one pass, keep what holds.

The response of a world prompt is known but for its codes. Those not decoded yet are guessed, at
first by the codes of the present image, since most of it does not change. One pass gives for each
guess what the model would choose there; up to the first guess that was wrong all are right, and
there the choice itself is right too:

    guess     a b c d e f     choices behind them     a b x d y f
    kept      a b x           next guess              d y f          2 guesses right, 3 codes kept

So each pass keeps at least one code, as decoding code by code does, and the result is the same.
What the model chose behind a wrong guess is the next guess there. Drawing at random is choosing
the likeliest after adding Gumbel noise, drawn once for each place; so what is drawn does not
depend on the guesses either, and has the model's distribution.
(Speculative decoding, arXiv 2211.17192; Jacobi decoding, arXiv 2305.10427; Gumbel-max sampling.)

Several sequences of one length may be decoded side by side.
Knows ids, the layout of images and caches. Must not know pixels.
Legend: b sequences, t tokens, N codes of a response, w codes of a window, c codebook size.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.inference.caches import UNKNOWN, Caches, Session, check_finite
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import SHARED_BLOCK, Sequence
from worldvla_ros.tokenizers.vocab import Vocabulary


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn: among the `top_k` likeliest, after dividing scores by `temperature`."""

    temperature: float
    top_k: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        """Refuse settings that draw nothing.

        Raises:
            ValueError: The temperature is not positive, or `top_k` is below 1.
        """
        if not self.temperature > 0 or self.top_k < 1:
            raise ValueError(
                f'expected temperature > 0 and top_k >= 1, got {self.temperature}, {self.top_k}'
            )

    def noise(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return Gumbel noise: float32[shape]."""
        uniform = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log().to(device)

    def choose(self, scores: Tensor, noise: Tensor) -> Tensor:
        """Draw codes: float32[..., c] twice → int64[...]."""
        best, codes = scores.topk(min(self.top_k, scores.shape[-1]))
        drawn = (best / self.temperature + noise.gather(-1, codes)).argmax(-1, keepdim=True)
        return codes.gather(-1, drawn)[..., 0]


@dataclass(frozen=True)
class Shape:
    """Images of a response: how many, of how many rows and columns of codes."""

    images: int
    rows: int
    columns: int

    @property
    def codes(self) -> int:
        """Codes of all images."""
        return self.images * self.rows * self.columns


@dataclass
class _Work:
    """Sequences while their images are decoded.

    Attributes:
        tokens: int64[b, t + 1], prompts and responses, with guesses where nothing is decoded yet;
            the last column takes what has no place.
        places: int64[N], where the codes are.
        kept: int64[b], how many codes of each sequence are decoded.
        fed: int64[b], how many tokens of each are in the cache and right.
        noise: float32[b, N, c] to draw with, or None.
    """

    tokens: Tensor
    places: np.ndarray
    kept: np.ndarray
    fed: np.ndarray
    noise: Tensor | None


class ImageDecoder:
    """Decodes images with one transformer and its vocabulary."""

    def __init__(self, model: Transformer, vocab: Vocabulary, caches: Caches) -> None:
        """Keep the model; caches are leased for each prompt."""
        self._model, self._vocab, self._caches = model, vocab, caches
        self._device = model.lm_head.weight.device
        self._layout = ImageTokenizer(vocab)
        self._span = slice(vocab.code_base, vocab.code_base + vocab.codebook_size)

    @torch.inference_mode()
    def rollout(
        self, steps: list[list[Sequence]], shape: Shape, window: int, sampling: Sampling | None
    ) -> Iterator[Tensor | None]:
        """Decode images one instant after another, each from the one before.

        Args:
            steps: World prompts of each instant, one per sequence side by side, all of one length;
                from the second instant on, the codes in them stand for those decoded before.
            shape: Images of each response.
            window: Codes looked at in one pass; 1 is code by code.
            sampling: How codes are drawn; the likeliest are taken by default.

        Yields:
            None after each pass that finished no image; int64[b, rows, columns] on the device for
            each that is finished.
        """
        codes = None
        for prompts in steps:
            decoded = []
            for image in self._decode(prompts, codes, shape, window, sampling):
                if image is not None:
                    decoded.append(image)
                yield image
            codes = torch.stack(decoded, 1).flatten(1)

    @torch.inference_mode()
    def surprise(self, prompt: Sequence, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Return how unlikely codes are, each after all before it: float32[rows, columns] [nat].

        One pass, teacher-forced.
        """
        seen = np.concatenate([self._layout.encode(c) for c in codes])
        ids = self._tensor(np.concatenate([prompt.ids, seen]))
        places = len(prompt.ids) + np.flatnonzero(self._is_code(seen))
        end = int(places[-1])
        with self._session([prompt], len(ids)) as session:
            first = min(session.known, len(prompt.ids) - 1)
            positions = torch.arange(first, end, device=self._device)[None]
            hidden = session.feed(ids[None, first:end], positions, end)[0]
            at = self._tensor(places)
            scores = self._model.logits(hidden[at - 1 - first], self._span).log_softmax(-1)
            found = -scores.gather(-1, (ids[at] - self._span.start)[:, None])[:, 0]
            check_finite(found)
        sizes = [c.size for c in codes]
        parts = np.split(found.cpu().numpy(), np.cumsum(sizes)[:-1])
        return [part.reshape(c.shape) for part, c in zip(parts, codes, strict=True)]

    def _decode(
        self,
        prompts: list[Sequence],
        codes: Tensor | None,
        shape: Shape,
        window: int,
        sampling: Sampling | None,
    ) -> Iterator[Tensor | None]:
        """Decode one instant; `codes`, int64[b, N], replace those in the prompts."""
        work = self._start(prompts, codes, shape, sampling)
        per_image, done = shape.rows * shape.columns, 0
        with self._session(prompts, work.tokens.shape[1] - 1, codes is not None) as session:
            self._feed_beginning(session, work, prompts)
            while done < shape.images:
                self._pass(session, work, window, sampling)
                finished = int(work.kept.min()) // per_image
                if finished == done:
                    yield None
                for image in range(done, finished):
                    places = work.places[image * per_image : (image + 1) * per_image]
                    found = work.tokens[:, places] - self._span.start
                    yield found.view(-1, shape.rows, shape.columns)
                done = finished

    def _session(
        self, prompts: list[Sequence], room: int, unknown: bool = False
    ) -> AbstractContextManager[Session]:
        ids = np.stack([p.ids for p in prompts])
        if unknown:
            ids[self._is_code(ids)] = UNKNOWN
        blocks = np.full(room, SHARED_BLOCK)
        blocks[: ids.shape[1]] = prompts[0].blocks
        what = f'prompt of {ids.shape[1]} and images of {room - ids.shape[1]}'
        return self._caches.session(ids, blocks, what)

    def _start(
        self,
        prompts: list[Sequence],
        codes: Tensor | None,
        shape: Shape,
        sampling: Sampling | None,
    ) -> _Work:
        """Lay prompts and responses out, with the codes of the present images as guesses."""
        ids = np.stack([p.ids for p in prompts])
        image = self._layout.encode(np.zeros((shape.rows, shape.columns), np.int64))
        response = np.tile(image, shape.images)
        places = ids.shape[1] + np.flatnonzero(self._is_code(response))
        response = np.tile(response, (len(ids), 1))
        spare = np.zeros((len(ids), 1), np.int64)
        tokens = self._tensor(np.concatenate([ids, response, spare], 1))
        seen = np.flatnonzero(self._is_code(ids[0]))
        if codes is not None:
            tokens[:, seen] = codes + self._span.start
        if len(seen) >= shape.codes:
            tokens[:, places] = tokens[:, seen[-shape.codes :]]
        start = np.zeros(len(ids), np.int64)
        noise = None
        if sampling is not None:
            size = (len(ids), len(places), self._vocab.codebook_size)
            noise = sampling.noise(size, self._device)
        return _Work(tokens, places, start, start.copy(), noise)

    def _feed_beginning(self, session: Session, work: _Work, prompts: list[Sequence]) -> None:
        """Take over what the cache knows; feed once what several prompts begin with."""
        work.fed[:] = min(session.known, len(prompts[0].ids))
        if len(prompts) == 1:
            return
        alike = (work.tokens == work.tokens[:1]).all(0)[: len(prompts[0].ids)]
        shared = len(alike) if bool(alike.all()) else int(alike.int().argmin())
        first = int(work.fed[0])
        if shared > first:
            positions = torch.arange(first, shared, device=self._device)[None]
            session.feed(work.tokens[:1, first:shared], positions, shared)
            session.spread(shared)
            work.fed[:] = shared

    def _pass(self, session: Session, work: _Work, window: int, sampling: Sampling | None) -> None:
        """Feed each sequence up to the last code looked at, and keep what holds."""
        count = len(work.places)
        wanted = work.kept[:, None] + np.arange(min(window, count))  # [b, w]
        real = wanted < count
        wanted = np.minimum(wanted, count - 1)
        hidden = self._feed(session, work, work.places[wanted[:, -1]], work.places[wanted] - 1)
        noise = None if work.noise is None else work.noise[np.arange(len(wanted))[:, None], wanted]
        choices = self._choose(hidden, noise, sampling)
        places = np.where(real, work.places[wanted], work.tokens.shape[1] - 1)
        places = self._tensor(places)
        right = (work.tokens.gather(1, places) == choices).cpu().numpy() & real
        work.tokens.scatter_(1, places, choices)
        kept = np.minimum(1 + right[:, :-1].cumprod(1).sum(1), real.sum(1))
        work.kept = work.kept + kept
        # the last code kept is fed with the next pass
        work.fed = np.where(kept > 0, work.places[np.maximum(work.kept, 1) - 1], work.fed)

    def _feed(self, session: Session, work: _Work, ends: np.ndarray, wanted: np.ndarray) -> Tensor:
        """Feed what is not fed before `ends`, int64[b]; return the hidden states [b, w, d] wanted.

        Sequences that need fewer tokens than others are filled up with padding.
        """
        positions = work.fed[:, None] + np.arange(max(1, int((ends - work.fed).max())))
        real = positions < ends[:, None]
        ids = work.tokens.gather(1, self._tensor(np.where(real, positions, 0)))
        positions = np.where(real, positions, session.padding)
        hidden = session.feed(ids, self._tensor(positions), int(ends.max()))
        rows = self._tensor(np.maximum(wanted - work.fed[:, None], 0))[..., None]
        return hidden.gather(1, rows.expand(-1, -1, hidden.shape[-1]))

    def _choose(self, hidden: Tensor, noise: Tensor | None, sampling: Sampling | None) -> Tensor:
        """Return the ids chosen behind hidden states: [b, w, d] → int64[b, w]."""
        scores = self._model.logits(hidden, self._span)
        best, codes = scores.max(-1)
        check_finite(best)
        if sampling is not None:
            codes = sampling.choose(scores, noise)
        return codes + self._span.start

    def _is_code(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self._span.start) & (ids < self._span.stop)

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(numbers, device=self._device)
