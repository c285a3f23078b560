"""Names that tell one tokenizer from another, `name@hash`: the one place where they are computed.

Codes and ids that come from another computer mean the same here where the identities are equal.

    codebook   sizes and weights of the VQ-GAN: what turns pixels into codes and back
    text       the byte-pair encoding, and where its ids begin
    state      recipe, ranges, and where the ids of a state's bins lie

Tensors are hashed, not files: a published `vqgan.ckpt` and the safetensors file that it was
converted to are one codebook, and so are those of two checkpoints that were trained on one
codebook. The size of an image is no part of it; whoever takes codes checks their grid.
Must not know files or robots.
"""

from dataclasses import asdict
import hashlib
import json

from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.tokenizers.text import TextTokenizer

DIGITS = 12


def codebook_identity(vqgan: VQGAN) -> str:
    """Return the identity of an image tokenizer, such as `vqgan1024@0123456789ab`."""
    digest = hashlib.sha256(json.dumps(asdict(vqgan.config), sort_keys=True).encode())
    for name, tensor in sorted(vqgan.state_dict().items()):
        digest.update(f'{name}{tuple(tensor.shape)}'.encode())
        digest.update(tensor.float().contiguous().cpu().numpy().data)
    return f'vqgan{vqgan.config.n_embed}@{digest.hexdigest()[:DIGITS]}'


def text_identity(spec: CheckpointSpec, text: TextTokenizer) -> str:
    """Return the identity of a text tokenizer, such as `text300@0123456789ab`."""
    return _identity(f'text{text.size}', [spec.vocabulary.text_base, text.content()])


def state_identity(spec: CheckpointSpec) -> str:
    """Return the identity of a state's tokenizer, such as `tcp_pose_width@0123456789ab`.

    Raises:
        ValueError: The checkpoint has no state.
    """
    if spec.state is None:
        raise ValueError('expected a checkpoint with a state recipe')
    vocab = spec.vocabulary
    places = [vocab.state_start, vocab.state_end, vocab.state_bins.start]
    return _identity(spec.state.recipe, [asdict(spec.state), places])


def _identity(name: str, content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return f'{name}@{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}'
