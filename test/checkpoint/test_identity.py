"""Codebooks that are the same have one name, and others have another one."""

from dataclasses import replace
import re

from publish import write_published
import pytest
import torch

from worldvla_ros.checkpoint.folder import convert, load
from worldvla_ros.checkpoint.identity import codebook_identity, state_identity, text_identity
from worldvla_ros.checkpoint.tokenizers import load_tokenizers
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.tokenizers.text import TextTokenizer


def test_a_codebook_is_named_by_its_entries_and_its_weights(tiny_checkpoint):
    assert re.fullmatch('vqgan32@[0-9a-f]{12}', tiny_checkpoint.codebook)


def test_two_checkpoints_that_share_a_codebook_have_the_same_one(tiny_checkpoint, head_checkpoint):
    assert head_checkpoint.model_id != tiny_checkpoint.model_id
    assert head_checkpoint.codebook == tiny_checkpoint.codebook


@pytest.mark.parametrize('part', ['encoder.conv_in.bias', 'decoder.conv_out.bias',
                                  'quantize.embedding.weight'])  # fmt: skip
def test_one_weight_more_or_less_is_another_codebook(tiny_checkpoint, part):
    changed = VQGAN(tiny_checkpoint.spec.vqgan)
    changed.load_state_dict(tiny_checkpoint.vqgan.state_dict())
    assert codebook_identity(changed) == tiny_checkpoint.codebook
    with torch.no_grad():
        changed.get_parameter(part).view(-1)[-1] += 1e-3
    assert codebook_identity(changed) != tiny_checkpoint.codebook


def test_weights_that_are_computed_with_otherwise_are_another_codebook(tiny_checkpoint):
    config = replace(tiny_checkpoint.spec.vqgan, norm_groups=8)
    other = VQGAN(config)
    other.load_state_dict(tiny_checkpoint.vqgan.state_dict())
    assert codebook_identity(other) != tiny_checkpoint.codebook


def test_a_converted_folder_keeps_the_codebook(tmp_path):
    source = write_published(tmp_path / 'published', 'libero_goal', shards=1)
    profile = 'worldvla_256_libero_goal'
    target = convert(source, tmp_path / 'ours', profile)
    published = load_tokenizers(source, profile=profile).codebook
    assert load_tokenizers(target).codebook == published == load(target).codebook


def test_ids_of_text_belong_to_a_file_and_a_place(tiny_checkpoint, tmp_path):
    spec, text = tiny_checkpoint.spec, tiny_checkpoint.text
    name = text_identity(spec, text)
    assert re.fullmatch(f'text{text.size}@[0-9a-f]{{12}}', name)
    text.save(tmp_path / 'text.json')
    again = TextTokenizer.load(tmp_path / 'text.json', spec.vocabulary.text_base)
    assert text_identity(spec, again) == name
    vocab = spec.vocabulary
    moved = replace(vocab, text_size=vocab.text_size - 1, text_base=vocab.text_base + 1)
    assert text_identity(replace(spec, vocabulary=moved), text) != name


def test_ids_of_a_state_belong_to_recipe_and_ranges(tiny_checkpoint):
    spec = tiny_checkpoint.spec
    assert state_identity(spec).startswith('tcp_pose_width@')
    wider = replace(spec.state, maximum=(0.9, *spec.state.maximum[1:]))
    assert state_identity(replace(spec, state=wider)) != state_identity(spec)
    with pytest.raises(ValueError, match='state recipe'):
        state_identity(replace(spec, state=None))
