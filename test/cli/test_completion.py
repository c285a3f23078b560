"""The tab key: verbs, flags and choices, as a shell asks for them."""

import os
import subprocess
import sys

import pytest

pytest.importorskip('argcomplete', reason='argcomplete is not installed')


def completed(line, folder):
    """Return what a shell would offer for a line."""
    answer = folder / 'answer'
    environment = {
        '_ARGCOMPLETE': '1',
        '_ARGCOMPLETE_IFS': '\n',
        '_ARGCOMPLETE_STDOUT_FILENAME': str(answer),
        'COMP_LINE': line,
        'COMP_POINT': str(len(line)),
    }
    subprocess.run(
        [sys.executable, '-m', 'worldvla_ros.cli'],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
    )
    return {word.strip() for word in answer.read_text().split('\n')}


@pytest.mark.parametrize(
    ('line', 'offered'),
    [
        ('worldvla do', {'doctor'}),
        ('worldvla up --dry', {'--dry-run'}),
        ('worldvla up --output ', {'twist', 'pose', 'trajectory', 'position', 'velocity'}),
        ('worldvla robot ', {'check'}),
    ],
)
def test_what_may_come_next_is_offered(line, offered, tmp_path):
    assert offered <= completed(line, tmp_path)
