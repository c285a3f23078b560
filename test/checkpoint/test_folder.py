"""Checkpoint folders: what is saved is loaded, and whatever is wrong with one is named."""

from dataclasses import replace
import json
import re
import shutil

import numpy as np
import publish
import pytest
from safetensors.torch import load_file, save_file
import torch

from worldvla_ros.checkpoint.folder import MODEL_FILE, TEXT_FILE, VQGAN_FILE, load, read_spec, save
from worldvla_ros.checkpoint.spec import SPEC_FILE
from worldvla_ros.errors import CheckpointError, ConfigError
from worldvla_ros.model.action_head import ActionHead
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.sim.tasks import corpus
from worldvla_ros.tokenizers.text import train_text_tokenizer
from worldvla_ros.tokenizers.vocab import compact

ALL_FILES = (SPEC_FILE, MODEL_FILE, VQGAN_FILE, TEXT_FILE)
WEIGHTS = (MODEL_FILE, VQGAN_FILE)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny checkpoint that may be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / 'copy')


def edit_spec(folder, **changes):
    """Set values of worldvla.json; a name such as 'action__horizon' is a path."""
    spec = json.loads((folder / SPEC_FILE).read_text())
    for path, value in changes.items():
        *parents, name = path.split('__')
        place = spec
        for parent in parents:
            place = place[parent]
        place[name] = value
    (folder / SPEC_FILE).write_text(json.dumps(spec))


def edit_tensors(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def refusal(folder, kind=CheckpointError):
    with pytest.raises(kind) as caught:
        load(folder)
    return caught.value


def test_saved_checkpoint_loads_with_equal_logits_and_codes(tiny_checkpoint, tmp_path):
    old = tiny_checkpoint
    save(tmp_path / 'a/b', old.spec, old.model, old.vqgan, old.text)
    new = load(tmp_path / 'a/b')
    ids = torch.arange(30)[None] * 17 % old.spec.vocabulary.size
    images = torch.arange(3072, dtype=torch.uint8).view(1, 32, 32, 3)
    assert torch.equal(new.model.logits(new.model(ids)), old.model.logits(old.model(ids)))
    assert torch.equal(new.vqgan.encode(images), old.vqgan.encode(images))
    assert new.text.encode('pick up the cube') == old.text.encode('pick up the cube')
    assert new.spec == old.spec
    assert new.model_id == old.model_id


def test_loaded_networks_are_ready_for_use(tiny_checkpoint):
    for network in (tiny_checkpoint.model, tiny_checkpoint.vqgan):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert {p.device.type for p in network.parameters()} == {'cpu'}


def test_stored_type_can_be_chosen_and_cpu_computes_in_fp32(tiny_checkpoint, tmp_path):
    old = tiny_checkpoint
    save(tmp_path, old.spec, old.model, old.vqgan, old.text, dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(tmp_path / MODEL_FILE).values()} == {torch.bfloat16}
    assert {t.dtype for t in load_file(tmp_path / VQGAN_FILE).values()} == {torch.float32}
    assert {p.dtype for p in load(tmp_path).model.parameters()} == {torch.float32}
    asked = load(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in asked.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in asked.vqgan.parameters()} == {torch.float32}


def test_specification_survives_json(tiny_spec, tiny_folder):
    assert read_spec(tiny_folder) == tiny_spec


def test_sequences_speak_the_specification(tiny_checkpoint):
    spec, builder = tiny_checkpoint.spec, tiny_checkpoint.sequences
    assert builder.action.dim == len(spec.action.names)
    assert builder.state.minimum == spec.state.minimum
    assert builder.vocab == spec.vocabulary


def test_model_id_is_name_and_hash(tiny_checkpoint, folder):
    name, digest = tiny_checkpoint.model_id.split('@')
    assert name == 'tiny'
    assert len(digest) == 12
    edit_spec(folder, name='other')
    assert load(folder).model_id == f'other@{digest}'


@pytest.mark.parametrize('file', WEIGHTS)
def test_model_id_changes_with_the_weights(tiny_checkpoint, folder, file):
    def nudge(tensors):
        next(iter(tensors.values())).view(-1)[0] += 1

    edit_tensors(folder / file, nudge)
    changed = load(folder).model_id
    assert changed.startswith('tiny@')
    assert changed != tiny_checkpoint.model_id


def test_missing_folder_is_named(tmp_path):
    error = refusal(tmp_path / 'absent')
    assert f'no checkpoint at {tmp_path / "absent"}' in str(error)
    assert error.got == 'no such folder'
    assert error.remedy


@pytest.mark.parametrize('file', ALL_FILES)
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    error = refusal(folder)
    assert file in str(error)
    assert str(folder) in str(error)
    assert error.remedy


@pytest.mark.parametrize('file', WEIGHTS)
@pytest.mark.parametrize('size', [0, 5, 100, -1])
def test_cut_off_weights_are_named(folder, file, size):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:size])
    error = refusal(folder)
    assert f'{file} cannot be read' in str(error)
    assert error.remedy


