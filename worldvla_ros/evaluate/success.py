"""Closed-loop trials in the simulation.

    observe ─ act ─ execute the first few actions ─ … until success or time is up

Knows simulation and policy. Must not know ROS.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from worldvla_ros.errors import ConfigError
from worldvla_ros.metrics import wilson_interval
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.sim.seeds import check_seeds
from worldvla_ros.sim.tabletop import TabletopEnv
from worldvla_ros.sim.tasks import HELDOUT_PARAPHRASES, Goal

ACTIONS_EXECUTED = 4
"""Actions of a chunk executed before the next one: a policy at 5 Hz beside 20 Hz control."""
WORDINGS = ('canonical', 'heldout')
CUBES = ('drawn', 'other')


@dataclass(frozen=True)
class Trial:
    """One closed-loop episode.

    Attributes:
        seed: Seed of the scene.
        instruction: The sentence.
        success: Whether the goal was reached.
        seconds: Time simulated [s].
        named: Colour of the cube to move.
        moved: Colour of the cube that moved most, empty if none did.
        chunk_ms: Median time of one chunk [ms].
    """

    seed: int
    instruction: str
    success: bool
    seconds: float
    named: str
    moved: str
    chunk_ms: float


def trials(
    policy: Policy,
    task: str,
    episodes: int,
    seed: int,
    *,
    instruction: str | None = None,
    wording: str = 'canonical',
    cube: str = 'drawn',
    progress: bool = True,
) -> Iterator[Trial]:
    """Run closed-loop episodes; the i-th has the scene of seed + i.

    Args:
        policy: What acts.
        task: 'pick', 'push' or 'put'.
        episodes: How many.
        seed: Seed of the first scene.
        instruction: Sentence of all episodes; by default each scene draws its goal.
        wording: 'canonical', or 'heldout' for wordings that no training sentence has.
        cube: 'drawn', or 'other' for another cube of the same scene than the drawn one.
        progress: Whether to show a progress bar.

    Raises:
        EpisodeError: A seed is negative, or there is no episode.
        ConfigError: Task, wording or cube is unknown, or chosen beside an instruction.
        InstructionError: The instruction names no goal of the task.
    """
    check_seeds(seed, episodes)
    for name, value, known in (('wording', wording, WORDINGS), ('cube', cube, CUBES)):
        if value not in known:
            raise ConfigError(name, expected=' or '.join(known), got=repr(value))
    if instruction and (wording, cube) != ('canonical', 'drawn'):
        raise ConfigError(
            'instruction',
            expected='none where wording or cube is chosen, since these make the sentence',
            got=repr(instruction),
        )
    env = TabletopEnv(task=task, cameras=policy.checkpoint.spec.cameras)
    try:
        for each in tqdm(range(seed, seed + episodes), desc=f'eval {task}', disable=not progress):
            env.reset(seed=each, options={'instruction': instruction} if instruction else {})
            if cube == 'other':
                env.set_goal(_other(env).sentence)
            sentence = instruction or _sentence(env.goal, each, wording)
            yield run_trial(env, policy, each, sentence)
    finally:
        env.close()


def run_trial(env: TabletopEnv, policy: Policy, seed: int, sentence: str) -> Trial:
    """Act until success or the end of time in an environment that has been reset."""
    observed, info, truncated = env.observe(), env.info(), False
    times = []
    while not (info['success'] or truncated):
        start = time.monotonic()
        images = {name: observed[name] for name in env.cameras}
        chunk = policy.act(Observation(images, sentence, observed['state']))
        times.append(time.monotonic() - start)
        for action in chunk.actions[:ACTIONS_EXECUTED]:
            observed, _, success, truncated, info = env.step(action)
            if success or truncated:
                break
    return Trial(
        seed=seed,
        instruction=sentence,
        success=bool(info['success']),
        seconds=round(info['seconds'], 3),
        named=env.goal.colour,
        moved=info['moved'],
        chunk_ms=round(1000 * float(np.median(times)), 2),
    )


def summary(made: list[Trial]) -> dict[str, object]:
    """Return the figures of trials as plain values for JSON."""
    successes = [t for t in made if t.success]
    return {
        'episodes': len(made),
        'successes': len(successes),
        'success_rate': len(successes) / len(made),
        'wilson_95': wilson_interval(len(successes), len(made)),
        'seconds_to_success': float(np.median([t.seconds for t in successes]))
        if successes
        else None,
        'named_cube_moved_most': float(np.mean([t.moved == t.named for t in successes]))
        if successes
        else None,
        'chunk_ms': float(np.median([t.chunk_ms for t in made])),
    }


def report(made: list[Trial]) -> dict[str, Any]:
    """Return one record per trial and the summary, for JSON."""
    return {'episodes': [asdict(t) for t in made], 'summary': summary(made)}


def _sentence(goal: Goal, seed: int, wording: str) -> str:
    if wording == 'canonical':
        return goal.sentence
    templates = HELDOUT_PARAPHRASES[goal.kind]
    return goal.word(templates[seed % len(templates)])


def _other(env: TabletopEnv) -> Goal:
    """Return the drawn goal with the next cube of the scene instead of the drawn one."""
    goal = env.goal
    free = [c for c in env.colours if c not in (goal.colour, goal.target)]
    return Goal(goal.kind, free[0], goal.direction, goal.target)
