"""Published folders: what loads, what it does, and what is refused before anything is read."""

from dataclasses import replace
import json
import os
import re
import shutil

import numpy as np
import publish
import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
import torch
import yaml

from worldvla_ros.checkpoint import folder as checkpoint
from worldvla_ros.checkpoint import profiles
from worldvla_ros.checkpoint.folder import load
from worldvla_ros.errors import CheckpointError, ConfigError, InstructionError, WorldVLAError
from worldvla_ros.learn.loss import CrossEntropy
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot.description import check_fits, load_robot
from worldvla_ros.tokenizers.vocab import PUBLISHED, published_vocabulary
from worldvla_ros.world_model import WorldModel

GOAL_256 = 'model_256/libero_goal'
VLA_256 = 'VLA_model_256/libero_spatial'
ACTION_WORLD_512 = 'Action_World_model_512/libero_goal'
WORLD_512 = 'World_model_512/libero_goal'
IDS = torch.arange(40)[None] * 1637 % publish.VOCABULARY_SIZE
RNG = np.random.default_rng(0)
STATE = np.array([-0.2, 0.0, 1.1, 3.1, 0.0, -0.1, 0.02, -0.02], np.float32)
SENTENCE = publish.LIBERO_SENTENCES[0]


def picture(height=256, width=256, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A repository with WorldVLA and RynnVLA-002 folders; do not write to it."""
    root = tmp_path_factory.mktemp('published')
    for folder in (GOAL_256, VLA_256, WORLD_512, ACTION_WORLD_512):
        publish.write_published(root, folder)
    return root


@pytest.fixture(scope='module')
def goal(root):
    return load(root / GOAL_256)


@pytest.fixture(scope='module')
def vla(root):
    return load(root / VLA_256)


@pytest.fixture
def copied(root, tmp_path):
    """A copy of one folder with its tokenizers, which may be damaged."""
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    return shutil.copytree(root / GOAL_256, tmp_path / GOAL_256)


def refusal(folder, kind=CheckpointError, **options):
    """Return the error, after checking that it says what to do and that no network was filled."""
    filled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, 'read_network', lambda *given: filled.append(given))
        with pytest.raises(kind) as caught:
            load(folder, **options)
    assert not filled, 'weights were read before everything was checked'
    assert caught.value.remedy
    return caught.value


def scores(loaded):
    return loaded.model.logits(loaded.model(IDS))


# what loads


def test_a_folder_loads_with_the_stored_weights_in_the_type_asked_for(root, goal):
    stored = publish.random_tensors()
    for name, tensor in goal.model.state_dict().items():
        assert torch.equal(tensor, stored[name].float()), name
    half = load(root / GOAL_256, dtype=torch.bfloat16)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.vqgan.parameters()} == {torch.float32}


def test_the_profile_says_what_the_folder_does_not(goal, vla):
    spec = goal.spec
    assert (spec.name, spec.robot, spec.cameras) == (
        'worldvla_256_libero_goal',
        'libero',
        ('front',),
    )
    assert (spec.images_per_camera, spec.image_size, spec.action.horizon) == (2, 256, 5)
    assert spec.state is None
    assert spec.camera_rotation == 180
    assert (vla.spec.cameras, vla.spec.action.horizon) == (('front', 'wrist'), 10)
    assert vla.spec.state.recipe == 'libero_pose_fingers'


def test_one_file_and_shards_load_the_same(root, goal, tmp_path):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    single = load(publish.write_published(tmp_path, GOAL_256, shards=1))
    assert torch.equal(scores(single), scores(goal))


def test_both_shapes_of_qk_norm_give_the_same_outputs(goal, tmp_path):
    heads = publish.CONFIG.num_attention_heads
    many = publish.random_tensors(norm_heads=heads)
    folder = publish.write_published(tmp_path, GOAL_256, tensors=many)
    loaded = load(folder)
    assert loaded.spec.transformer.qk_norm_heads == heads
    assert loaded.model.model.layers[0].self_attn.q_norm.weight.shape[0] == heads
    torch.testing.assert_close(scores(loaded), scores(goal), rtol=0, atol=1e-6)


@pytest.mark.parametrize('folder', ['chameleon/starting_point', 'Chameleon_7B_mGPT'])
def test_base_models_load_without_the_image_encoder_that_they_carry(goal, tmp_path, folder):
    extra = {'model.vqmodel.encoder.conv_in.weight': torch.zeros(2, 3)}
    tensors = publish.random_tensors() | extra
    base = load(publish.write_published(tmp_path, folder, tensors=tensors))
    assert torch.equal(scores(base), scores(goal))
    assert base.spec.tasks == ()
    for use in (Policy, WorldModel):
        with pytest.raises(CheckpointError, match='cannot') as caught:
            use(base)
        assert caught.value.remedy


def test_meta_weights_load_as_their_conversion_does(goal, tmp_path):
    meta = load(publish.write_meta(tmp_path, publish.random_tensors()))
    assert meta.spec.name == 'chameleon_7b_meta'
    stored = publish.random_tensors()
    for name, tensor in meta.model.state_dict().items():
        assert torch.equal(tensor, stored[name].float()), name
    assert torch.equal(scores(meta), scores(goal))


def test_meta_queries_rotate_as_pairs(tmp_path):
    """Interleaved rotation of Meta's rows equals half-split rotation of the permuted ones."""
    from worldvla_ros.checkpoint.meta_layout import to_halves
    from worldvla_ros.model.transformer import rotary_table, rotate

    config = publish.CONFIG
    pairs = torch.randn(6, config.hidden_size)
    heads, width = config.num_attention_heads, config.head_dim
    halves = to_halves(pairs.T, heads).T.view(6, heads, width).transpose(0, 1)[None]
    cos, sin = rotary_table(torch.arange(6), config)
    turned = rotate(halves, cos, sin)[0].transpose(0, 1)  # [6, n, k]
    split = pairs.view(6, heads, width // 2, 2)
    c, s = cos[:, None, : width // 2], sin[:, None, : width // 2]
    even = split[..., 0] * c - split[..., 1] * s
    odd = split[..., 0] * s + split[..., 1] * c
    torch.testing.assert_close(turned, torch.cat([even, odd], -1))


@pytest.mark.parametrize('place', ['.', 'tokenizer', '../tokenizer', '../../chameleon/tokenizer'])
def test_tokenizers_are_found_at_every_published_place(root, tmp_path, place):
    folder = shutil.copytree(root / GOAL_256, tmp_path / GOAL_256)
    shutil.copytree(root / 'chameleon/tokenizer', folder / place, dirs_exist_ok=True)
    assert load(folder).text.encode('turn') == load(root / GOAL_256).text.encode('turn')


def test_loading_writes_nothing_into_the_folders(copied):
    root = copied.parents[1]
    before = {file: file.stat().st_mtime_ns for file in root.rglob('*')}
    load(copied)
    assert {file: file.stat().st_mtime_ns for file in root.rglob('*')} == before


def test_the_vqgan_may_lie_there_as_safetensors(copied, goal):
    tokenizers = copied.parents[1] / 'chameleon/tokenizer'
    save_file(dict(goal.vqgan.state_dict()), tokenizers / 'vqgan.safetensors')
    content = torch.load(tokenizers / 'vqgan.ckpt', weights_only=True)
    content['state_dict']['quant_conv.bias'] += 1
    torch.save(content, tokenizers / 'vqgan.ckpt')
    expected = content['state_dict']['quant_conv.bias']
    assert torch.equal(load(copied).vqgan.quant_conv.bias, expected)  # what was published
    (tokenizers / 'vqgan.ckpt').unlink()
    assert torch.equal(load(copied).vqgan.quant_conv.bias, goal.vqgan.quant_conv.bias)


def test_where_the_tokenizers_were_found_is_said(root, caplog):
    with caplog.at_level('INFO', 'worldvla_ros'):
        load(root / GOAL_256)
    assert f'are taken from {root / "chameleon/tokenizer"}' in caplog.text
    assert 'max_position_embeddings 4096 is read as 8192' in caplog.text


def test_no_code_in_a_pickle_runs(copied):
    class Trap:
        def __reduce__(self):
            return (open, (str(copied / 'sprung'), 'w'))

    tokenizers = copied.parents[1] / 'chameleon/tokenizer'
    torch.save({'state_dict': {}, 'hook': Trap()}, tokenizers / 'vqgan.ckpt')
    assert 'vqgan.ckpt cannot be read' in str(refusal(copied))
    assert not (copied / 'sprung').exists()


def test_model_id_tells_weights_apart_without_reading_all(root, goal, copied, monkeypatch):
    assert load(copied).model_id == goal.model_id
    shard = copied / 'model-00001-of-00003.safetensors'
    tensors = load_file(shard)
    next(iter(tensors.values()))[0, 0] += 1
    save_file(tensors, shard)
    assert load(copied).model_id != goal.model_id
    monkeypatch.setattr('worldvla_ros.checkpoint.weights.HASHED_BLOCK_BYTES', 64)
    assert load(root / GOAL_256).model_id == load(root / GOAL_256).model_id
    assert load(copied).model_id != load(root / GOAL_256).model_id


# profiles


UNPUBLISHED = {'rynnvla_so100'}
PUBLISHED_PROFILES = sorted(set(profiles.profile_names()) - UNPUBLISHED)


@pytest.mark.parametrize('name', PUBLISHED_PROFILES)
def test_a_profile_loads_is_found_by_its_folder_and_fits_its_robot(name):
    profile = profiles.load_profile(name)
    assert profile.name == name
    for folder in profile.folders:
        assert profiles.find_profile(f'/any/place/{folder}') == profile
    robot = load_robot(profile.robot)
    check_fits(
        robot, profile.action.names, profile.action.units, profile.cameras, profile.camera_rotation
    )


def test_there_is_a_profile_for_every_published_folder():
    folders = {profiles.load_profile(name).folder for name in profiles.profile_names()}
    suites = [f'libero_{s}' for s in ('spatial', 'object', 'goal', '10')]
    kinds = [
        'model_256',
        'model_512',
        'VLA_model_256',
        'World_model_512',
        'Action_World_model_512',
    ]
    assert folders >= {f'{kind}/{suite}' for kind in kinds for suite in suites}
    assert folders >= {'chameleon/starting_point', 'models/7b', 'Chameleon_7B_mGPT'}


@pytest.mark.parametrize('size', ['256', '512'])
@pytest.mark.parametrize('suite', ['Spatial', 'Object', 'Goal', '10'])
def test_older_names_of_worldvlas_folders_are_known(size, suite):
    name = f'worldvla_{size}_libero_{suite.lower()}'
    goal_256 = '_hf' if (size, suite) == ('256', 'Goal') else ''
    for folder in (
        f'jcenaa/WorldVLA-ActionModel-LIBERO-{suite}-{size}',
        f'ckpts/chameleon/{size}_all/libero_{suite.lower()}{goal_256}',
    ):
        assert profiles.find_profile(f'/any/{folder}').name == name


def test_no_folder_belongs_to_two_profiles():
    folders = [f for n in profiles.profile_names() for f in profiles.load_profile(n).folders]
    assert len(set(folders)) == len(folders)


def test_the_profile_of_so100_has_the_references_constants(root):
    profile = profiles.load_profile('rynnvla_so100')
    assert (profile.action.horizon, profile.action.dim, profile.images_per_camera) == (20, 6, 1)
    assert (profile.action.minimum[0], profile.action.maximum[5]) == (-27.33398438, 74.56647491)
    assert profile.action.minimum[5] == -9.07504368
    assert (profile.state.minimum[1], profile.state.maximum[2]) == (24.16992188, 182.4609375)
    assert profile.folders == ()
    loaded = load(root / GOAL_256, profile='rynnvla_so100')
    state = np.array(profile.state.minimum, np.float32)
    views = {'front': picture(), 'wrist': picture(seed=1)}
    observation = Observation(views, 'Place the block inside the circle.', state)
    prompt = Policy(loaded).prompt(observation)
    text = loaded.text.encode(
        'What action should the robot take to Place the block inside the circle.?'
    )
    assert len(prompt.ids) == 2 + len(text) + 8 + 2 * 276  # spec: 562 + text with the response
    assert Policy(loaded).act(observation).actions.shape == (20, 6)


def write_profile(place, name, **content):
    (place / f'{name}.yaml').write_text(yaml.safe_dump(content))
    return place / f'{name}.yaml'


@pytest.mark.parametrize('links', [{'a': 'a'}, {'a': 'b', 'b': 'a'}, {'a': 3}, {'a': ['a']}])
def test_profiles_that_extend_each_other_in_a_circle_are_refused(tmp_path, links):
    for name, base in links.items():
        write_profile(tmp_path, name, extends=base)
    with pytest.raises(ConfigError, match='extends') as caught:
        profiles.load_profile(tmp_path / 'a.yaml')
    assert len(str(caught.value)) < 800


def test_profiles_may_extend_each_other_in_a_row(root, tmp_path):
    base = str(profiles.profiles_folder() / 'base/worldvla')
    write_profile(tmp_path, 'a', extends=base, folder='x', about='a', image_size=64)
    write_profile(tmp_path, 'b', extends='a', image_size=128, action={'horizon': 7})
    profile = profiles.load_profile(write_profile(tmp_path, 'c', extends='b', about='c'))
    assert (profile.about, profile.image_size, profile.action.horizon) == ('c', 128, 7)
    assert profile.action.dt == 0.05


@pytest.mark.parametrize('name', ['x' * 10_000, 'x' * 10_000 + '.yaml'])
def test_a_name_that_no_profile_can_have_is_refused(name):
    with pytest.raises(ConfigError, match='no profile') as caught:
        profiles.load_profile(name)
    assert len(str(caught.value)) < 2000


def test_statistics_are_those_of_the_specification():
    worldvla = profiles.load_profile('worldvla_512_libero_10')
    assert worldvla.action.minimum == (-0.9375,) * 3 + (-0.32571429, -0.375, -0.375, -1.0)
    assert worldvla.action.horizon == 10
    rynn = profiles.load_profile('rynnvla_vla_256_libero_object')
    assert (rynn.action.minimum[3], rynn.action.maximum[3]) == (-0.24214286, 0.34821429)
    assert rynn.action.minimum[5] == -0.36428571
    assert rynn.world.minimum == worldvla.action.minimum
    assert rynn.action.horizon == 5


def test_chunks_are_as_long_as_published():
    horizons = {
        name: profiles.load_profile(name).action.horizon for name in profiles.profile_names()
    }
    long = {name for name, horizon in horizons.items() if horizon == 10}
    assert {name for name in long if name.startswith('worldvla')} == {
        'worldvla_256_libero_10', 'worldvla_512_libero_10',
    }  # fmt: skip
    assert {'rynnvla_vla_256_libero_spatial', 'rynnvla_vla_256_libero_10'} <= long


@pytest.mark.parametrize(
    'name', ['libero_goal', 'my_model_256/libero_goal', 'model_256/libero_go', 'mine']
)
def test_no_profile_is_guessed(root, tmp_path, name):
    shutil.copytree(root / GOAL_256, tmp_path / name)
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    error = refusal(tmp_path / name)
    assert 'does not say its statistics' in str(error)
    assert 'model_256/libero_goal' in error.expected
    assert 'worldvla_256_libero_goal' in error.remedy
    assert len(str(error)) < 900
    loaded = load(tmp_path / name, profile='worldvla_256_libero_goal')
    assert loaded.spec.name == 'worldvla_256_libero_goal'


def test_an_unknown_profile_names_near_ones(root):
    error = refusal(root / GOAL_256, ConfigError, profile='worldvla_256_libero_gaol')
    assert 'worldvla_256_libero_goal' in error.remedy


def test_a_profile_without_statistics_is_refused(root, tmp_path):
    content = yaml.safe_load((profiles.profiles_folder() / 'base/libero.yaml').read_text())
    del content['action']['minimum']
    content |= {'folder': 'a/b', 'about': 'none', 'image_size': 256}
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump(content))
    assert "'minimum' is missing" in str(refusal(root / GOAL_256, ConfigError, profile=file))


def test_a_profile_of_ones_own_needs_no_folder_of_a_name(root, tmp_path):
    base = profiles.profiles_folder() / 'base/worldvla'
    file = tmp_path / 'mine.yaml'
    file.write_text(f'extends: {base}\nfolder: x\nabout: mine\nimage_size: 64\n')
    assert load(root / GOAL_256, profile=file).spec.image_size == 64


def test_our_own_folder_takes_no_profile(tiny_folder):
    assert 'no profile' in str(refusal(tiny_folder, profile='worldvla_256_libero_goal'))


# acting and imagining


def test_worldvla_acts_and_imagines(goal):
    now = Observation({'front': picture()}, SENTENCE, history=({'front': picture(seed=1)},))
    chunk = Policy(goal).act(now)
    assert chunk.actions.shape == (5, 7)
    assert (chunk.actions >= np.array(goal.spec.action.minimum) - 1e-6).all()
    assert (chunk.actions <= np.array(goal.spec.action.maximum) + 1e-6).all()
    images = WorldModel(goal).imagine(now, chunk.actions[:1])
    assert images.shape == (1, 256, 256, 3)


def test_rynnvla_acts_on_two_views_and_state(vla):
    views = {'front': picture(), 'wrist': picture(seed=1)}
    before = {'front': picture(seed=2), 'wrist': picture(seed=3)}
    chunk = Policy(vla).act(Observation(views, SENTENCE, STATE, (before,)))
    assert chunk.actions.shape == (10, 7)
    other = Policy(vla).act(
        Observation(views | {'wrist': picture(seed=4)}, SENTENCE, STATE, (before,))
    )
    assert np.abs(other.log_probs - chunk.log_probs).max() > 1e-4


def test_a_world_model_only_imagines(root):
    world = load(root / WORLD_512)
    with pytest.raises(CheckpointError, match='cannot act'):
        Policy(world)
    images = {'front': picture(512, 512), 'wrist': picture(512, 512, 1)}
    imagined = WorldModel(world).imagine_views(Observation(images), np.zeros((1, 7)))
    assert {name: i.shape for name, i in imagined.items()} == {
        'front': (1, 512, 512, 3),
        'wrist': (1, 512, 512, 3),
    }
    assert (imagined['front'] != imagined['wrist']).any()


def rynn_observation():
    views = {'front': picture(), 'wrist': picture(seed=1)}
    return Observation(views, SENTENCE, STATE)


def test_an_action_head_loads_and_acts(root, tmp_path):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    stored = publish.head_tensors(horizon=10)
    tensors = publish.random_tensors() | stored
    folder = publish.write_published(
        tmp_path, VLA_256, tensors=tensors, action_dim=7, time_horizon=10
    )
    loaded = load(folder)
    for name, tensor in loaded.head.state_dict().items():
        assert torch.equal(tensor, stored[f'action_head.{name}'].float()), name
    chunk = Policy(loaded).act(rynn_observation())
    assert (Policy(loaded).decoding, chunk.actions.shape) == ('continuous', (10, 7))
    discrete = Policy(loaded, 'discrete').act(rynn_observation())
    assert discrete.log_probs.shape == (10, 7)
    again = load(checkpoint.convert(folder, tmp_path / 'mine'))
    np.testing.assert_array_equal(Policy(again).act(rynn_observation()).actions, chunk.actions)


@pytest.mark.parametrize(
    'config', [{}, {'time_horizon': None}, {'action_dim': 7}, {'time_horizon': 10}]
)
def test_a_head_is_as_long_as_its_tensors(root, tmp_path, config):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    tensors = publish.random_tensors() | publish.head_tensors(horizon=10)
    folder = publish.write_published(tmp_path, VLA_256, tensors=tensors, **config)
    loaded = load(folder)
    assert (loaded.head.config.horizon, loaded.head.config.dim) == (10, 7)


@pytest.mark.parametrize('horizon', [5, 9])
def test_a_head_of_another_length_than_the_profiles_is_refused(root, tmp_path, horizon):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    tensors = publish.random_tensors() | publish.head_tensors(horizon=horizon)
    error = refusal(publish.write_published(tmp_path, VLA_256, tensors=tensors))
    assert 'action_head horizon' in str(error)
    assert (error.expected[:3], error.got[0]) == ('(10', horizon)


@pytest.mark.parametrize('config', [{'time_horizon': 5}, {'time_horizon': 10, 'action_dim': 6}])
def test_an_action_head_of_another_size_is_refused(root, tmp_path, config):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    tensors = publish.random_tensors() | publish.head_tensors(horizon=10)
    folder = publish.write_published(tmp_path, VLA_256, tensors=tensors, **config)
    assert re.search('action_head|action_dim', str(refusal(folder)))


def test_a_world_model_leaves_its_untrained_head_aside(root, tmp_path):
    shutil.copytree(root / 'chameleon', tmp_path / 'chameleon')
    tensors = publish.random_tensors() | publish.head_tensors(horizon=5)
    folder = publish.write_published(tmp_path, 'World_model_512/libero_10', tensors=tensors)
    assert load(folder).head is None


# token ids


def pieces(loaded, ids):
    """Split a sequence at its marks: [(name, length)], text as 'text'."""
    vocab, found, i = loaded.spec.vocabulary, [], 0
    ends = {
        vocab.image_start: ('image', vocab.image_end),
        vocab.action_start: ('action', vocab.action_end),
        vocab.state_start: ('state', vocab.state_end),
    }
    while i < len(ids):
        if ids[i] in ends:
            name, end = ends[ids[i]]
            length = ids[i:].index(end) + 1
            found.append((name, length))
            i += length
            continue
        kind = {vocab.bos: 'bos', vocab.sep: 'sep'}.get(ids[i], 'text')
        if kind == 'text' and found and found[-1][0] == 'text':
            found[-1] = ('text', found[-1][1] + 1)
        else:
            found.append((kind, 1))
        i += 1
    return found


def test_worldvla_action_sequence_is_laid_out_as_published(goal):
    now = Observation({'front': picture()}, SENTENCE, history=({'front': picture(seed=1)},))
    prompt = Policy(goal).prompt(now)
    text = goal.text.encode(f'What action should the robot take to {SENTENCE}?')
    assert pieces(goal, prompt.ids.tolist()) == [
        ('bos', 1), ('text', len(text)), ('image', 276), ('image', 276), ('sep', 1),
    ]  # fmt: skip
    assert prompt.ids[: len(text) + 1].tolist() == [0, *text]
    assert len(prompt.ids) == 554 + len(text)
    whole = goal.sequences.with_actions(prompt, np.zeros((5, 7)))
    assert len(whole.ids) == 600 + len(text)
    block = [10004, 10133, 10133, 10133, 10124, 10133, 10133, 10133, 15004]
    assert whole.ids[-46:].tolist() == block * 5 + [8710]


def test_history_comes_before_the_present(goal):
    old, new = picture(seed=1), picture(seed=2)
    both = Policy(goal).prompt(Observation({'front': new}, 'go', history=({'front': old},))).ids
    first, second = (goal.sequences.image.encode(c) for c in goal.images.encode([old, new]))
    assert both[-553:-1].tolist() == [*first, *second]
    one = Policy(goal).prompt(Observation({'front': new}, 'go')).ids
    assert one[-277:-1].tolist() == second.tolist()
    assert len(both) - len(one) == 276


def test_rynnvla_action_prompt_is_laid_out_as_published(vla):
    views = {'front': picture(), 'wrist': picture(seed=1)}
    before = {'front': picture(seed=2), 'wrist': picture(seed=3)}
    prompt = Policy(vla).prompt(Observation(views, SENTENCE, STATE, (before,)))
    text = vla.text.encode(f'What action should the robot take to {SENTENCE}?')
    assert pieces(vla, prompt.ids.tolist()) == [
        ('bos', 1), ('text', len(text)), ('state', 10), *[('image', 276)] * 4, ('sep', 1),
    ]  # fmt: skip
    assert len(prompt.ids) == 1116 + len(text)
    order = [before['front'], before['wrist'], views['front'], views['wrist']]
    images = np.concatenate([vla.sequences.image.encode(c) for c in vla.images.encode(order)])
    assert prompt.ids[-1105:-1].tolist() == images.tolist()
    block = prompt.ids[len(text) + 1 : len(text) + 11]
    assert (block[0], block[-1]) == (15504, 16004)
    assert ((block[1:-1] >= 15506) & (block[1:-1] <= 15761)).all()


def test_rynnvla_world_sequence_is_laid_out_as_published(root):
    world = load(root / ACTION_WORLD_512)
    codes = [np.zeros((32, 32), int), np.ones((32, 32), int)]
    prompt = world.sequences.world_prompt(codes, np.zeros((1, 7)))
    text = world.text.encode('Generate the image based on the current image and the action.')
    assert pieces(world, prompt.ids.tolist()) == [
        ('bos', 1), ('text', len(text)), *[('image', 1060)] * 2, ('action', 9), ('sep', 1),
    ]  # fmt: skip
    assert len(prompt.ids) == 2131 + len(text)
    whole = world.sequences.with_images(prompt, codes)
    assert len(whole.ids) == 4252 + len(text)
    assert world.spec.transformer.max_position_embeddings >= len(whole.ids)


def test_world_prompts_keep_worldvlas_statistics(vla):
    action = np.array([[0.0, 0, 0, -0.3, 0, 0, 1.0]])
    codes = [np.zeros((16, 16), int)] * 2
    asked = vla.sequences.world_prompt(codes, action).ids
    acted = vla.sequences.action.encode(action)[0]
    assert acted[4] == 10006  # clipped: the action model's range ends at -0.242
    assert asked[-10:-1][4] > 10006
    assert asked[-10:-1][7] == acted[7]


@pytest.mark.parametrize(
    ('size', 'target', 'grid', 'length'),
    [
        ((256, 256), 256, (8812, 8812), 276),
        ((512, 512), 512, (8820, 8820), 1060),
        ((480, 640), 256, (8804 + 7, 8804 + 9), 14 * 19 + 4),
        ((480, 640), 512, (8804 + 14, 8804 + 18), 28 * 37 + 4),
    ],
)
def test_image_blocks_say_height_before_width(goal, size, target, grid, length):
    resized = replace(goal, spec=replace(goal.spec, image_size=target))
    codes = resized.images.encode([picture(*size)])[0]
    ids = goal.sequences.image.encode(codes)
    assert len(ids) == length
    assert tuple(ids[:3]) == (8197, *grid)
    assert ids[-1] == 8196
    rows = ids[3:-1].reshape(codes.shape[0], codes.shape[1] + 1)
    assert (rows[:, -1] == 8803).all()
    np.testing.assert_array_equal(rows[:, :-1] - 4, codes)


IMAGE, ACTION, STATE_MARK = '<|image|>', '<|action|>', '<|state|>'


@pytest.fixture(scope='module')
def tokenizer(root):
    """The text tokenizer with the reference's placeholders."""
    tokenizer = Tokenizer.from_file(str(root / 'chameleon/tokenizer/text_tokenizer.json'))
    tokenizer.add_tokens([IMAGE, ACTION, STATE_MARK])
    return tokenizer


def in_one_pass(tokenizer, text, media):
    """Tokenise as the reference: all as one string with placeholders, then swap them for ids."""
    given = {tokenizer.token_to_id(mark): iter(blocks) for mark, blocks in media.items()}
    ids = [0]
    for i in tokenizer.encode(f'{text}<reserved08706>', add_special_tokens=False).ids:
        ids += next(given[i]).tolist() if i in given else [i]
    return ids


CODES = [np.full((16, 16), code) for code in (0, 8191, 7, 4000)]


@pytest.mark.parametrize('sentence', [*publish.LIBERO_SENTENCES, *publish.LIBERO_FOLDERS])
def test_prompts_of_liberos_tasks_are_tokenised_as_in_one_pass(tokenizer, goal, vla, sentence):
    question = f'What action should the robot take to {sentence}?'
    images = [goal.sequences.image.encode(codes) for codes in CODES]
    expected = in_one_pass(tokenizer, question + 2 * IMAGE, {IMAGE: images[:2]})
    assert goal.sequences.action_prompt(sentence, CODES[:2]).ids.tolist() == expected
    media = {STATE_MARK: [vla.sequences.state.encode(STATE)], IMAGE: images}
    expected = in_one_pass(tokenizer, question + STATE_MARK + 4 * IMAGE, media)
    assert vla.sequences.action_prompt(sentence, CODES, STATE).ids.tolist() == expected


def test_there_are_40_sentences_of_libero():
    assert len(set(publish.LIBERO_SENTENCES)) == 40
    assert len(set(publish.LIBERO_FOLDERS)) == 10


@pytest.mark.parametrize('views', [1, 2])
def test_world_prompts_are_tokenised_as_in_one_pass(tokenizer, goal, views):
    action = np.array([[0.5, -0.25, 0.1, 0.05, -0.05, 0.02, 1]])
    media = {
        IMAGE: [goal.sequences.image.encode(codes) for codes in CODES[:views]],
        ACTION: goal.sequences.action.encode(action),
    }
    expected = in_one_pass(tokenizer, goal.spec.prompts.world + views * IMAGE + ACTION, media)
    assert goal.sequences.world_prompt(CODES[:views], action).ids.tolist() == expected


@pytest.mark.parametrize(
    ('values', 'ids', 'decoded'),
    [
        ([0.0] * 7, [10133, 10133, 10133, 10124, 10133, 10133, 10133],
         [0, 0, 0, -8.8e-5, 0, 0, 0]),
        ('minimum', [10006] * 7, [-0.933824] * 3 + [-0.32434] + [-0.373529] * 2 + [-0.996078]),
        ('maximum', [10260] * 7, [0.933824] * 3 + [0.373626] + [0.373529] * 2 + [0.996078]),
        ([2.0] * 7, [10261] * 7, [0.933824] * 3 + [0.373626] + [0.373529] * 2 + [0.996078]),
        ([0.5, -0.25, 0.1, 0.05, -0.05, 0.02, 1],
         [10201, 10099, 10147, 10142, 10116, 10140, 10260], None),
    ],
)  # fmt: skip
def test_actions_have_the_published_ids(goal, values, ids, decoded):
    tokenizer = goal.sequences.action
    values = getattr(goal.spec.action, values) if isinstance(values, str) else values
    block = tokenizer.encode(np.array(values, float))
    assert block.tolist() == [10004, *ids, 15004]
    if decoded:
        np.testing.assert_allclose(tokenizer.decode(block), decoded, atol=2e-6)


@pytest.mark.parametrize(
    ('codes', 'actions', 'weight'),
    [(None, 5, 46), (None, 10, 91), (16, None, 31.24), (32, None, 77.96)],
)
def test_responses_weigh_in_the_loss_what_they_do_in_the_reference(goal, codes, actions, weight):
    if actions:
        prompt = goal.sequences.action_prompt(SENTENCE, CODES[:1])
        whole = goal.sequences.with_actions(prompt, np.zeros((actions, 7)))
    else:
        image = [np.zeros((codes, codes), int)]
        prompt = goal.sequences.world_prompt(image, np.zeros((1, 7)))
        whole = goal.sequences.with_images(prompt, image)
    labels = torch.from_numpy(whole.ids[whole.prompt_length :])
    weights = CrossEntropy(PUBLISHED, image_weight=0.04).class_weights(labels)
    assert weights.sum().item() == pytest.approx(weight, abs=1e-3)


@pytest.mark.parametrize('text', ['<reserved08706>', 'open <racm3:break> it', '<s>'])
def test_an_instruction_cannot_speak_in_marks(goal, text):
    with pytest.raises(InstructionError, match='not text'):
        Policy(goal).prompt(Observation({'front': picture()}, text))


def test_begin_of_sequence_is_read_from_the_tokenizer():
    ids = publish.token_ids()
    ids['<s>'], ids['<pad>'] = 1, 0
    vocab = published_vocabulary(ids, 'here')
    assert (vocab.bos, vocab.pad) == (1, 0)
    assert replace(vocab, bos=0, pad=1) == PUBLISHED


# bad input


def edit_config(folder, **changes):
    content = json.loads((folder / 'config.json').read_text()) | changes
    (folder / 'config.json').write_text(json.dumps(content))


def test_a_missing_shard_is_named(copied):
    (copied / 'model-00002-of-00003.safetensors').unlink()
    error = refusal(copied)
    assert 'lacks 1 of its shards' in str(error)
    assert 'model-00002' in error.got


@pytest.mark.parametrize('keep', [0, 7, 500, -1])
def test_a_truncated_shard_is_named(copied, keep):
    file = copied / 'model-00002-of-00003.safetensors'
    file.write_bytes(file.read_bytes()[:keep])
    assert 'model-00002-of-00003.safetensors cannot be read' in str(refusal(copied))


def test_an_index_that_names_absent_tensors_is_refused(copied):
    index = copied / 'model.safetensors.index.json'
    content = json.loads(index.read_text())
    content['weight_map']['model.layers.9.mlp.up_proj.weight'] = 'model-00001-of-00003.safetensors'
    index.write_text(json.dumps(content))
    assert 'names tensors that its shards do not hold' in str(refusal(copied))


@pytest.mark.parametrize(
    'text', ['', '[]', '{}', '{"weight_map": 3}', '{"weight_map": {"a": "../b"}}']
)
def test_a_damaged_index_is_named(copied, text):
    (copied / 'model.safetensors.index.json').write_text(text)
    assert 'index.json is damaged' in str(refusal(copied))


def test_weights_of_other_sizes_are_named(copied):
    edit_config(copied, intermediate_size=64)
    error = refusal(copied)
    assert 'shape of model.layers.0.mlp' in str(error)
    assert 64 in error.expected


def test_missing_and_foreign_tensors_are_named(copied):
    edit_config(copied, num_hidden_layers=1)
    assert 'model.layers.1' in str(refusal(copied))
    edit_config(copied, num_hidden_layers=3)
    assert 'model.layers.2' in str(refusal(copied))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'swin_norm': True}, 'swin_norm'),
        ({'hidden_act': 'gelu'}, 'hidden_act'),
        ({'tie_word_embeddings': True}, 'tie_word_embeddings'),
        ({'rope_scaling': {'type': 'linear'}}, 'rope_scaling'),
        ({'rope_scaling': {'type': 'linear', 'factor': 2.0}}, 'rope_scaling'),
        ({'rope_scaling': 'linear'}, 'rope_scaling'),
        ({'rope_scaling': [1]}, 'rope_scaling'),
        ({'rope_parameters': {'rope_type': 'yarn', 'rope_theta': 1e4}}, 'rope_parameters'),
        ({'rope_parameters': {'rope_theta': 1e4, 'factor': 8.0}}, 'rope_parameters'),
        ({'rope_parameters': {'full_attention': {'rope_theta': 1e4}}}, 'rope_parameters'),
        ({'rope_parameters': {'rope_theta': 5e5}}, 'rope_theta: expected one value'),
        ({'num_hidden_layers': 10**9}, 'num_hidden_layers: expected 1 … 1024'),
        ({'max_position_embeddings': 10**12}, 'max_position_embeddings: expected 1 … '),
        ({'num_key_value_heads': 2}, 'num_key_value_heads'),
        ({'vocab_size': 65537}, 'vocabulary'),
        ({'action_dim': 6}, 'action_dim'),
    ],
)
def test_another_architecture_or_action_dimension_is_refused(copied, change, words):
    edit_config(copied, **change)
    assert words in str(refusal(copied))