@pytest.mark.parametrize('file', WEIGHTS)
def test_weights_of_another_format_are_named(folder, file):
    torch.save({'weight': torch.zeros(3)}, folder / file)
    assert f'{file} cannot be read' in str(refusal(folder))


@pytest.mark.parametrize('file', WEIGHTS)
def test_foreign_tensor_is_named(folder, file):
    edit_tensors(folder / file, lambda tensors: tensors.update(extra=torch.zeros(2)))
    error = refusal(folder)
    assert f'{file} holds other tensors' in str(error)
    assert "'extra'" in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    ('file', 'name'), [(MODEL_FILE, 'lm_head.weight'), (VQGAN_FILE, 'quant_conv.bias')]
)
def test_missing_tensor_is_named(folder, file, name):
    edit_tensors(folder / file, lambda tensors: tensors.pop(name))
    error = refusal(folder)
    assert f"missing: ['{name}']" in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    ('file', 'name'), [(MODEL_FILE, 'model.norm.weight'), (VQGAN_FILE, 'quant_conv.bias')]
)
def test_tensor_of_wrong_shape_is_named(folder, file, name):
    edit_tensors(folder / file, lambda tensors: tensors.update({name: torch.zeros(3, 1)}))
    error = refusal(folder)
    assert f'{file}: shape of {name}' in str(error)
    assert error.got == [3, 1]
    assert error.remedy


def test_swapped_weights_are_refused(folder):
    model = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes((folder / VQGAN_FILE).read_bytes())
    (folder / VQGAN_FILE).write_bytes(model)
    assert f'{MODEL_FILE} holds other tensors' in str(refusal(folder))


@pytest.mark.parametrize('content', [b'', b'{"name": "ti', b'{"name": }', b'\xff\xfe\xfa'])
def test_damaged_specification_is_named(folder, content):
    (folder / SPEC_FILE).write_bytes(content)
    error = refusal(folder)
    assert f'{SPEC_FILE} is damaged' in str(error)
    assert error.remedy


@pytest.mark.parametrize('content', ['[]', '3', 'null'])
def test_specification_that_is_no_mapping_is_named(folder, content):
    (folder / SPEC_FILE).write_text(content)
    assert f'{SPEC_FILE} is damaged: expected a mapping' in str(refusal(folder))


def test_unknown_key_is_named_with_its_near_match(folder):
    edit_spec(folder, imagesize=64)
    error = refusal(folder, ConfigError)
    assert f"{SPEC_FILE}: unknown key 'imagesize'" in str(error)
    assert 'image_size' in error.remedy


def test_unknown_nested_key_is_named_with_its_near_match(folder):
    edit_spec(folder, action__horizn=4)
    error = refusal(folder, ConfigError)
    assert f"{SPEC_FILE}.action: unknown key 'horizn'" in str(error)
    assert 'horizon' in error.remedy


def test_missing_key_is_named(folder):
    spec = json.loads((folder / SPEC_FILE).read_text())
    del spec['robot']
    (folder / SPEC_FILE).write_text(json.dumps(spec))
    error = refusal(folder, ConfigError)
    assert f"{SPEC_FILE}: 'robot' is missing" in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    ('place', 'value', 'named'),
    [
        ('image_size', '32', f'{SPEC_FILE}.image_size'),
        ('action__horizon', 4.5, f'{SPEC_FILE}.action.horizon'),
        ('cameras', 'front', f'{SPEC_FILE}.cameras'),
        ('action__minimum', [0, 0, 0, 0, 0, 0, 'x'], f'{SPEC_FILE}.action.minimum[6]'),
    ],
)
def test_value_of_wrong_type_is_named(folder, place, value, named):
    edit_spec(folder, **{place: value})
    assert named in str(refusal(folder, ConfigError))


