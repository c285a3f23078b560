"""The commands of the tutorials: each is run here, or its page says why not and what tries it."""

import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / 'docs/tutorials'
BLOCK = re.compile(
    r'(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?:bash|sh)\n(?P<commands>.*?)^```', re.M | re.S
)
ENOUGH_S = 50


def pages():
    """Return the pages of the tutorials, in the order of their table of contents."""
    names = re.findall(r'^(?:\.\./)?[a-z-]+$', (TUTORIALS / 'index.md').read_text(), re.M)
    return [(TUTORIALS / f'{name}.md').resolve() for name in names]


def blocks(page):
    """Return (commands, reason not to run them or None) of each shell block of a page."""
    return [(found['commands'], found['reason']) for found in BLOCK.finditer(page.read_text())]


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the repository, with the `worldvla` command of these sources."""
    for name in ('config', 'checkpoints', 'examples', 'docs', 'worldvla_ros'):
        (tmp_path / name).symlink_to(ROOT / name)
    command = tmp_path / 'bin/worldvla'
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m worldvla_ros.cli "$@"\n')
    command.chmod(0o755)
    (tmp_path / 'bin/python').symlink_to(command.parent / 'interpreter')
    (tmp_path / 'bin/interpreter').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / 'bin/interpreter').chmod(0o755)
    return tmp_path


def test_there_are_tutorials_with_commands():
    assert len(pages()) >= 4
    for page in pages():
        fences = re.findall(r'^\s*```(?:bash|sh)$', page.read_text(), re.M)
        assert len(fences) == len(blocks(page)) > 0, 'a block is at the beginning of its lines'


@pytest.mark.parametrize('page', pages(), ids=lambda page: page.stem)
def test_a_command_that_is_not_run_has_a_reason(page):
    for commands, reason in blocks(page):
        if reason is None:
            continue
        assert len(reason) > 10, commands
        for file in re.findall(r'test/[\w/]+\.py', reason):
            assert (ROOT / file).is_file(), f'{page.name}: {file}'


@pytest.mark.parametrize('page', pages(), ids=lambda page: page.stem)
def test_the_other_commands_of_a_tutorial_run(page, checkout):
    script = '\n'.join(commands for commands, reason in blocks(page) if reason is None)
    if not script:
        pytest.skip('this page has none')
    done = subprocess.run(
        ['bash', '-euxc', script], cwd=checkout, capture_output=True, text=True, timeout=ENOUGH_S,
        env={
            **os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1',
            'PATH': f'{checkout / "bin"}{os.pathsep}{os.environ["PATH"]}',
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_training_configuration_of_the_lesson_is_accepted(checkout):
    from worldvla_ros.learn.settings import read_settings

    [(edit, _)] = [b for b in blocks(TUTORIALS / 'teach-a-task.md') if b[0].startswith('sed ')]
    (checkout / 'out/lesson').mkdir(parents=True)
    subprocess.run(['bash', '-euc', edit], cwd=checkout, check=True)
    settings = read_settings(checkout / 'out/lesson/put.yaml')
    assert settings.start == Path('checkpoints/demo')
    assert settings.data.train == ('out/lesson/put',)
    assert settings.data.validation == ('out/lesson/val_put',)
    assert (settings.training.steps, settings.training.compile) == (40, False)
    assert settings.work == Path('out/lesson/train')
