"""The copy of the sources for another environment: whole, fresh, and without what was compiled."""

from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools.second_checkout import copy  # noqa: E402


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files(root):
    return {str(p.relative_to(root)) for p in root.rglob('*') if p.is_file()} - {'sources.txt'}


@pytest.fixture(params=['git', 'archive'])
def sources(request, tmp_path):
    root = tmp_path / 'sources'
    put(root, 'setup.py', 'worldvla_ros/policy.py', 'msg/A.msg', 'worldvla_ros/msg/_a.py',
        'worldvla_ros/x.so', '.venv/bin/python', 'build/other/setup.py')  # fmt: skip
    if request.param == 'git':
        (root / '.gitignore').write_text('/.venv\n/build/\n/worldvla_ros/msg/\n*.so\n')
        subprocess.run(['git', 'init', '-q', str(root)], check=True)
    return root


def test_sources_are_copied_and_what_was_compiled_is_not(sources, tmp_path):
    target = tmp_path / 'copy'
    copy(sources, target)
    assert files(target) - {'.gitignore'} == {'setup.py', 'worldvla_ros/policy.py', 'msg/A.msg'}


def test_only_changes_are_copied_again_and_what_is_gone_goes(sources, tmp_path):
    target = tmp_path / 'copy'
    copy(sources, target)
    assert copy(sources, target) == []
    put(target, 'worldvla_ros/msg/_a.py')  # compiled there
    (sources / 'msg/A.msg').unlink()
    put(sources, 'worldvla_ros/new.py')
    assert set(copy(sources, target)) == {'msg/A.msg', 'worldvla_ros/new.py'}
    assert 'msg/A.msg' not in files(target)
    assert 'worldvla_ros/msg/_a.py' in files(target)


def test_a_copy_keeps_the_time_of_its_file(sources, tmp_path):
    copy(sources, tmp_path / 'copy')
    names = ('setup.py', 'worldvla_ros/policy.py')
    for name in names:  # make compares it
        assert (tmp_path / 'copy' / name).stat().st_mtime == (sources / name).stat().st_mtime
