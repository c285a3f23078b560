"""Attention masks: causal, with the actions of one chunk hidden from each other.

    prompt P, two actions of one chunk (a, b), final sep S      query ↓  key →
         P P a a b b S
    P    1 . . . . . .
    P    1 1 . . . . .
    a    1 1 1 . . . .        an action sees the prompt and itself,
    a    1 1 1 1 . . .
    b    1 1 . . 1 . .        never an earlier action of its chunk
    b    1 1 . . 1 1 .        nor an action of the past in the prompt
    S    1 1 1 1 1 1 1        the final sep sees everything

(WorldVLA, arXiv 2506.21539, section 3.3; repository `modeling_xllmx_chameleon_ck.py`,
generate_att_mask_3.) The rule goes by the role of each token, not by scanning ids:

    role  0   shared, seen by all later tokens
    role  k   of action k ≥ 1 of the chunk
    role -1   of a past action inside the prompt, hidden from the chunk

Legend: b batch, t tokens, q queries, k keys.
"""

from torch import Tensor


def chunk_mask(
    query_positions: Tensor, query_roles: Tensor, key_positions: Tensor, key_roles: Tensor
) -> Tensor:
    """Return which key each query may attend to: bool[..., q, k].

    Args:
        query_positions: int64[..., q], absolute positions.
        query_roles: int64[..., q], see above.
        key_positions: int64[..., k].
        key_roles: int64[..., k].
    """
    causal = key_positions[..., None, :] <= query_positions[..., :, None]  # [..., q, k]
    in_chunk = query_roles[..., :, None] > 0  # [..., q, 1]
    shared = key_roles[..., None, :] == 0  # [..., 1, k]
    own = key_roles[..., None, :] == query_roles[..., :, None]  # [..., q, k]
    return causal & (~in_chunk | shared | own)


def sequence_mask(positions: Tensor, roles: Tensor) -> Tensor:
    """Return the mask of whole sequences: int64[b, t] twice → bool[b, 1, t, t]."""
    return chunk_mask(positions, roles, positions, roles)[:, None]