@pytest.mark.parametrize(
    ('place', 'value', 'named'),
    [
        ('vocabulary__size', 10_000, 'tiny: vocabulary'),
        ('vocabulary__codebook_size', 16, 'tiny: codebook'),
        ('format', 2, 'tiny: worldvla.json format: expected 1, got 2'),
        ('action__names', ['dx'], 'one entry per dimension'),
        ('action__horizon', 0, 'action.horizon: expected 1 … 1000, got 0'),
        ('action__bin_choice', 'mean', 'greedy or median'),
        ('action__dt', 0.0, 'action.dt: expected 0.001 … 60.0, got 0.0'),
        ('transformer__num_attention_heads', 5, 'transformer sizes'),
        ('vqgan__norm_groups', 3, 'VQ-GAN channels'),
    ],
)
def test_inconsistent_value_is_named(folder, place, value, named):
    edit_spec(folder, **{place: value})
    assert named in str(refusal(folder))


def test_sizes_that_the_weights_do_not_have_are_named(folder):
    edit_spec(folder, transformer__intermediate_size=64)
    assert f'{MODEL_FILE}: shape of model.layers.0.mlp' in str(refusal(folder))
    edit_spec(folder, transformer__num_hidden_layers=3)
    assert 'model.layers.2' in str(refusal(folder))


def test_text_tokenizer_larger_than_the_vocabulary_is_named(folder, tiny_spec):
    large = train_text_tokenizer(corpus()[:100], 320)
    assert large.get_vocab_size() > tiny_spec.vocabulary.text_size
    large.save(str(folder / TEXT_FILE))
    error = refusal(folder)
    assert f'{TEXT_FILE}: expected at most 300 ids' in str(error)
    assert error.remedy


def test_damaged_text_tokenizer_is_named(folder):
    (folder / TEXT_FILE).write_text('{}')
    error = refusal(folder)
    assert f'{TEXT_FILE} is not a tokenizer file' in str(error)
    assert error.remedy


def test_specification_that_contradicts_itself_never_exists(tiny_spec):
    with pytest.raises(CheckpointError, match='codebook'):
        replace(tiny_spec, vqgan=replace(tiny_spec.vqgan, n_embed=33))
    with pytest.raises(CheckpointError, match='vocabulary'):
        replace(tiny_spec, vocabulary=compact(codebook_size=32, text_size=301))


def test_checkpoint_without_state_has_no_state_tokenizer(tiny_checkpoint, tmp_path):
    old = tiny_checkpoint
    save(tmp_path, replace(old.spec, state=None), old.model, old.vqgan, old.text)
    sequences = load(tmp_path).sequences
    assert sequences.state is None
    codes = [np.zeros((4, 4), int)]
    assert old.spec.vocabulary.state_start not in sequences.action_prompt('go', codes).ids


