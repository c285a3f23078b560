"""How large the numbers of a checkpoint may be.

Published and trained models lie far inside; a number beyond is damaged or hostile, and would only
show when building the networks hangs or memory runs out. Must not know what the numbers do.
"""

from collections.abc import Mapping
import math

from worldvla_ros.config import shown
from worldvla_ros.errors import CheckpointError

Range = tuple[float, float]

MAX_HORIZON = 1000
MAX_HISTORY = 1000
MAX_VALUE = 1e6
"""Largest magnitude of an end of a range, or of a scale, in its unit."""
MIN_SCALE = 1e-9
DT: Range = (1e-3, 60.0)
"""Time between actions [s]."""
CAMERAS: Range = (1, 16)
LEVELS: Range = (1, 8)
"""Resolutions of the image tokenizer."""
MULTIPLE: Range = (1, 64)
"""An entry of `ch_mult`."""

TRANSFORMER: dict[str, Range] = {
    'vocab_size': (1, 1 << 20),
    'hidden_size': (2, 1 << 16),
    'intermediate_size': (1, 1 << 18),
    'num_hidden_layers': (1, 1024),
    'num_attention_heads': (1, 1024),
    'qk_norm_heads': (1, 1024),
    'rms_norm_eps': (1e-12, 1e-2),
    'rope_theta': (1.0, 1e9),
    'dropout': (0.0, 0.9),
    'max_position_embeddings': (1, 1 << 20),
}
VQGAN: dict[str, Range] = {
    'embed_dim': (1, 1 << 13),
    'n_embed': (1, 1 << 20),
    'z_channels': (1, 1 << 13),
    'ch': (1, 1 << 12),
    'num_res_blocks': (1, 64),
    'in_channels': (3, 3),
    'out_ch': (3, 3),
    'norm_groups': (1, 1 << 12),
}
ACTION_HEAD: dict[str, Range] = {
    'context_size': (1, 1 << 16),
    'hidden_size': (1, 1 << 16),
    'intermediate_size': (1, 1 << 18),
    'num_hidden_layers': (1, 256),
    'num_attention_heads': (1, 1024),
    'num_mlp_blocks': (0, 256),
    'dropout': (0.0, 0.9),
    'horizon': (1, MAX_HORIZON),
    'dim': (1, 256),
}


def check_bounds(where: str, values: object, bounds: Mapping[str, Range]) -> None:
    """Check the fields of a dataclass.

    Raises:
        CheckpointError: One lies outside its range, which is named.
    """
    for name, (low, high) in bounds.items():
        value = getattr(values, name)
        if not within(value, (low, high)):
            raise CheckpointError(f'{where}.{name}', expected=f'{low} … {high}', got=shown(value))


def within(value: float, bounds: Range) -> bool:
    """Return whether a number is finite and inside a range, both ends included."""
    return math.isfinite(value) and bounds[0] <= value <= bounds[1]
