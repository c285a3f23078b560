"""How sources word their tasks: the tabletop in many ways, others as recorded."""

import numpy as np
import pytest

from worldvla_ros.data.wording import AsRecorded
from worldvla_ros.errors import InstructionError
from worldvla_ros.sim.tasks import Goal, corpus, paraphrase
from worldvla_ros.sim.wording import SOURCE, TabletopWording


def drawn(wording, task, instruction, count=40):
    rng = np.random.default_rng(0)
    return [wording.sentence(task, instruction, rng) for _ in range(count)]


def test_the_tabletop_says_a_goal_in_many_ways():
    found = drawn(TabletopWording(), 'push', 'please shove the red block left')
    assert len({*found}) > 10
    assert {Goal.from_text('push', sentence) for sentence in found} == {
        Goal('push', 'red', 'left')
    }
    rng = np.random.default_rng(0)
    assert found == [paraphrase(Goal('push', 'red', 'left'), rng) for _ in found]


def test_the_tabletops_corpus_is_that_of_its_tasks():
    assert TabletopWording().corpus() == corpus()
    assert SOURCE == 'tabletop'


def test_an_instruction_of_another_source_is_refused():
    with pytest.raises(InstructionError, match='which cube'):
        drawn(TabletopWording(), 'pick', 'open the drawer')


def test_other_sources_say_what_was_recorded():
    wording = AsRecorded(('open the drawer', 'close it'))
    assert {*drawn(wording, 'KITCHEN', 'open the drawer')} == {'open the drawer'}
    assert wording.corpus() == ('open the drawer', 'close it')
