import argparse
from pathlib import Path
import re
import subprocess

import pytest

from worldvla_ros.cli.verbs import parser

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
ARCHITECTURE = (ROOT / 'docs/architecture.md').read_text()
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')]
PAGES += sorted((ROOT / 'docs').rglob('*.md'))


def tracked():
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip('not a git checkout')
    return listed.stdout.split('\n')[:-1]


def drawn_tree():
    """Return the paths that the file tree of docs/architecture.md draws."""
    block = ARCHITECTURE.split('```text\n')[-1].split('```')[0]
    paths, stack = set(), []
    for line in block.splitlines()[1:]:
        found = re.match(r'^((?:│   |    )*)[├└]── (\S+)', line)
        if found:
            depth = len(found[1]) // 4
            stack = [*stack[:depth], found[2].rstrip('/')]
            paths.add('/'.join(stack))
    return paths


def test_the_drawn_tree_is_the_tree_on_disk():
    files = tracked()
    top = {f.split('/')[0] for f in files}
    package = {'/'.join(f.split('/')[:2]) for f in files if f.startswith('worldvla_ros/')}
    hidden = {f for f in top if f.startswith('.')}
    drawn = drawn_tree()
    assert drawn >= (top - hidden) | package
    assert all((ROOT / path).exists() for path in drawn)


def commands():
    """Return every `worldvla` command of the documents that stands on a line of its own."""
    for page in PAGES:
        text = page.read_text()
        for line in re.findall(r'^ *(?:\S*/)?worldvla (\S.*?)(?:\s+#.*)?$', text, re.MULTILINE):
            yield page.name, [a.strip('"') for a in re.findall(r'"[^"]*"|\S+', line)]


@pytest.mark.parametrize(('page', 'arguments'), list(commands()), ids=str)
def test_every_worldvla_command_of_the_documents_parses(page, arguments):
    assert isinstance(parser().parse_args(arguments), argparse.Namespace)


def test_the_documents_have_commands():
    assert len(list(commands())) >= 25


def test_sentences_and_stops_of_the_documents_wait_for_who_hears_them():
    lines = [line for page in PAGES for line in page.read_text().splitlines()]
    published = [
        line for line in lines if re.search(r'ros2 topic pub .*/(instruction|stop) ', line)
    ]
    assert len(published) >= 4
    for line in published:
        assert '--keep-alive 5 --qos-durability transient_local' in line


def test_the_python_of_the_readme_runs():
    block = README.split('```python\n')[1].split('```')[0]
    names = {}
    exec(compile(block, 'README.md', 'exec'), names)
    assert names['chunk'].actions.shape == (10, 7)
    assert names['images'].shape == (2, 64, 64, 3)


def test_links_and_pictures_of_the_documents_exist():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)#]+)', page.read_text()):
            if '://' not in target:
                assert (page.parent / target).exists(), f'{page.name}: {target}'


def test_make_targets_of_the_documents_exist():
    makefile = (ROOT / 'Makefile').read_text()
    for page in PAGES:
        for target in re.findall(r'(?:`|^)make (\w+)', page.read_text(), re.MULTILINE):
            assert re.search(rf'^{target}:', makefile, re.MULTILINE), f'{page.name}: {target}'


def test_ci_runs_fast_checks_first_with_pinned_tools():
    run = (ROOT / '.ci/run').read_text()
    assert re.findall(r'^make (\w+)$', run, re.MULTILINE) == ['lint', 'types', 'docs', 'test']
    pins = (ROOT / 'requirements/lint.txt').read_text().splitlines()
    assert all(re.fullmatch(r'[\w-]+==[\w.]+', line) for line in pins if not line.startswith('#'))


def test_annotations_are_shipped():
    assert (ROOT / 'worldvla_ros/py.typed').is_file()
    assert "package_data={NAME: ['py.typed']}" in (ROOT / 'setup.py').read_text()
