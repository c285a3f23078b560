"""What `make` asks of a machine, and what it does when something is missing."""

import os
from pathlib import Path
import re
import shutil
import signal
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


def executable(function):
    """Return the program that CMakeLists.txt writes for a node, for a module of the test's own."""
    text = (ROOT / 'CMakeLists.txt').read_text()
    program = re.search(r'"#!\$\{Python3_EXECUTABLE\}\n(.*?)\n"\)', text, re.S)[1]
    return program.replace('${node_module}', 'slow_node').replace('${node_function}', function)


def test_ctrl_c_while_a_node_loads_ends_it_without_a_traceback(tmp_path):
    (tmp_path / 'slow_node.py').write_text(
        'import time\nprint("loading", flush=True)\ntime.sleep(60)\n'
    )
    (tmp_path / 'node').write_text(executable('main'))
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / 'node')], text=True, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert child.stdout.readline() == 'loading\n'
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT
    assert errors == ''


def test_an_executable_ends_with_the_status_of_its_main(tmp_path):
    (tmp_path / 'slow_node.py').write_text('def main():\n    return 3\n')
    (tmp_path / 'node').write_text(executable('main'))
    done = subprocess.run([sys.executable, str(tmp_path / 'node')], cwd=tmp_path)
    assert done.returncode == 3
