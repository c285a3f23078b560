"""The transformer as decoding needs it: few large operations, and a cache with fixed slots.

    token at position p  ─→  keys and values in slot p of the cache, always
    a query at position q sees the slots s <= q that its role may see (see masks.py)

Since slot and position are one, causality alone hides what lies behind the newest token. So a
cache needs no clearing: going back is feeding a position again, and what is left of an older
sequence is never seen. `Transformer` is the slow, obvious version with the same result.
On a GPU each shape of pass is captured as a graph when it is first met (cuda_graphs.py).

Knows weights, positions and roles. Must not know what an id means.
Legend: b batch, t new tokens, s slots, d model width, n heads, k head width.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldvla_ros.inference.cuda_graphs import Captured, PassGraphs
from worldvla_ros.model.masks import chunk_mask
from worldvla_ros.model.transformer import Layer, Transformer, TransformerConfig, rotary_table

FUSED_ON_CPU_BYTES = 1 << 30
"""Larger weights on a CPU stay where they are, which may be a mapped file."""
HEAD_EPS = 1e-5


class KVCache:
    """Keys and values in slots; slot and position are one, and the last slot takes padding."""

    def __init__(
        self,
        config: TransformerConfig,
        length: int,
        device: torch.device,
        dtype: torch.dtype,
        batch: int = 1,
    ) -> None:
        """Reserve room for `length` tokens of each of `batch` sequences."""
        heads, width, depth = config.num_attention_heads, config.head_dim, config.num_hidden_layers
        # zeros, since what is hidden is still multiplied by zero and must be finite
        shape = (depth, 2, batch, length + 1, heads, width)
        self._buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.roles = torch.zeros(batch, length + 1, dtype=torch.long, device=device)
        self.length = length
        self.batch = batch
        self.graphs: dict[tuple[torch.Size, torch.Size], Captured] = {}
        """What cuda_graphs.py captured for this cache, by shape."""

    def layer(self, index: int) -> Tensor:
        """Return keys and values of a layer: [2, b, s, n, k]."""
        return self._buffer[index]

    def copy_first(self, end: int) -> None:
        """Copy the first `end` slots of the first sequence to all others of the batch."""
        self._buffer[:, :, 1:, :end] = self._buffer[:, :, :1, :end]

    def clear(self) -> None:
        """Overwrite everything, so that numbers that are not finite are gone too."""
        self._buffer.zero_()


class FastLayer(nn.Module):
    """A decoder layer with its projections put together: queries, keys, values; gate and up."""

    def __init__(self, layer: Layer, config: TransformerConfig, fuse: bool) -> None:
        """Share a layer's weights; fusing makes its parameters views of the joint ones."""
        super().__init__()
        attention, forward = layer.self_attn, layer.mlp
        norms, join = [attention.q_norm, attention.k_norm], _fused if fuse else SideBySide
        self._heads, self._eps = config.num_attention_heads, config.rms_norm_eps
        self.qkv = join([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = attention.o_proj
        self.gate_up = join([forward.gate_proj, forward.up_proj])
        self.down = forward.down_proj
        self.attention_norm = layer.input_layernorm.weight
        self.feed_forward_norm = layer.post_attention_layernorm.weight
        self.qk_weight = _joint_parameters(norms, 'weight', torch.stack)  # [2, n or 1, k]
        self.qk_bias = _joint_parameters(norms, 'bias', torch.stack)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        stored: Tensor,
        targets: Tensor,
    ) -> Tensor:
        """Map [b, t, d] → [b, t, d], through the layer's cache.

        Args:
            x: Tokens.
            rotary: cos and signed sin, [b or 1, t, 1, 1, k] each.
            mask: bool[b or 1, 1, t, s].
            stored: The layer's cache, [2, b or more, s or more, n, k].
            targets: int64[b·t], where the new keys and values go, counted through the batch.
        """
        mixed = self.qkv(rms_norm(x, self.attention_norm, self._eps))
        mixed = mixed.unflatten(-1, (3, self._heads, -1))  # [b, t, 3, n, k]
        turned = self._turned(mixed[:, :, :2], rotary)
        new = torch.stack([turned[:, :, 1], mixed[:, :, 2]]).flatten(1, 2)  # [2, b·t, n, k]
        stored.flatten(1, 2).index_copy_(1, targets, new)
        keys, values = stored[:, : x.shape[0], : mask.shape[-1]].transpose(2, 3)
        attended = functional.scaled_dot_product_attention(
            turned[:, :, 0].transpose(1, 2), keys, values, attn_mask=mask
        )
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_up(rms_norm(x, self.feed_forward_norm, self._eps)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)

    def _turned(self, pair: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Norm queries and keys and turn them to their positions: [b, t, 2, n, k] → the same."""
        normed = functional.layer_norm(pair, pair.shape[-1:], eps=HEAD_EPS)
        normed = normed * self.qk_weight + self.qk_bias
        cos, sin = rotary
        return normed * cos + normed.roll(normed.shape[-1] // 2, -1) * sin


class SideBySide(nn.Module):
    """Several linear maps of the same input, one after the other, with their outputs joined."""

    def __init__(self, maps: list[nn.Module]) -> None:
        """Keep the maps."""
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., d] → [..., sum of widths]."""
        return torch.cat([each(x) for each in self.maps], -1)


class FastTransformer:
    """Ids and positions in, hidden states out, through a cache.

    Attributes:
        config: Sizes.
        device: Where the weights are.
        dtype: Type of the weights and of hidden states.
        action_head: The continuous action head, or None where there is none.
        passes: Forward passes so far.
        tokens: Tokens fed in them.
    """

    def __init__(self, model: Transformer) -> None:
        """Share the weights of a model in evaluation mode; its parameters stay in use.

        Projections are put together in memory of their own, of which the model's parameters become
        views, so that nothing is held twice. Quantised ones stay apart, and so do large ones on a
        CPU.
        """
        weight = model.lm_head.weight
        self.config, self.device, self.dtype = model.config, weight.device, weight.dtype
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        fuse = _plain(model) and (self.device.type != 'cpu' or size <= FUSED_ON_CPU_BYTES)
        self._embedding = model.model.embed_tokens
        self._norm = model.model.norm.weight
        self._layers = [
            FastLayer(cast(Layer, layer), self.config, fuse) for layer in model.model.layers
        ]
        self._rotary = self._rotary_tables()
        self._head = model.lm_head
        self.action_head = model.action_head
        self._graphs = PassGraphs(self.device) if self.device.type == 'cuda' else None
        self.passes = self.tokens = 0

    def new_cache(self, length: int, batch: int = 1) -> KVCache:
        """Return an empty cache for `length` tokens of each of `batch` sequences."""
        return KVCache(self.config, length, self.device, self.dtype, batch)

    def forward(self, ids: Tensor, positions: Tensor, cache: KVCache, end: int) -> Tensor:
        """Run tokens through the model and keep their keys and values.

        Args:
            ids: int64[b, t]; with b below the cache's batch, its first sequences are meant.
            positions: int64[b or 1, t], which are also the slots; `cache.roles` says what role
                each has.
            cache: Receives keys and values.
            end: No position but the padding's is greater or equal. Slots from there on are spared,
                except in captured passes, which look at all slots so that few shapes are captured;
                the mask hides the rest there.

        Returns:
            float[b, t, d] after the final norm.

        Raises:
            ValueError: The cache has fewer slots than `end`.
        """
        if end > cache.length:
            raise ValueError(f'expected end <= {cache.length}, the slots of the cache, got {end}')
        self.passes += 1
        self.tokens += ids.numel()
        if self._graphs is None:
            return self._run(ids, positions, cache, end)

        def whole(ids: Tensor, positions: Tensor) -> Tensor:
            return self._run(ids, positions, cache, cache.length)

        return self._graphs.run(whole, ids, positions, cache.length, cache.graphs)

    def logits(self, hidden: Tensor, span: slice | None = None) -> Tensor:
        """Return the scores of a span of ids, or of all: [..., d] → fp32[..., ids in span]."""
        weight = self._head.weight if span is None else self._head.weight[span]
        return functional.linear(hidden, weight).float()

    def _run(self, ids: Tensor, positions: Tensor, cache: KVCache, end: int) -> Tensor:
        """Do as `forward` says, looking at the first `end` slots."""
        batch = len(ids)
        slots, roles = torch.arange(end, device=self.device), cache.roles[:batch]  # [s], [b, …]
        own_roles = roles.gather(1, positions.expand(batch, -1))  # [b, t]
        mask = chunk_mask(positions, own_roles, slots, roles[:, :end])[:, None]  # [b, 1, t, s]
        rows = torch.arange(batch, device=self.device)[:, None] * (cache.length + 1)
        targets = (positions + rows).flatten()  # [b · t], slots counted through the batch
        rotary = tuple(table[positions][:, :, None, None] for table in self._rotary)
        x = self._embedding(ids)  # [b, t, d]
        for index, layer in enumerate(self._layers):
            x = layer(x, rotary, mask, cache.layer(index), targets)
        return rms_norm(x, self._norm, self.config.rms_norm_eps)

    def _rotary_tables(self) -> tuple[Tensor, Tensor]:
        """Return cos and sin for every position, [positions, k]; sin has the sign of its half."""
        positions = torch.arange(self.config.max_position_embeddings + 1, device=self.device)
        cos, sin = rotary_table(positions, self.config)
        half = self.config.head_dim // 2
        sin[:, :half] *= -1
        return cos.to(self.dtype), sin.to(self.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Norm as `RMSNorm` does it, in fp32, with the scale applied in the type of `x`."""
    if x.dtype == torch.float32:
        return functional.rms_norm(x, weight.shape, weight, eps)
    return weight * functional.rms_norm(x.float(), weight.shape, None, eps).to(x.dtype)


def _plain(model: Transformer) -> bool:
    """Whether the layers' weights are all ordinary numbers of one type."""
    weights = [p for p in model.model.layers.parameters() if p.dim() == 2]
    return all(type(w.data) is Tensor and w.dtype == weights[0].dtype for w in weights)


def _fused(maps: list[nn.Linear]) -> nn.Linear:
    """Return one map with the outputs of several, whose weights become views of its own."""
    with torch.device('meta'):
        joint = nn.Linear(maps[0].in_features, sum(m.out_features for m in maps), bias=False)
    joint.weight = nn.Parameter(_joint_parameters(maps, 'weight', torch.cat), requires_grad=False)
    return joint


def _joint_parameters(
    modules: Sequence[nn.Module], name: str, join: Callable[[list[Tensor]], Tensor]
) -> Tensor:
    """Join a parameter of several modules, and make theirs views of what was joined."""
    joint = join([getattr(module, name).detach() for module in modules])
    parts = (
        joint.unbind()
        if join is torch.stack
        else joint.split([len(getattr(module, name)) for module in modules])
    )
    for module, part in zip(modules, parts, strict=True):
        setattr(module, name, nn.Parameter(part, requires_grad=False))
    return joint
