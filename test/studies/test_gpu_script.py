"""studies/gpu.sh, dry: every part on the CPU at tiny size, without network and without ROS."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = ('device', 'tests', 'bench_bfloat16', 'bench_int8', 'profile')


def run(out, *arguments, **environment):
    return subprocess.run(
        ['sh', str(ROOT / 'studies/gpu.sh'), *arguments],
        env={**os.environ, 'OUT': str(out), 'PYTHON': sys.executable, **environment},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_all_parts_run_on_the_cpu_and_are_kept_by_the_next_run(tmp_path):
    done = run(tmp_path, '--device', 'cpu', '--tiny')
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / 'gpu.json').read_text())
    assert tuple(record) == PARTS
    assert {name: part['outcome'] for name, part in record.items()} == dict.fromkeys(PARTS, 'done')
    assert record['device']['figures']['copy_bytes_per_s'] > 0
    for name in ('bench_bfloat16', 'bench_int8'):
        rows = record[name]['figures']['rows']
        assert [row['name'] for row in rows] == ['prefill', 'chunk']
        assert all(row['p50_s'] > 0 for row in rows)
    assert record['profile']['figures']['kernels'][0]['self_us'] > 0
    table = (tmp_path / 'gpu.md').read_text()
    assert all(f'| {name} | done |' in table for name in PARTS)

    # a second run repeats only what has no result
    before = {name: (tmp_path / f'{name}.txt').stat().st_mtime_ns for name in PARTS}
    (tmp_path / 'device.txt').unlink()
    again = run(tmp_path, '--device', 'cpu', '--tiny')
    assert again.returncode == 0
    assert again.stdout.count('kept from an earlier run') == len(PARTS) - 1
    after = {name: (tmp_path / f'{name}.txt').stat().st_mtime_ns for name in PARTS}
    assert [name for name in PARTS if after[name] != before[name]] == ['device']


def test_missing_wheels_are_named_and_nothing_fails(tmp_path):
    bare = tmp_path / 'bare'
    bare.write_text(f'#!/bin/sh\nexec {sys._base_executable} -S "$@"\n')
    bare.chmod(0o755)
    done = run(tmp_path / 'out', '--device', 'cpu', '--tiny', PYTHON=str(bare))
    assert done.returncode == 0
    table = (tmp_path / 'out/gpu.md').read_text()
    assert '| tests | skipped | not installed: torch numpy' in table
    assert table.count('| skipped |') == len(PARTS)


def test_an_unknown_argument_is_refused(tmp_path):
    done = run(tmp_path, '--gpu')
    assert done.returncode == 2
    assert 'usage' in done.stderr
