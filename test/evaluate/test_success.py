"""Trials and imagination: seeds, sentences, figures and refusals."""

from dataclasses import replace
import json
from types import SimpleNamespace

import numpy as np
import pytest

from worldvla_ros.errors import ConfigError, EpisodeError, InstructionError
from worldvla_ros.evaluate import imagination, success
from worldvla_ros.evaluate.comparison import compare
from worldvla_ros.evaluate.success import Trial, report, run_trial, trials
from worldvla_ros.metrics import changed_pixels, psnr, wilson_interval
from worldvla_ros.policy import Policy
from worldvla_ros.sim import tabletop
from worldvla_ros.sim.collect import expert_episode
from worldvla_ros.sim.experts import expert_action
from worldvla_ros.sim.tabletop import CONTROL_DT_S, TabletopEnv
from worldvla_ros.sim.tasks import HELDOUT_PARAPHRASES, KINDS, Goal
from worldvla_ros.world_model import WorldModel

SHORT = 6


@pytest.fixture
def policy(tiny_checkpoint):
    return Policy(tiny_checkpoint)


@pytest.fixture(scope='module')
def world(tiny_checkpoint):
    return WorldModel(tiny_checkpoint)


@pytest.fixture(scope='module')
def episode(world):
    return expert_episode('pick', 8000, world.checkpoint.spec.cameras)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Let trials of untrained policies end early."""
    for kind in KINDS:
        monkeypatch.setitem(tabletop.MAX_STEPS, kind, SHORT)


def drawn_goal(task, seed):
    env = TabletopEnv(task=task, image_size=0)
    env.reset(seed=seed)
    env.close()
    return env.goal, env.colours


def run(policy, task='pick', episodes=2, seed=8000, **options):
    return list(trials(policy, task, episodes, seed, progress=False, **options))


@pytest.mark.parametrize('task', KINDS)
def test_there_is_one_trial_per_seed_with_the_goal_of_its_scene(policy, task):
    made = run(policy, task)
    assert [t.seed for t in made] == [8000, 8001]
    for trial in made:
        goal, _ = drawn_goal(task, trial.seed)
        assert (trial.instruction, trial.named) == (goal.sentence, goal.colour)
        assert trial.success is False
        assert trial.seconds == pytest.approx(SHORT * CONTROL_DT_S)
        assert trial.chunk_ms > 0


@pytest.mark.parametrize('task', KINDS)
def test_heldout_wording_names_the_goal_in_words_never_trained_on(policy, task):
    for trial in run(policy, task, wording='heldout'):
        goal, _ = drawn_goal(task, trial.seed)
        assert trial.instruction in [goal.word(t) for t in HELDOUT_PARAPHRASES[task]]
        assert Goal.from_text(task, trial.instruction) == goal


@pytest.mark.parametrize('task', KINDS)
def test_the_other_cube_is_another_one_of_the_same_scene(policy, task):
    for trial in run(policy, task, cube='other'):
        goal, colours = drawn_goal(task, trial.seed)
        asked = Goal.from_text(task, trial.instruction)
        assert asked.colour not in (goal.colour, goal.target)
        assert asked.colour in colours
        assert trial.named == asked.colour
        assert (asked.direction, asked.target) == (goal.direction, goal.target)


def test_a_given_instruction_is_used_in_every_scene(policy):
    made = run(policy, instruction='grab the blue block')
    assert {(t.instruction, t.named) for t in made} == {('grab the blue block', 'blue')}


def test_trials_repeat_exactly_but_for_their_timing(policy):
    first, again = ([replace(t, chunk_ms=0) for t in run(policy)] for _ in range(2))
    assert first == again


def test_a_few_actions_of_each_chunk_are_executed(policy, monkeypatch):
    monkeypatch.setattr(success, 'ACTIONS_EXECUTED', 3)
    calls, act = [], Policy.act
    monkeypatch.setattr(Policy, 'act', lambda self, seen: calls.append(seen) or act(self, seen))
    run(policy, episodes=1)
    assert len(calls) == SHORT // 3
    assert (calls[0].state != calls[1].state).any()


def test_four_actions_of_a_chunk_are_executed_in_the_judged_protocol(policy, monkeypatch):
    monkeypatch.setitem(tabletop.MAX_STEPS, 'pick', 12)
    asked, stepped = [], []
    act, step = Policy.act, TabletopEnv.step
    monkeypatch.setattr(
        Policy, 'act', lambda self, seen: asked.append(len(stepped)) or act(self, seen)
    )
    monkeypatch.setattr(
        TabletopEnv, 'step', lambda self, action: stepped.append(action) or step(self, action)
    )
    run(policy, episodes=1)
    assert asked == [0, 4, 8]
    assert len(stepped) == 12


@pytest.mark.parametrize('options', [{'wording': 'rude'}, {'cube': 'any'}])
def test_unknown_wordings_and_cubes_are_refused(policy, options):
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=rf"{name}: expected .* or .*got '{value}'"):
        run(policy, **options)


@pytest.mark.parametrize(('seed', 'episodes'), [(-1, 1), (8000, 0), (-1, 0)])
def test_impossible_seeds_are_refused(policy, world, seed, episodes):
    with pytest.raises(EpisodeError, match='from 0 up|at least 1'):
        run(policy, seed=seed, episodes=episodes)
    with pytest.raises(EpisodeError, match='from 0 up|at least 1'):
        imagination.imagination(world, 'pick', episodes, seed, 4, progress=False)


def test_seeds_from_9000_on_are_everybodys(policy, world):
    assert [t.seed for t in run(policy, seed=123456, episodes=1)] == [123456]
    assert imagination.imagination(world, 'pick', 1, 9000, 4, progress=False)['starts'] > 0


def test_looking_ahead_by_nothing_is_refused(world):
    with pytest.raises(ConfigError, match='ahead: expected at least 1 action, got 0'):
        imagination.imagination(world, 'pick', 1, 8000, 0, progress=False)


def test_an_instruction_without_a_goal_is_refused(policy):
    with pytest.raises(InstructionError, match='which cube to pick'):
        run(policy, instruction='do something')


@pytest.mark.parametrize('task', KINDS)
def test_a_policy_as_good_as_the_expert_succeeds(monkeypatch, task):
    monkeypatch.setitem(tabletop.MAX_STEPS, task, 160)
    env = TabletopEnv(task=task, cameras=(), image_size=0)
    env.reset(seed=8000)
    expert = SimpleNamespace(act=lambda _: SimpleNamespace(actions=expert_action(env)[None]))
    trial = run_trial(env, expert, 8000, env.goal.sentence)
    assert trial.success is True
    assert trial.named == trial.moved == env.goal.colour
    assert 0.3 < trial.seconds < 160 * CONTROL_DT_S


def made_trial(seed=8000, success=True, moved='red', seconds=1.0, chunk_ms=10.0):
    return Trial(seed, 'pick up the red cube', success, seconds, 'red', moved, chunk_ms)


def test_a_report_has_a_record_per_trial_and_a_summary():
    made = [
        made_trial(8000, seconds=1.0),
        made_trial(8001, seconds=3.0, moved='blue'),
        made_trial(8002, seconds=4.0, chunk_ms=30.0),
        made_trial(8003, success=False, moved='blue', seconds=6.0),
    ]
    found = json.loads(json.dumps(report(made)))
    assert [record['seed'] for record in found['episodes']] == [8000, 8001, 8002, 8003]
    assert found['episodes'][1]['moved'] == 'blue'
    assert found['summary'] == {
        'episodes': 4,
        'successes': 3,
        'success_rate': 0.75,
        'wilson_95': list(wilson_interval(3, 4)),
        'seconds_to_success': 3.0,
        'named_cube_moved_most': pytest.approx(2 / 3),
        'chunk_ms': 10.0,
    }


def test_without_success_there_is_no_time_to_success():
    found = success.summary([made_trial(success=False)])
    assert found['success_rate'] == 0
    assert found['seconds_to_success'] is None
    assert found['named_cube_moved_most'] is None


def test_imagination_pools_the_last_images_of_all_starts(world, episode, monkeypatch):
    monkeypatch.setattr(imagination, 'expert_episode', lambda *_: episode)
    found = imagination.imagination(world, 'pick', 1, 8000, 4, progress=False)
    starts = range(0, episode.length - 3, 4)
    made = [compare(world, episode, start, 4) for start in starts]
    masks = [changed_pixels(m.start, m.observed[-1]) for m in made]
    seen = np.concatenate([m.observed[-1][k] for m, k in zip(made, masks, strict=True)])
    imagined = np.concatenate([m.imagined[-1][k] for m, k in zip(made, masks, strict=True)])
    still = np.concatenate([m.start[k] for m, k in zip(made, masks, strict=True)])
    assert (found['actions_ahead'], found['starts']) == (4, len(starts))
    assert found['psnr_imagined'] == pytest.approx(psnr(imagined, seen), abs=1e-3)
    assert found['psnr_nothing_moves'] == pytest.approx(psnr(still, seen), abs=1e-3)
    gain = found['psnr_imagined'] - found['psnr_nothing_moves']
    assert found['gain'] == pytest.approx(gain, abs=0.006)
