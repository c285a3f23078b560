"""Writes small folders with random weights in the layouts of the published checkpoints.

File names, tensor names, types and the 65,536 ids are the real ones; only sizes are small.
"""

import json

from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
import torch
import yaml

from worldvla_ros.checkpoint.meta_layout import LAYER_NAMES, NORMS, PERMUTED, TOP_NAMES, to_pairs
from worldvla_ros.model.action_head import ActionHead, ActionHeadConfig
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig
from worldvla_ros.tokenizers.text import train_text_tokenizer

VOCABULARY_SIZE = 65536
LAST_RESERVED = 16380
SPATIAL = (
    'between the plate and the ramekin', 'from table center', 'next to the cookie box',
    'in the top drawer of the wooden cabinet', 'next to the plate', 'next to the ramekin',
    'on the cookie box',
    'on the ramekin', 'on the stove', 'on the wooden cabinet',
)  # fmt: skip
OBJECT = (
    'alphabet soup', 'bbq sauce', 'butter', 'chocolate pudding', 'cream cheese', 'ketchup', 'milk',
    'orange juice', 'salad dressing', 'tomato sauce',
)  # fmt: skip
GOAL = (
    'put the wine bottle on top of the cabinet',
    'open the middle drawer of the cabinet',
    'turn on the stove',
    'push the plate to the front of the stove',
    'open the top drawer and put the bowl inside',
    'put the bowl on the plate',
    'put the bowl on the stove',
    'put the bowl on top of the cabinet',
    'put the cream cheese in the bowl',
    'put the wine bottle on the rack',
)
LONG = {
    'put both the alphabet soup and the cream cheese box in the basket': 'LIVING ROOM SCENE1',
    'put both the alphabet soup and the tomato sauce in the basket': 'LIVING ROOM SCENE2',
    'put both the cream cheese box and the butter in the basket': 'LIVING ROOM SCENE2',
    'put the white mug on the left plate and put the yellow and white mug on the right plate':
        'LIVING ROOM SCENE5',
    'put the white mug on the plate and put the chocolate pudding to the right of the plate':
        'LIVING ROOM SCENE6',
    'pick up the book and place it in the back compartment of the caddy': 'STUDY SCENE1',
    'turn on the stove and put the moka pot on it': 'KITCHEN SCENE3',
    'put the black bowl in the bottom drawer of the cabinet and close it': 'KITCHEN SCENE4',
    'put the yellow and white mug in the microwave and close it': 'KITCHEN SCENE6',
    'put both moka pots on the stove': 'KITCHEN SCENE8',
}  # fmt: skip
LIBERO_SENTENCES = (
    *GOAL,
    *(f'pick up the black bowl {place} and place it on the plate' for place in SPATIAL),
    *(f'pick up the {thing} and place it in the basket' for thing in OBJECT),
    *LONG,
)
"""What LIBERO says of the 40 tasks of its suites goal, spatial, object and 10."""
LIBERO_FOLDERS = tuple(f'{scene} {sentence}' for sentence, scene in LONG.items())
"""The names of suite 10's tasks, which are its sentences in WorldVLA's training data."""
CONFIG = TransformerConfig(
    vocab_size=VOCABULARY_SIZE,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
)
VQGAN_CONFIG = VQGANConfig(
    embed_dim=8, z_channels=8, ch=32, ch_mult=(1, 1, 1, 1, 1), num_res_blocks=1
)
LETTERS = str.maketrans('0123456789', 'ABCDEFGHIJ')


def token_ids():
    """Return name → id as Chameleon's tokenizer has them, with a few merges for text."""
    ids = {'<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3}
    ids |= {f'IMGIMG{str(code).translate(LETTERS)}Z': code + 4 for code in range(8192)}
    ids |= {'<eoss>': 8196, '<racm3:break>': 8197}
    ids |= {f'<reserved{n:05d}>': n + 4 for n in range(8194, LAST_RESERVED)}
    return ids


def write_text_tokenizer(file, edit=None):
    """Write text_tokenizer.json; `edit` may change the ids of special tokens."""
    learnt = train_text_tokenizer([*LIBERO_SENTENCES, *LIBERO_FOLDERS], 600)
    learnt = json.loads(learnt.to_str())['model']
    ids = token_ids()
    if edit:
        edit(ids)
    special = [name for name in ids if name.startswith('<')]
    first = max(ids.values()) + 1
    ids |= {name: first + i for i, name in enumerate(learnt['vocab'])}
    filling = range(len(ids), VOCABULARY_SIZE)
    ids |= {f'filling{i}': i for i in filling}
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(' ')) for m in learnt['merges']]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    tokenizer.save(str(file))


