"""What the operator is told: one or two sentences, what kind they are, and all figures."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from worldvla_ros.robot.notes import ENDED, NO_CHUNK, TO_START
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import Mode
from worldvla_ros.robot.view import DRY_RUN, NOTICED, view

LAG = Reason('tip_lag', 'the tip is far', 'Look.')


@dataclass
class Playing:
    """What a view asks of a motion."""

    path: str | None = 'path'
    chunk: SimpleNamespace | None = field(default_factory=lambda: SimpleNamespace(chunk_id=3))
    remaining_s: float = 1.5
    slowdown: float = 1.0
    speed: float = 1.0
    clipped: bool = False


def seen(mode=Mode.ENABLED, reasons=(), *, braking=False, to_start=False, **motion):
    return view(
        mode, reasons, Playing(**motion), braking=braking, to_start=to_start,
        following_error_m=0.01,
    )  # fmt: skip


def test_figures_are_passed_on():
    made = seen(reasons=(LAG,), slowdown=1.5, speed=0.5)
    assert (made.mode, made.moving, made.reasons, made.chunk_id) == (Mode.ENABLED, True, (LAG,), 3)
    assert (made.remaining_s, made.slowdown, made.speed) == (1.5, 1.5, 0.5)
    assert made.following_error_m == 0.01
    assert seen(path=None).chunk_id == seen(chunk=None).chunk_id == 0
    assert not seen(path=None).moving


SLOW = ' times slower, as the chunk is faster than the limits of the robot description'


@pytest.mark.parametrize(
    ('changes', 'message', 'warn'),
    [
        ({}, 'playing', False),
        ({'slowdown': NOTICED}, 'playing', False),
        ({'slowdown': 1.06}, f'playing 1.1{SLOW}', False),
        ({'slowdown': 2.55}, f'playing 2.5{SLOW}', False),
        ({'speed': 0.25}, 'playing at 25% of full speed', False),
        ({'clipped': True}, 'playing, motion kept inside the workspace', True),
        (
            {'slowdown': 2.0, 'speed': 0.5, 'clipped': True},
            f'playing 2{SLOW} at 50% of full speed, motion kept inside the workspace',
            True,
        ),
    ],
)
def test_while_it_plays_it_says_how(changes, message, warn):
    made = seen(**changes)
    assert (made.message, made.kind, made.warn) == (message, message, warn)


def test_while_it_plays_that_no_chunk_came_is_no_reason():
    assert seen(reasons=(LAG, ENDED, NO_CHUNK)).reasons == (LAG,)
    assert seen(reasons=(LAG, NO_CHUNK), path=None).reasons == (LAG, NO_CHUNK)
    assert seen(reasons=(LAG, NO_CHUNK), braking=True).reasons == (LAG, NO_CHUNK)


def test_a_dry_run_says_that_nothing_is_sent():
    made = seen(Mode.DRY_RUN, clipped=True)
    assert (made.message, made.kind, made.warn) == (DRY_RUN, 'dry run', False)
    assert DRY_RUN == 'dry run: nothing is sent. Call ~/enable with true to move the arm.'


@pytest.mark.parametrize(
    ('mode', 'words'),
    [
        (Mode.ENABLED, 'holding'),
        (Mode.HELD, 'holding'),
        (Mode.STOPPED, 'holding'),
        (Mode.DRY_RUN, 'dry run: would hold'),
    ],
)
def test_while_it_holds_it_says_the_first_reason(mode, words):
    made = seen(mode, (LAG, NO_CHUNK), path=None)
    assert (made.message, made.kind) == (f'{words}: the tip is far. Look.', f'{words}: tip_lag')
    assert made.warn
    assert not seen(mode, (NO_CHUNK,), path=None).warn


def test_without_a_reason_the_chunk_has_ended():
    made = seen(path=None)
    assert made.message == f'holding: {ENDED}'
    assert (made.kind, made.warn, made.reasons) == ('holding: chunk_ended', True, ())


def test_on_the_way_to_the_start_it_says_so():
    made = seen(reasons=(NO_CHUNK,), to_start=True)
    assert made.message == 'moving: going to the start pose. Wait, or call ~/hold.'
    assert (made.kind, made.warn) == ('moving: going_to_start', False)
    assert made.reasons == (TO_START,)
    braking = seen(reasons=(LAG,), to_start=True, braking=True)
    assert braking.kind == 'holding: tip_lag'