@pytest.mark.parametrize(
    'words', [{'rope_theta': 5e5}, {'rope_theta': 5e5, 'rope_type': 'default'}]
)
def test_rotary_positions_are_read_as_transformers_writes_them_since_5(copied, words):
    content = json.loads((copied / 'config.json').read_text())
    for name in ('rope_theta', 'rope_scaling'):
        del content[name]
    content['rope_parameters'] = words
    (copied / 'config.json').write_text(json.dumps(content))
    assert load(copied).spec.transformer.rope_theta == 5e5


@pytest.mark.parametrize(('said', 'read'), [(None, 8192), (4096, 8192), (16384, 16384)])
def test_sequences_may_be_at_least_as_long_as_in_the_evaluation(copied, said, read):
    edit_config(copied, max_position_embeddings=said)
    assert load(copied).spec.transformer.max_position_embeddings == read


@pytest.mark.parametrize('file', ['config.json', 'model.safetensors.index.json'])
def test_a_file_nested_without_end_is_damaged(copied, file):
    (copied / file).write_text('{"a":' * 200_000)
    assert f'{file} is damaged' in str(refusal(copied))


@pytest.mark.parametrize(
    'file', ['config.json', 'model.safetensors.index.json', 'model-00002-of-00003.safetensors']
)
def test_a_pointer_of_git_lfs_is_named_as_such(copied, file):
    (copied / file).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    assert f'{file} is a git-lfs pointer' in str(refusal(copied))


