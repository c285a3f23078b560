from dataclasses import replace
from itertools import pairwise
import json
import math

import numpy as np
import pytest
import torch

from worldvla_ros.benchmark import device, measure, random_model
from worldvla_ros.benchmark.cases import BenchmarkCases, Case
from worldvla_ros.benchmark.measure import CASES, Settings, bench, repeated
from worldvla_ros.benchmark.passes import (
    chunk_passes,
    image_passes,
    sequential_passes,
    surprise_passes,
)
from worldvla_ros.benchmark.prompts import Prompts, SimulatedPrompts
from worldvla_ros.benchmark.random_model import random_spec
from worldvla_ros.benchmark.report import COLUMNS, Row, duration, quantity
from worldvla_ros.benchmark.target import Target, open_target, random_target, resize
from worldvla_ros.checkpoint.profiles import load_profile
from worldvla_ros.checkpoint.quantise import available
from worldvla_ros.cli.bench import ROWS
from worldvla_ros.cli.verbs import main
from worldvla_ros.errors import ConfigError, MemoryLimitError
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.reference import act_sequentially
from worldvla_ros.model.transformer import TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig

PROFILE = 'worldvla_256_libero_goal'


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Measure rates and rows as briefly as possible."""
    monkeypatch.setattr(device, 'BUDGET_S', 0)
    monkeypatch.setattr(device, 'CPU_WORK', 4e7)
    monkeypatch.setattr(measure, 'BUDGET_S', 0)


@pytest.fixture(scope='module')
def tiny(tiny_checkpoint):
    """The tiny checkpoint, loaded already."""
    return target_of(tiny_checkpoint)


@pytest.fixture(scope='module')
def random_tiny():
    """Random weights of the published vocabulary in small sizes, with room for 600 tokens."""
    spec = random_spec(
        load_profile(PROFILE),
        TransformerConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                          num_attention_heads=2, max_position_embeddings=600),
        VQGANConfig(embed_dim=8, z_channels=8, ch=8, ch_mult=(1, 1, 1, 1, 1), num_res_blocks=1,
                    norm_groups=4),
    )  # fmt: skip
    return random_target(replace(spec, image_size=64))


def target_of(checkpoint):
    return Target(checkpoint.spec, checkpoint.text, lambda *_: checkpoint)


def counted(engine, call):
    """Return the tokens and the passes of a call whose prompt no cache knows."""
    before = engine.fast.tokens, engine.fast.passes
    call()
    return engine.fast.tokens - before[0], engine.fast.passes - before[1]


def test_every_row_has_finite_figures_and_a_consistent_ratio(tiny):
    report = bench(Settings(repeats=2, references=True), tiny)
    names = [row.name.split(',')[0].replace(' ', '-') for row in report.rows]
    assert list(dict.fromkeys(names)) == list(CASES)
    for row in report.rows:
        figures = (*row.times_s, row.bytes, row.flops, row.limit_s, row.p95_s)
        assert all(math.isfinite(f) and f > 0 for f in figures), row.name
        assert len(row.times_s) == 2
        assert row.ratio == pytest.approx(row.p50_s / row.limit_s)
    assert report.peak_bytes > report.weight_bytes > 0
    for comparison in report.comparisons:
        rows = {row.name: row for row in report.rows}
        fast, slow = rows[comparison.name], rows[comparison.reference]
        assert comparison.equal == 1
        assert comparison.speedup == pytest.approx(slow.p50_s / fast.p50_s)


def test_a_limit_is_no_more_than_all_bytes_and_all_flops_one_after_another(tiny):
    report = bench(Settings(repeats=1), tiny)
    rates = report.rates
    for row in report.rows:
        slow = min(rates.matmul, rates.convolution)
        assert row.limit_s <= row.bytes / rates.bandwidth + row.flops / slow


def test_table_and_json_hold_all_rows(tiny):
    report = bench(Settings(repeats=1, references=True), tiny)
    record = json.loads(json.dumps(report.record()))
    lines = report.table().splitlines()
    assert [row['name'] for row in record['rows']] == [row.name for row in report.rows]
    assert record['rows'][0]['p50_s'] == report.rows[0].p50_s
    assert all(any(line.startswith(row.name) for line in lines) for row in report.rows)
    for word in ('cpu', 'float32', 'thread', 'weights', 'copy', 'matmul', 'peak memory'):
        assert word in lines[0]
    assert lines[2].split() == list(COLUMNS[1:])
    assert max(len(line) for line in lines[2:]) <= 99


def test_only_the_rows_asked_for_are_measured(tiny):
    report = bench(Settings(only=('decode', 'chunk'), repeats=1), tiny)
    assert [row.name for row in report.rows] == ['decode', 'chunk']


def test_passes_and_tokens_are_those_that_the_engine_makes(tiny_checkpoint):
    prompts = Prompts(tiny_checkpoint)
    prompt, scene = prompts.action(1), prompts.scene(1)
    length, asked = len(prompt.ids), len(scene.prompt.ids)
    wide = [np.zeros((4, 2), np.int64)] * 3

    def imagine(*shape):
        return lambda engine: list(engine.images.imagine(scene.prompt, *shape, speculative=False))

    pairs = [
        (lambda engine: engine.chunks.act(prompt, 4, 7), chunk_passes(length, 4, 7)),
        (lambda engine: engine.chunks.act(prompt, 1, 1), chunk_passes(length, 1, 1)),
        (lambda engine: act_sequentially(engine, prompt, 4, 7), sequential_passes(length, 4, 7)),
        (imagine(4, 4), image_passes(asked, 4, 4, 32)),
        (imagine(4, 2, 3), image_passes(asked, 4, 2, 32, 3)),
        (
            lambda engine: engine.images.surprise(scene.prompt, wide),
            surprise_passes(asked, 4, 2, 32, 3),
        ),
    ]
    for call, passes in pairs:
        engine = Engine(tiny_checkpoint.model, tiny_checkpoint.spec.vocabulary)
        found = counted(engine, lambda engine=engine, call=call: call(engine))
        assert found == (sum(p.tokens for p in passes), len(passes))
        assert passes[0].tokens == passes[0].seen
        assert all(b.seen == a.seen + b.tokens for a, b in pairwise(passes))


def test_an_engine_that_forgot_is_fed_whole_prompts(tiny_checkpoint):
    bench, prompts = BenchmarkCases(tiny_checkpoint), Prompts(tiny_checkpoint)
    engine, act, scene = tiny_checkpoint.engine, prompts.action(5), prompts.scene(5)
    seen = surprise_passes(len(scene.prompt.ids), 4, 4, 32)[0].tokens
    for _ in range(2):
        bench.forget()
        assert counted(engine, lambda: engine.chunks.act(act, 1, 1)) == (len(act.ids) + 1, 1)
        bench.forget()
        assert counted(engine, lambda: engine.images.surprise(scene.prompt, scene.codes)) == (
            seen,
            1,
        )
    engine.chunks.act(act, 1, 1)
    assert counted(engine, lambda: engine.chunks.act(act, 1, 1)) == (2, 1)


def test_rows_count_what_their_calls_fed(tiny):
    report = bench(Settings(repeats=1, references=True), replace(tiny, simulated=True))
    rows = {row.name: row for row in report.rows}
    assert rows['chunk'].passes == 7
    assert rows['chunk, sequential'].passes == 4 * 9 + 1
    assert rows['image, sequential'].passes == 16
    assert rows['surprise'].passes == rows['prefill'].passes == 1
    assert rows['image'].passes < 16
    assert rows['image'].tokens > rows['image, sequential'].tokens


def test_images_are_guessed_ahead_only_where_guesses_can_hold(tiny):
    settings = Settings(only=('image',), repeats=1, references=True)
    assert [row.name for row in bench(settings, tiny).rows] == ['image, sequential']
    report = bench(settings, replace(tiny, simulated=True))
    assert [row.name for row in report.rows] == ['image', 'image, sequential']
    assert [c.name for c in report.comparisons] == ['image']


def test_images_of_the_simulation_are_guessed_ahead(tiny_checkpoint):
    prompts = SimulatedPrompts(tiny_checkpoint)
    first, second = prompts.scene(0), prompts.scene(1)
    assert len(first.prompt.ids) == len(Prompts(tiny_checkpoint).scene(0).prompt.ids)
    assert not np.array_equal(first.prompt.ids, second.prompt.ids)
    case = BenchmarkCases(tiny_checkpoint, prompts).image()
    assert case.call(case.prepare(0)).shape == (1, 4, 4)


def test_a_head_answers_end_to_end_in_one_pass_and_fixes_the_horizon(head_checkpoint):
    headed = target_of(head_checkpoint)
    report = bench(Settings(only=('chunk', 'end-to-end'), repeats=1), headed)
    assert [row.passes for row in report.rows] == [7, 1]
    with pytest.raises(ConfigError, match='--horizon: expected 4, which the action head'):
        resize(headed, horizon=5)


def test_sizes_asked_for_are_those_measured(tiny):
    own = bench(Settings(only=('prefill', 'chunk'), repeats=1), tiny)
    other = bench(
        Settings(
            only=('prefill', 'chunk'), repeats=1, horizon=6, images_per_camera=2, resolution=64
        ),
        tiny,
    )
    assert (other.horizon, other.images_per_camera, other.resolution) == (6, 2, 64)
    assert other.rows[1].passes == own.rows[1].passes
    image = {32: 4 * 5 + 4, 64: 8 * 9 + 4}
    more = 2 * image[64] - image[32]
    assert other.rows[0].tokens - own.rows[0].tokens == more
    assert other.rows[1].tokens - own.rows[1].tokens == more + 2 * 7


@pytest.mark.parametrize(
    ('name', 'asked', 'step'),
    [('horizon', 1000, 1), ('images_per_camera', 900, 1), ('resolution', 512, 32)],
)
def test_sizes_beyond_the_model_are_refused_and_the_largest_named(random_tiny, name, asked, step):
    with pytest.raises(ConfigError) as refused:
        resize(random_tiny, **{name: asked})
    message = str(refused.value)
    assert 'at most 600 tokens' in message
    largest = int(message.split(f'--{name.replace("_", "-")} ')[1].split()[0].rstrip('.'))
    assert largest < asked
    resize(random_tiny, **{name: largest})
    with pytest.raises(ConfigError):
        resize(random_tiny, **{name: largest + step})


def test_sizes_that_only_together_are_too_large_are_said_to_be_so(random_tiny):
    with pytest.raises(ConfigError, match='lower several'):
        resize(random_tiny, horizon=1000, images_per_camera=900)


@pytest.mark.parametrize(
    ('sizes', 'message'),
    [
        ({'resolution': 40}, 'a multiple of 16 px, up to 1024 px, got 40. Use 3[02]'),
        ({'resolution': 2048}, 'a multiple of 16 px, up to 1024 px, got 2048. Use 1024'),
        ({'horizon': 0}, '--horizon: expected 1 … 1000, got 0'),
        ({'images_per_camera': -1}, '--images-per-camera: expected 1 … 1000, got -1'),
        ({'horizon': 10**9}, '--horizon: expected 1 … 1000, got 1000000000'),
    ],
)
def test_impossible_sizes_are_refused(tiny, sizes, message):
    with pytest.raises(ConfigError, match=message):
        resize(tiny, **sizes)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'only': ('chunk', 'chnk')}, 'expected some of prefill, chunk.*got chnk'),
        ({'repeats': 0}, '--repeats'),
        ({'device': 'tpu'}, "device 'tpu': expected cpu, cuda or cuda:N"),
    ],
)
def test_unknown_rows_and_no_repeats_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match='device cuda: expected a GPU'):
        Settings(device='cuda')


def test_an_unknown_model_is_refused_and_a_profile_is_a_model():
    with pytest.raises(ConfigError, match='expected demo, 7b'):
        open_target('8b')
    target = open_target('rynnvla_vla_256_libero_goal')
    assert (target.spec.cameras, target.spec.images_per_camera) == (('front', 'wrist'), 2)
    assert target.spec.transformer.hidden_size == 4096
    assert open_target('7b').spec.image_size == 256


def test_random_weights_are_finite_and_make_every_row(random_tiny):
    report = bench(Settings(repeats=1, references=True), random_tiny)
    assert report.dtype == 'bfloat16'
    assert len(report.rows) > len(CASES)
    checkpoint = random_tiny.load(torch.device('cpu'), 'float32')
    tensors = checkpoint.model.state_dict() | checkpoint.vqgan.state_dict()
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert (tensors['model.norm.weight'] == 1).all()
    assert tensors['lm_head.weight'].std() == pytest.approx(random_model.DEVIATION, rel=0.05)


@pytest.mark.skipif(not available(), reason='torchao is not installed')
def test_quantised_weights_are_measured_with_their_bytes(random_tiny, tiny_folder):
    settings = Settings(only=('chunk',), repeats=1)
    for model in (random_tiny, open_target(str(tiny_folder))):
        wide = bench(replace(settings, dtype='float32'), model)
        narrow = bench(replace(settings, dtype='int8'), model)
        assert narrow.dtype == 'int8 beside float32'
        assert narrow.weight_bytes < wide.weight_bytes
        assert narrow.rows[0].bytes < wide.rows[0].bytes
        assert narrow.rows[0].flops == wide.rows[0].flops


def test_an_unknown_type_is_refused(random_tiny):
    with pytest.raises(ConfigError, match='int7'):
        bench(Settings(dtype='int7'), random_tiny)


def test_random_weights_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(random_model, 'free_memory', lambda device: 3e9)
    with pytest.raises(MemoryLimitError, match='expected 14.0 GB of free memory, got 3.0 GB'):
        open_target('7b').loaded(torch.device('cpu'), 'auto')


def test_a_long_first_call_counts_and_a_short_one_does_not(monkeypatch):
    calls = []
    case = Case('x', lambda number: None, lambda _: calls.append(1), work=None)
    times, _ = repeated(case, torch.device('cpu'), repeats=3)
    assert (len(times), len(calls)) == (3, 4)
    calls.clear()
    monkeypatch.setattr(measure, 'LONG_S', -1)
    times, _ = repeated(case, torch.device('cpu'))
    assert (len(times), len(calls)) == (1, 1)


def test_prompts_that_follow_each_other_differ_from_the_first_code(
    tiny_checkpoint,
):
    prompts = Prompts(tiny_checkpoint)
    codes = [prompts.action(number).ids for number in range(40)]
    first = np.flatnonzero(codes[0] == tiny_checkpoint.spec.vocabulary.image_start)[0] + 3
    assert all((a[:first] == b[:first]).all() for a, b in pairwise(codes))
    assert all(a[first] != b[first] for a, b in pairwise(codes))


def test_each_time_gets_what_was_prepared_for_it():
    case = Case('x', lambda number: number, lambda value: value, work=None)
    assert repeated(case, torch.device('cpu'), repeats=4)[1] == [0, 1, 2, 3, 4]


def test_ways_that_disagree_in_full_precision_are_an_error(tiny_checkpoint):
    row = Row('chunk', (1.0,), 1, 1, 1, 1, 1)
    with pytest.raises(RuntimeError, match='disagree: 50.0% equal'):
        measure._compared(row, row, [np.array([1, 2])], [np.array([1, 3])], tiny_checkpoint)


def test_figures_have_three_digits():
    assert [duration(t) for t in (0.04194, 280.4, 9.999)] == ['41.9 ms', '280 s', '10.0 s']
    assert [quantity(v, 'B') for v in (13.8e6, 1.406e10, 999)] == ['13.8 MB', '14.1 GB', '999 B']


def test_the_command_prints_the_table_and_writes_the_figures(tiny_folder, tmp_path, capsys):
    file = tmp_path / 'a/bench.json'
    command = ['bench', '--model', str(tiny_folder), '--only', 'chunk,decode', '--repeats', '1']
    assert main([*command, '--against', 'reference', '--json', str(file)]) == 0
    out = capsys.readouterr().out
    names = ['chunk', 'chunk, sequential', 'decode']
    assert [row['name'] for row in json.loads(file.read_text())['rows']] == names
    assert all(f'\n{name} ' in out for name in names)
    assert 'faster than chunk, sequential (same result)' in out


def test_a_refusal_is_one_message_and_status_2(tiny_folder, capsys):
    assert main(['bench', '--model', str(tiny_folder), '--images-per-camera', '1000']) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert '--images-per-camera' in said[0]


def test_the_command_knows_the_rows():
    assert tuple(CASES) == ROWS
