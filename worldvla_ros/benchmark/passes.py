"""The transformer passes that decoding takes, from lengths alone; a test compares with the engine.

Knows the order of decoding. Must not know weights, ids or devices.
"""

from dataclasses import dataclass, replace

import numpy as np

from worldvla_ros.model.cost import Cost, TransformerCost
from worldvla_ros.tokenizers.image import STRUCTURE_IDS
from worldvla_ros.tokenizers.vocab import BINS

HEADER_IDS = STRUCTURE_IDS - 1
"""What precedes the codes of an image."""
AFTER_LAST = 2
"""What follows the last code: a new line and the end."""


@dataclass(frozen=True)
class Pass:
    """One pass of the transformer.

    Attributes:
        tokens: New tokens.
        seen: Tokens that the last of them attends to.
        outputs: Tokens after which ids are scored.
        ids: How many ids are scored.
    """

    tokens: float
    seen: float
    outputs: int = 0
    ids: int = 0

    def without(self, cached: float) -> 'Pass':
        """Return the pass without the tokens that are cached already."""
        return replace(self, tokens=self.tokens - cached)

    def cost(self, counter: TransformerCost, batch: int = 1) -> Cost:
        """Return what the pass costs for so many sequences side by side."""
        layers = counter.run(self.tokens, self.seen, batch)
        scored = batch * self.outputs
        return layers + counter.logits(scored, self.ids) if scored else layers


def chunk_passes(prompt: int, horizon: int, dim: int) -> list[Pass]:
    """Return the passes that decode a chunk, all actions side by side.

    Args:
        prompt: Tokens of the prompt.
        horizon: Actions of the chunk (K).
        dim: Numbers of an action (D).
    """
    fed = [prompt + horizon, *[horizon] * (dim - 1)]
    return [
        Pass(tokens, int(seen), horizon, BINS)
        for tokens, seen in zip(fed, np.cumsum(fed), strict=True)
    ]


def sequential_passes(prompt: int, horizon: int, dim: int) -> list[Pass]:
    """Return the passes that decode a chunk token after token; see `chunk_passes`."""
    block = dim + 2
    steps = [Pass(1, prompt + i + 1, int(i % block < dim), BINS) for i in range(horizon * block)]
    return [Pass(prompt, prompt), *steps]


def image_passes(
    prompt: int, rows: int, columns: int, codebook: int, images: int = 1
) -> list[Pass]:
    """Return the passes that imagine images code by code.

    Args:
        prompt: Tokens of the world prompt.
        rows: Rows of codes of an image.
        columns: Columns of codes.
        codebook: Codes among which one is chosen.
        images: How many images follow.
    """
    new_lines = [1 + (column == 0) for _ in range(rows) for column in range(columns)]
    first, later = prompt + HEADER_IDS, new_lines[0] + STRUCTURE_IDS
    fed = [first, *new_lines[1:], *[later, *new_lines[1:]] * (images - 1)]
    return [
        Pass(tokens, int(seen), 1, codebook)
        for tokens, seen in zip(fed, np.cumsum(fed), strict=True)
    ]


def surprise_passes(
    prompt: int, rows: int, columns: int, codebook: int, images: int = 1
) -> list[Pass]:
    """Return the one pass that scores observed images; see `image_passes`.

    What follows the code before the last is not needed.
    """
    tokens = prompt + images * (rows * (columns + 1) + STRUCTURE_IDS) - AFTER_LAST - 1
    return [Pass(tokens, tokens, images * rows * columns, codebook)]


def window_passes(tokens: int, passes: int, seen: int, window: int, codebook: int) -> list[Pass]:
    """Return passes that look at a window of codes, all taken to be of the same length.

    How many there are depends on how many guesses were right.

    Args:
        tokens: Tokens of all passes.
        passes: How many there were.
        seen: Tokens that the middle one of them saw.
        window: Codes that each looked at.
        codebook: Codes among which one is chosen.
    """
    return [Pass(tokens / passes, seen, window, codebook)] * passes
