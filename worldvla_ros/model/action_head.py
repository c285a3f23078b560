"""The continuous action head of RynnVLA-002: all actions of a chunk in one pass, without bins.

    hidden states of the prompt  [p, c] ┐                ┌ a vector per number of the chunk
    learned queries           [K·D, c] ─┴ projection ─ encoder ─ [K·D, w] ─ [K, D·w] ─ MLP ─ [K, D]

(arXiv 2511.17502; repository `modeling_xllmx_chameleon_ck_action_head.py`.) The encoder attends in
both directions and knows no positions: order is in the hidden states and in the queries. Numbers
come out in the normalised range of the action tokenizer, and nothing keeps them inside [-1, 1].
Parameter names are the published ones, so published tensors load as they are. Deviation: padding
of the shorter prompts of a batch is hidden; see `ActionHeadConfig.padding_seen`.

Knows hidden states and sizes. Must not know ids, prompts or robots.
Legend: b batch, p prompt tokens, c the transformer's width, w the head's width, K horizon, D
    action dimension.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldvla_ros.errors import CheckpointError


@dataclass(frozen=True)
class ActionHeadConfig:
    """Sizes; the defaults are those of the published head (RynnVLA-002 config.json and code).

    Attributes:
        context_size: Width of the transformer whose hidden states are read (c).
        hidden_size: Width of the head (w).
        intermediate_size: Width inside the encoder's feed-forward.
        num_hidden_layers: Layers of the encoder.
        num_attention_heads: Heads of the encoder.
        num_mlp_blocks: Residual blocks of the MLP.
        dropout: Of the encoder, in training.
        horizon: Actions per chunk (K), `time_horizon` of the published config.json.
        dim: Numbers per action (D), `action_dim` of the published config.json.
        padding_seen: Whether the zeros that pad shorter prompts are attended to, as in the
            reference's training; without padding it changes nothing.
    """

    context_size: int = 4096
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_mlp_blocks: int = 2
    dropout: float = 0.1
    horizon: int = 5
    dim: int = 7
    padding_seen: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that make no head.

        Raises:
            CheckpointError: A size is not positive, or the heads do not divide the width.
        """
        sizes = (self.context_size, self.hidden_size, self.intermediate_size)
        counts = (self.num_hidden_layers, self.num_attention_heads, self.horizon, self.dim)
        fits = min(*sizes, *counts) >= 1 and self.num_mlp_blocks >= 0
        if not fits or self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                'action head sizes',
                expected='positive sizes, hidden_size divisible by num_attention_heads',
                got=self,
            )


class ResidualBlock(nn.Module):
    """Norm, linear map and ReLU beside a shortcut."""

    def __init__(self, width: int) -> None:
        """Create the branch."""
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., w] → [..., w]."""
        change: Tensor = self.ffn(x)
        return x + change


class ResidualMLP(nn.Module):
    """From the vectors of an action's numbers, side by side, to the numbers."""

    def __init__(self, config: ActionHeadConfig) -> None:
        """Create the maps."""
        super().__init__()
        width = config.hidden_size
        self.layer_norm1 = nn.LayerNorm(config.dim * width)
        self.fc1 = nn.Linear(config.dim * width, width)
        self.mlp_resnet_blocks = nn.ModuleList(
            ResidualBlock(width) for _ in range(config.num_mlp_blocks)
        )
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, K, D·w] → [b, K, D]."""
        x = self.fc1(self.layer_norm1(x)).relu()
        for block in self.mlp_resnet_blocks:
            x = block(x)
        numbers: Tensor = self.fc2(self.layer_norm2(x))
        return numbers


class ActionHead(nn.Module):
    """Hidden states of a prompt in, a chunk of normalised actions out."""

    def __init__(self, config: ActionHeadConfig) -> None:
        """Create all parameters; see `initialise` for training from scratch."""
        super().__init__()
        self.config = config
        width = config.hidden_size
        queries = config.horizon * config.dim
        self.action_token_embeddings = nn.Embedding(1, queries * config.context_size)
        self.hidden_projection = nn.Linear(config.context_size, width)
        layer = nn.TransformerEncoderLayer(
            width,
            config.num_attention_heads,
            config.intermediate_size,
            config.dropout,
            batch_first=True,
        )
        self.transformer_encoder = nn.TransformerEncoder(
            layer, config.num_hidden_layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.output_projection = nn.ModuleDict({'model': ResidualMLP(config)})

    def initialise(self, std: float = 0.02) -> None:
        """Draw weights for training from scratch, as the reference does."""
        nn.init.normal_(self.action_token_embeddings.weight, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
                nn.init.zeros_(module.in_proj_bias)

    def forward(self, context: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return normalised actions: float[b, K, D], mostly in [-1, 1].

        Args:
            context: float[b, p, c], hidden states after the final norm of the prompts' tokens, the
                shorter prompts padded on the right up to the longest.
            lengths: int64[b], tokens of each prompt; all have p of them by default.
        """
        size = self.config
        queries = self.action_token_embeddings.weight.view(1, -1, size.context_size)
        queries = queries.expand(len(context), -1, -1)  # [b, K·D, c]
        padding = None
        if lengths is not None:
            padding = torch.arange(context.shape[1], device=lengths.device) >= lengths[:, None]
            context = context.masked_fill(padding[..., None], 0)
            padding = nn.functional.pad(padding, (0, queries.shape[1]))  # queries are no padding
        tokens = self.hidden_projection(torch.cat([context, queries], 1))
        encoded = self.transformer_encoder(
            tokens, src_key_padding_mask=None if size.padding_seen else padding
        )
        wanted = encoded[:, context.shape[1] :]  # [b, K·D, w]
        wanted = wanted.reshape(len(context), size.horizon, -1)  # [b, K, D·w]
        actions: Tensor = self.output_projection['model'](wanted)
        return actions