@pytest.mark.parametrize('file', ['vqgan.ckpt', 'vqgan.yaml', 'text_tokenizer.json'])
def test_a_pointer_of_git_lfs_among_the_tokenizers_is_named_as_such(copied, file):
    place = copied.parents[1] / 'chameleon/tokenizer'
    (place / file).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    kind = ConfigError if file.endswith('yaml') else CheckpointError
    assert f'{file} is a git-lfs pointer' in str(refusal(copied, kind))


def test_a_vqgan_that_is_one_tensor_is_refused(copied):
    torch.save(torch.zeros(3), copied.parents[1] / 'chameleon/tokenizer/vqgan.ckpt')
    assert 'vqgan.ckpt cannot be read' in str(refusal(copied))


def test_a_vqgan_of_infinities_is_refused(copied):
    file = copied.parents[1] / 'chameleon/tokenizer/vqgan.ckpt'
    content = torch.load(file, weights_only=True)
    for tensor in content['state_dict'].values():
        tensor.fill_(float('inf'))
    torch.save(content, file)
    with pytest.raises(CheckpointError, match='holds numbers that are not finite'):
        load(copied)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'num_res_blocks': 10**8}, 'num_res_blocks: expected 1 … 64'),
        ({'ch': 10**9}, 'ch: expected 1 … 4096'),
        ({'ch_mult': [1] * 40}, 'ch_mult: expected 1 … 8'),
    ],
)
def test_a_vqgan_beyond_all_sizes_is_refused_before_it_is_built(copied, change, words):
    file = copied.parents[1] / 'chameleon/tokenizer/vqgan.yaml'
    content = yaml.safe_load(file.read_text())
    content['model']['params']['ddconfig'] |= change
    file.write_text(yaml.safe_dump(content))
    assert words in str(refusal(copied))


