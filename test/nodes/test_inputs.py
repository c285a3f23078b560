"""Streams at their pace, and the newest message of each."""

import numpy as np
import pytest

from worldvla_ros.nodes.inputs import Mailboxes, Pace


@pytest.mark.parametrize('jitter_s', [0.0, 0.005, 0.012])
def test_a_stream_at_the_rate_passes_whole_whatever_its_jitter(jitter_s):
    pace, rng = Pace(20.0), np.random.default_rng(0)
    times = np.arange(200) / 20 + rng.uniform(-jitter_s / 2, jitter_s / 2, 200)
    assert all(pace.take(t) for t in times)


@pytest.mark.parametrize('rate_hz', [21.0, 30.0, 60.0, 1000.0])
def test_a_faster_stream_is_thinned_to_the_rate(rate_hz):
    pace = Pace(20.0)
    taken = sum(pace.take(i / rate_hz) for i in range(int(10 * rate_hz)))
    assert 190 <= taken <= 202


def test_a_pause_is_not_made_up_for_by_a_burst():
    pace = Pace(10.0)
    assert pace.take(0.0)
    taken = [pace.take(100.0 + i / 1000) for i in range(101)]
    assert sum(taken) == 2


def test_the_newest_of_each_stream_is_taken_once():
    mail = Mailboxes()
    mail.put('front', 1)
    mail.put('wrist', 2)
    mail.put('front', 3)
    assert mail.take() == {'front': 3, 'wrist': 2}
    assert mail.take() == {}
