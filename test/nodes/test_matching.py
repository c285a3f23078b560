"""When chunks are executed, which images are skipped, what imagined ones are compared with."""

import numpy as np
import pytest

from worldvla_ros.nodes.inputs import RateLimit, StreamWatch
from worldvla_ros.nodes.matching import ChunkTimes, Imagined, Pending, strides_to_skip
from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.chunk_player import ChunkPlayer
from worldvla_ros.robot.pairing import CameraImages

DT = 0.05


def test_after_a_hold_a_chunk_begins_when_it_arrives():
    assert ChunkTimes().start(10.0, 0.4, 10.2) == pytest.approx(10.2)


def test_a_chunk_that_follows_another_keeps_its_times():
    times = ChunkTimes()
    times.start(10.0, 1.0, 10.2)  # is played until 11.2
    assert times.start(10.6, 1.0, 10.8) == pytest.approx(10.6)


def test_a_chunk_after_the_last_one_ended_is_late_by_the_hold():
    times = ChunkTimes()
    times.start(10.0, 0.4, 10.0)  # is played until 10.4
    assert times.start(10.3, 0.4, 10.6) == pytest.approx(10.5)  # 0.1 s were sent since 10.3


def test_after_a_clear_nothing_is_being_played():
    times = ChunkTimes()
    times.start(10.0, 1.0, 10.0)
    times.clear()
    assert times.start(10.3, 0.4, 10.6) == pytest.approx(10.6)


def test_times_are_those_at_which_the_player_sends():
    player, times, sent, due = ChunkPlayer(), ChunkTimes(), {}, {}
    rng = np.random.default_rng(0)
    arrivals = {}
    for i, stamp in enumerate([1.0, 1.2, 1.4, 2.6, 2.75]):
        arrivals[round(stamp + rng.integers(1, 4) * DT, 3)] = (i, stamp)
    for tick in range(20, 80):
        now = round(tick * DT, 3)
        if now in arrivals:
            i, stamp = arrivals[now]
            actions = np.arange(8, dtype=np.float32)[:, None] + 100 * i
            chunk = ActionChunk(actions, ('a',), ('m',), np.ones(1), DT, stamp)
            player.offer(chunk, now)
            due[i] = times.start(stamp, chunk.horizon * DT, now)
        action = player.next_action(now)
        if action is not None:
            sent[float(action[0])] = now
    assert len(sent) > 15
    for number, now in sent.items():
        chunk, index = divmod(number, 100)
        assert due[int(chunk)] + index * DT == pytest.approx(now, abs=1.5 * DT)


@pytest.mark.parametrize(
    ('now', 'takes', 'skipped'),
    [
        (0.0, 0.05, 0),  # the first image, of 0.2, comes in time
        (0.1, 0.15, 0),  # too late for it by 0.05, but nothing newer was observed
        (0.21, 0.05, 1),  # 0.2 is past and was observed: begin there, next is 0.4
        (0.25, 0.3, 1),  # nothing comes in time: the newest that was observed
        (0.45, 0.05, 2),
    ],
)
def test_images_whose_time_is_past_are_skipped(now, takes, skipped):
    assert strides_to_skip(0.0, 0.2, now, takes) == skipped


def observed(*stamps):
    images = CameraImages(10.0)
    for stamp in stamps:
        images.put(stamp, stamp)
    return images


def test_an_imagined_image_waits_for_its_time_and_gets_the_nearest_observed_one():
    pending, imagined = Pending(0.03), Imagined(np.zeros((1, 1, 3), np.uint8), 2.0)
    pending.add(imagined)
    assert pending.due(observed(1.9, 1.98)) == []
    assert pending.due(observed(1.9, 1.98, 2.01, 2.03)) == [(imagined, 2.01)]
    assert pending.due(observed(2.5)) == []


@pytest.mark.parametrize(('distance', 'matched'), [(0.029, 1), (0.031, 0)])
def test_an_observed_image_that_is_too_far_away_is_no_match(distance, matched):
    pending = Pending(0.03)
    pending.add(Imagined(np.zeros((1, 1, 3), np.uint8), 2.0))
    assert len(pending.due(observed(1.0, 2.0 + distance))) == matched


def test_pending_images_are_bounded_and_cleared():
    pending = Pending(0.03)
    for i in range(1000):
        pending.add(Imagined(np.zeros((1, 1, 3), np.uint8), float(i)))
    assert len(pending.due(observed(*map(float, range(992, 1000))))) <= 256
    pending.add(Imagined(np.zeros((1, 1, 3), np.uint8), 1.0))
    pending.clear()
    assert pending.due(observed(1.0)) == []


def test_a_rate_is_kept():
    rate = RateLimit(5.0)
    assert rate.ready(0.0)
    rate.taken(10.0)
    assert not rate.ready(10.19)
    assert rate.ready(10.21)


def test_a_topic_that_stops_is_named_and_one_that_never_came_is_not():
    watch = StreamWatch(['image', 'joint_states'], 1.0)
    assert watch.silent(1e6) is None
    watch.heard('image', 10.0)
    assert watch.silent(11.0) is None
    assert watch.silent(11.2) == ('image', pytest.approx(1.2))
    watch.heard('image', 11.3)
    assert watch.silent(11.4) is None
