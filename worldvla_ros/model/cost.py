"""What computing costs: products to be made and bytes to be moved, counted from sizes alone.

    one pass of t new tokens, s seen with them, b sequences side by side
      weights    of all layers once, whatever t and b; of the output head the rows asked for
      cache      2 · layers · d numbers for each token seen: read, or written where it is new
      products   2 · b · t for each weight, and 4 · b · t · s · d in each layer for attention

A multiplication and its addition are two FLOPs. Norms, activations and softmax count nothing, and
what lies between layers is taken to stay in the device's caches, so times made from these numbers
are lower bounds. Attention is counted in full, since masked scores are computed too.

Knows sizes. Must not know devices, ids or how a chunk is decoded.
Legend: b batch, t new tokens, s tokens seen, d width of the transformer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig

IMAGE_CHANNELS = 3
CODE_BYTES = 8


@dataclass(frozen=True)
class Cost:
    """Work of one indivisible step.

    Attributes:
        flops: Multiplications and additions.
        bytes: Bytes read or written.
    """

    flops: float = 0
    bytes: float = 0

    def __add__(self, other: 'Cost') -> 'Cost':
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> 'Cost':
        return Cost(self.flops * times, self.bytes * times)

    def seconds(self, bandwidth: float, rate: float) -> float:
        """Return the least time [s] at so many bytes and FLOPs per second."""
        return max(self.bytes / bandwidth, self.flops / rate)


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())


@dataclass(frozen=True)
class TransformerCost:
    """Counts passes of a transformer.

    Attributes:
        config: Its sizes.
        weight_width: Bytes per parameter of the layers, below 1 where they are packed.
        head_width: Bytes per weight of the output head.
        value_width: Bytes per number of the cache and of an embedding.
    """

    config: TransformerConfig
    weight_width: float = 4
    head_width: float = 4
    value_width: float = 4

    @classmethod
    def stored(
        cls, config: TransformerConfig, layer_bytes: float, head_bytes: float, value_width: float
    ) -> 'TransformerCost':
        """Return the counter of a model whose layers and output head take so many bytes."""
        layers = layer_bytes / cls(config).layer_parameters
        return cls(
            config, layers, head_bytes / (config.vocab_size * config.hidden_size), value_width
        )

    @property
    def layer_weights(self) -> int:
        """Weights of all layers that each token is multiplied with."""
        size = self.config
        layer = 4 * size.hidden_size**2 + 3 * size.hidden_size * size.intermediate_size
        return size.num_hidden_layers * layer

    @property
    def layer_parameters(self) -> int:
        """Parameters of all layers, those of the norms included."""
        size = self.config
        norms = 2 * size.hidden_size + 4 * size.qk_norm_heads * size.head_dim
        return self.layer_weights + size.num_hidden_layers * norms

    @property
    def parameters(self) -> int:
        """Parameters of layers, embeddings, last norm and output head."""
        size = self.config
        return self.layer_parameters + (2 * size.vocab_size + 1) * size.hidden_size

    def cache_bytes(self, seen: float, batch: int = 1) -> float:
        """Return the bytes of the keys and values of so many tokens."""
        size = self.config
        return 2 * size.num_hidden_layers * size.hidden_size * seen * batch * self.value_width

    def run(self, tokens: float, seen: float, batch: int = 1) -> Cost:
        """Return the cost of the layers in one pass.

        Args:
            tokens: New tokens of each sequence (t).
            seen: Tokens that they attend to, themselves included (s).
            batch: Sequences side by side (b).
        """
        size = self.config
        attention = 4 * size.num_hidden_layers * size.hidden_size * seen
        weights = self.layer_parameters * self.weight_width
        embedded = batch * tokens * size.hidden_size * self.value_width
        return Cost(
            batch * tokens * (2 * self.layer_weights + attention),
            weights + embedded + self.cache_bytes(seen, batch),
        )

    def logits(self, outputs: int, ids: int) -> Cost:
        """Return the cost of scoring `ids` ids after `outputs` tokens."""
        weights = ids * self.config.hidden_size
        return Cost(2 * outputs * weights, weights * self.head_width)


@dataclass(frozen=True)
class ActionHeadCost:
    """Counts the continuous action head; `width` is the bytes of a parameter."""

    config: ActionHeadConfig
    width: float = 4

    def run(self, tokens: int) -> Cost:
        """Return the cost of one chunk from the hidden states of `tokens` tokens."""
        size = self.config
        numbers, wide = size.horizon * size.dim, size.hidden_size
        seen = tokens + numbers
        layer = 4 * wide**2 + 2 * wide * size.intermediate_size
        encoder = size.num_hidden_layers * layer
        last = size.dim * wide**2 + size.num_mlp_blocks * wide**2 + wide * size.dim
        attention = size.num_hidden_layers * 4 * wide * seen
        each = 2 * (size.context_size * wide + encoder) + attention
        weights = size.context_size * (wide + numbers) + encoder + last
        return Cost(seen * each + 2 * size.horizon * last, weights * self.width)


@dataclass(frozen=True)
class VQGANCost:
    """Counts the image tokenizer's network by its convolutions; `width` is a number's bytes."""

    config: VQGANConfig
    width: float = 4

    def encode(self, height: int, width: int, batch: int = 1) -> Cost:
        """Return the cost of encoding images of height × width pixels, quantiser included."""
        size = self.config
        codes = height * width // size.reduction**2
        book = size.n_embed * size.embed_dim
        convolutions = list(self._encoder(height * width))
        flops = sum(2 * weights * area for weights, area in convolutions) + 2 * codes * book
        weights = sum(weights for weights, _ in convolutions) + book
        moved = batch * (height * width * IMAGE_CHANNELS + codes * CODE_BYTES)
        return Cost(batch * (flops + self._attention(codes)), weights * self.width + moved)

    def decode(self, rows: int, columns: int, batch: int = 1) -> Cost:
        """Return the cost of decoding images of rows × columns codes."""
        size, codes = self.config, rows * columns
        pixels = codes * size.reduction**2
        convolutions = list(self._decoder(pixels))
        flops = sum(2 * weights * area for weights, area in convolutions)
        weights = sum(weights for weights, _ in convolutions)
        looked_up = codes * (CODE_BYTES + size.embed_dim * self.width)
        moved = batch * (looked_up + pixels * IMAGE_CHANNELS)
        return Cost(batch * (flops + self._attention(codes)), weights * self.width + moved)

    @property
    def _widths(self) -> list[int]:
        return [self.config.ch * multiple for multiple in self.config.ch_mult]

    def _encoder(self, area: int) -> Iterator[tuple[int, int]]:
        """Yield weights and places of each convolution, for images of so many pixels."""
        size, before = self.config, self.config.ch
        yield 9 * size.in_channels * before, area
        for i, width in enumerate(self._widths):
            yield from _blocks(before, width, size.num_res_blocks, area)
            before = width
            if i < len(self._widths) - 1:
                area //= 4
                yield 9 * width * width, area
        yield from self._middle(area)
        yield 9 * before * size.z_channels, area
        yield size.z_channels * size.embed_dim, area

    def _decoder(self, area: int) -> Iterator[tuple[int, int]]:
        """Yield the same for the way back."""
        size, before = self.config, self._widths[-1]
        full, area = area, area // size.reduction**2
        yield size.embed_dim * size.z_channels, area
        yield 9 * size.z_channels * before, area
        yield from self._middle(area)
        for i, width in reversed(list(enumerate(self._widths))):
            yield from _blocks(before, width, size.num_res_blocks + 1, area)
            before = width
            if i:
                area *= 4
                yield 9 * width * width, area
        yield 9 * before * size.out_ch, full

    def _middle(self, area: int) -> Iterator[tuple[int, int]]:
        width = self._widths[-1]
        yield from _blocks(width, width, 2, area)
        if self.config.mid_attention:
            yield 4 * width * width, area

    def _attention(self, codes: int) -> int:
        return 4 * codes**2 * self._widths[-1] if self.config.mid_attention else 0


def _blocks(before: int, width: int, count: int, area: int) -> Iterator[tuple[int, int]]:
    """Yield the convolutions of `count` residual blocks, the first from `before` channels."""
    for inputs in [before, *[width] * (count - 1)]:
        shortcut = inputs * width if inputs != width else 0
        yield 9 * width * (inputs + width) + shortcut, area
