"""Meta's original Chameleon weights under the names and in the order that are used here.

    tok_embeddings  layers.N.{attention.{wq,wk,wv,wo,q_normalization,k_normalization},
    feed_forward.{w1,w2,w3}, attention_norm, ffn_norm}  norm  output  rope.freqs

Meta rotates neighbouring pairs (0, 1), (2, 3), …; here, as in transformers, the two halves of a
head are rotated against each other. So the rows of queries and keys, and their norms, change
places: all even ones first, then all odd ones (transformers
`convert_chameleon_weights_to_hf.py`). Must not know files other than these two.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor

from worldvla_ros.checkpoint.weights import StoredTensor, Tensors, open_pickled
from worldvla_ros.config import from_mapping, load_json, shown
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.transformer import TransformerConfig

PARAMS_FILE = 'params.json'
MODEL_FILES = ('consolidated.pth', 'consolidated.00.pth')
UNUSED = ('rope.freqs',)
TOP_NAMES = {
    'tok_embeddings.weight': 'model.embed_tokens.weight',
    'norm.weight': 'model.norm.weight',
    'output.weight': 'lm_head.weight',
}
LAYER_NAMES = {
    'attention.wq.weight': 'self_attn.q_proj.weight',
    'attention.wk.weight': 'self_attn.k_proj.weight',
    'attention.wv.weight': 'self_attn.v_proj.weight',
    'attention.wo.weight': 'self_attn.o_proj.weight',
    'attention.q_normalization.weight': 'self_attn.q_norm.weight',
    'attention.q_normalization.bias': 'self_attn.q_norm.bias',
    'attention.k_normalization.weight': 'self_attn.k_norm.weight',
    'attention.k_normalization.bias': 'self_attn.k_norm.bias',
    'feed_forward.w1.weight': 'mlp.gate_proj.weight',
    'feed_forward.w2.weight': 'mlp.down_proj.weight',
    'feed_forward.w3.weight': 'mlp.up_proj.weight',
    'attention_norm.weight': 'input_layernorm.weight',
    'ffn_norm.weight': 'post_attention_layernorm.weight',
}
PERMUTED = ('q_proj.weight', 'k_proj.weight')
NORMS = ('q_norm.weight', 'q_norm.bias', 'k_norm.weight', 'k_norm.bias')


def open_meta(folder: Path) -> tuple[TransformerConfig, Tensors]:
    """Return the sizes and the tensors of Meta's layout.

    Raises:
        CheckpointError: A file is missing or damaged, or it is not the 7B architecture.
    """
    files = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    if not files or len(list(folder.glob('consolidated.*.pth'))) > 1:
        raise CheckpointError(
            f'weights of {folder}',
            expected=f'one file, {" or ".join(MODEL_FILES)}',
            got=', '.join(sorted(p.name for p in folder.glob('*.pth'))) or 'none',
            remedy='Only the 7B model is known here, which comes in one part.',
        )
    params = _params(folder / PARAMS_FILE)
    stored = open_pickled(files[0])
    heads = params['n_heads']
    tensors = {}
    for name in stored.keys() - set(UNUSED):
        new = _new_name(name)
        tensors[new] = _rearranged(new, stored[name], heads)
    return _config(files[0], params, tensors), tensors


def to_halves(rows: Tensor, heads: int) -> Tensor:
    """Reorder each head's rows from pairs to halves: [heads · k, …] → the same shape."""
    return rearrange(rows, '(n k two) ... -> (n two k) ...', n=heads, two=2)


def to_pairs(rows: Tensor, heads: int) -> Tensor:
    """Reorder each head's rows from halves to pairs, the inverse of `to_halves`."""
    return rearrange(rows, '(n two k) ... -> (n k two) ...', n=heads, two=2)


def _new_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    parts = name.split('.', 2)
    known = len(parts) == 3 and parts[0] == 'layers' and parts[2] in LAYER_NAMES
    return f'model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}' if known else name


def _rearranged(name: str, stored: StoredTensor, heads: int) -> StoredTensor:
    if name.endswith(PERMUTED):
        return replace(stored, read=_after(stored, lambda t: to_halves(t, heads)))
    if name.endswith(NORMS):
        shape = (1, *stored.shape)
        return replace(stored, shape=shape, read=_after(stored, lambda t: to_halves(t, 1)[None]))
    return stored


def _after(stored: StoredTensor, change: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    return lambda: change(stored.read())


def _params(file: Path) -> dict[str, Any]:
    content = load_json(file, CheckpointError)
    inner = content.get('model', {})
    params = {**content, **inner} if isinstance(inner, dict) else {}
    heads = params.get('n_heads')
    if not isinstance(heads, int) or heads < 1:
        raise CheckpointError(
            f'{file} is damaged',
            expected='a mapping with n_heads, a whole number from 1',
            got=shown(content),
            remedy='Restore the file.',
        )
    scaled = any(params.get(name) for name in ('use_scaled_rope', 'rope_scaling'))
    known = params.get('n_kv_heads') in (None, heads) and not params.get('swin_norm', False)
    if not known or scaled or not params.get('qk_normalization', True):
        raise CheckpointError(
            f'{file}: architecture',
            expected='n_kv_heads as n_heads, qk_normalization, neither swin_norm nor scaled '
            'positions',
            got=shown({name: params.get(name) for name in ('n_kv_heads', 'swin_norm', 'n_heads')}),
            remedy='Only the 7B model is known here.',
        )
    return params


def _config(file: Path, params: dict[str, Any], tensors: Tensors) -> TransformerConfig:
    """Return the sizes, which the tensors themselves show."""
    try:
        vocab_size, width = tensors['model.embed_tokens.weight'].shape
        wide = tensors['model.layers.0.mlp.gate_proj.weight'].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f'{file} holds other tensors than {PARAMS_FILE} describes',
            expected=', '.join(TOP_NAMES),
            got=shown(sorted(tensors)[:3]),
        ) from error
    sizes = {
        'vocab_size': vocab_size,
        'hidden_size': width,
        'intermediate_size': wide,
        'num_hidden_layers': len(
            {n.split('.')[2] for n in tensors if n.startswith('model.layers.')}
        ),
        'num_attention_heads': params['n_heads'],
        'rms_norm_eps': params.get('norm_eps', TransformerConfig.rms_norm_eps),
        'rope_theta': params.get('rope_theta', TransformerConfig.rope_theta),
    }
    return from_mapping(TransformerConfig, sizes, where=str(file.parent / PARAMS_FILE))
