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
from worldvla_ros.demo.report import figures, matched, strip, table, video, write_report
from worldvla_ros.nodes.demo_sample import Sample

ROOT = Path(__file__).parents[2]
STRIDE_S = 0.1


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


def test_figures_tell_a_perfect_imagination(sample):
    sample.images = [(s, (image.astype(int) * 2).astype(np.uint8)) for s, image in sample.images]
    row = figures(sample, matched(sample, STRIDE_S, 2))
    assert row['success']
    assert row['chunks'] == 2
    assert row['chunk_ms_p50'] == pytest.approx(40)
    assert row['images_compared'] == 4


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
    assert all(r['chunks'] > 0 and r['images_imagined'] > 0 for r in rows)
    assert Image.open(tmp_path / 'strip.png').width > 500
    assert (tmp_path / 'demo.mp4').stat().st_size > 10_000
    with (tmp_path / 'bag/bag_0.mcap').open('rb') as stream:
        topics = {c.topic for c in make_reader(stream).get_summary().channels.values()}
    assert topics >= {
        '/image',
        '/joint_states',
        '/action_chunk',
        '/imagined_image',
        '/instruction',
    }
