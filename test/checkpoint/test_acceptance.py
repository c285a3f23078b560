"""The list of acceptance tests: every test that docs/acceptance.md names is there.

And the two facts that only published files can tell, where $WORLDVLA_PUBLISHED names a folder that
`worldvla pull` fetched.
"""

import ast
import os
from pathlib import Path
import re

import publish
import pytest
from tokenizers import Tokenizer

from worldvla_ros.checkpoint.published import TEXT_FILE, open_text, tokenizer_folder
from worldvla_ros.tokenizers.vocab import PUBLISHED, published_vocabulary

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / 'docs/acceptance.md').read_text()
PUBLISHED_FOLDER = os.environ.get('WORLDVLA_PUBLISHED', '')


def rows():
    """Return the numbered rows of the table: number → its cells."""
    found = re.findall(r'^\| (\d+) \|(.*)\|$', TABLE, re.MULTILINE)
    return {int(number): rest for number, rest in found}


def functions_of(file):
    return {
        node.name
        for node in ast.walk(ast.parse(next((ROOT / 'test').rglob(file)).read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def test_there_is_a_row_for_each_of_the_thirteen_items():
    assert list(rows()) == list(range(1, 14))


@pytest.mark.parametrize('number', range(1, 14))
def test_the_tests_that_a_row_names_exist(number):
    named = re.findall(r'`(test_\w+\.py)`: ([^;|]+)', rows()[number])
    assert named
    for file, tests in named:
        wanted = set(re.findall(r'`(test_\w+)`', tests))
        assert wanted
        assert wanted <= functions_of(file)


@pytest.fixture(scope='module')
def real():
    """The folder of the published tokenizers."""
    return tokenizer_folder(Path(PUBLISHED_FOLDER))


needs_files = pytest.mark.skipif(
    not PUBLISHED_FOLDER, reason='$WORLDVLA_PUBLISHED names no folder of worldvla pull'
)


@pytest.mark.weights
@needs_files
def test_ids_of_the_published_vocabulary_are_those_assumed(real):
    assert published_vocabulary(open_text(real).ids_by_name(), TEXT_FILE) == PUBLISHED


@pytest.mark.weights
@needs_files
def test_the_published_tokenizer_splits_at_marks_as_in_one_pass(real):
    whole, text = Tokenizer.from_file(str(real / TEXT_FILE)), open_text(real)
    whole.add_tokens(['<|image|>'])
    mark = whole.token_to_id('<|image|>')
    for sentence in (*publish.LIBERO_SENTENCES, *publish.LIBERO_FOLDERS):
        question = f'What action should the robot take to {sentence}?'
        string = f'{question}<|image|><|image|><reserved08706>'
        expected = whole.encode(string, add_special_tokens=False).ids
        assert [*text.encode(question), mark, mark, PUBLISHED.sep] == expected
