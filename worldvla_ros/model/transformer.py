"""The unified transformer: Chameleon's decoder with QK-norm and rotary positions.

Knows ids, positions and masks. Must not know what an id means, nor of caches (see fast.py).
Parameter names are those of the published checkpoints, so a published state dict loads as it is.
Legend: b batch, t tokens, d model width, n heads, k head width, v vocabulary.
"""

from dataclasses import dataclass

from einops import rearrange
import torch
from torch import Tensor, nn
from torch.nn import functional

from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHead, ActionHeadConfig


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes; the defaults are those of the published 7B model (Chameleon config.json)."""

    vocab_size: int = 65536
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    qk_norm_heads: int = 1
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    dropout: float = 0.0
    max_position_embeddings: int = 4096

    def __post_init__(self) -> None:
        """Refuse sizes that make no model, or do not fit each other.

        Raises:
            CheckpointError: A size is not positive, the width is no multiple of the heads, or the
                head width is odd.
        """
        sizes = (self.vocab_size, self.hidden_size, self.intermediate_size, self.qk_norm_heads)
        counts = (self.num_hidden_layers, self.num_attention_heads, self.max_position_embeddings)
        if min(*sizes, *counts) < 1:
            raise CheckpointError('transformer sizes', expected='positive sizes', got=self)
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise CheckpointError(
                'transformer sizes',
                expected='hidden_size divisible by num_attention_heads >= 1 into even heads',
                got=f'{self.hidden_size} and {self.num_attention_heads}',
            )

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    def cache_bytes_per_token(self, dtype: torch.dtype) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.num_hidden_layers * self.hidden_size * dtype.itemsize


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        """Start as the identity scale."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        normed = x.float()
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + self._eps)
        return self.weight * normed.to(x.dtype)


class HeadNorm(nn.Module):
    """Layer norm over each head's width; one set of parameters for all heads, or one per head."""

    def __init__(self, heads: int, width: int) -> None:
        """Parameters are [1, k] (published) or [n, k] (transformers' Chameleon)."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, width))
        self.bias = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [b, t, n, k]."""
        normed = functional.layer_norm(x, (x.shape[-1],), eps=1e-5)
        return normed * self.weight + self.bias


def rotary_table(positions: Tensor, config: TransformerConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin, fp32[..., t, k], of the half-split rotary embedding."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device).float()
    frequency = 1.0 / config.rope_theta ** (half / config.head_dim)
    angle = positions[..., None].float() * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to [b, n, t, k]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Multi-head attention with normed queries and keys."""

    def __init__(self, config: TransformerConfig) -> None:
        """Create the projections."""
        super().__init__()
        width = config.hidden_size
        self._heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = HeadNorm(config.qk_norm_heads, config.head_dim)
        self.k_norm = HeadNorm(config.qk_norm_heads, config.head_dim)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
    ) -> Tensor:
        """Attend: [b, t, d] → [b, t, d]."""
        queries, keys, values = (
            rearrange(project(x), 'b t (n k) -> b t n k', n=self._heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys, values = (
            rearrange(each, 'b t n k -> b n t k')
            for each in (self.q_norm(queries), self.k_norm(keys), values)
        )
        queries, keys = rotate(queries, *rotary), rotate(keys, *rotary)
        causal = mask is None and x.shape[1] > 1
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=causal
        )
        mixed: Tensor = self.o_proj(rearrange(attended, 'b n t k -> b t (n k)'))
        return mixed


class FeedForward(nn.Module):
    """SiLU-gated feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        """Create the projections."""
        super().__init__()
        wide = config.intermediate_size
        self.gate_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.down_proj = nn.Linear(wide, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, t, d] → [b, t, d]."""
        narrowed: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return narrowed


class Layer(nn.Module):
    """Pre-norm decoder layer; dropout falls on the two residual branches."""

    def __init__(self, config: TransformerConfig) -> None:
        """Create both branches."""
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Map [b, t, d] → [b, t, d]."""
        attended = self.self_attn(self.input_layernorm(x), rotary, mask)
        x = x + self.dropout(attended)
        change: Tensor = self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return x + change


class Decoder(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        """Create the layers."""
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """Ids in, hidden states out; `logits` turns the wanted ones into scores.

    A continuous action head may stand beside the output head; whoever has hidden states calls it.
    """

    def __init__(self, config: TransformerConfig, head: ActionHeadConfig | None = None) -> None:
        """Create all parameters; see `initialise` for training from scratch."""
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.action_head = ActionHead(head) if head is not None else None

    def initialise(self, std: float = 0.02) -> None:
        """Draw weights for training from scratch (normal; residual outputs scaled by depth)."""
        depth_scale = (2 * self.config.num_hidden_layers) ** -0.5
        parameters = [*self.model.named_parameters(), *self.lm_head.named_parameters()]
        for name, parameter in parameters:
            if parameter.dim() == 2 and 'norm' not in name:
                residual = name.endswith(('o_proj.weight', 'down_proj.weight'))
                nn.init.normal_(parameter, std=std * (depth_scale if residual else 1.0))
        if self.action_head is not None:
            self.action_head.initialise(std)

    def forward(
        self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the hidden states after the final norm.

        Args:
            ids: int64[b, t].
            positions: int64[t] or [b, t]; from 0 by default.
            mask: bool[b or 1, 1, t, t], True where attention is allowed; causal by default.

        Returns:
            float[b, t, d].
        """
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.model.embed_tokens(ids)
        rotary = tuple(
            table.to(x.dtype).unsqueeze(-3) for table in rotary_table(positions, self.config)
        )
        for layer in self.model.layers:
            x = layer(x, rotary, mask)
        hidden: Tensor = self.model.norm(x)
        return hidden

    def logits(self, hidden: Tensor, span: slice = slice(None)) -> Tensor:
        """Return the scores of a span of ids: [..., d] → fp32[..., ids in span]."""
        return functional.linear(hidden, self.lm_head.weight[span]).float()
