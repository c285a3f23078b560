from dataclasses import replace
import json
from pathlib import Path
import subprocess
import sys

from mcap.reader import make_reader
import numpy as np
from PIL import Image
import pytest

pytest.importorskip('rclpy')
from worldvla_ros.checkpoint.folder import demo_path
from worldvla_ros.config import load_yaml
from worldvla_ros.demo.report import (
    CHUNK_PERIOD_MS,
    figures,
    matched,
    strip,
    table,
    video,
    write_report,
)
from worldvla_ros.nodes.demo_sample import Sample

ROOT = Path(__file__).parents[2]
STRIDE_S = 0.1
LEAST_GAIN_DB = 1.5
"""All images of an idle machine gain 4 to 5 dB."""
ENOUGH = 10
"""So many images say something. On a loaded machine few are imagined, and one of a chunk that was
replaced before it was played says nothing."""


@pytest.fixture
def sample():
    """Three seconds of images that grow lighter, with two chunks imagined perfectly."""
    images = [(10 + 0.05 * i, np.full((64, 64, 3), 2 * i, np.uint8)) for i in range(60)]
    imagined = [
        (images[start + ahead][0], np.full((32, 32, 3), 2 * (start + ahead), np.uint8))
        for start in (10, 30)
        for ahead in (2, 4)
    ]
    chunks = [(images[start][0], 0.04) for start in (10, 30)]
    return Sample('go', images, imagined, chunks, 1.0)


def test_imagined_images_meet_what_was_seen_at_their_time(sample):
    found = matched(sample, STRIDE_S, 2)
    assert [(round(s, 3), ahead) for s, ahead, *_ in found] == [
        (10.5, 1), (10.5, 2), (11.5, 1), (11.5, 2),
    ]  # fmt: skip
    for _, _, start, observed, imagined in found:
        np.testing.assert_array_equal(observed, imagined)
        assert (start < observed).all()


@pytest.fixture
def jump():
    """Return a sample in which everything turns from 0 to 60 between start and prediction.

    The two images of one chunk are imagined with the given brightness.
    """

    def create(*imagined):
        grey = [0] * 12 + [60] * 8
        images = [
            (10 + 0.05 * i, np.full((64, 64, 3), level, np.uint8)) for i, level in enumerate(grey)
        ]
        stamps = [images[i][0] for i in (12, 14)]
        return Sample(
            'go', images,
            [(s, np.full((32, 32, 3), level, np.uint8))
             for s, level in zip(stamps, imagined, strict=True)],
            [(images[10][0], 0.04), (images[12][0], 0.06)], 1.0,
        )  # fmt: skip

    return create


def test_the_figures_of_a_perfect_imagination(jump):
    row = figures(jump(60, 60), matched(jump(60, 60), STRIDE_S, 2))
    assert row['psnr_imagined_db'] is None  # no error: infinite, which JSON cannot say
    assert row['psnr_nothing_moves_db'] == pytest.approx(12.567, abs=1e-3)  # 10 log(255² / 60²)


def test_the_figures_of_an_imagination_that_is_off(jump):
    sample = jump(50, 60)
    row = figures(sample, matched(sample, STRIDE_S, 2))
    # an error of 10 in one image of two: 10 log(255² / 50)
    assert row['psnr_imagined_db'] == pytest.approx(31.141, abs=1e-3)
    assert row['psnr_nothing_moves_db'] == pytest.approx(12.567, abs=1e-3)
    assert (row['images_imagined'], row['images_compared']) == (2, 2)
    assert (row['chunks'], row['chunk_ms_p50']) == (2, pytest.approx(50))
    assert row['chunk_ms_p95'] == pytest.approx(59)
    assert (row['success'], row['time_to_success_s']) == (True, 1.0)


def test_success_is_what_the_simulation_said(jump):
    sample = jump(60, 60)
    sample.time_to_success = None
    row = figures(sample, [])
    assert (row['success'], row['time_to_success_s']) == (False, None)


def report(tmp_path, samples):
    """Return the status of a report over samples, with a bag beside it."""
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag/bag_0.mcap').write_bytes(b'')
    return write_report(tmp_path, samples, STRIDE_S, 2, 0.0)


