"""What `make` asks of a machine, and what it does when something is missing."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent
CHECK = ROOT / 'tools/check_machine.sh'


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs the check with only these programs to be found."""
    bin_folder = tmp_path / 'bin'
    bin_folder.mkdir()

    def run(*missing, **environment):
        for name in ('sh', 'id', 'grep', 'ls', 'echo', 'python3', 'cc', 'c++', 'ldconfig'):
            found = sys._base_executable if name == 'python3' else shutil.which(name)
            if found and name not in missing:
                (bin_folder / name).write_text(f'#!/bin/sh\nexec {found} "$@"\n')
                (bin_folder / name).chmod(0o755)
        # an ordinary user without apt-get, whoever runs the tests
        (bin_folder / 'id').write_text('#!/bin/sh\necho 1000\n')
        (bin_folder / 'id').chmod(0o755)
        return subprocess.run(
            [str(bin_folder / 'sh'), str(CHECK)],
            env={'PATH': str(bin_folder), 'HOME': os.environ.get('HOME', '/'), **environment},
            capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_a_machine_with_everything_passes(machine):
    done = machine()
    assert done.returncode == 0, done.stderr


def test_missing_compilers_are_named_with_the_command_that_installs_them(machine):
    done = machine('cc', 'c++')
    assert done.returncode == 1
    assert 'a C compiler (cc)' in done.stderr
    assert 'sudo apt-get install gcc g++' in done.stderr


def test_a_missing_python_is_named(machine):
    done = machine('python3')
    assert done.returncode == 1
    assert 'python3, 3.10 to 3.13' in done.stderr


def test_a_python_that_is_too_old_is_named(machine, tmp_path):
    old = tmp_path / 'python2'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 2.7.18\nexit 1\n')
    old.chmod(0o755)
    done = machine(PYTHON=str(old))
    assert done.returncode == 1
    assert 'found Python 2.7.18' in done.stderr
    assert 'make demo PYTHON=' in done.stderr