@pytest.mark.parametrize(
    'text',
    ['[', '[]', '{"model": 3}', '{"n_heads": "4"}', '{"n_heads": 0}', '{"a":' * 200_000],
)
def test_damaged_meta_parameters_are_named(tmp_path, text):
    folder = publish.write_meta(tmp_path, publish.random_tensors())
    (folder / 'params.json').write_text(text)
    assert 'params.json is damaged' in str(refusal(folder))


@pytest.mark.parametrize(
    ('changes', 'kind', 'words'),
    [
        ({'use_scaled_rope': True}, CheckpointError, 'architecture'),
        ({'norm_eps': 'x'}, ConfigError, 'params.json.rms_norm_eps'),
        ({'rope_theta': None}, ConfigError, 'params.json.rope_theta'),
    ],
)
def test_meta_parameters_of_another_architecture_or_type_are_refused(
    tmp_path, changes, kind, words
):
    folder = publish.write_meta(tmp_path, publish.random_tensors())
    content = json.loads((folder / 'params.json').read_text())
    (folder / 'params.json').write_text(json.dumps({'model': content['model'] | changes}))
    assert words in str(refusal(folder, kind))


def test_a_config_of_wrong_types_is_refused(copied):
    edit_config(copied, hidden_size='32')
    assert 'config.json.hidden_size' in str(refusal(copied, ConfigError))
    (copied / 'config.json').write_text('{"a": ')
    assert 'config.json is damaged' in str(refusal(copied))


