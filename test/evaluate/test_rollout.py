"""Episodes: the open loop of the protocol, and time that passes while the model thinks."""

from types import SimpleNamespace

import numpy as np
import pytest

from worldvla_ros.evaluate.rollout import roll_out
from worldvla_ros.observation import ActionChunk
from worldvla_ros.sim import libero
from worldvla_ros.sim.libero import LiberoEnv, tasks

STEPS = 14


class Scripted:
    """A policy whose action i of chunk c is told by its first number, 1 + c + i / 10."""

    def __init__(self, history=2, horizon=5, latencies=(0.0,)):
        self.checkpoint = SimpleNamespace(spec=SimpleNamespace(images_per_camera=history))
        self._horizon, self._latencies = horizon, latencies
        self.seen = []

    def act(self, observation):
        number = len(self.seen)
        self.seen.append(observation)
        actions = np.zeros((self._horizon, 7), np.float32)
        actions[:, 0] = 1 + number + np.arange(self._horizon) / 10
        actions[:, 6] = 1
        return ActionChunk(
            actions, ('a',) * 7, ('1',) * 7, np.ones(7), dt=0.05, stamp_s=observation.stamp_s,
            latency_s=self._latencies[min(number, len(self._latencies) - 1)],
        )  # fmt: skip


@pytest.fixture
def run(fake_libero, monkeypatch):
    """Run one episode; return what was sent after settling, and the outcome."""
    monkeypatch.setitem(libero.MAX_STEPS, 'spatial', STEPS)

    def run(policy, success=0, **options):
        from libero.libero.envs import OffScreenRenderEnv

        fake_libero([(success, 0)])
        env = LiberoEnv(tasks('spatial')[0], resolution=2)
        env.reset()
        OffScreenRenderEnv.calls.clear()
        outcome = roll_out(env, policy, 'pick up the bowl', **options)
        env.close()
        return [c[1:] for c in OffScreenRenderEnv.calls if c[0] == 'step'], outcome

    return run


def played(sent):
    """Write what was sent as chunk and number: 'a0', or '·' for holding."""
    names = [(f'{"abcdef"[int(a) - 1]}{round(a % 1 * 10)}' if a else '·') for a, *_ in sent]
    return ' '.join(names)


def clock(images):
    """Return the step since settling that an image shows."""
    return int(images['front'][-1, -1, 0]) - libero.SETTLE_STEPS


def test_whole_chunks_are_executed_before_the_next_question(run):
    policy = Scripted()
    sent, outcome = run(policy)
    assert played(sent) == 'a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3'
    assert [clock(seen.images) for seen in policy.seen] == [0, 5, 10]
    assert (outcome.success, outcome.steps, outcome.chunks, outcome.held) == (False, STEPS, 3, 0)


def test_the_first_question_has_one_image_and_later_ones_that_of_the_step_before(run):
    policy = Scripted()
    run(policy)
    assert [[clock(past) for past in seen.history] for seen in policy.seen] == [[], [4], [9]]


def test_a_policy_without_history_is_told_none_and_one_with_more_gets_more(run):
    for history, wanted in ((1, [[], [], []]), (4, [[], [2, 3, 4], [7, 8, 9]])):
        policy = Scripted(history)
        run(policy)
        assert [[clock(past) for past in seen.history] for seen in policy.seen] == wanted


def test_sentence_and_state_are_told(run):
    policy = Scripted()
    run(policy)
    assert {seen.instruction for seen in policy.seen} == {'pick up the bowl'}
    assert policy.seen[0].state.shape == (8,)


def test_success_ends_the_episode_at_once(run):
    sent, outcome = run(Scripted(), success=7)
    assert len(sent) == 7
    assert (outcome.success, outcome.steps, outcome.chunks) == (True, 7, 2)
    assert outcome.seconds == pytest.approx(0.35)


def test_every_step_can_be_watched(run):
    seen = []
    run(Scripted(), watch=lambda images: seen.append(clock(images)))
    assert seen == list(range(STEPS))


@pytest.mark.parametrize('delay', [0.1, 0.051, 0.0999])
def test_the_old_chunk_is_played_while_thinking_and_what_has_passed_is_skipped(run, delay):
    policy = Scripted()
    sent, outcome = run(policy, delay_s=delay)
    assert sent[:2] == [(0, 0, 0, 0, 0, 0, -1)] * 2
    assert played(sent[2:]) == 'a0 a1 a2 a3 a4 b2 b3 b4 c2 c3 c4 d2'
    assert [clock(seen.images) for seen in policy.seen] == [0, 5, 8, 11]
    assert [clock(seen.history[-1]) for seen in policy.seen[1:]] == [4, 7, 10]
    assert outcome.held == 2


def test_a_delay_just_below_a_chunk_leaves_one_action_of_each(run):
    sent, _ = run(Scripted(horizon=3), delay_s=0.1)
    assert played(sent[2:]) == 'a0 a1 a2 b2 · c1 c2 d2 · e1 e2 f2'


def test_a_delay_longer_than_a_chunk_holds_between_whole_chunks(run):
    sent, outcome = run(Scripted(horizon=3), delay_s=0.2)
    assert played(sent) == '· · · · a0 a1 a2 · · · · b0 b1 b2'
    assert outcome.held == 8


def test_while_holding_the_gripper_stays_as_it_was_told(run):
    sent, _ = run(Scripted(horizon=3), delay_s=0.2)
    grip = [action[6] for action in sent]
    assert grip == [-1] * 4 + [1] * 10
    assert all(not any(action[:6]) for action in sent[7:11])


def test_the_measured_time_may_differ_from_question_to_question(run):
    policy = Scripted(latencies=(0.05, 0.1, 0.0))
    sent, outcome = run(policy, delay_s=None)
    assert played(sent[1:]) == 'a0 a1 a2 a3 a4 · b1 b2 c0 c1 c2 c3 c4'
    assert outcome.chunk_ms == pytest.approx(50)


def test_no_delay_is_a_delay_of_zero(run):
    assert run(Scripted(latencies=(0.3,)), delay_s=0.0)[0] == run(Scripted())[0]
