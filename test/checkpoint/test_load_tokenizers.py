"""Tokenizers come without the transformer, and do what those of the whole checkpoint do."""

import shutil
import subprocess
import sys

import numpy as np
from publish import write_published
import pytest
from safetensors.torch import load_file, save_file

from worldvla_ros.checkpoint import folder as folder_module
from worldvla_ros.checkpoint.folder import load
from worldvla_ros.checkpoint.tokenizers import load_tokenizers
from worldvla_ros.errors import CheckpointError, ConfigError

NEEDED = ('worldvla.json', 'text_tokenizer.json', 'vqgan.safetensors')


@pytest.fixture
def three_files(tiny_folder, tmp_path):
    """The files that a computer beside a camera needs."""
    for name in NEEDED:
        shutil.copy(tiny_folder / name, tmp_path)
    return tmp_path


def test_three_files_are_enough(three_files, tiny_checkpoint, picture):
    found = load_tokenizers(three_files)
    assert found.spec == tiny_checkpoint.spec
    assert found.codebook == tiny_checkpoint.codebook
    codes, same = found.images.encode([picture])[0], tiny_checkpoint.images.encode([picture])[0]
    np.testing.assert_array_equal(codes, same)
    np.testing.assert_array_equal(found.images.decode(codes), tiny_checkpoint.images.decode(codes))
    words = 'pick up the red cube'
    assert found.sequences.text_ids(words) == tiny_checkpoint.sequences.text_ids(words)
    state = np.zeros(7, np.float32)
    np.testing.assert_array_equal(
        found.sequences.state.encode(state), tiny_checkpoint.sequences.state.encode(state)
    )


def test_no_transformer_is_built(tiny_folder, monkeypatch):
    monkeypatch.setattr(folder_module, 'Transformer', None)
    assert load_tokenizers(tiny_folder).codebook


def test_loading_imports_no_compiler(tiny_folder):
    code = (
        'import sys; from worldvla_ros.checkpoint.folder import load; '
        f'load({str(tiny_folder)!r}); '
        "assert not {'sympy', 'torch._dynamo'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_those_of_a_published_folder_load_too(tmp_path, picture):
    source = write_published(tmp_path, 'libero_goal', shards=1)
    profile = 'worldvla_256_libero_goal'
    found, whole = load_tokenizers(source, profile=profile), load(source, profile=profile)
    assert found.codebook == whole.codebook
    np.testing.assert_array_equal(
        found.images.encode([picture])[0], whole.images.encode([picture])[0]
    )


@pytest.mark.parametrize('name', NEEDED)
def test_a_missing_file_is_named(three_files, name):
    (three_files / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_tokenizers(three_files)


def test_weights_of_another_network_are_refused(three_files):
    file = three_files / 'vqgan.safetensors'
    tensors = load_file(file)
    del tensors['quant_conv.bias']
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match='quant_conv.bias'):
        load_tokenizers(three_files)


def test_a_device_that_is_not_there_is_refused(tiny_folder):
    with pytest.raises(ConfigError, match='abacus'):
        load_tokenizers(tiny_folder, 'abacus')