def shift_codes(ids):
    codes = [name for name in ids if name.startswith('IMGIMG')]
    first, second = codes[:2]
    ids[first], ids[second] = ids[second], ids[first]


def shift_bins(ids):
    a, b = '<reserved10002>', '<reserved09000>'
    ids[a], ids[b] = ids[b], ids[a]


@pytest.mark.parametrize(
    ('edit', 'words'), [(shift_codes, 'image code IMGIMGAZ'), (shift_bins, '<reserved10002>')]
)
def test_a_vocabulary_with_ids_elsewhere_is_refused(copied, edit, words):
    publish.write_text_tokenizer(
        copied.parents[1] / 'chameleon/tokenizer/text_tokenizer.json', edit
    )
    error = refusal(copied)
    assert f'id of {words}' in str(error)
    assert 'text_tokenizer.json' in error.remedy


@pytest.mark.parametrize('file', ['text_tokenizer.json', 'vqgan.yaml', 'vqgan.ckpt'])
def test_a_missing_tokenizer_file_is_named(copied, file):
    tokenizers = copied.parents[1] / 'chameleon/tokenizer'
    (tokenizers / file).unlink()
    assert file in str(refusal(copied))


@pytest.mark.parametrize('keep', [0, 100, -200])
def test_a_truncated_vqgan_is_named(copied, keep):
    file = copied.parents[1] / 'chameleon/tokenizer/vqgan.ckpt'
    file.write_bytes(file.read_bytes()[:keep])
    assert 'vqgan.ckpt cannot be read' in str(refusal(copied))


