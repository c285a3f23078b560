import argparse
from pathlib import Path
import re
import subprocess

import pytest

from worldvla_ros.cli.verbs import parser

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def tracked():
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip('not a git checkout')
    return listed.stdout.split('\n')[:-1]


def drawn_tree():
    """Return the paths that the README's file tree draws."""
    block = README.split('```text\n')[-1].split('```')[0]
    paths, stack = set(), []
    for line in block.splitlines()[1:]:
        found = re.match(r'^((?:│   |    )*)[├└]── (\S+)', line)
        if found:
            depth = len(found[1]) // 4
            stack = [*stack[:depth], found[2].rstrip('/')]
            paths.add('/'.join(stack))
    return paths


def test_the_tree_in_the_readme_is_the_tree_on_disk():
    files = tracked()
    top = {f.split('/')[0] for f in files}
    package = {'/'.join(f.split('/')[:2]) for f in files if f.startswith('worldvla_ros/')}
    hidden = {f for f in top if f.startswith('.')}
    drawn = drawn_tree()
    assert drawn >= (top - hidden) | package
    assert all((ROOT / path).exists() for path in drawn)


def test_every_worldvla_command_in_the_readme_parses():
    commands = re.findall(r'^(?:\S*/)?worldvla (\S.*?)(?:\s+#.*)?$', README, re.MULTILINE)
    assert len(commands) >= 5
    for line in commands:
        arguments = re.findall(r'"[^"]*"|\S+', line)
        assert isinstance(
            parser().parse_args([a.strip('"') for a in arguments]), argparse.Namespace
        )


def test_links_and_pictures_of_the_documents_exist():
    for document in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for target in re.findall(r'\]\(([^)#]+)', document.read_text()):
            if '://' not in target:
                assert (document.parent / target).exists(), f'{document.name}: {target}'


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / 'Makefile').read_text()
    for target in set(re.findall(r'\bmake (demo|test|lint|bench|\w+)`?', README)):
        if re.search(rf'`make {target}|^make {target}', README, re.MULTILINE):
            assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
