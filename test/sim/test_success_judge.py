"""What counts as success in the simulation: cubes are put somewhere, and the judge is asked."""

import mujoco
import numpy as np
import pytest

from worldvla_ros.sim.scene import CUBE_HALF, FINGERS
from worldvla_ros.sim.tabletop import TabletopEnv

HOLD = np.array([0, 0, 0, 0, 0, 0, -1.0], np.float32)
ROOM = 0.002
"""How far from a limit it is tried [m]."""
OPEN, SHUT = 0.04, 0.019
"""Travel of each finger: open, and too little for a cube to be released [m]."""


@pytest.fixture
def env():
    """An environment without images."""
    env = TabletopEnv(cameras=(), image_size=0)
    yield env
    env.close()


def start(env, task, sentence):
    """Reset, and say what to do to the cubes of this scene: {a} and {b}."""
    env.reset(seed=8000, options={'task': task})
    a, b = env.colours[:2]
    env.set_goal(sentence.format(a=a, b=b))
    return env.cube_positions()


def judged(env, first, second=None, fingers=OPEN):
    """Whether the goal holds with the first two cubes at these places."""
    for number, place in enumerate((first, second)):
        if place is not None:
            env.data.joint(f'cube{number}').qpos[:3] = place
    for name in FINGERS:
        env.data.joint(name).qpos[0] = fingers
    mujoco.mj_forward(env.model, env.data)
    return env._goal_holds()


def test_a_cube_is_picked_when_it_is_lifted_by_6_cm(env):
    cube = start(env, 'pick', 'pick up the {a} cube')[0]
    assert not judged(env, cube)
    assert not judged(env, cube + [0, 0, 0.06 - ROOM])
    assert judged(env, cube + [0, 0, 0.06 + ROOM])
    assert not judged(env, cube + [0.1, 0.1, 0])


def test_another_cube_is_no_success(env):
    cubes = start(env, 'pick', 'pick up the {a} cube')
    assert not judged(env, cubes[0], cubes[1] + [0, 0, 0.1])


@pytest.mark.parametrize(('direction', 'side'), [('right', 1), ('left', -1)])
def test_a_cube_is_pushed_when_it_is_6_cm_to_the_named_side(env, direction, side):
    cube = start(env, 'push', f'push the {{a}} cube to the {direction}')[0]
    assert not judged(env, cube + [0, side * (0.06 - ROOM), 0])
    assert judged(env, cube + [0, side * (0.06 + ROOM), 0])
    assert not judged(env, cube - [0, side * 0.1, 0])
    assert not judged(env, cube + [0.1, 0, 0.1])


def test_a_cube_is_put_when_it_lies_on_the_other_and_is_released(env):
    below = start(env, 'put', 'put the {a} cube on the {b} cube')[1]
    on = below + [0, 0, 2 * CUBE_HALF]
    assert judged(env, on, below)
    assert not judged(env, on, below, fingers=SHUT)
    for height in (0.008 + ROOM, -0.008 - ROOM):
        assert not judged(env, on + [0, 0, height], below)
    for height in (0.008 - ROOM, -0.008 + ROOM):
        assert judged(env, on + [0, 0, height], below)
    assert judged(env, on + [CUBE_HALF - ROOM, 0, 0], below)
    assert not judged(env, on + [CUBE_HALF + ROOM, 0, 0], below)
    assert not judged(env, on + [0, CUBE_HALF + ROOM, 0], below)
    assert not judged(env, below + [0.2, 0, 0], below)


@pytest.mark.parametrize(
    ('task', 'sentence', 'steps'),
    [
        ('pick', 'pick up the {a} cube', 5),
        ('push', 'push the {a} cube to the left', 1),
        ('put', 'put the {a} cube on the {b} cube', 5),
    ],
)
def test_success_is_a_goal_that_holds_for_some_steps_in_a_row(
    env, monkeypatch, task, sentence, steps
):
    start(env, task, sentence)
    holds = [True] * (steps - 1) + [False] + [True] * steps
    answers = iter(holds)
    monkeypatch.setattr(env, '_goal_holds', lambda: next(answers))
    successes = [env.step(HOLD)[-1]['success'] for _ in holds]
    assert successes == [False] * (2 * steps - 1) + [True]


def test_the_cube_that_moved_most_is_named_from_2_cm_on(env):
    cubes = start(env, 'pick', 'pick up the {a} cube')
    judged(env, cubes[0] + [0.02 - ROOM, 0, 0])
    assert env.info()['moved'] == ''
    judged(env, cubes[0] + [0.02 + ROOM, 0, 0], cubes[1] + [0, 0.05, 0])
    assert env.info()['moved'] == env.colours[1]