@pytest.mark.parametrize(
    'change', [{'ch': 64}, {'n_embed': 4096}, {'double_z': True}, {'attn_resolutions': [16]}]
)
def test_a_vqgan_of_another_description_is_refused(copied, change):
    file = copied.parents[1] / 'chameleon/tokenizer/vqgan.yaml'
    content = yaml.safe_load(file.read_text())
    params = content['model']['params']
    for name, value in change.items():
        (params if name == 'n_embed' else params['ddconfig'])[name] = value
    file.write_text(yaml.safe_dump(content))
    assert re.search('vqgan|codebook', str(refusal(copied)))


def test_damaged_meta_weights_are_named(tmp_path):
    folder = publish.write_meta(tmp_path, publish.random_tensors())
    weights = (folder / 'consolidated.pth').read_bytes()
    (folder / 'consolidated.pth').write_bytes(weights[:-500])
    assert 'consolidated.pth cannot be read' in str(refusal(folder))
    (folder / 'consolidated.pth').unlink()
    assert 'consolidated.pth' in str(refusal(folder))
    (folder / 'params.json').write_text('{"model": {"n_heads": 4, "swin_norm": true}}')
    (folder / 'consolidated.pth').write_bytes(weights)
    assert 'architecture' in str(refusal(folder))


@pytest.mark.parametrize(
    'gone', ['model-00001-of-00003.safetensors', 'model.safetensors.index.json']
)
def test_every_refusal_is_something_that_a_user_can_mend(copied, gone):
    (copied / gone).unlink()
    assert isinstance(refusal(copied), WorldVLAError)


