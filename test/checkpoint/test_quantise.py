"""Precision of the weights: what is quantised, by how much it may err, and what is refused."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
import torch
from torch import nn

from worldvla_ros.checkpoint import quantise
from worldvla_ros.checkpoint.folder import demo_path, load, save
from worldvla_ros.checkpoint.quantise import WORDS, choose, quantiser, weight_bytes
from worldvla_ros.checkpoint.weights import StoredTensor, read_network
from worldvla_ros.errors import CheckpointError, ConfigError, MissingDependencyError
from worldvla_ros.evaluate.precision import made_observations
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.policy import Policy

ROOT = Path(__file__).parents[2]
CPU = torch.device('cpu')
GPU_CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
needs_torchao = pytest.mark.skipif(
    not quantise.available(), reason=f'needs torchao {quantise.TORCHAO}, an optional package'
)


@pytest.fixture(scope='module')
def demo():
    return load(demo_path())


@pytest.fixture(scope='module')
def demo_int8():
    return load(demo_path(), dtype='int8')


def linears(checkpoint):
    layers = checkpoint.model.model.layers
    return {n: m for n, m in layers.named_modules() if isinstance(m, nn.Linear)}


# words


@pytest.mark.parametrize('word', ['float32', 'bfloat16', 'float16'])
def test_a_word_for_a_float_type_loads_as_the_type_itself_does(tiny_folder, word):
    by_word, by_type = (load(tiny_folder, dtype=d) for d in (word, getattr(torch, word)))
    assert {p.dtype for p in by_word.model.parameters()} == {getattr(torch, word)}
    for one, other in zip(by_word.model.parameters(), by_type.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_auto_is_the_default(tiny_folder, tiny_checkpoint):
    loaded = load(tiny_folder, dtype='auto')
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.model_id == tiny_checkpoint.model_id
    assert choose('auto', torch.device('cuda')).dtype is None


@pytest.mark.parametrize('word', ['int3', '', 'fp32', torch.int8, torch.float8_e4m3fn])
def test_an_unknown_precision_is_refused_with_the_known_words(tiny_folder, word):
    with pytest.raises(ConfigError) as caught:
        load(tiny_folder, dtype=word)
    assert all(known in str(caught.value) for known in WORDS)
    assert caught.value.remedy


def test_float8_is_refused_where_the_hardware_lacks_it(tiny_folder, monkeypatch):
    with pytest.raises(ConfigError, match=r'compute capability 8\.9 or more, got cpu.*int8'):
        load(tiny_folder, dtype='float8')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 6))
    with pytest.raises(ConfigError, match=r'capability 8\.9 or more, got 8\.6'):
        choose('float8', torch.device('cuda'))


def test_int4_is_refused_on_a_gpu_that_is_too_old(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    with pytest.raises(ConfigError, match=r'a CPU, or a GPU .* 8\.0 or more, got 7\.5'):
        choose('int4', torch.device('cuda'))


def test_without_torchao_only_quantising_is_refused(tiny_folder, monkeypatch):
    for name in [n for n in sys.modules if n.split('.')[0] == 'torchao']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'torchao', None)
    with pytest.raises(MissingDependencyError, match=r'worldvla_ros\[quantise\]'):
        load(tiny_folder, dtype='int8')
    load(tiny_folder, dtype='bfloat16')


@needs_torchao
def test_another_version_of_torchao_is_refused_by_number(tiny_folder, monkeypatch):
    import torchao

    monkeypatch.setattr(torchao, '__version__', '0.99.0')
    with pytest.raises(MissingDependencyError, match=r'torchao 0\.18, got 0\.99\.0'):
        load(tiny_folder, dtype='int8')


def test_the_tested_torchao_is_the_one_that_is_installed():
    wanted = f'torchao>={quantise.TORCHAO},<'
    assert wanted in (ROOT / 'setup.py').read_text()
    assert wanted in (ROOT / 'requirements/test.txt').read_text()


@needs_torchao
def test_int4_refuses_sizes_that_are_no_multiple_of_its_groups(tiny_folder):
    with pytest.raises(CheckpointError, match='multiples of 32, got 32 to 48'):
        load(tiny_folder, dtype='int4')


# weights


@needs_torchao
def test_only_the_linear_maps_of_the_layers_are_quantised(demo, demo_int8):
    exact, loaded = dict(demo.model.named_parameters()), demo_int8.model.named_parameters()
    quantised = {f'model.layers.{name}.weight' for name in linears(demo)}
    assert len(quantised) == 7 * demo.spec.transformer.num_hidden_layers
    for name, parameter in loaded:
        if name in quantised:
            assert type(parameter).__name__ == 'Int8Tensor', name
        else:
            assert torch.equal(parameter, exact[name]), name


@needs_torchao
def test_the_action_head_is_not_quantised(head_checkpoint, tmp_path):
    old = head_checkpoint
    save(tmp_path / 'head', old.spec, old.model, old.vqgan, old.text)
    new = load(tmp_path / 'head', dtype='int8')
    for one, other in zip(old.head.parameters(), new.head.parameters(), strict=True):
        assert torch.equal(one, other)
    assert new.model_id.endswith('/int8')


@needs_torchao
def test_an_int8_map_errs_by_at_most_half_a_step_of_each_weight(demo, demo_int8):
    torch.manual_seed(0)
    for exact, rounded in zip(linears(demo).values(), linears(demo_int8).values(), strict=True):
        given = torch.randn(4, exact.in_features)
        step = exact.weight.abs().amax(1) / 127  # of each output, for weights in -127 … 127
        bound = given.abs().sum(1, keepdim=True) * step / 2
        assert ((exact(given) - rounded(given)).abs() <= 1.02 * bound).all()


@needs_torchao
@pytest.mark.parametrize('word', ['int8', 'int4'])
def test_memory_shrinks_as_counted(demo, word):
    maps = [module.weight.shape for module in linears(demo).values()]
    numbers, rows = sum(out * width for out, width in maps), sum(out for out, _ in maps)
    others = sum(p.numel() for p in demo.model.parameters()) - numbers
    counted = {
        'int8': numbers + rows * (4 + 1) + 4 * others,  # per row an fp32 scale and a zero
        'int4': numbers // 2 + numbers // 32 * 2 * 2 + 2 * others,  # per 32 two bf16 numbers
    }
    assert weight_bytes(demo.model) == 4 * (numbers + others)
    assert weight_bytes(load(demo_path(), dtype=word).model) == counted[word]


@needs_torchao
def test_int8_actions_are_those_of_fp32_to_a_bin_on_average(demo, demo_int8):
    observation = made_observations(demo.spec, 1)[0]
    exact, rounded = (Policy(c).act(observation).actions for c in (demo, demo_int8))
    assert abs(exact - rounded).mean() <= 2 / 255


@needs_torchao
def test_layers_are_quantised_whatever_their_maps_are_called(tiny_spec):
    model = Transformer(tiny_spec.transformer)
    model.model.layers[0].fused = nn.Linear(32, 96)
    finish = quantiser(model, choose('int8', CPU), CPU)
    for module in (model.model.layers[0], model.lm_head):
        finish(module)
    assert type(model.model.layers[0].fused.weight).__name__ == 'Int8Tensor'
    assert type(model.lm_head.weight) is nn.Parameter


@needs_torchao
def test_what_is_quantised_is_not_saved(demo_int8, tmp_path):
    old = demo_int8
    with pytest.raises(ValueError, match='quantised'):
        save(tmp_path / 'new', old.spec, old.model, old.vqgan, old.text)
    assert not (tmp_path / 'new').exists()


# loading


def test_a_layer_is_finished_before_the_next_is_read(tiny_spec):
    with torch.device('meta'):
        model = Transformer(tiny_spec.transformer)
    layers, waiting = list(model.model.layers), []

    def stored(shape):
        return StoredTensor(tuple(shape), torch.float32, lambda: torch.ones(shape))

    def finish(part):
        if part in layers:
            assert not any(p.is_meta for p in part.parameters())
            waiting.append([any(p.is_meta for p in layer.parameters()) for layer in layers])

    tensors = {name: stored(tensor.shape) for name, tensor in model.state_dict().items()}
    read_network(model, tensors, CPU, None, finish)
    assert waiting == [[False, True], [False, False]]
    assert all(bool((p == 1).all()) for p in model.parameters())


PEAK = """
from pathlib import Path
import torch
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.checkpoint.quantise import choose, quantiser, weight_bytes
from worldvla_ros.checkpoint.weights import StoredTensor, read_network

