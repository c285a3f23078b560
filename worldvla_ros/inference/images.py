"""Decoding images: guess ahead, check the guesses in one pass, keep what holds.

A prompt of P tokens and the response with one image of 2 × 2 codes a b c d; ↵ is a new line:

    column         P      P+1   P+2   P+3  P+4  P+5  P+6  P+7  P+8  P+9
    token          start  grid  grid  a    b    ↵    c    d    ↵    end
    code_columns                      P+3  P+4       P+6  P+7

The response is known but for its codes; the hidden state in the column before a code gives the
scores of that code. Codes not decoded yet are guessed, at first by those of the present image,
since most of it does not change. One pass gives for each guess what the model would choose there;
up to the first guess that was wrong all are right, and there the choice itself is right too:

    guess     a b c d e f     choices behind them     a b x d y f
    kept      a b x           next guess              d y f          2 guesses right, 3 codes kept

So each pass keeps at least one code, as decoding code by code does, and the result is the same.
What the model chose behind a wrong guess is the next guess there. Drawing at random is choosing
the likeliest after adding Gumbel noise, drawn once for each place; so what is drawn does not
depend on the guesses either, and has the model's distribution.
(Speculative decoding, arXiv 2211.17192; Jacobi decoding, arXiv 2305.10427; Gumbel-max sampling.)

Several sequences of one length may be decoded side by side, each as a row of its own:

    row 0   ■ ■ ■ ■ ■ ■ ■ a b ↵ c          ■ cached_count: in the cache, not fed again
    row 1   ■ ■ ■ ■ ■ ■ ■ a b ↵ c d ↵      up to the last code of the window: fed in this pass

Knows ids, the layout of images and caches. Must not know pixels.
Legend: b sequences, t tokens, N codes of a response, w codes of a window, c codebook size.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.inference.caches import Caches, Session, check_finite, leading, not_finite
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import SHARED_ROLE, UNDECIDED, Sequence
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
class _Task:
    """What is decoded at each instant: so many images of this grid, looking so far ahead."""

    images: int
    rows: int
    columns: int
    window: int
    sampling: Sampling | None

    @property
    def codes(self) -> int:
        """Codes of all images (N)."""
        return self.images * self.rows * self.columns


@dataclass
class _Rows:
    """Sequences while their images are decoded.

    Attributes:
        tokens: int64[b, t + 1], prompts and responses, with guesses where nothing is decoded yet;
            the spare last column takes what has no place.
        code_columns: int64[N], the columns of the codes of the response.
        decoded_count: int64[b], how many codes of each sequence are decoded.
        cached_count: int64[b], how many tokens of each are in the cache and right.
        noise: float32[b, N, c] to draw with, or None.
    """

    tokens: Tensor
    code_columns: np.ndarray
    decoded_count: np.ndarray
    cached_count: np.ndarray
    noise: Tensor | None


class ImageDecoder:
    """Decodes images with one transformer and its vocabulary.

    Attributes:
        window: Codes looked at in one pass; the result does not depend on it.
    """

    def __init__(
        self, fast: FastTransformer, vocab: Vocabulary, caches: Caches, window: int
    ) -> None:
        """Keep the model; caches are leased for each prompt."""
        self._fast, self._vocab, self._caches = fast, vocab, caches
        self._layout = ImageTokenizer(vocab)
        self._code_span = vocab.codes
        self.window = window

    def imagine(
        self,
        prompt: Sequence,
        rows: int,
        columns: int,
        images: int = 1,
        *,
        speculative: bool = True,
        sampling: Sampling | None = None,
    ) -> Iterator[np.ndarray | None]:
        """Decode the images that follow one world prompt, see `rollout`.

        Yields:
            None after each pass that did not finish an image, int64[rows, columns] codes for each
            image that is finished.
        """
        for image in self.rollout(
            [[prompt]], rows, columns, images, speculative=speculative, sampling=sampling
        ):
            yield None if image is None else image[0]

    @torch.inference_mode()
    def rollout(
        self,
        steps: list[list[Sequence]],
        rows: int,
        columns: int,
        images: int = 1,
        *,
        speculative: bool = True,
        sampling: Sampling | None = None,
    ) -> Iterator[np.ndarray | None]:
        """Decode images instant after instant, for several sequences side by side.

        Args:
            steps: World prompts of each instant, one per sequence, all of one length. Those of the
                first instant are complete; in later ones `UNDECIDED` stands in place of codes, and
                the codes decoded at the instant before take these places.
            rows: Rows of codes of each image, even.
            columns: Columns of codes of each image, even.
            images: Images of each instant, one per camera.
            speculative: Whether to guess ahead; the result is the same.
            sampling: How codes are drawn; the likeliest are taken by default.

        Yields:
            None after each pass that did not finish an image, int64[b, rows, columns] codes for
            each image that is finished by all sequences.

        Raises:
            CheckpointError: A sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
            ValueError: The places left open in a prompt are not as many as the codes before it.
        """
        task = _Task(images, rows, columns, self.window if speculative else 1, sampling)
        codes = None
        for prompts in steps:
            finished = []
            for image in self._decode(prompts, codes, task):
                if image is not None:
                    finished.append(image)
                # an image is brought to the host when it is done; the codes stay on the device too
                yield None if image is None else image.cpu().numpy()
            codes = torch.stack(finished, 1).flatten(1)  # [b, N]

    @torch.inference_mode()
    def surprise(self, prompt: Sequence, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Return how unlikely images are behind a world prompt, in one pass, teacher-forced.

        Args:
            prompt: A world prompt.
            codes: int64[rows, columns] of each image, one per camera.

        Returns:
            float32[rows, columns] of each: minus log-probability of each code among all codes,
            given the prompt and the codes before it [nat].

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        response = np.concatenate([self._layout.encode(c) for c in codes])
        ids = self._tensor(np.concatenate([prompt.ids, response]))  # [t]
        code_columns = len(prompt.ids) + np.flatnonzero(self._is_code(response))  # [N]
        end = int(code_columns[-1])  # the last code itself need not be fed
        with self._session(prompt.ids[None], prompt.roles, len(ids)) as session:
            first = min(session.cached_count, len(prompt.ids) - 1)
            positions = torch.arange(first, end, device=self._fast.device)[None]
            hidden = session.feed(ids[None, first:end], positions, end)[0]  # [end - first, d]
            columns = self._tensor(code_columns)
            before = hidden[columns - 1 - first]  # [N, d], hidden state before each code
            scores = self._fast.logits(before, self._code_span).log_softmax(-1)  # [N, c]
            observed = (ids[columns] - self._code_span.start)[:, None]
            surprise = -scores.gather(-1, observed)[:, 0]  # [N]
            check_finite(surprise)
        parts = np.split(surprise.cpu().numpy(), np.cumsum([c.size for c in codes])[:-1])
        return [part.reshape(c.shape) for part, c in zip(parts, codes, strict=True)]

    def _decode(
        self, prompts: list[Sequence], codes: Tensor | None, task: _Task
    ) -> Iterator[Tensor | None]:
        """Decode one instant; `codes`, int64[b, N], are those of the instant before.

        Yields:
            As `rollout`, but on the device.
        """
        rows = self._start(prompts, codes, task)
        per_image, done = task.rows * task.columns, 0
        ids = np.stack([p.ids for p in prompts])
        room = rows.tokens.shape[1] - 1
        with self._session(ids, prompts[0].roles, room) as session:
            self._feed_beginning(session, rows, ids.shape[1])
            while done < task.images:
                self._pass(session, rows, task)
                finished = int(rows.decoded_count.min()) // per_image
                if finished == done:
                    yield None
                for image in range(done, finished):
                    columns = rows.code_columns[image * per_image : (image + 1) * per_image]
                    image_codes = rows.tokens[:, columns] - self._code_span.start
                    yield image_codes.view(-1, task.rows, task.columns)
                done = finished

    def _session(
        self, ids: np.ndarray, prompt_roles: np.ndarray, room: int
    ) -> AbstractContextManager[Session]:
        """Lease a cache for prompts, int64[b, P], of which all have the same roles."""
        roles = np.full((len(ids), room), SHARED_ROLE)
        roles[:, : ids.shape[1]] = prompt_roles
        what = f'prompt of {ids.shape[1]} and images of {room - ids.shape[1]}'
        return self._caches.session(ids, roles, what)

    def _start(self, prompts: list[Sequence], codes: Tensor | None, task: _Task) -> _Rows:
        """Lay prompts and responses out, with the codes of the present images as guesses."""
        ids = np.stack([p.ids for p in prompts])  # [b, P]
        image = self._layout.encode(np.zeros((task.rows, task.columns), np.int64))
        response = np.tile(image, task.images)
        code_columns = ids.shape[1] + np.flatnonzero(self._is_code(response))
        spare = np.zeros(1, np.int64)
        behind = np.tile(np.concatenate([response, spare]), (len(ids), 1))
        tokens = self._tensor(np.concatenate([ids, behind], 1))  # [b, t + 1]
        seen = self._fill_undecided(tokens, ids, codes)
        if len(seen) >= task.codes:
            tokens[:, code_columns] = tokens[:, seen[-task.codes :]]
        none = np.zeros(len(ids), np.int64)
        return _Rows(tokens, code_columns, none, none.copy(), self._noise(len(ids), task))

    def _fill_undecided(self, tokens: Tensor, ids: np.ndarray, codes: Tensor | None) -> np.ndarray:
        """Put the codes of the instant before where prompts leave them open.

        Returns:
            int64[n], the columns of all codes of the prompts.
        """
        undecided = np.flatnonzero(ids[0] == UNDECIDED)
        open_count, given = len(undecided), 0 if codes is None else codes.shape[1]
        if open_count not in (0, given):
            raise ValueError(f'expected {given} open places in a prompt, got {open_count}')
        if codes is not None and open_count:
            tokens[:, undecided] = codes + self._code_span.start
        return np.flatnonzero(self._is_code(ids[0]) | (ids[0] == UNDECIDED))

    def _noise(self, batch: int, task: _Task) -> Tensor | None:
        """Return what codes are drawn with, once for each place: float32[b, N, c]."""
        if task.sampling is None:
            return None
        size = (batch, task.codes, self._vocab.codebook_size)
        return task.sampling.noise(size, self._fast.device)

    def _feed_beginning(self, session: Session, rows: _Rows, prompt_length: int) -> None:
        """Take over what is cached; feed once what several prompts begin with."""
        rows.cached_count[:] = min(session.cached_count, prompt_length)
        if len(rows.tokens) == 1:
            return
        prompts = rows.tokens[:, :prompt_length]
        # the host waits here, since the prompts' codes may be on the device alone
        shared = leading((prompts == prompts[:1]).all(0).cpu().numpy())
        first = int(rows.cached_count[0])
        if shared > first:
            positions = torch.arange(first, shared, device=self._fast.device)[None]
            session.feed(rows.tokens[:1, first:shared], positions, shared)
            session.copy_first(shared)
            rows.cached_count[:] = shared

    def _pass(self, session: Session, rows: _Rows, task: _Task) -> None:
        """Feed each sequence up to the last code of its window, and keep what holds."""
        code_count = len(rows.code_columns)
        window = rows.decoded_count[:, None] + np.arange(min(task.window, code_count))  # [b, w]
        inside = window < code_count  # sequences that are nearly done look at less
        window = np.minimum(window, code_count - 1)
        columns = rows.code_columns[window]  # [b, w]
        hidden = self._feed(session, rows, columns)  # [b, w, d]
        scores = self._fast.logits(hidden, self._code_span)  # [b, w, c]
        best, choices = scores.max(-1)  # [b, w]
        if task.sampling is not None and rows.noise is not None:
            noise = rows.noise[np.arange(len(window))[:, None], window]  # [b, w, c]
            choices = task.sampling.choose(scores, noise)
        choices = choices + self._code_span.start
        spare = rows.tokens.shape[1] - 1
        targets = self._tensor(np.where(inside, columns, spare))
        right = self._replace(rows, targets, choices, best)
        self._count(rows, right, inside)

    def _feed(self, session: Session, rows: _Rows, columns: np.ndarray) -> Tensor:
        """Feed what is not cached before the last of `columns`, int64[b, w].

        Sequences that need fewer tokens than others are filled up with padding.

        Returns:
            [b, w, d], the hidden state before each of the columns.
        """
        ends, first = columns[:, -1:], rows.cached_count[:, None]  # [b, 1]
        positions = first + np.arange(max(1, int((ends - first).max())))  # [b, t]
        real = positions < ends
        ids = rows.tokens.gather(1, self._tensor(np.where(real, positions, 0)))
        positions = np.where(real, positions, session.padding)
        hidden = session.feed(ids, self._tensor(positions), int(ends.max()))  # [b, t, d]
        before = self._tensor(np.maximum(columns - 1 - first, 0))[..., None]  # [b, w, 1]
        return hidden.gather(1, before.expand(-1, -1, hidden.shape[-1]))

    def _replace(self, rows: _Rows, columns: Tensor, choices: Tensor, best: Tensor) -> np.ndarray:
        """Put choices in place of guesses: columns, choices and best scores are [b, w].

        Returns:
            bool[b, w], which guesses were right. The host waits for this in each pass, since it
            decides which tokens are fed next, and learns at once whether the scores are finite.
        """
        right = rows.tokens.gather(1, columns) == choices
        rows.tokens.scatter_(1, columns, choices)
        flags = torch.stack([right, best.isfinite()]).cpu().numpy()
        if not flags[1].all():
            raise not_finite()
        return flags[0]

    def _count(self, rows: _Rows, right: np.ndarray, inside: np.ndarray) -> None:
        """Count the codes that are decoded now: guesses up to the first wrong one, and its choice.

        `right` and `inside` are bool[b, w]: right guesses, and codes that the sequence has.
        """
        holds = (right & inside)[:, :-1]
        kept = np.minimum(1 + holds.cumprod(1).sum(1), inside.sum(1))  # [b]
        rows.decoded_count = rows.decoded_count + kept
        # the last code kept is fed with the next pass
        last_kept = rows.code_columns[np.maximum(rows.decoded_count, 1) - 1]
        rows.cached_count = np.where(kept > 0, last_kept, rows.cached_count)

    def _is_code(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self._code_span.start) & (ids < self._code_span.stop)

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(numbers, device=self._fast.device)
