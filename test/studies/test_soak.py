"""The soak: what counts as growth, as a missed hold, and a short run of it."""

import importlib
import json
from pathlib import Path
import subprocess
import sys

import pytest

STUDIES = Path(__file__).parents[2] / 'studies'
sys.path.append(str(STUDIES))  # behind the standard library, which has a module `trace` too
soak, soak_report = map(importlib.import_module, ('soak', 'soak_report'))


def lines(file, *entries):
    file.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
    return file


def start(warm_up_s=100.0):
    return {'kind': 'start', 'warm_up_s': warm_up_s}


def sample(at_s, mb=100.0, latencies=(), problems=()):
    rss = {'model': mb}
    return {
        'kind': 'sample', 'at_s': at_s, 'rss_mb': rss, 'latencies_s': list(latencies),
        'problems': list(problems),
    }  # fmt: skip


def hold(*, missed=False, moving=True):
    return {'kind': 'hold', 'by': 'hold', 'moving': moving, 'missed': missed}


def judged(tmp_path, *entries):
    return soak_report.judge(soak_report.read(lines(tmp_path / 'a.jsonl', *entries)))


def grown(tmp_path, last_mb):
    """Judge a process of 50 MB that has 100 MB after the warm-up and so many at the end."""
    rising = [sample(at, 50.0 if at < 100 else 100.0 if at < 500 else last_mb, [0.1])
              for at in range(0, 601, 5)]  # fmt: skip
    return judged(tmp_path, start(), *rising, hold())


@pytest.mark.parametrize(('last_mb', 'met'), [(100.0, True), (102.0, True), (102.1, False)])
def test_memory_is_judged_from_the_warm_up_to_the_end(tmp_path, last_mb, met):
    found = grown(tmp_path, last_mb)
    assert found['met'][soak_report.GROWS] is met
    assert found['memory'][0]['model']['growth'] == pytest.approx(last_mb / 100 - 1)
    assert all(found['met'].values()) is met
    assert found['minutes'] == 10.0


def test_a_run_shorter_than_its_warm_up_meets_nothing(tmp_path):
    found = judged(tmp_path, start(), sample(0, latencies=[0.1]), sample(50), hold())
    assert found['met'][soak_report.GROWS] is False


@pytest.mark.parametrize(
    ('holds', 'met'),
    [([hold()], True), ([hold(), hold(missed=True)], False), ([hold(moving=False)], False),
     ([], False)],
)  # fmt: skip
def test_a_missed_hold_and_holds_of_an_arm_that_stands_fail(tmp_path, holds, met):
    found = judged(tmp_path, start(), sample(0), *holds)
    assert found['met'][soak_report.HOLDS] is met


def test_latencies_of_all_samples_are_pooled(tmp_path):
    slow = [sample(5, latencies=[0.9])]
    found = judged(tmp_path, start(), sample(0, latencies=[0.1] * 99), *slow)
    assert found['chunks'] == 100
    assert found['latency']['max_s'] == 0.9
    assert found['latency']['p50_s'] == pytest.approx(0.1)
    assert 0.1 < found['latency']['p99_s'] < 0.9


def test_runs_add_up_and_a_line_that_was_cut_off_is_left_out(tmp_path):
    file = lines(
        tmp_path / 'a.jsonl', start(), sample(0), sample(60), start(), sample(0), sample(30)
    )
    file.write_text(file.read_text() + '{"kind": "sam')
    found = soak_report.judge(soak_report.read(file))
    assert (found['minutes'], found['segments']) == (1.5, 2)
    journal = soak.Journal(file)
    journal.write('start', warm_up_s=1.0)
    journal.write('sample', at_s=0.0, rss_mb={}, latencies_s=[], problems=[])
    assert len(soak_report.read(file)) == 3


def test_errors_of_the_log_are_found_line_by_line(tmp_path):
    log = tmp_path / 'log.txt'
    log.write_text('[sim] [INFO] fine\n[model] Traceback (most recent call last):\n[model] [ERR')
    found, place = soak.problems_in(log, 0)
    assert found == ['[model] Traceback (most recent call last):']
    with log.open('a') as stream:
        stream.write('OR] [1.0] [policy]: stopped\n')
    assert soak.problems_in(log, place)[0] == ['[model] [ERROR] [1.0] [policy]: stopped']


def test_the_page_names_what_is_not_met(tmp_path):
    page = soak_report.markdown(judged(tmp_path, start(), sample(0, problems=['model ended'])))
    assert f'| {soak_report.HOLDS} | **no** |' in page
    assert page.endswith('* model ended\n')


@pytest.mark.slow
def test_a_short_soak_of_the_real_graph_holds_every_time(tmp_path):
    pytest.importorskip('rclpy')
    done = subprocess.run(
        [sys.executable, str(STUDIES / 'soak.py'), '--minutes', '0.8', '--warm-up', '10',
         '--out', str(tmp_path)],
        capture_output=True, text=True, timeout=220,
    )  # fmt: skip
    found = json.loads((tmp_path / 'soak.json').read_text())
    met = found['met']
    # memory settles later than this: the hour says whether it grows
    assert all(value for name, value in met.items() if name != soak_report.GROWS), done.stdout
    assert found['memory'][0].keys() == {'sim', 'model', 'action_player', 'recorder'}
    assert done.returncode == (0 if met[soak_report.GROWS] else 1)
