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

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
import functools
from itertools import pairwise

from worldvla_ros.errors import CheckpointError

BINS = 256
"""Number of edges of a quantised range, and of bins (see bins.py)."""

MAX_GRID = 64
"""Largest grid number: images of up to 128 × 128 codes."""

MARKS = ('bos', 'pad', 'sep', 'image_start', 'image_end', 'new_line',
         'action_start', 'action_end', 'state_start', 'state_end')  # fmt: skip
"""Fields of the vocabulary that are single ids."""


@dataclass(frozen=True)
class Vocabulary:
    """Token ids by name.

    `grid_base + n` and `text_base + text_id` are ids, and so are `codes.start + code`,
    `action_bins.start + bin` and `state_bins.start + bin`. (The two bases of bins are stored as
    the papers number bins, from 1.)

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
        """Check that every id lies inside the vocabulary and has one meaning.

        Raises:
            CheckpointError: An id lies outside, or two kinds of id overlap.
        """
        spans = {
            'code_base': self.codebook_size - 1,
            'text_base': self.text_size - 1,
            'grid_base': MAX_GRID,
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
        self._check_disjoint()

    @property
    def codes(self) -> slice:
        """Ids of the image codes 0 … codebook_size - 1."""
        return slice(self.code_base, self.code_base + self.codebook_size)

    @property
    def action_bins(self) -> slice:
        """Ids of the bins 0 … 255 of an action's number."""
        return slice(self.action_bin_base + 1, self.action_bin_base + 1 + BINS)

    @property
    def state_bins(self) -> slice:
        """Ids of the bins 0 … 255 of a state's number."""
        return slice(self.state_bin_base + 1, self.state_bin_base + 1 + BINS)

    @property
    def grid_numbers(self) -> slice:
        """Ids of the grid numbers 1 … MAX_GRID."""
        return slice(self.grid_base + 1, self.grid_base + 1 + MAX_GRID)

    def is_text(self, token_id: int) -> bool:
        """Whether the id is text: neither code, bin or grid number nor a mark of structure."""
        if not self.text_base <= token_id < self.text_base + self.text_size:
            return False
        return not any(span.start <= token_id < span.stop for span in self._kinds.values())

    @functools.cached_property
    def _kinds(self) -> dict[str, slice]:
        """Ids of each kind but text; the published vocabulary leaves text whatever is left."""
        marks = {name: slice(getattr(self, name), getattr(self, name) + 1) for name in MARKS}
        return marks | {
            'image codes': self.codes,
            'grid numbers': self.grid_numbers,
            'action bins': self.action_bins,
            'state bins': self.state_bins,
        }

    def _check_disjoint(self) -> None:
        ordered = sorted(self._kinds.items(), key=lambda kind: kind[1].start)
        for (name, span), (next_name, next_span) in pairwise(ordered):
            if next_span.start < span.stop:
                raise CheckpointError(
                    f'vocabulary: {name} and {next_name} overlap',
                    expected='one meaning for each id',
                    got=f'{name} {span.start} … {span.stop - 1}, '
                    f'{next_name} {next_span.start} … {next_span.stop - 1}',
                )


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

RESERVED_OFFSET = 4
CODE_NAME = 'IMGIMG'
CODE_DIGITS = str.maketrans('ABCDEFGHIJ', '0123456789')
READ_NAMES = {'bos': '<s>', 'pad': '<pad>'}
FIXED_NAMES = {'image_start': '<racm3:break>', 'image_end': '<eoss>'}


def published_vocabulary(ids: Mapping[str, int], where: str) -> Vocabulary:
    """Return the published vocabulary, after checking it against a tokenizer file.

    Args:
        ids: Name → id of the file's tokens.
        where: The file, for messages.

    Raises:
        CheckpointError: An id that carries meaning lies elsewhere than in `PUBLISHED`.
    """
    expected = _published_names()
    for name, token_id in expected.items():
        if ids.get(name) != token_id:
            raise _misplaced(where, name, token_id, ids.get(name, 'no such token'))
    codes = {name: token_id for name, token_id in ids.items() if name.startswith(CODE_NAME)}
    for name, token_id in sorted(codes.items()):
        digits = name[len(CODE_NAME) : -1].translate(CODE_DIGITS)
        wanted = int(digits) + PUBLISHED.code_base if digits.isdecimal() else 'no such token'
        if token_id != wanted:
            raise _misplaced(where, f'image code {name}', wanted, token_id)
    if len(codes) != PUBLISHED.codebook_size:
        raise CheckpointError(
            f'{where}: image codes',
            expected=PUBLISHED.codebook_size,
            got=len(codes),
            remedy='Use the text_tokenizer.json that was published with these weights.',
        )
    absent = [name for name in READ_NAMES.values() if name not in ids]
    if absent:
        raise _misplaced(where, absent[0], 'an id', 'no such token')
    return replace(PUBLISHED, **{field: ids[name] for field, name in READ_NAMES.items()})


def _published_names() -> dict[str, int]:
    """Return the names of all ids that carry meaning, beside codes and what is only read."""
    named = {name: getattr(PUBLISHED, field) for field, name in FIXED_NAMES.items()}
    reserved = [getattr(PUBLISHED, f) for f in MARKS if f not in FIXED_NAMES | READ_NAMES]
    for span in (PUBLISHED.grid_numbers, PUBLISHED.action_bins, PUBLISHED.state_bins):
        reserved += range(span.start, span.stop)
    return named | {f'<reserved{i - RESERVED_OFFSET:05d}>': i for i in reserved}


def _misplaced(where: str, name: str, expected: object, got: object) -> CheckpointError:
    return CheckpointError(
        f'{where}: id of {name}',
        expected=expected,
        got=got,
        remedy='Use the text_tokenizer.json that was published with these weights.',
    )


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
