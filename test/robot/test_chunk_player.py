"""The chunk player: order, holding, splicing and clocks."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.chunk_player import OVERRUN_S, REMEMBERED, ChunkPlayer, slowed

DT = 0.05


def chunk(stamp_s=0.0, number=0, horizon=4):
    """Return a chunk whose actions are (number, index)."""
    actions = np.array([(number, i) for i in range(horizon)], np.float32).reshape(horizon, 2)
    return ActionChunk(
        actions, ('a', 'b'), ('1', '1'), np.ones(2, np.float32), DT, stamp_s, chunk_id=number
    )


def offer(player, chunk, now_s=0.0, slowdown=1):
    """Offer a chunk as if it came as late as it may."""
    return player.offer(chunk, max(now_s, chunk.stamp_s) + 1.0, slowdown)


def played(player, times):
    return [None if a is None else tuple(a) for a in map(player.next_action, times)]


@pytest.fixture
def player():
    return ChunkPlayer()


def test_a_player_without_a_chunk_holds(player):
    assert player.next_action(0.0) is None
    assert player.chunk is None
    assert player.remaining.shape == (0, 0)


def test_actions_come_in_order_and_then_it_holds(player):
    assert offer(player, chunk(horizon=3))
    assert played(player, [0.1, 0.15, 0.2, 0.25, 0.3]) == [(0, 0), (0, 1), (0, 2), None, None]


def test_remaining_shrinks_as_actions_are_sent(player):
    offer(player, chunk(horizon=3))
    player.next_action(0.1)
    np.testing.assert_array_equal(player.remaining, [(0, 1), (0, 2)])


def test_a_new_chunk_goes_on_after_the_actions_sent_since_its_stamp(player):
    offer(player, chunk(stamp_s=0.0))
    played(player, [0.10, 0.15, 0.20])
    offer(player, chunk(stamp_s=0.15, number=1))
    assert played(player, [0.25, 0.30, 0.35]) == [(1, 2), (1, 3), None]


def test_holding_since_the_stamp_skips_nothing(player):
    offer(player, chunk(stamp_s=0.0, horizon=1))
    assert played(player, [0.10, 0.15, 0.20]) == [(0, 0), None, None]
    offer(player, chunk(stamp_s=0.12, number=1))
    assert played(player, [0.25]) == [(1, 0)]


def test_actions_of_several_chunks_since_the_stamp_count_together(player):
    offer(player, chunk(stamp_s=0.0))
    played(player, [0.10])
    offer(player, chunk(stamp_s=0.02, number=1))
    played(player, [0.15])
    offer(player, chunk(stamp_s=0.05, number=2))
    assert played(player, [0.20]) == [(2, 2)]


def test_a_chunk_wholly_overtaken_holds(player):
    offer(player, chunk(stamp_s=0.0))
    played(player, [0.10, 0.15, 0.20])
    assert offer(player, chunk(stamp_s=0.05, number=1, horizon=2))
    assert played(player, [0.25]) == [None]


def test_an_older_chunk_is_refused(player):
    offer(player, chunk(stamp_s=1.0))
    assert not offer(player, chunk(stamp_s=0.9, number=1))
    assert player.chunk.chunk_id == 0
    assert played(player, [1.1]) == [(0, 0)]


def test_the_same_chunk_offered_again_does_not_start_over(player):
    offer(player, chunk(stamp_s=1.0))
    played(player, [1.1, 1.15])
    offer(player, chunk(stamp_s=1.0))
    assert played(player, [1.2]) == [(0, 2)]


def test_a_clock_that_jumps_back_clears(player):
    offer(player, chunk(stamp_s=5.0))
    player.next_action(5.1)
    assert player.next_action(1.0) is None
    assert player.chunk is None
    assert offer(player, chunk(stamp_s=0.9, number=1))
    assert played(player, [1.05]) == [(1, 0)]


def test_two_ticks_at_one_time_are_no_jump(player):
    offer(player, chunk())
    assert played(player, [0.1, 0.1]) == [(0, 0), (0, 1)]


def test_clear_holds_and_forgets_what_was_sent(player):
    offer(player, chunk())
    played(player, [0.1, 0.15])
    player.clear()
    assert player.next_action(0.2) is None
    offer(player, chunk(number=1))
    assert played(player, [0.25]) == [(1, 0)]


def test_more_actions_than_are_remembered_keep_the_latest(player):
    player.offer(chunk(horizon=REMEMBERED + 10), 0.0)
    times = np.arange(REMEMBERED + 5) * DT
    played(player, times)
    player.offer(chunk(stamp_s=times[-3], number=1), times[-1])
    assert played(player, [times[-1] + DT]) == [(1, 3)]


ticks = st.tuples(st.just('tick'), st.integers(0, 3))
offers = st.tuples(st.just('offer'), st.integers(-8, 0), st.integers(1, 6))


TICK_S = 0.037
"""No multiple of it is a time at which a chunk ends, so that rounding decides nothing."""


@given(st.lists(ticks | offers, max_size=60))
def test_whatever_happens_actions_come_once_each_from_the_newest_chunk_while_it_lasts(events):
    player, now, newest, number, arrived = ChunkPlayer(), 0, None, 0, 0
    sent, returned = [], set()
    cursor = 0
    for kind, value, *rest in events:
        if kind == 'offer':
            number += 1
            offered = chunk(stamp_s=(now + value) * TICK_S, number=number, horizon=rest[0])
            taken = newest is None or offered.stamp_s >= newest.stamp_s
            assert player.offer(offered, now * TICK_S) == taken
            if taken:
                newest, arrived = offered, now
                cursor = sum(s >= offered.stamp_s for s in sent)
            continue
        now += value
        lasts = newest is not None and (now - arrived) * TICK_S <= newest.horizon * DT + OVERRUN_S
        due = lasts and cursor < newest.horizon
        action = player.next_action(now * TICK_S)
        assert (action is not None) == due
        if due:
            assert tuple(action) == (newest.chunk_id, cursor)
            assert tuple(action) not in returned
            returned.add(tuple(action))
            sent.append(now * TICK_S)
            cursor += 1


def test_a_chunk_is_played_no_longer_than_it_lasts_from_its_arrival(player):
    player.offer(chunk(stamp_s=9.8, horizon=4), 10.0)
    assert player.next_action(10.0) is not None
    assert player.next_action(10.0 + 4 * DT + OVERRUN_S) is not None
    assert player.next_action(10.0 + 4 * DT + OVERRUN_S + 0.01) is None


def test_a_slowed_chunk_goes_the_same_way_and_keeps_its_gripper():
    fast = chunk(horizon=3, number=6)
    slow = slowed(fast, 3)
    assert slow.horizon == 9
    np.testing.assert_allclose(slow.actions[:, 0], 2.0)  # 6 in 3 parts
    np.testing.assert_array_equal(slow.actions[:, 1], np.repeat([0, 1, 2], 3))
    assert slowed(fast, 1) is fast


def test_periods_of_a_slowed_chunk_count_as_parts_of_actions(player):
    player.offer(chunk(stamp_s=0.0, horizon=4), 0.0, slowdown=2)
    assert player.slowdown == 2
    assert len(played(player, [0.0, 0.05, 0.1, 0.15])) == 4  # two whole actions
    player.offer(chunk(stamp_s=0.0, number=1, horizon=4), 0.2)
    assert player.slowdown == 1
    assert played(player, [0.2]) == [(1, 2)]
    player.offer(chunk(stamp_s=0.1, number=2, horizon=4), 0.25, slowdown=2)
    # since 0.1: two halves and a whole one
    np.testing.assert_array_equal(player.remaining[:, 1], [2, 2, 3, 3])


def test_a_slowed_chunk_divides_displacements_and_repeats_the_gripper():
    actions = np.array([[0.4, -0.2, 1.0], [0.0, 0.8, -1.0]], np.float32)
    whole = ActionChunk(actions, ('x', 'y', 'gripper'), ('1',) * 3, np.ones(3, np.float32), DT)
    slow = slowed(replace(whole, log_probs=np.zeros((2, 3), np.float32)), 2)
    expected = [[0.2, -0.1, 1.0], [0.2, -0.1, 1.0], [0.0, 0.4, -1.0], [0.0, 0.4, -1.0]]
    np.testing.assert_array_equal(slow.actions, np.array(expected, np.float32))
    assert slow.actions.dtype == np.float32
    assert slow.log_probs.shape == (0, 0)


def test_a_cleared_player_has_nothing_to_play_and_counts_nothing(player):
    player.offer(chunk(stamp_s=0.0, horizon=4), 0.0, slowdown=2)
    played(player, [0.0, 0.05])
    player.clear()
    assert player.chunk is None
    assert player.slowdown == 1
    assert player.remaining.shape == (0, 0)
    player.offer(chunk(stamp_s=0.0, number=1), 0.1)
    assert played(player, [0.1]) == [(1, 0)]
