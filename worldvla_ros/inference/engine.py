"""The decoders of one transformer, with the caches that they share.

Only ids that the grammar leaves open are decoded, and only over the span that it allows; starts,
ends, grid and new lines are forced. How chunks are decoded side by side says chunks.py, how images
are guessed ahead images.py.

Chooses by the device of the weights. Must not know prompts' wording, pixels or robots.
"""

from worldvla_ros.inference.caches import Caches
from worldvla_ros.inference.chunks import ChunkDecoder
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.inference.images import ImageDecoder
from worldvla_ros.inference.shortage import explain_shortage
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.vocab import Vocabulary

WINDOW = {'cpu': 16, 'cuda': 1024}
"""Codes looked at in one pass: a GPU waits for weights, a CPU for arithmetic."""


class Engine:
    """What decodes with one transformer and its vocabulary.

    Attributes:
        vocab: Token ids.
        fast: The transformer with a cache; counts passes and tokens.
        caches: Caches of prompts, shared by the decoders.
        chunks: Decodes action chunks.
        images: Decodes images, and scores observed ones.
    """

    def __init__(self, model: Transformer, vocab: Vocabulary) -> None:
        """Share the weights of a model, which must be in evaluation mode.

        On a CUDA device each shape of pass is captured as a graph when it is first met, so the
        first chunk and image are slow.

        Raises:
            CheckpointError: A weight is not finite, see `FastTransformer`.
            MemoryLimitError: Memory is short.
        """
        self.vocab = vocab
        with explain_shortage('preparing the transformer', 'its joint weights and tables'):
            self.fast = FastTransformer(model)
        self.caches = Caches(self.fast)
        window = WINDOW['cuda' if self.fast.device.type == 'cuda' else 'cpu']
        self.chunks = ChunkDecoder(self.fast, vocab, self.caches)
        self.images = ImageDecoder(self.fast, vocab, self.caches, window)

    def forget(self) -> None:
        """Invalidate all cached prompts, so that the next is fed as a whole."""
        self.caches.forget()
