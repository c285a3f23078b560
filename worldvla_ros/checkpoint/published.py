"""Published folders, token for token: WorldVLA, RynnVLA-002, Chameleon and Meta's originals.

    config.json  model*.safetensors [model.safetensors.index.json]     Hugging Face layout
    params.json  consolidated*.pth                                     Meta's layout
    text_tokenizer.json  vqgan.yaml  vqgan.ckpt                        beside them, or near

What the files do not say comes from a profile (profiles.py). Everything is checked here, nothing
is read yet. Must not know decoding or ROS.
"""

import json
import os
from pathlib import Path
import shutil

from safetensors.torch import save_file

from worldvla_ros.checkpoint.meta_layout import PARAMS_FILE, open_meta
from worldvla_ros.checkpoint.profiles import Profile, find_profile, load_profile
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.checkpoint.weights import Tensors, open_pickled, open_safetensors, open_sharded
from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig
from worldvla_ros.tokenizers.text import TextTokenizer
from worldvla_ros.tokenizers.vocab import PUBLISHED, published_vocabulary

CONFIG_FILE = 'config.json'
MODEL_FILE = 'model.safetensors'
INDEX_FILE = 'model.safetensors.index.json'
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
    'rope_scaling': None,
}
"""What the transformer here cannot be told; config.json must agree where it says anything."""
FIXED_VQGAN = {'double_z': False, 'attn_resolutions': []}


def is_published(folder: Path) -> bool:
    """Whether a folder is laid out as Hugging Face's or Meta's tools write it."""
    return (folder / CONFIG_FILE).is_file() or (folder / PARAMS_FILE).is_file()


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
    tensors = {n: t for n, t in _open_model(folder).items() if not n.startswith(unused)}
    config = _transformer_config(folder / CONFIG_FILE, tensors)
    return config, _head_config(folder / CONFIG_FILE, config, tensors), tensors


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
        if (place / TEXT_FILE).is_file():
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

    The first time, `vqgan.ckpt` is rewritten as safetensors beside it where the folder allows.

    Raises:
        CheckpointError: A file is missing or damaged, or of an architecture unknown here.
    """
    config = _vqgan_config(folder / VQGAN_YAML)
    pickled, converted = folder / VQGAN_PICKLE, folder / VQGAN_FILE
    if _is_newer(converted, pickled):
        return config, open_safetensors(converted)
    found = open_pickled(pickled, key='state_dict')
    tensors = {n: t for n, t in found.items() if n.startswith(VQGAN_PARTS)}
    partial = converted.with_suffix(f'.{os.getpid()}.partial')
    try:
        save_file({n: t.read().clone().contiguous() for n, t in tensors.items()}, partial)
        shutil.copymode(pickled, partial)
        os.replace(partial, converted)
    except OSError:  # a folder that may only be read
        return config, tensors
    return config, open_safetensors(converted)


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
        history=profile.history,
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
    said = _read_json(file).get('action_dim') if file.is_file() else None
    if said not in (None, profile.action.dim):
        raise CheckpointError(
            f'{file}: action_dim',
            expected=f'{profile.action.dim}, the actions of profile {profile.name}',
            got=said,
            remedy='Name the profile of the robot that these weights were trained for.',
        )


def _open_model(folder: Path) -> Tensors:
    if (folder / INDEX_FILE).is_file():
        return open_sharded(folder / INDEX_FILE)
    if (folder / MODEL_FILE).is_file():
        return open_safetensors(folder / MODEL_FILE)
    raise CheckpointError(
        f'no weights in {folder}',
        expected=f'{MODEL_FILE}, or {INDEX_FILE} with its shards',
        got=', '.join(sorted(p.name for p in folder.iterdir())),
        remedy='Fetch the folder again; what is there is kept.',
    )


def _transformer_config(file: Path, tensors: Tensors) -> TransformerConfig:
    """Return the sizes that config.json gives, and how many QK-norms the tensors hold."""
    config = _read_json(file)
    for name, only in FIXED_CONFIG.items():
        if config.get(name, only) != only:
            raise CheckpointError(
                f'{file}: {name}',
                expected=only,
                got=config[name],
                remedy='Only the 7B architecture is known here.',
            )
    heads = config.get('num_attention_heads', TransformerConfig.num_attention_heads)
    if config.get('num_key_value_heads', heads) != heads:
        raise CheckpointError(
            f'{file}: num_key_value_heads',
            expected=f'{heads}, as many as num_attention_heads',
            got=config['num_key_value_heads'],
            remedy='Only the 7B architecture is known here.',
        )
    sizes = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
             'num_attention_heads', 'rms_norm_eps', 'rope_theta', 'dropout')  # fmt: skip
    found = {name: config[name] for name in sizes if name in config}
    longest = max(config.get('max_position_embeddings', 0), EVALUATION_LENGTH)
    norms = _norm_heads(file, tensors, heads)
    mapping = found | {'qk_norm_heads': norms, 'max_position_embeddings': longest}
    return from_mapping(TransformerConfig, mapping, where=str(file))


def _head_config(
    file: Path, transformer: TransformerConfig, tensors: Tensors
) -> ActionHeadConfig | None:
    """Return the sizes of the action head: chunks from config.json, widths from its tensors."""
    shapes = {n.removeprefix(HEAD_PART): t.shape for n, t in tensors.items()}
    if not any(name.startswith(HEAD_PART) for name in tensors):
        return None
    config = _read_json(file)
    mapping = {
        'context_size': transformer.hidden_size,
        'horizon': config.get('time_horizon', ActionHeadConfig.horizon),
        'dim': config.get('action_dim', ActionHeadConfig.dim),
    }
    widths = {'hidden_size': 'hidden_projection.weight',
              'intermediate_size': 'transformer_encoder.layers.0.linear1.weight'}  # fmt: skip
    mapping |= {field: shapes[name][0] for field, name in widths.items() if name in shapes}
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
    if not file.is_file():
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


def _is_newer(converted: Path, original: Path) -> bool:
    """Whether the conversion is there and not older than what it was made from."""
    if not converted.is_file() or not original.is_file():
        return converted.is_file()
    return converted.stat().st_mtime >= original.stat().st_mtime


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{file} is damaged: {error}', remedy='Restore the file.') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{file}', expected='a mapping', got=type(content).__name__, remedy='Restore the file.'
        )
    return content
