"""The tour: its example runs, and every file and function that docs/tour.md names is there."""

import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent
TOUR = (ROOT / 'docs/tour.md').read_text()
STOPS = re.findall(r'`(worldvla_ros/[\w/]+\.py)`((?:: `\w+`(?:, `\w+`)*)?)', TOUR)


def defined(path):
    """Return the names of all functions, methods and classes of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize(('file', 'names'), STOPS, ids=[file for file, _ in STOPS])
def test_a_stop_of_the_tour_exists(file, names):
    assert set(re.findall(r'\w+', names)) <= defined(ROOT / file)


def test_the_tour_has_eight_stops_with_functions():
    numbers = [int(n) for n in re.findall(r'^\| (\d) \|', TOUR, re.MULTILINE)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7]
    assert sum(bool(names) for _, names in STOPS) >= 15


def test_the_example_walks_all_stops():
    done = subprocess.run(
        [sys.executable, str(ROOT / 'examples/follow_one_image.py')],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    stops = list(dict.fromkeys(line[0] for line in lines if line[0].isdigit()))
    assert stops == list('12345678')
    shown = {line[25:53].strip(): line[53:].split('  ')[0].strip() for line in lines}
    assert shown['codes'] == 'int64[8, 8]'
    assert shown['actions'] == 'float32[10, 7]'
    assert shown['images'] == 'uint8[2, 64, 64, 3]'
    assert [line.split()[-1] for line in lines if line.startswith('8')] == ['passed'] * 3