@pytest.mark.parametrize(('times', 'status'), [((1.0, None), 0), ((None, None), 1)])
def test_a_demonstration_that_does_no_sentence_is_an_error(
    sample, tmp_path, capsys, times, status
):
    samples = [replace(sample, time_to_success=time) for time in times]
    assert report(tmp_path, samples) == status
    done = sum(time is not None for time in times)
    assert f'{done} of 2 sentences done' in capsys.readouterr().out
    rows = json.loads((tmp_path / 'table.json').read_text())['rows']
    assert [row['success'] for row in rows] == [time is not None for time in times]


def test_the_period_of_chunks_is_that_of_the_nodes():
    policy = load_yaml(ROOT / 'config/nodes/worldvla.yaml')['/**/policy']['ros__parameters']
    assert policy['max_rate'] == pytest.approx(1000 / CHUNK_PERIOD_MS)


@pytest.mark.parametrize(('latency_s', 'status'), [(0.25, 0), (0.04, 1)])
def test_nothing_imagined_is_an_error_unless_acting_took_all_the_time(
    sample, tmp_path, capsys, latency_s, status
):
    chunks = [(stamp, latency_s) for stamp, _ in sample.chunks]
    assert report(tmp_path, [replace(sample, imagined=[], chunks=chunks)]) == status
    said = 'No image was imagined: acting comes first and took all the time.'
    assert (said in capsys.readouterr().out) == (status == 0)
    assert not (tmp_path / 'strip.png').exists()


def test_a_demonstration_without_a_bag_is_an_error(sample, tmp_path):
    assert write_report(tmp_path, [sample], STRIDE_S, 2, 0.0) == 1


def test_the_table_has_one_line_per_sentence(sample):
    rows = [figures(sample, []), figures(Sample('nothing came'), [])]
    lines = table(rows).splitlines()
    assert len(lines) == 4
    assert '40 ms' in lines[2]
    assert 'no' in lines[3]


def test_video_and_strip_show_every_sentence(sample):
    images = video([sample])
    assert len({i.shape for i in images}) == 1
    assert 28 <= len(images) <= 31
    made = strip([sample, sample], [matched(sample, STRIDE_S, 2)] * 2, STRIDE_S)
    assert made.height > 2 * 128


def test_a_graph_without_chunks_is_no_success(tmp_path, capsys):
    assert write_report(tmp_path, [Sample('nothing came')], STRIDE_S, 2, 0.0) == 1
    assert 'nothing came' in capsys.readouterr().out
    assert json.loads((tmp_path / 'table.json').read_text())['rows'][0]['chunks'] == 0


def test_a_checkpoint_that_is_not_there_is_one_message(tmp_path):
    command = [sys.executable, '-m', 'worldvla_ros.cli', 'demo', '--checkpoint', '/nowhere']
    done = subprocess.run(
        [*command, '--out', str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith('worldvla: no checkpoint at /nowhere')


@pytest.mark.slow
@pytest.mark.skipif(not demo_path().is_dir(), reason='no demo checkpoint in this tree')
def test_the_demonstration_runs_from_sentence_to_bag(tmp_path):
    command = [sys.executable, '-m', 'worldvla_ros.cli', 'demo', '--out', str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / 'table.json').read_text())['rows']
    assert len(rows) == 3
    assert all(r['chunks'] > 0 for r in rows)
    assert any(r['success'] for r in rows), 'the demonstration did no sentence'
    assert f'{sum(r["success"] for r in rows)} of 3 sentences done' in done.stdout
    compared = [row for row in rows if row['images_compared'] > 0]
    # acting comes first: where a chunk takes longer than its period, no time is left to imagine
    assert compared or any(row['chunk_ms_p95'] > CHUNK_PERIOD_MS for row in rows)
    counts = [row['images_compared'] for row in compared]
    if sum(counts) >= ENOUGH:
        gains_db = [row['psnr_imagined_db'] - row['psnr_nothing_moves_db'] for row in compared]
        gain_db = np.average(gains_db, weights=counts)
        assert gain_db > LEAST_GAIN_DB, 'hardly better than imagining that nothing moves'
    if compared:
        assert Image.open(tmp_path / 'strip.png').width > 500
        assert (tmp_path / 'demo.mp4').stat().st_size > 10_000
    with (tmp_path / 'bag/bag_0.mcap').open('rb') as stream:
        topics = {c.topic for c in make_reader(stream).get_summary().channels.values()}
    assert topics >= {
        '/image',
        '/joint_states',
        '/action_chunk',
        '/instruction',
    }
