"""Published folders, token for token: WorldVLA, RynnVLA-002, Chameleon and Meta's originals.

    config.json  model*.safetensors [model.safetensors.index.json]     Hugging Face layout
    params.json  consolidated*.pth                                     Meta's layout
    text_tokenizer.json  vqgan.yaml  vqgan.ckpt                        beside them, or near

What the files do not say comes from a profile (profiles.py). Everything is checked here, nothing
is read yet. Must not know decoding or ROS.
"""

import logging
import os
from pathlib import Path
from typing import Any

from worldvla_ros.checkpoint.meta_layout import PARAMS_FILE, open_meta
from worldvla_ros.checkpoint.profiles import Profile, find_profile, load_profile
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.checkpoint.weights import Tensors, open_model, open_pickled, open_safetensors
from worldvla_ros.config import from_mapping, load_json, load_yaml, shown
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig
from worldvla_ros.tokenizers.text import TextTokenizer
from worldvla_ros.tokenizers.vocab import PUBLISHED, published_vocabulary

LOG = logging.getLogger(__name__)
CONFIG_FILE = 'config.json'
TEXT_FILE = 'text_tokenizer.json'
VQGAN_YAML = 'vqgan.yaml'
VQGAN_PICKLE = 'vqgan.ckpt'
VQGAN_FILE = 'vqgan.safetensors'
VQGAN_PARTS = ('encoder.', 'decoder.', 'quantize.', 'quant_conv.', 'post_quant_conv.')
UNUSED_PARTS = ('model.vqmodel.',)
"""The encoder that base models carry inside; the reference loads `vqgan.ckpt` all the same."""
HEAD_PART = 'action_head.'
EVALUATION_LENGTH = 8192
"""Tokens that the reference's evaluation allows; configs repeat the 4096 of training, and two
views of 512 px need more. Positions are rotary, so the number changes nothing else."""
ANCESTORS = 3
FIXED_CONFIG = {
    'hidden_act': 'silu',
    'attention_bias': False,
    'tie_word_embeddings': False,
    'swin_norm': False,
}
"""What the transformer here has no setting for; config.json must agree where it says anything."""
FIXED_VQGAN = {'double_z': False, 'attn_resolutions': []}
ROPE_WORDS = ('rope_scaling', 'rope_parameters')
"""Where transformers writes of rotary positions: versions before 5, and since."""
PLAIN_ROPE = {'rope_type', 'type', 'rope_theta'}
SIZES = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
         'num_attention_heads', 'rms_norm_eps', 'dropout')  # fmt: skip
HEAD_WIDTHS = {
    'hidden_size': 'hidden_projection.weight',
    'intermediate_size': 'transformer_encoder.layers.0.linear1.weight',
}
HEAD_QUERIES = 'action_token_embeddings.weight'
HEAD_LAST = 'output_projection.model.fc2.weight'


def is_published(folder: Path) -> bool:
    """Whether a folder is laid out as Hugging Face's or Meta's tools write it."""
    return os.path.isfile(folder / CONFIG_FILE) or os.path.isfile(folder / PARAMS_FILE)


def choose_profile(folder: Path, profile: str | Path | None) -> Profile:
    """Return the named profile, or the one that is for this folder.

    Raises:
        CheckpointError: No profile is for this folder.
        ConfigError: There is no such profile.
    """
    return load_profile(profile) if profile else find_profile(folder)


def open_transformer(
    folder: Path, with_head: bool = True
) -> tuple[TransformerConfig, ActionHeadConfig | None, Tensors]:
    """Return the sizes and the tensors of the transformer, under the names used here.

    Args:
        folder: In Hugging Face's or Meta's layout.
        with_head: Whether a continuous action head is wanted, where there is one.

    Raises:
        CheckpointError: A file is missing or damaged, or of an architecture unknown here.
    """
    if not (folder / CONFIG_FILE).is_file():
        config, tensors = open_meta(folder)
        return config, None, tensors
    unused = UNUSED_PARTS if with_head else (*UNUSED_PARTS, HEAD_PART)
    tensors = {n: t for n, t in open_model(folder).items() if not n.startswith(unused)}
    file = folder / CONFIG_FILE
    said = load_json(file, CheckpointError)
    config = _transformer_config(file, said, tensors)
    return config, _head_config(file, said, config, tensors), tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the transformer's weights."""
    patterns = ('model*.safetensors', 'consolidated*.pth')
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def tokenizer_folder(folder: Path) -> Path:
    """Return where text tokenizer and VQ-GAN lie: in the folder itself, or near it as published.

    Raises:
        CheckpointError: They are nowhere.
    """
    here = Path(os.path.abspath(folder))
    above = [here, *here.parents[:ANCESTORS]]
    places = [here, *(a / name for a in above for name in ('tokenizer', 'chameleon/tokenizer'))]
    for place in places:
        if os.path.isfile(place / TEXT_FILE):
            if place != here:
                LOG.info('text and image tokenizer of %s are taken from %s', here, place)
            return place
    raise CheckpointError(
        f'no {TEXT_FILE} near {folder}',
        expected=f'{TEXT_FILE}, {VQGAN_YAML} and {VQGAN_PICKLE} in one of '
        + ', '.join(str(place) for place in places),
        remedy='worldvla pull fetches them; or copy chameleon/tokenizer of WorldVLA to one place.',
    )


