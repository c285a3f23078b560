"""Times acting and imagining with the demo checkpoint in each precision that runs here.

    python studies/precision.py [--threads N] [--rounds N]

All precisions take turns in one process, so that whatever else the machine does meets them alike.
"""

import argparse
import functools
import time

import numpy as np
import torch

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.checkpoint.quantise import AUTO, WORDS, weight_bytes
from worldvla_ros.errors import ConfigError, MissingDependencyError
from worldvla_ros.evaluate.precision import made_observations
from worldvla_ros.policy import Policy
from worldvla_ros.world_model import WorldModel

CHUNKS_PER_ROUND = 4


def milliseconds(call):
    """Return how long a call takes [ms]."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def loaded():
    """Return the demo checkpoint in each precision; say which do not run here."""
    found = {}
    for word in WORDS:
        try:
            found[word] = load(demo_path(), dtype=word)
        except (ConfigError, MissingDependencyError) as error:
            print(error)
    del found[AUTO]
    return found


def main():
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--threads', type=int, default=1)
    arguments.add_argument('--rounds', type=int, default=10)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoints = loaded()
    spec = next(iter(checkpoints.values())).spec
    # as many as are asked, since what a prompt shares with the last one is not computed again
    observations = made_observations(spec, CHUNKS_PER_ROUND * (chosen.rounds + 1))
    actions = np.zeros((spec.world.actions_per_image, spec.action.dim))
    chunks, images = {word: [] for word in checkpoints}, {word: [] for word in checkpoints}
    for turn in range(chosen.rounds + 1):  # the first does not count
        for word, checkpoint in checkpoints.items():
            policy, world = Policy(checkpoint), WorldModel(checkpoint)
            seen = observations[turn * CHUNKS_PER_ROUND :][:CHUNKS_PER_ROUND]
            took = [milliseconds(functools.partial(policy.act, each)) for each in seen]
            image = milliseconds(functools.partial(world.imagine, seen[0], actions))
            if turn:
                chunks[word] += took
                images[word].append(image)
    print(f'{chosen.threads} thread(s)   weights      chunk  fastest      image  fastest')
    for word, checkpoint in checkpoints.items():
        times = [f(t[word]) for t in (chunks, images) for f in (np.median, min)]
        print(
            f'{word:12}{weight_bytes(checkpoint.model) / 1e6:7.1f} MB'
            + ''.join(f'{t:8.1f} ms' for t in times)
        )


if __name__ == '__main__':
    main()
