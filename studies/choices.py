"""Times what was chosen for a CPU: codes per pass, threads, type of the weights, compiling.

    python studies/choices.py [--rounds N]

With the demo checkpoint: images along two validation episodes with different windows, and passes
of the lengths that acting and imagining have. Every setting has its turn in each round, so that
what else the machine does falls on all alike.
"""

import argparse
import time

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.observation import Observation
from worldvla_ros.sim.collect import expert_episode
from worldvla_ros.world_model import WorldModel

WINDOWS = (1, 4, 8, 16, 32, 64)
EPISODES = (('pick', 8500), ('push', 8501))
LOOK_AHEAD = 10
"""Actions imagined from each start, two images."""
PASSES = {'prompt of 110': (110, 0), '10 numbers': (10, 200), '16 codes': (16, 120), '1': (1, 150)}
"""New tokens and tokens seen."""
SETTINGS = [
    (threads, dtype, compiled)
    for dtype in (torch.float32, torch.bfloat16)
    for threads in (1, 2)
    for compiled in (False, True)
]


def seconds(call):
    """Return how long a call takes [s]."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_windows(rounds):
    """Return passes and milliseconds per image for each window."""
    torch.set_num_threads(1)
    world = WorldModel(load(demo_path()))
    engine = world.checkpoint.engine
    starts = [
        (Observation({'front': episode.images['front'][s]}), episode.executed[s : s + LOOK_AHEAD])
        for episode in (expert_episode(*e, world.checkpoint.spec.cameras) for e in EPISODES)
        for s in range(0, episode.length - LOOK_AHEAD, LOOK_AHEAD)
    ]
    images = len(starts) * LOOK_AHEAD // world.checkpoint.spec.world.actions_per_image
    found = {window: [] for window in WINDOWS}
    for _ in tqdm(range(rounds), desc='windows'):
        for window, rows in found.items():
            engine.images.window = window
            before = engine.fast.passes
            took = seconds(lambda: [world.imagine(*start) for start in starts])
            rows.append(((engine.fast.passes - before) / images, 1000 * took / images))
    return {window: np.median(rows, 0) for window, rows in found.items()}


def make_pass(fast, cache, new, seen):
    """Return a call that runs one pass."""
    ids, positions = torch.zeros(1, new, dtype=torch.long), torch.arange(seen, seen + new)[None]
    return lambda: fast.forward(ids, positions, cache, seen + new)


def time_passes(rounds):
    """Return for each setting the median time of each pass [ms]."""
    ready = {}
    for setting in SETTINGS:
        _, dtype, compiled = setting
        fast = FastTransformer(load(demo_path(), dtype=dtype).model)
        if compiled:
            fast._layers = [torch.compile(layer, dynamic=False) for layer in fast._layers]
        cache = fast.new_cache(256)
        ready[setting] = [make_pass(fast, cache, *size) for size in PASSES.values()]
    found = {setting: [] for setting in ready}
    with torch.inference_mode():
        for _ in tqdm(range(rounds + 1), desc='passes'):  # the first round warms up
            for setting, calls in ready.items():
                torch.set_num_threads(setting[0])
                found[setting].append([1000 * min(seconds(c) for _ in range(5)) for c in calls])
    return {setting: np.median(rows[1:], 0) for setting, rows in found.items()}


def main():
    """Print both tables."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--rounds', type=int, default=7)
    rounds = arguments.parse_args().rounds
    print('window   passes per image   ms per image')
    for window, (passes, took) in time_windows(rounds).items():
        print(f'{window:6d}{passes:19.1f}{took:15.0f}')
    print(f'{"one pass [ms]":34}' + ''.join(f'{name:>15}' for name in PASSES))
    for (threads, dtype, compiled), row in time_passes(rounds).items():
        name = f'{threads} thread(s), {str(dtype).removeprefix("torch.")}'
        name += ', compiled' if compiled else ''
        print(f'{name:34}' + ''.join(f'{took:15.2f}' for took in row))


if __name__ == '__main__':
    main()
