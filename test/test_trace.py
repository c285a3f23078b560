"""A chunk and imagined images go straight down through few files."""

import importlib.util
from pathlib import Path
import sys

import pytest

FILE = Path(__file__).parent.parent / 'studies/trace.py'


@pytest.fixture(scope='module')
def study():
    """The script, under a name of its own, since the standard library has a module `trace`."""
    spec = importlib.util.spec_from_file_location('trace_study', FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope='module')
def traces(study):
    return study.trace_demo()


@pytest.mark.parametrize(('what', 'most'), [('one chunk', 15), ('two images', 12)])
def test_few_files_are_entered(traces, what, most):
    assert len(traces[what].files) <= most


@pytest.mark.parametrize('what', ['one chunk', 'two images'])
def test_files_never_call_each_other_in_a_circle(traces, what):
    assert traces[what].circle() == []


def test_a_circle_is_found(study):
    found = study.Trace()
    for caller, file in [(None, 'a'), ('a', 'b'), ('b', 'c'), ('c', 'b'), ('b', 'd')]:
        found.enter(caller, file)
    assert found.circle() == ['a', 'b', 'c']
    assert found.changes == 4
