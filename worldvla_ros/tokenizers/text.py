"""Text ⇄ token ids, by a byte-pair encoding in Hugging Face's tokenizer file format.

Knows one tokenizer file and where its ids begin in the vocabulary. Must not know any prompt.
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from worldvla_ros.errors import CheckpointError


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
            CheckpointError: The file is missing or not a tokenizer.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f'no text tokenizer {path}', remedy='Restore the folder.')
        try:
            return cls(Tokenizer.from_file(str(path)), base)
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(
                f'{path} is not a tokenizer file: {error}', remedy='Restore the folder.'
            ) from error

    @property
    def size(self) -> int:
        """Number of ids that may come out."""
        return self._tokenizer.get_vocab_size()

    def ids_by_name(self) -> dict[str, int]:
        """Return the id of every token, added ones too."""
        return {name: self._base + i for name, i in self._tokenizer.get_vocab().items()}

    def encode(self, text: str) -> list[int]:
        """Return token ids, without any special token."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._base + i for i in ids]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids that `encode` produced."""
        return self._tokenizer.decode([i - self._base for i in ids])

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
