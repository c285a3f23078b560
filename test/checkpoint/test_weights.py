"""Tensors in files: read one at a time, and a hash that need not read all."""

from pathlib import Path
import subprocess
import sys
import zipfile

import pytest
from safetensors.torch import save_file
import torch

from worldvla_ros.checkpoint import weights
from worldvla_ros.errors import CheckpointError

PEAK = """
import sys
from pathlib import Path
import torch
from torch import nn
from worldvla_ros.checkpoint.weights import open_safetensors, read_network

def peak_mb():
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(l for l in lines if l.startswith('VmHWM')).split()[1]) / 1024

with torch.device('meta'):
    network = nn.ParameterDict({f't{i:02d}': torch.empty(1024, 1024) for i in range(48)})
before = peak_mb()
dtype = getattr(torch, sys.argv[2])
read_network(network, open_safetensors(Path(sys.argv[1])), torch.device('cpu'), dtype)
assert all(bool((p == 1).all()) for p in network.parameters())
print(peak_mb() - before)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    """A file of 96 MiB in bf16."""
    file = tmp_path_factory.mktemp('large') / 'model.safetensors'
    ones = {f't{i:02d}': torch.ones(1024, 1024, dtype=torch.bfloat16) for i in range(48)}
    save_file(ones, file)
    return file


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
@pytest.mark.parametrize(('dtype', 'megabytes'), [('bfloat16', 96), ('float32', 192)])
def test_loading_needs_little_more_memory_than_the_weights(large, dtype, megabytes):
    done = subprocess.run(
        [sys.executable, '-c', PEAK, str(large), dtype],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1.2 * megabytes


def test_nothing_is_read_before_it_is_asked_for(large):
    found = weights.open_safetensors(large)
    assert found['t00'].shape == (1024, 1024)
    assert found['t00'].dtype == torch.bfloat16
    assert weights.stored_dtype(found) == torch.bfloat16
    assert torch.equal(found['t47'].read(), torch.ones(1024, 1024, dtype=torch.bfloat16))


def test_the_widest_stored_type_holds_all(tmp_path):
    tensors = {'a': torch.zeros(1, dtype=torch.bfloat16), 'b': torch.zeros(1, dtype=torch.float16)}
    save_file(tensors, tmp_path / 'x.safetensors')
    assert (
        weights.stored_dtype(weights.open_safetensors(tmp_path / 'x.safetensors')) == torch.float32
    )


@pytest.mark.parametrize(('dtype', 'name'), [(torch.int8, 'I8'), (torch.uint8, 'U8')])
def test_quantised_tensors_are_named_as_such(tmp_path, dtype, name):
    save_file({'a': torch.zeros(1, dtype=dtype)}, tmp_path / 'x.safetensors')
    with pytest.raises(CheckpointError, match=f"'a' is stored as {name}: expected one of F64"):
        weights.open_safetensors(tmp_path / 'x.safetensors')


@pytest.mark.parametrize('text', ['[' * 200_000, '{"weight_map": ' * 200_000])
def test_an_index_nested_without_end_is_damaged(tmp_path, text):
    (tmp_path / 'index.json').write_text(text)
    with pytest.raises(CheckpointError, match='index.json is damaged'):
        weights.open_sharded(tmp_path / 'index.json')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_every_number_of_a_tensor_is_looked_at(dtype, value):
    tensor = torch.zeros(1000, 7, dtype=dtype)
    weights._check_finite('', {'empty': tensor[:0], 'zeros': tensor})
    tensor[617, 3] = value
    with pytest.raises(CheckpointError, match='layers.3.x holds numbers that are not finite'):
        weights._check_finite('layers.3.', {'x': tensor})


def test_large_files_are_hashed_by_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, 'HASHED_BLOCKS', 4)
    monkeypatch.setattr(weights, 'HASHED_BLOCK_BYTES', 8)
    file = tmp_path / 'x'
    content = bytearray(range(100))

    def hashed():
        file.write_bytes(content)
        return weights.content_hash([file])

    first = hashed()
    content[0] += 1
    start = hashed()
    content[-1] += 1
    end = hashed()
    content.append(0)
    assert len({first, start, end, hashed()}) == 4


def test_small_files_are_hashed_as_a_whole(tmp_path):
    import hashlib

    (tmp_path / 'a').write_bytes(b'one')
    (tmp_path / 'b').write_bytes(b'two')
    expected = hashlib.sha256(b'onetwo').hexdigest()[:12]
    assert weights.content_hash([tmp_path / 'a', tmp_path / 'b']) == expected


@pytest.mark.parametrize(
    'content',
    [
        3,
        [1, 2],
        {'state_dict': {'a': 3}},
        {'state_dict': torch.zeros(3)},
        torch.zeros(3),
        torch.zeros(()),
        {'state_dict': {3: torch.zeros(3)}},
        {},
    ],
)
def test_a_torch_file_of_other_things_than_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'x.ckpt')
    with pytest.raises(CheckpointError, match='cannot be read') as caught:
        weights.open_pickled(tmp_path / 'x.ckpt', 'state_dict')
    assert caught.value.remedy


def test_a_compressed_torch_file_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({'state_dict': {'a': torch.zeros(1 << 20)}}, tmp_path / 'plain.ckpt')
    with (
        zipfile.ZipFile(tmp_path / 'plain.ckpt') as plain,
        zipfile.ZipFile(tmp_path / 'bomb.ckpt', 'w', zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    assert weights.open_pickled(tmp_path / 'plain.ckpt', 'state_dict')['a'].shape == (1 << 20,)
    with pytest.raises(CheckpointError, match='is compressed'):
        weights.open_pickled(tmp_path / 'bomb.ckpt', 'state_dict')


def test_names_that_fill_the_memory_are_refused(tmp_path, monkeypatch):
    torch.save({'a' * 1000: torch.zeros(3)}, tmp_path / 'x.ckpt')
    monkeypatch.setattr(weights, 'MAX_PICKLE_BYTES', 500)
    with pytest.raises(CheckpointError, match='too large to be names'):
        weights.open_pickled(tmp_path / 'x.ckpt')