def open_text(folder: Path) -> TextTokenizer:
    """Return the text tokenizer, whose ids are those of the published vocabulary.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return TextTokenizer.load(folder / TEXT_FILE, PUBLISHED.text_base)


def open_vqgan(folder: Path) -> tuple[VQGANConfig, Tensors]:
    """Return the sizes and the tensors of the image tokenizer.

    `vqgan.ckpt` is read as it is, mapped into memory; nothing is written. A folder may hold it as
    safetensors instead.

    Raises:
        CheckpointError: A file is missing or damaged, or of an architecture unknown here.
    """
    config = _vqgan_config(folder / VQGAN_YAML)
    pickled, plain = folder / VQGAN_PICKLE, folder / VQGAN_FILE
    if not os.path.isfile(pickled) and os.path.isfile(plain):
        return config, open_safetensors(plain)
    found = open_pickled(pickled, key='state_dict')
    return config, {n: t for n, t in found.items() if n.startswith(VQGAN_PARTS)}


def published_spec(
    profile: Profile,
    transformer: TransformerConfig,
    head: ActionHeadConfig | None,
    vqgan: VQGANConfig,
    text: TextTokenizer,
) -> CheckpointSpec:
    """Return what the weights mean: the profile's words with the files' sizes and ids.

    Raises:
        CheckpointError: They do not fit each other, or the vocabulary is another one.
    """
    return CheckpointSpec(
        name=profile.name,
        robot=profile.robot,
        cameras=profile.cameras,
        image_size=profile.image_size,
        action=profile.action,
        state=profile.state,
        images_per_camera=profile.images_per_camera,
        world=profile.world,
        prompts=profile.prompts,
        tasks=profile.tasks,
        camera_rotation=profile.camera_rotation,
        vocabulary=published_vocabulary(text.ids_by_name(), TEXT_FILE),
        transformer=transformer,
        vqgan=vqgan,
        action_head=head,
    )


def check_action_dimension(folder: Path, profile: Profile) -> None:
    """Refuse a folder whose config.json names another action dimension than the profile.

    Raises:
        CheckpointError: It does.
    """
    file = folder / CONFIG_FILE
    said = load_json(file, CheckpointError).get('action_dim') if os.path.isfile(file) else None
    if said not in (None, profile.action.dim):
        raise CheckpointError(
            f'{file}: action_dim',
            expected=f'{profile.action.dim}, the actions of profile {profile.name}',
            got=shown(said),
            remedy='Name the profile of the robot that these weights were trained for.',
        )


def _transformer_config(file: Path, config: dict[str, Any], tensors: Tensors) -> TransformerConfig:
    """Return the sizes that config.json gives, and how many QK-norms the tensors hold."""
    for name, only in FIXED_CONFIG.items():
        if config.get(name, only) != only:
            raise _unknown_architecture(file, name, only, config[name])
    heads = config.get('num_attention_heads', TransformerConfig.num_attention_heads)
    shared = config.get('num_key_value_heads')
    if shared not in (None, heads):
        raise _unknown_architecture(file, 'num_key_value_heads', heads, shared)
    found = {name: config[name] for name in SIZES if name in config}
    found |= _rope_theta(file, config) | {
        'qk_norm_heads': _norm_heads(file, tensors, heads),
        'max_position_embeddings': _context_length(file, config.get('max_position_embeddings')),
    }
    return from_mapping(TransformerConfig, found, where=str(file))


def _unknown_architecture(file: Path, name: str, expected: object, got: object) -> CheckpointError:
    return CheckpointError(
        f'{file}: {name}',
        expected=expected,
        got=shown(got),
        remedy='Only the 7B architecture is known here.',
    )


def _rope_theta(file: Path, config: dict[str, Any]) -> dict[str, object]:
    """Return the base of rotary positions, wherever the file has it; scaling is refused."""
    found = [config['rope_theta']] if 'rope_theta' in config else []
    for name in ROPE_WORDS:
        words = config.get(name) or {}
        kind = words.get('rope_type', words.get('type')) if isinstance(words, dict) else words
        if kind not in (None, 'default') or not set(words) <= PLAIN_ROPE:
            raise _unknown_architecture(file, name, 'positions without scaling', words)
        found += [words['rope_theta']] if 'rope_theta' in words else []
    if any(theta != found[0] for theta in found):
        raise CheckpointError(
            f'{file}: rope_theta', expected='one value', got=shown(found),
            remedy='Restore the file.',
        )  # fmt: skip
    return {'rope_theta': found[0]} if found else {}


def _context_length(file: Path, said: object) -> object:
    """Return how many tokens a sequence may have: at least those of the evaluation."""
    if said is None or (isinstance(said, int) and said < EVALUATION_LENGTH):
        LOG.info('%s: max_position_embeddings %s is read as %d', file, said, EVALUATION_LENGTH)
        return EVALUATION_LENGTH
    return said


def _head_config(
    file: Path, config: dict[str, Any], transformer: TransformerConfig, tensors: Tensors
) -> ActionHeadConfig | None:
    """Return the sizes of the action head: those that its tensors show, as config.json says."""
    shapes = {
        name.removeprefix(HEAD_PART): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith(HEAD_PART) and tensor.shape
    }
    if not shapes:
        return None
    mapping: dict[str, Any] = {'context_size': transformer.hidden_size}
    mapping |= {field: shapes[name][0] for field, name in HEAD_WIDTHS.items() if name in shapes}
    mapping['dim'] = shapes.get(HEAD_LAST, (ActionHeadConfig.dim,))[0]
    numbers = mapping['dim'] * max(transformer.hidden_size, 1)  # of the queries of one action
    queries = shapes.get(HEAD_QUERIES, (ActionHeadConfig.horizon * numbers,))
    mapping['horizon'] = queries[-1] // max(numbers, 1)
    for field, name in (('horizon', 'time_horizon'), ('dim', 'action_dim')):
        if config.get(name) not in (None, mapping[field]):
            raise CheckpointError(
                f'{file}: {name}',
                expected=f'{mapping[field]}, as the tensors of the action_head have',
                got=shown(config[name]),
                remedy='Restore config.json and weights of the same checkpoint.',
            )
    return from_mapping(ActionHeadConfig, mapping, where=str(file))


def _norm_heads(file: Path, tensors: Tensors, heads: int) -> int:
    """Return how many sets of QK-norm parameters each layer has: one, or one per head."""
    name = 'model.layers.0.self_attn.q_norm.weight'
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) != 2 or shape[0] not in (1, heads):
        raise CheckpointError(
            f'{file.parent}: shape of {name}',
            expected=f'[1, head width] or [{heads}, head width]',
            got=list(shape) or 'no such tensor',
            remedy='Only the 7B architecture is known here.',
        )
    return shape[0]


def _vqgan_config(file: Path) -> VQGANConfig:
    if not os.path.isfile(file):
        raise CheckpointError(
            f'no image tokenizer {file}',
            expected=f'{VQGAN_YAML} and {VQGAN_PICKLE} beside {TEXT_FILE}',
            remedy='worldvla pull fetches them.',
        )
    try:
        params = load_yaml(file)['model']['params']
        inner = dict(params['ddconfig'])
        sizes = {name: params[name] for name in ('embed_dim', 'n_embed')}
        fixed = {name: inner.pop(name, only) for name, only in FIXED_VQGAN.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{file} is damaged: {error!r}',
            expected='model.params with embed_dim, n_embed and ddconfig',
            remedy='Restore the file.',
        ) from error
    if fixed != FIXED_VQGAN:
        raise CheckpointError(f'{file}: ddconfig', expected=FIXED_VQGAN, got=fixed)
    known = VQGANConfig.__dataclass_fields__
    sizes |= {name: value for name, value in inner.items() if name in known}
    return from_mapping(VQGANConfig, sizes, where=str(file))