# converting


def test_a_converted_folder_loads_with_equal_tensors(root, vla, tmp_path):
    target = checkpoint.convert(root / VLA_256, tmp_path / 'mine')
    assert [p.name for p in tmp_path.iterdir()] == ['mine']
    again = load(target)
    for network in ('model', 'vqgan'):
        old, new = getattr(vla, network).state_dict(), getattr(again, network).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert again.spec == vla.spec
    assert {t.dtype for t in load_file(target / 'model.safetensors').values()} == {torch.bfloat16}
    assert again.text.encode(SENTENCE) == vla.text.encode(SENTENCE)


def test_meta_weights_are_converted(tmp_path):
    folder = publish.write_meta(tmp_path / 'meta', publish.random_tensors())
    again = load(checkpoint.convert(folder, tmp_path / 'mine'))
    assert torch.equal(scores(again), scores(load(folder)))


def test_converting_follows_no_link_of_a_name_that_could_be_foreseen(root, tmp_path):
    victim = tmp_path / 'victim'
    victim.mkdir()
    for name in (f'mine.{os.getpid()}.partial', 'mine.partial'):
        (tmp_path / name).symlink_to(victim)
    target = checkpoint.convert(root / GOAL_256, tmp_path / 'mine')
    assert not list(victim.iterdir())
    assert not target.is_symlink()
    assert (target.stat().st_mode & 0o777) == (victim.stat().st_mode & 0o777)


def test_converting_overwrites_nothing(root, tmp_path):
    (tmp_path / 'mine').mkdir()
    with pytest.raises(CheckpointError, match='is there already'):
        checkpoint.convert(root / GOAL_256, tmp_path / 'mine')
    assert not list((tmp_path / 'mine').iterdir())


def test_logits_do_not_depend_on_the_loader(goal):
    network = Transformer(publish.CONFIG).eval()
    network.load_state_dict({n: t.float() for n, t in publish.random_tensors().items()})
    with torch.no_grad():
        torch.testing.assert_close(scores(goal), network.logits(network(IDS)))