@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        ('action.minimum', [-1e30] * 7, 'ranges of action'),
        ('action.maximum', [1e30] * 7, 'ranges of action'),
        ('action.minimum', [2.0] * 7, 'ranges of action'),
        ('action.dt', 1e300, 'action.dt: expected 0.001 … 60.0, got 1e+300'),
        ('action.dt', 1e-300, 'action.dt: expected 0.001 … 60.0, got 1e-300'),
        ('action.scale', [1e30] + [1.0] * 6, 'action.scale'),
        ('action.scale', [0.0] + [1.0] * 6, 'action.scale'),
        ('action.horizon', 10**9, 'action.horizon: expected 1 … 1000, got 1000000000'),
        ('images_per_camera', 10**9, 'images_per_camera: expected 1 … 1000'),
        ('name', 'x' * 10**6, 'name: expected 1 … 100 letters'),
        ('cameras', ['front', 'front'], 'all different'),
        ('image_size', 10**9, 'up to 1024 px, got 1000000000'),
        ('transformer.num_hidden_layers', 10**9, 'num_hidden_layers: expected 1 … 1024'),
        ('transformer.max_position_embeddings', 10**12, 'max_position_embeddings: expected 1 …'),
        ('transformer.qk_norm_heads', 3, 'qk_norm_heads: expected 1 or 2, got 3'),
        ('transformer.rms_norm_eps', 0.0, 'rms_norm_eps: expected'),
        ('transformer.rope_theta', -1.0, 'rope_theta: expected'),
        ('vqgan.num_res_blocks', 10**8, 'num_res_blocks: expected 1 … 64, got 100000000'),
        ('vqgan.ch_mult', [1] * 100, 'ch_mult: expected 1 … 8 numbers of 1 … 64'),
        ('vqgan.in_channels', 1, 'in_channels: expected 3 … 3'),
        ('action.names', ['dx'], 'one entry per dimension'),
        ('state.names', ['x'], 'one entry per dimension'),
        ('image_size', 40, 'multiple of 16 px'),
        ('image_size', 0, 'multiple of 16 px'),
        ('world.actions_per_image', 0, 'actions_per_image'),
        ('cameras', [], 'cameras'),
        ('images_per_camera', 0, 'images_per_camera'),
        ('transformer.num_attention_heads', 0, 'num_attention_heads'),
        ('prompts.action', 'to {tsk}', '{task}'),
        ('vocabulary.action_start', 10**6, 'action_start'),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused_at_load(
    tiny_folder, tmp_path, path, value, words
):
    content = json.loads((tiny_folder / 'worldvla.json').read_text())
    *parents, last = path.split('.')
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    (tmp_path / 'worldvla.json').write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        load(tmp_path)
    assert caught.value.remedy


NUMBERS = (
    'action.dt',
    'action.scale',
    'action.minimum',
    'state.maximum',
    'transformer.rope_theta',
)


@pytest.mark.parametrize('path', NUMBERS)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_number_that_is_not_finite_is_refused_with_its_place(folder, path, value):
    content = json.loads((folder / SPEC_FILE).read_text())
    block, name = path.split('.')
    old = content[block][name]
    content[block][name] = [value, *old[1:]] if isinstance(old, list) else value
    (folder / SPEC_FILE).write_text(json.dumps(content))
    error = refusal(folder, ConfigError)
    assert f'{SPEC_FILE}.{path}' in str(error)
    assert error.expected == 'a finite number'


def test_a_specification_nested_without_end_is_damaged(folder):
    (folder / SPEC_FILE).write_text('{"name":' * 200_000)
    assert f'{SPEC_FILE} is damaged' in str(refusal(folder))


def test_a_key_of_the_specification_that_stands_twice_is_refused(folder):
    text = (folder / SPEC_FILE).read_text()
    (folder / SPEC_FILE).write_text(
        text.replace('"image_size"', '"images_per_camera": 2, "image_size"', 1)
    )
    assert "the key 'images_per_camera' stands twice" in str(refusal(folder))


@pytest.mark.parametrize('file', WEIGHTS)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_one_weight_that_is_not_finite_is_refused(folder, file, value):
    def damage(tensors):
        list(tensors.values())[-1].view(-1)[-1] = value

    edit_tensors(folder / file, damage)
    error = refusal(folder)
    assert 'holds numbers that are not finite' in str(error)
    assert error.remedy


def test_weights_too_large_for_the_type_asked_for_are_refused(folder):
    edit_tensors(folder / MODEL_FILE, lambda t: t['lm_head.weight'].view(-1)[0].fill_(1e6))
    assert load(folder).model.lm_head.weight.max() == 1e6
    with pytest.raises(CheckpointError, match='not finite in torch.float16') as caught:
        load(folder, dtype='float16')
    assert 'bfloat16' in caught.value.remedy


@pytest.mark.parametrize('file', [*WEIGHTS, SPEC_FILE, TEXT_FILE])
def test_a_pointer_of_git_lfs_is_named_as_such(folder, file):
    (folder / file).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    error = refusal(folder)
    assert f'{file} is a git-lfs pointer' in str(error)
    assert 'git lfs pull' in error.remedy


