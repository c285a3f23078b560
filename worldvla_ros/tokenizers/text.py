"""Text ⇄ token ids, by a byte-pair encoding in Hugging Face's tokenizer file format.

Knows one tokenizer file and where its ids begin in the vocabulary. Must not know any prompt.

A tokenizer file is a small program: its parts may multiply a text or search it without end, and
the library ends the process where memory runs out. So only parts are taken whose output grows
little, and a pattern that gives up on a text is an error of this package's own.
"""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from worldvla_ros.config import load_json, shown
from worldvla_ros.errors import CheckpointError, WorldVLAError

NORMALIZERS = {'NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'Strip', 'StripAccents', 'Prepend',
               'Replace', 'Sequence'}  # fmt: skip
PRE_TOKENIZERS = {'ByteLevel', 'Digits', 'Metaspace', 'Punctuation', 'Split', 'Whitespace',
                  'WhitespaceSplit', 'Sequence'}  # fmt: skip
DECODERS = {'ByteLevel', 'ByteFallback', 'BPEDecoder', 'Fuse', 'Metaspace', 'Replace', 'Strip',
            'Sequence'}  # fmt: skip
PARTS = {
    'normalizer': NORMALIZERS,
    'pre_tokenizer': PRE_TOKENIZERS,
    'decoder': DECODERS,
}
"""What may stand in each place; `Precompiled`, for one, holds a table that nobody can read."""
NESTED = {'normalizers', 'pretokenizers', 'decoders'}
MAX_PARTS = 32
MAX_PATTERN = 1000
"""Letters of a regular expression; those of published tokenizers have some dozens."""
MAX_INSERTED = 8
"""Letters that a part may put in front of a text."""
PANIC = 'PanicException'
"""What the library's Rust code raises where it gives up; no subclass of `Exception`, no name."""


class TextTokenizer:
    """Encodes any string; its ids lie at `base` … `base + size - 1`."""

    def __init__(self, tokenizer: Tokenizer, base: int) -> None:
        """Wrap a tokenizer whose own ids start at 0."""
        self._tokenizer = tokenizer
        self._base = base

    @classmethod
    def load(cls, path: str | Path, base: int) -> 'TextTokenizer':
        """Read a tokenizer file.

        Raises:
            CheckpointError: The file is missing, no tokenizer, or has parts that are not taken.
        """
        path = Path(path)
        if not os.path.isfile(path):
            raise CheckpointError(f'no text tokenizer {path}', remedy='Restore the folder.')
        _check_parts(path, load_json(path, CheckpointError))
        try:
            with _panics_as(CheckpointError, str(path)):
                tokenizer = Tokenizer.from_file(str(path))
        except CheckpointError:
            raise
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(
                f'{path} is not a tokenizer file: {error}', remedy='Restore the folder.'
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, base)

    @property
    def size(self) -> int:
        """Number of ids that may come out: the largest one, and those below."""
        return 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def ids_by_name(self) -> dict[str, int]:
        """Return the id of every token, added ones too."""
        return {name: self._base + i for name, i in self._tokenizer.get_vocab().items()}

    def encode(self, text: str) -> list[int]:
        """Return token ids, without any special token.

        Raises:
            CheckpointError: A pattern of the tokenizer gives up on this text.
        """
        with _panics_as(CheckpointError, f'the text {shown(text)}'):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._base + i for i in ids]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids that `encode` produced."""
        text: str = self._tokenizer.decode([i - self._base for i in ids])
        return text

    def content(self) -> str:
        """Return what `save` writes."""
        text: str = self._tokenizer.to_str()
        return text

    def save(self, path: str | Path) -> None:
        """Write the tokenizer file."""
        self._tokenizer.save(str(path))


def train_text_tokenizer(corpus: list[str], size: int) -> Tokenizer:
    """Learn a byte-level encoding of about `size` ids, 256 at least; any string encodes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


@contextlib.contextmanager
def _panics_as(kind: type[WorldVLAError], what: str) -> Iterator[None]:
    """Turn the library's panics into an error that callers know; all else passes."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise kind(
            f'the tokenizers library gave up on {what}: {error}',
            remedy='Restore the text tokenizer that was published with these weights.',
        ) from error


def _check_parts(path: Path, content: dict[str, Any]) -> None:
    """Refuse a file with parts whose output may grow without bound, or that draw by chance."""
    model = content.get('model')
    if not isinstance(model, dict) or model.get('type', 'BPE') != 'BPE' or model.get('dropout'):
        kind = model.get('type') if isinstance(model, dict) else model
        raise CheckpointError(
            f'{path} is not a tokenizer file of this package: model',
            expected='BPE without dropout',
            got=shown(kind),
            remedy='Restore the folder.',
        )
    for place, allowed in PARTS.items():
        parts = list(_parts(content.get(place)))
        problem = next((p for p in map(lambda part: _problem(part, allowed), parts) if p), None)
        if problem or len(parts) > MAX_PARTS:
            raise CheckpointError(
                f'{path} is not a tokenizer file of this package: {place}',
                expected=f'at most {MAX_PARTS} parts of {", ".join(sorted(allowed))}, which '
                'lengthen a text by little',
                got=problem or f'{len(parts)} parts',
                remedy='Restore the text tokenizer that was published with these weights.',
            )


def _parts(part: object) -> Iterator[object]:
    """Yield a part and those inside it."""
    if part is None:
        return
    yield part
    inner = [part[name] for name in NESTED if name in part] if isinstance(part, dict) else []
    for parts in inner:
        for each in parts if isinstance(parts, list) else [parts]:
            yield from _parts(each)


def _problem(part: object, allowed: set[str]) -> str | None:
    """Return what is wrong with a part, or None."""
    if not isinstance(part, dict) or part.get('type') not in allowed:
        return shown(part.get('type') if isinstance(part, dict) else part)
    pattern = part.get('pattern') or {}
    searched = pattern.get('String') if isinstance(pattern, dict) else None
    written = pattern.get('Regex', searched) if isinstance(pattern, dict) else pattern
    if len(str(written)) > MAX_PATTERN:
        return f'a pattern of {len(str(written))} letters'
    if part['type'] == 'Replace' and not _shrinks(searched, part.get('content')):
        return f'Replace of {shown(written)} by {shown(part.get("content"))}'
    if len(str(part.get('prepend', ''))) > MAX_INSERTED:
        return f'Prepend of {len(part["prepend"])} letters'
    return None


def _shrinks(searched: object, content: object) -> bool:
    """Return whether letters go, or plain ones are replaced by no more than they are."""
    if content == '':
        return True
    plain = isinstance(searched, str) and isinstance(content, str)
    return plain and 0 < len(str(searched)) >= len(str(content))
