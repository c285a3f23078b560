"""What the nodes say of themselves, and when an instruction is given up."""

import math

import pytest

from worldvla_ros.nodes.pursuit import SILENT_S, Echoes, Pursuit, Voice

PATIENCE_S = 10.0


def talk(voice, until_s, start_s=0.0, **said):
    """Let a node say the same once per second."""
    for second in range(math.floor(until_s - start_s) + 1):
        voice.hear('words', start_s + second, **said)


def test_a_node_that_is_well_is_no_problem():
    voice = Voice('policy', 0.0)
    talk(voice, 100.0, well=True, error=False)
    assert voice.well(100.0)
    assert voice.problem(100.0, PATIENCE_S) == ''
    assert voice.said(100.0) == 'words'


def test_an_error_is_a_problem_at_once():
    voice = Voice('policy', 0.0)
    voice.hear('broken', 0.0, well=False, error=True)
    assert voice.problem(0.0, PATIENCE_S) == 'policy: broken'
    assert voice.problem(0.0, 0.0) == 'policy: broken'


@pytest.mark.parametrize(('mode', 'ends'), [('held', True), ('stopped', True), ('dry run', False)])
def test_a_mode_that_only_the_operator_ends_is_a_problem_at_once(mode, ends):
    voice = Voice('action_player', 0.0)
    voice.hear('holding', 0.0, well=True, error=False, mode=mode)
    assert bool(voice.problem(0.0, PATIENCE_S)) == ends


def test_a_warning_is_a_problem_when_patience_ends():
    voice = Voice('action_player', 0.0)
    talk(voice, 20.0, well=False, error=False)
    assert voice.problem(10.0, PATIENCE_S) == ''
    assert voice.problem(10.1, PATIENCE_S) == 'action_player, for 10 s: words'
    assert voice.problem(20.0, 0.0) == ''  # for ever
    voice.expect(15.0)
    assert voice.problem(20.0, PATIENCE_S) == ''
    voice.hear('words', 20.0, well=True, error=False)
    voice.hear('words', 20.1, well=False, error=False)
    assert voice.problem(30.0, PATIENCE_S) == ''
    assert voice.problem(30.2, PATIENCE_S)


def test_a_node_that_says_nothing_is_a_problem_when_patience_ends():
    voice = Voice('policy', 0.0)
    assert not voice.well(0.0)
    assert voice.problem(10.0, PATIENCE_S) == ''
    assert 'no word on policy/status' in voice.problem(10.1, PATIENCE_S)
    voice.hear('words', 20.0, well=True, error=False)
    assert voice.well(20.0 + SILENT_S)
    assert not voice.well(20.1 + SILENT_S)
    assert 'no word' in voice.said(20.1 + SILENT_S)
    assert voice.problem(30.0, PATIENCE_S) == ''
    assert 'no word' in voice.problem(30.1, PATIENCE_S)


def test_a_pursuit_knows_when_its_time_is_up():
    assert not Pursuit('go', 5.0, 2.0).late(6.9)
    assert Pursuit('go', 5.0, 2.0).late(7.0)
    assert not Pursuit('go', 5.0, 0.0).late(1e9)
    assert math.isnan(Pursuit('go', 5.0, 0.0).estimate)


def test_what_one_said_comes_back_and_is_not_somebody_elses():
    echoes = Echoes()
    assert echoes.foreign('lift', 0.0)
    echoes.say('push', 0.0)
    echoes.say('lift', 1.0)
    assert not echoes.foreign('push', 1.0)  # late, or a second time
    assert not echoes.foreign('lift', 1.0)
    assert echoes.foreign('pull', 1.0)
    assert echoes.foreign('push', 2.1)
    assert not echoes.foreign('lift', 99.0)  # somebody repeats it
    echoes.say('', 99.0)
    assert echoes.foreign('push', 99.0)
