"""Tasks as sentences: goals and their wordings, there and back."""

import re

import numpy as np
import pytest

from worldvla_ros.errors import InstructionError
from worldvla_ros.sim.tasks import (
    CANONICAL_SHARE,
    COLOUR_NAMES,
    DIRECTIONS,
    HELDOUT_PARAPHRASES,
    KINDS,
    Goal,
    corpus,
    kind_of,
    paraphrase,
    sample_goal,
)


def all_goals(kind):
    ways = DIRECTIONS if kind == 'push' else ('',)
    return [
        Goal(kind, colour, way, target)
        for colour in COLOUR_NAMES
        for way in ways
        for target in (COLOUR_NAMES if kind == 'put' else ('',))
        if target != colour
    ]


@pytest.mark.parametrize(
    ('goal', 'sentence'),
    [
        (Goal('pick', 'red'), 'pick up the red cube'),
        (Goal('push', 'green', 'left'), 'push the green cube to the left'),
        (Goal('put', 'blue', target='yellow'), 'put the blue cube on the yellow cube'),
    ],
)
def test_canonical_sentences_are_fixed(goal, sentence):
    assert goal.sentence == sentence


@pytest.mark.parametrize('kind', KINDS)
def test_a_canonical_sentence_tells_its_goal_and_kind(kind):
    for goal in all_goals(kind):
        assert Goal.from_text(kind, goal.sentence) == goal
        assert kind_of(goal.sentence) == kind


@pytest.mark.parametrize('kind', KINDS)
def test_a_paraphrase_tells_its_goal(kind):
    for seed in range(500):
        rng = np.random.default_rng(seed)
        goal = sample_goal(kind, COLOUR_NAMES, rng)
        sentence = paraphrase(goal, rng)
        assert Goal.from_text(kind, sentence) == goal, sentence


@pytest.mark.parametrize('kind', KINDS)
def test_a_heldout_wording_tells_its_goal(kind):
    for goal in all_goals(kind):
        for template in HELDOUT_PARAPHRASES[kind]:
            assert Goal.from_text(kind, goal.word(template)) == goal, template


@pytest.mark.parametrize('kind', KINDS)
def test_a_paraphrase_is_never_a_heldout_wording(kind):
    goal = all_goals(kind)[0]
    heldout = {goal.word(template) for template in HELDOUT_PARAPHRASES[kind]}
    assert len(heldout) == len(HELDOUT_PARAPHRASES[kind])
    rng = np.random.default_rng(0)
    assert heldout.isdisjoint(paraphrase(goal, rng) for _ in range(8000))


def test_the_corpus_holds_every_kind_and_no_heldout_wording():
    sentences = set(corpus())
    assert {kind_of(s) for s in sentences} == set(KINDS)
    for kind in KINDS:
        for goal in all_goals(kind):
            assert sentences.isdisjoint(goal.word(t) for t in HELDOUT_PARAPHRASES[kind])


def test_the_corpus_is_always_the_same():
    assert corpus() == corpus()


@pytest.mark.parametrize('kind', KINDS)
def test_paraphrases_vary_and_are_often_canonical(kind):
    goal, rng = all_goals(kind)[0], np.random.default_rng(0)
    drawn = [paraphrase(goal, rng) for _ in range(2000)]
    assert len(set(drawn)) > 200
    share = np.mean([s == goal.sentence for s in drawn])
    assert CANONICAL_SHARE - 0.05 < share < CANONICAL_SHARE + 0.1


@pytest.mark.parametrize('kind', KINDS)
def test_paraphrases_are_clean_sentences_with_nothing_left_to_fill(kind):
    rng = np.random.default_rng(1)
    for goal in all_goals(kind) * 20:
        assert re.fullmatch(r'[a-z]+(,? [a-z]+)*', paraphrase(goal, rng))


def test_a_paraphrase_follows_its_seed():
    goal = Goal('push', 'red', 'left')
    drawn = [
        [paraphrase(goal, rng) for _ in range(20)]
        for rng in (np.random.default_rng(s) for s in (3, 3, 4))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize('kind', KINDS)
def test_a_goal_is_drawn_among_the_cubes_of_the_scene(kind):
    rng = np.random.default_rng(0)
    goals = {sample_goal(kind, ('red', 'blue'), rng) for _ in range(100)}
    assert goals == {g for g in all_goals(kind) if {g.colour, g.target} <= {'red', 'blue', ''}}


@pytest.mark.parametrize(
    'text', ['Push the RED cube leftwards!', 'red, toward the left', 'shift red to the leftward']
)
def test_case_and_endings_do_not_matter(text):
    assert Goal.from_text('push', text) == Goal('push', 'red', 'left')


def test_a_colour_inside_a_word_is_no_colour():
    with pytest.raises(InstructionError):
        Goal.from_text('pick', 'pick up the hundred reddish cubes')


@pytest.mark.parametrize('kind', KINDS)
def test_a_sentence_without_a_colour_is_refused_with_an_example(kind):
    with pytest.raises(InstructionError, match=rf'which cube to {kind}.*Say for example'):
        Goal.from_text(kind, 'do it to the left')


def test_putting_needs_two_colours():
    with pytest.raises(InstructionError, match=r"expected 2 of the colours.*got \['red'\]"):
        Goal.from_text('put', 'put the red cube down')


def test_pushing_needs_a_direction():
    with pytest.raises(InstructionError, match='where to push: expected left or right'):
        Goal.from_text('push', 'push the red cube')