def test_our_own_folder_may_come_in_shards(folder, tiny_checkpoint):
    tensors = load_file(folder / MODEL_FILE)
    (folder / MODEL_FILE).unlink()
    publish.write_weights(folder, tensors)
    loaded = load(folder)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert loaded.model_id.startswith('tiny@')
    assert loaded.model_id != tiny_checkpoint.model_id  # other files, other hash
    (folder / 'model-00002-of-00003.safetensors').unlink()
    assert 'lacks 1 of its shards' in str(refusal(folder))


def test_a_path_that_no_folder_can_have_is_no_checkpoint():
    error = refusal('x' * 10_000)
    assert 'no checkpoint at xxx' in str(error)
    assert len(str(error)) < 1000


def test_damaged_weights_are_noticed_when_they_act(tiny_folder):
    damaged = load(tiny_folder)
    damaged.model.lm_head.weight.fill_(float('nan'))
    image = np.zeros((32, 32, 3), np.uint8)
    observation = Observation({'front': image}, 'lift it', np.zeros(7, np.float32))
    with pytest.raises(CheckpointError, match='not finite'):
        Policy(damaged).act(observation)


# continuous action head


@pytest.fixture
def head_folder(head_checkpoint, tmp_path):
    """A folder with an action head that may be damaged."""
    old = head_checkpoint
    save(tmp_path, old.spec, old.model, old.vqgan, old.text)
    return tmp_path


def test_action_head_comes_back_from_the_model_file(head_checkpoint, head_folder):
    names = [n for n in load_file(head_folder / MODEL_FILE) if n.startswith('action_head.')]
    assert len(names) == len(head_checkpoint.head.state_dict())
    new = load(head_folder)
    assert isinstance(new.head, ActionHead)
    assert new.spec == head_checkpoint.spec
    context = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(new.head(context), head_checkpoint.head(context))
    assert not new.head.training
    assert not any(p.requires_grad for p in new.head.parameters())


def test_action_head_takes_the_type_of_the_transformer(head_folder):
    found = load(head_folder, dtype=torch.bfloat16)
    assert {p.dtype for p in found.head.parameters()} == {torch.bfloat16}


def test_checkpoint_without_a_head_has_none(tiny_checkpoint):
    assert tiny_checkpoint.head is None
    assert tiny_checkpoint.spec.action_head is None


def test_specification_of_before_there_were_heads_is_read(folder, tiny_spec):
    content = json.loads((folder / SPEC_FILE).read_text())
    del content['action_head']
    (folder / SPEC_FILE).write_text(json.dumps(content))
    assert read_spec(folder) == tiny_spec


@pytest.mark.parametrize(
    ('path', 'value', 'expected', 'got'),
    [
        ('action_head__horizon', 5, '(4, 7, 32)', (5, 7, 32)),
        ('action_head__dim', 6, '(4, 7, 32)', (4, 6, 32)),
        ('action_head__context_size', 64, '(4, 7, 32)', (4, 7, 64)),
        ('action__horizon', 9, '(9, 7, 32)', (4, 7, 32)),
    ],
)
def test_head_of_other_actions_is_refused(head_folder, path, value, expected, got):
    edit_spec(head_folder, **{path: value})
    error = refusal(head_folder)
    assert 'action_head horizon, dim and context_size' in str(error)
    assert str(error.expected).startswith(expected)
    assert error.got == got
    assert error.remedy


def test_head_that_the_weights_lack_is_named(head_folder):
    def behead(tensors):
        for name in [n for n in tensors if n.startswith('action_head.')]:
            del tensors[name]

    edit_tensors(head_folder / MODEL_FILE, behead)
    assert "missing: ['action_head." in str(refusal(head_folder))


def test_head_that_the_specification_lacks_is_named(head_folder):
    edit_spec(head_folder, action_head=None)
    assert "foreign: ['action_head." in str(refusal(head_folder))


def test_saved_files_may_be_read_by_whoever_may_read_the_folder(tiny_folder):
    modes = {file.stat().st_mode for file in tiny_folder.iterdir()}
    assert len(modes) == 1


def test_model_without_the_head_of_its_specification_is_not_saved(head_checkpoint, tmp_path):
    old = head_checkpoint
    model = Transformer(old.spec.transformer)
    with pytest.raises(ValueError, match='expected a model with action head .* got None'):
        save(tmp_path / 'new', old.spec, model, old.vqgan, old.text)
    assert not (tmp_path / 'new').exists()