def write_tokenizers(folder, edit=None):
    """Write what lies in chameleon/tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text_tokenizer(folder / 'text_tokenizer.json', edit)
    config = VQGAN_CONFIG
    inner = {
        'double_z': False, 'z_channels': config.z_channels, 'resolution': 512, 'in_channels': 3,
        'out_ch': 3, 'ch': config.ch, 'ch_mult': list(config.ch_mult),
        'num_res_blocks': config.num_res_blocks, 'attn_resolutions': [], 'dropout': 0.0,
    }  # fmt: skip
    params = {'embed_dim': config.embed_dim, 'n_embed': config.n_embed, 'ddconfig': inner,
              'lossconfig': {'target': 'a.loss'}, 'ckpt_path': 'somewhere'}  # fmt: skip
    content = {'model': {'base_learning_rate': 4.5e-6, 'target': 'a.VQModel', 'params': params}}
    (folder / 'vqgan.yaml').write_text(yaml.safe_dump(content))
    torch.manual_seed(1)
    tensors = dict(VQGAN(config).state_dict())
    tensors['quantize.embedding.weight'] = torch.randn(config.n_embed, config.embed_dim)
    tensors |= {'loss.discriminator.main.0.weight': torch.zeros(2), 'loss.logvar': torch.zeros(())}
    torch.save({'epoch': 3, 'state_dict': tensors}, folder / 'vqgan.ckpt')


def random_tensors(norm_heads=1, config=CONFIG, seed=0):
    """Return bf16 tensors of a transformer whose QK-norms are no identity."""
    torch.manual_seed(seed)
    model = Transformer(config)
    model.initialise(std=0.2)
    tensors = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    for name in sorted(tensors):
        if name.endswith(NORMS):
            noise = torch.randn(1, config.head_dim).bfloat16() * 0.2
            tensors[name] = (tensors[name] + noise).repeat(norm_heads, 1)
    return tensors


def head_tensors(horizon, dim=7):
    """Return bf16 tensors of RynnVLA-002's action head, with all its published names."""
    torch.manual_seed(2)
    head = ActionHead(
        ActionHeadConfig(
            context_size=CONFIG.hidden_size, hidden_size=16, intermediate_size=24,
            horizon=horizon, dim=dim,
        )
    )  # fmt: skip
    head.initialise(std=0.2)
    return {f'action_head.{name}': t.bfloat16() for name, t in head.state_dict().items()}


def write_config(folder, **changes):
    config = {
        'architectures': ['ChameleonXLLMXForConditionalGeneration'],
        'model_type': 'chameleon_xllmx',
        'vocab_size': CONFIG.vocab_size,
        'hidden_size': CONFIG.hidden_size,
        'intermediate_size': CONFIG.intermediate_size,
        'num_hidden_layers': CONFIG.num_hidden_layers,
        'num_attention_heads': CONFIG.num_attention_heads,
        'num_key_value_heads': CONFIG.num_attention_heads,
        'rms_norm_eps': 1e-5,
        'rope_theta': 10000.0,
        'rope_scaling': None,
        'hidden_act': 'silu',
        'attention_bias': False,
        'swin_norm': False,
        'tie_word_embeddings': False,
        'max_position_embeddings': 4096,
        'model_parallel_size': 1,
        'dropout': 0.05,
        'z_loss_weight': 1e-5,
        'mask_image_logits': False,
        'torch_dtype': 'bfloat16',
    } | changes
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'generation_config.json').write_text('{}')


def write_weights(folder, tensors, shards=3):
    """Write one file, or shards with their index."""
    if shards == 1:
        save_file(tensors, folder / 'model.safetensors', {'format': 'pt'})
        return
    names = [f'model-{i + 1:05d}-of-{shards:05d}.safetensors' for i in range(shards)]
    placed = {name: names[i % shards] for i, name in enumerate(sorted(tensors))}
    for file in names:
        held = {n: t for n, t in tensors.items() if placed[n] == file}
        save_file(held, folder / file, {'format': 'pt'})
    write_index(folder, placed)


def write_index(folder, placed):
    """Write which shard holds each tensor."""
    size = sum(file.stat().st_size for file in folder.glob('*.safetensors'))
    index = {'metadata': {'total_size': size}, 'weight_map': placed}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


def write_published(root, folder, tensors=None, shards=3, **config):
    """Write a published repository with one checkpoint and the tokenizers; return its folder."""
    if not (root / 'chameleon/tokenizer').is_dir():
        write_tokenizers(root / 'chameleon/tokenizer')
    place = root / folder
    place.mkdir(parents=True)
    write_config(place, **config)
    write_weights(place, random_tensors() if tensors is None else tensors, shards)
    return place


def write_meta(root, tensors):
    """Write the same weights as Meta's original layout has them."""
    write_tokenizers(root / 'tokenizer')
    folder = root / 'models/7b'
    folder.mkdir(parents=True)
    back = {new: old for old, new in TOP_NAMES.items()}
    inner = {new: old for old, new in LAYER_NAMES.items()}
    content = {'rope.freqs': torch.zeros(4)}
    for name, tensor in tensors.items():
        if name in back:
            content[back[name]] = tensor
            continue
        _, _, layer, rest = name.split('.', 3)
        if rest.endswith(PERMUTED):
            tensor = to_pairs(tensor, CONFIG.num_attention_heads)
        elif rest.endswith(NORMS):
            tensor = to_pairs(tensor[0], 1)
        content[f'layers.{layer}.{inner[rest]}'] = tensor
    torch.save(content, folder / 'consolidated.pth')
    model = {'dim': CONFIG.hidden_size, 'n_layers': CONFIG.num_hidden_layers,
             'n_heads': CONFIG.num_attention_heads, 'norm_eps': 1e-5, 'swin_norm': False,
             'qk_normalization': True}  # fmt: skip
    (folder / 'params.json').write_text(json.dumps({'model': model}))
    (folder / 'consolidate_params.json').write_text(json.dumps({'model_parallel_size': 1}))
    return folder
