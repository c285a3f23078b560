"""The only place with token ids.

Knows which id means what, for the published vocabulary and for compact ones. Must not know how
text, images or actions are turned into codes and bins. A *code* is an index into the image
codebook and a *bin* is an index into the edges of a number range; neither is a token id until it
passes here.

    published (Chameleon, 65,536 ids)        compact (`compact`)
    0  bos   1 pad   2 eos                   0 bos   1 pad   2 sep
    4…8195   image codes                     3…9     starts, ends, new line
    8196/7   image end/start                 10…     grid, action bins, state bins
    8710     sep                             …       image codes
    8803     new line   8804+n  grid n       …       text
    10004 / 10005+d / 15004   action start, bin d, end
    15504 / 15505+d / 16004   state start, bin d, end
"""

from dataclasses import dataclass, fields

from worldvla_ros.errors import CheckpointError

BINS = 256
"""Number of edges of a quantised range; bins are numbered 1…256 (see tokenizers/action.py)."""

MAX_GRID = 64
"""Largest grid number of a compact vocabulary: images of up to 128 × 128 codes."""


@dataclass(frozen=True)
class Vocabulary:
    """Token ids by name.

    `grid_base + n`, `code_base + code`, `*_bin_base + bin` and `text_base + text_id` are ids.

    Attributes:
        size: Number of ids.
        codebook_size: Number of image codes.
        text_size: Number of ids that the text tokenizer may produce.
    """

    size: int
    codebook_size: int
    text_size: int
    bos: int
    pad: int
    sep: int
    image_start: int
    image_end: int
    new_line: int
    action_start: int
    action_end: int
    state_start: int
    state_end: int
    grid_base: int
    action_bin_base: int
    state_bin_base: int
    code_base: int
    text_base: int

    def __post_init__(self) -> None:
        """Check that every id lies inside the vocabulary.

        Raises:
            CheckpointError: An id lies outside.
        """
        spans = {
            'code_base': self.codebook_size - 1,
            'text_base': self.text_size - 1,
            'action_bin_base': BINS,
            'state_bin_base': BINS,
        }
        names = [
            f.name for f in fields(self) if f.name not in ('size', 'codebook_size', 'text_size')
        ]
        for name in names:
            first, last = getattr(self, name), getattr(self, name) + spans.get(name, 0)
            if not 0 <= first <= last < self.size:
                raise CheckpointError(
                    f'vocabulary: {name}',
                    expected=f'ids in 0 … {self.size - 1}',
                    got=f'{first} … {last}',
                )

    def is_code(self, token_id: int) -> bool:
        """Whether the id is an image code."""
        return self.code_base <= token_id < self.code_base + self.codebook_size


PUBLISHED = Vocabulary(
    size=65536,
    codebook_size=8192,
    text_size=65536,
    bos=0,
    pad=1,
    sep=8710,
    image_start=8197,
    image_end=8196,
    new_line=8803,
    action_start=10004,
    action_end=15004,
    state_start=15504,
    state_end=16004,
    grid_base=8804,
    action_bin_base=10005,
    state_bin_base=15505,
    code_base=4,
    text_base=0,
)
"""Ids of WorldVLA and RynnVLA-002 (Chameleon's reserved ids, `<reservedN>` = N + 4)."""


def compact(codebook_size: int, text_size: int) -> Vocabulary:
    """Return a small vocabulary with the same kinds of token as the published one."""
    grid_base = 10
    action_bin_base = grid_base + MAX_GRID
    state_bin_base = action_bin_base + BINS
    code_base = state_bin_base + BINS + 1
    text_base = code_base + codebook_size
    return Vocabulary(
        size=text_base + text_size,
        codebook_size=codebook_size,
        text_size=text_size,
        bos=0,
        pad=1,
        sep=2,
        image_start=3,
        image_end=4,
        new_line=5,
        action_start=6,
        action_end=7,
        state_start=8,
        state_end=9,
        grid_base=grid_base,
        action_bin_base=action_bin_base,
        state_bin_base=state_bin_base,
        code_base=code_base,
        text_base=text_base,
    )
