"""What runs the mutants: forks that answer, die or never end, and which tests a mutant meets."""

import os
import time

import pytest

from tools import mutants
from tools.mutants import ENDLESS, KILLED, SURVIVED, UNTESTED, Results


def endless():
    time.sleep(60)


def test_a_fork_answers_dies_or_is_ended():
    assert mutants._in_child(lambda: [1, 'two']) == [1, 'two']
    assert mutants._in_child(lambda: False) is False
    assert mutants._in_child(lambda: os._exit(3)) is True
    assert mutants._in_child(lambda: pytest.fail('noticed')) is True
    start_s = time.monotonic()
    assert mutants._in_child(endless, 0.3) is None
    assert time.monotonic() - start_s < 30


def test_tests_are_taken_in_order_while_there_is_time_but_one_at_least():
    lasts = [1.0, 2.0, 9.0]
    assert mutants._affordable([0, 1, 2], lasts, 3.5) == [0, 1]
    assert mutants._affordable([2, 0], lasts, 3.5) == [2]
    assert mutants._affordable([], lasts, 3.5) == []


def test_a_mutant_that_no_test_calls_is_named():
    assert mutants._result([], 'worldvla_ros.robot.gate.x_f__mutmut_1', 1.0) == UNTESTED


def test_results_are_kept_after_each_and_told_by_module(tmp_path):
    file = tmp_path / 'results.json'
    results = Results(file)
    for number, result in enumerate((KILLED, KILLED, ENDLESS, SURVIVED)):
        results.put(f'worldvla_ros.robot.gate.xǁGateǁadmit__mutmut_{number}', result)
    results.put('worldvla_ros.robot.path.x_rest__mutmut_1', UNTESTED)
    again = Results(file)
    assert again.of == results.of
    gate, path = again.table().splitlines()
    assert gate.split() == ['robot.gate', '3', 'of', '4', 'killed,', '75%']
    assert path.split()[1:] == ['0', 'of', '1', 'killed,', '0%']