def peak_mb():
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(l for l in lines if l.startswith('VmHWM')).split()[1]) / 1024

def stored(shape):
    return StoredTensor(tuple(shape), torch.bfloat16, lambda: torch.full(shape, 0.01))

sizes = TransformerConfig(64, 512, 1376, 16, 8)
cpu = torch.device('cpu')
with torch.device('meta'):
    model = Transformer(sizes)
tensors = {name: stored(tensor.shape) for name, tensor in model.state_dict().items()}
precision = choose('int8', cpu)
finish = quantiser(model, precision, cpu)
before = peak_mb()
read_network(model, tensors, cpu, precision.dtype, finish)
layer = sum(t.numel() for t in model.model.layers[0].state_dict().values()) * 4
print(peak_mb() - before, weight_bytes(model) / 2**20, layer / 2**20)
"""


@needs_torchao
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_loading_needs_the_quantised_weights_and_a_few_layers():
    # glibc keeps freed blocks of this size by default; those of a full-size model it gives back
    environment = os.environ | {'MALLOC_MMAP_THRESHOLD_': '65536'}
    done = subprocess.run(
        [sys.executable, '-c', PEAK],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak, weights, layer = map(float, done.stdout.split())
    assert peak <= weights + 3 * layer


@needs_torchao
def test_quantising_says_nothing_and_leaves_other_products_as_precise(tiny_folder):
    code = (
        'import logging, sys, torch; logging.basicConfig(level=logging.INFO)\n'
        'from worldvla_ros.checkpoint.folder import load\n'
        "assert 'torchao' not in sys.modules\n"
        "load(sys.argv[1], dtype='int8')\n"
        'print(torch.get_float32_matmul_precision())'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(tiny_folder)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ('highest\n', '')


# a GPU


@needs_torchao
@pytest.mark.gpu
@pytest.mark.parametrize(
    ('word', 'least'), [('int8', (5, 0)), ('int4', (8, 0)), ('float8', (8, 9))]
)
def test_the_demo_acts_alike_on_a_gpu(demo, word, least):
    if least > GPU_CAPABILITY:
        pytest.skip('needs a GPU of compute capability {}.{} or more'.format(*least))
    loaded = load(demo_path(), 'cuda', word)
    observation = made_observations(demo.spec, 1)[0]
    exact, rounded = (Policy(c).act(observation).actions for c in (demo, loaded))
    assert abs(exact - rounded).mean() <= 8 * 2 / 255
