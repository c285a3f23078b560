"""Recording of expert episodes.

The executed action carries noise and the recorded label does not, so that recovery is seen (DART,
Laskey et al. 2017). Knows environment, expert and files. Must not know models.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldvla_ros.data.episodes import Episode, episode_file, save_episode
from worldvla_ros.sim.experts import expert_action
from worldvla_ros.sim.seeds import check_seeds
from worldvla_ros.sim.tabletop import TabletopEnv
from worldvla_ros.sim.tasks import Goal, paraphrase
from worldvla_ros.sim.wording import SOURCE

START_NOISE = 0.04
WIDE_START_SHARE = 0.6
WIDE_START = np.array([[0.34, -0.22, 0.05], [0.66, 0.22, 0.28]])
"""Some episodes start anywhere over the table [m]. If all began above its middle, a gripper that
is low would always be near its cube, and a model would take its own place for the cube's."""
STEPS_AFTER_SUCCESS = 6
CORRELATION = 0.7
NOISE = 0.14
BURST = 0.8
BURST_SHARE = 0.4
BURST_STEPS = 5
CLOSED_START_SHARE = 0.2
CLOSED_START_STEPS = 4


class ExecutionNoise:
    """Noise of one episode: correlated from step to step, sometimes with one strong burst."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw when the burst comes, if any, and whether the gripper starts by closing."""
        self._rng = rng
        self._drift = np.zeros(3)
        self._burst = rng.normal(size=3) * BURST if rng.random() < BURST_SHARE else np.zeros(3)
        self._burst_start = int(rng.integers(2, 20))
        self._closed = CLOSED_START_STEPS if rng.random() < CLOSED_START_SHARE else 0
        self._step = 0

    def apply(self, action: np.ndarray) -> np.ndarray:
        """Return what to execute instead of float32[7]."""
        fresh = self._rng.normal(size=3) * NOISE * np.sqrt(1 - CORRELATION**2)
        self._drift = CORRELATION * self._drift + fresh
        disturbed = action.copy()
        disturbed[:3] += self._drift
        if 0 <= self._step - self._burst_start < BURST_STEPS:
            disturbed[:3] += self._burst
        if self._step < self._closed:
            disturbed[6] = 1.0
        self._step += 1
        return np.clip(disturbed, -1, 1).astype(np.float32)


def start_options(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw where an episode begins, as options of `TabletopEnv.reset`."""
    return {'start': rng.uniform(*WIDE_START)} if rng.random() < WIDE_START_SHARE else {}


def record_episode(env: TabletopEnv, seed: int) -> Episode:
    """Let the expert act in the scene of a seed, with noise, and return what happened."""
    rng = np.random.default_rng((seed, 1))
    observed, info = env.reset(seed=seed, options=start_options(rng))
    instruction = paraphrase(Goal.from_text(env.task, info['instruction']), rng)
    noise = ExecutionNoise(rng)
    observations, labels, executed = [observed], [], []
    objects = _objects(env)
    places = [_places(env, objects)]
    left, truncated = STEPS_AFTER_SUCCESS, False
    while left and not truncated:
        labels.append(expert_action(env))
        executed.append(noise.apply(labels[-1]))
        observed, _, success, truncated, info = env.step(executed[-1])
        observations.append(observed)
        places.append(_places(env, objects))
        left -= success or left < STEPS_AFTER_SUCCESS
    return Episode(
        images={c: np.stack([o[c] for o in observations]) for c in env.cameras},
        state=np.stack([o['state'] for o in observations]),
        action=np.stack(labels),
        executed=np.stack(executed),
        task=env.task,
        instruction=instruction,
        seed=seed,
        success=not truncated,
        source=SOURCE,
        objects=objects,
        places=np.stack(places).astype(np.float32),
    )


def _objects(env: TabletopEnv) -> tuple[str, ...]:
    """Return the colours of the cubes, the one to move first."""
    named = env.goal.colour
    return (named, *(c for c in env.colours if c != named))


def _places(env: TabletopEnv, objects: tuple[str, ...]) -> np.ndarray:
    """Return float[objects, 5] of `data.places`; the image's part is NaN without a camera."""
    rows = []
    for name in objects:
        place = env.cube(name)
        seen = env.seen_at(env.cameras[0], place) if env.cameras else [np.nan, np.nan]
        rows.append(np.append(place, seen))
    return np.stack(rows)


def collect(
    task: str,
    episodes: int,
    seed: int,
    out: str | Path,
    *,
    cameras: tuple[str, ...] = ('front', 'wrist'),
    progress: bool = True,
) -> tuple[int, int]:
    """Record the episodes of seeds seed … seed + episodes - 1 that are not there yet.

    An episode in which the expert failed is stored, marked, and left out by the loader.

    Returns:
        How many were newly recorded, and how many of these succeeded.

    Raises:
        EpisodeError: A seed is negative, or there is no episode.
        ConfigError: The task is unknown.
    """
    check_seeds(seed, episodes)
    wanted = [s for s in range(seed, seed + episodes) if not episode_file(out, s).is_file()]
    env = TabletopEnv(task=task, cameras=cameras, start_noise=START_NOISE)
    try:
        done = 0
        for each in tqdm(wanted, desc=f'collect {task}', disable=not progress, mininterval=2):
            episode = record_episode(env, each)
            save_episode(episode, out)
            done += episode.success
        return len(wanted), done
    finally:
        env.close()


def expert_episode(task: str, seed: int, cameras: tuple[str, ...]) -> Episode:
    """Record the expert's episode of a seed as some cameras see it.

    Raises:
        EpisodeError: The seed is negative.
    """
    check_seeds(seed)
    env = TabletopEnv(task=task, cameras=cameras)
    try:
        return record_episode(env, seed)
    finally:
        env.close()
