"""The page of faults: every test that it names exists."""

import ast
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parent.parent
ROWS = re.findall(r'^\| (.+) \| ([^|]+) \|$', (ROOT / 'docs/faults.md').read_text(), re.MULTILINE)
NAMED = sorted({name for _, cell in ROWS for name in re.findall(r'`([^`]+)`', cell)})


def names_in(file):
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_there_are_many_faults_and_each_names_a_test():
    assert len(ROWS) > 200
    assert all('`' in cell for fault, cell in ROWS if fault not in ('fault', '---'))


@pytest.mark.parametrize('name', NAMED)
def test_what_a_row_names_exists(name):
    file, *parts = name.split('::')
    assert (ROOT / file).is_file()
    if parts:
        assert {part.split('[')[0] for part in parts} <= names_in(ROOT / file)
