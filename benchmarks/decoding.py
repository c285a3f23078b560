"""Times the demo checkpoint here: parallel against sequential decoding, and images.

    python benchmarks/decoding.py [--threads N] [--repeats N]

Both ways of decoding run in one process on the same prompt. The limit beside each figure is the
time that reading the weights once per forward pass takes at the copy bandwidth measured here.
"""

import argparse
import time

import numpy as np
import torch

from worldvla_ros.checkpoint import demo_path, load
from worldvla_ros.engine import Engine
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.world_model import WorldModel


def median_ms(call, repeats):
    """Return the median time of a call [ms], after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def copy_bandwidth():
    """Return how fast memory is read and written [GB/s]."""
    source = torch.ones(1 << 26)
    target = torch.empty_like(source)
    return 2 * 4 * len(source) / (median_ms(lambda: target.copy_(source), 5) * 1e-3) / 1e9


def main():
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--threads', type=int, default=1)
    arguments.add_argument('--repeats', type=int, default=15)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = load(demo_path())
    spec = checkpoint.spec
    policy, world = Policy(checkpoint), WorldModel(checkpoint)
    engine = Engine(checkpoint.model, spec.vocabulary)
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    state = np.zeros(len(spec.state.names), np.float32)
    observation = Observation(dict.fromkeys(spec.cameras, image), 'pick up the red cube', state)
    prompt = policy.prompt(observation)
    horizon, dim = spec.action.horizon, len(spec.action.names)
    actions = np.zeros((spec.world.actions_per_image, dim))
    parallel = engine.act(prompt, horizon, dim)
    sequential = engine.act_sequentially(prompt, horizon, dim)
    assert (parallel.bins == sequential.bins).all(), 'the two ways of decoding disagree'
    rows = {
        'act, image to chunk': (lambda: policy.act(observation), parallel.passes),
        'chunk, parallel': (lambda: engine.act(prompt, horizon, dim), parallel.passes),
        'chunk, sequential': (
            lambda: engine.act_sequentially(prompt, horizon, dim),
            sequential.passes,
        ),
        'imagine one image': (lambda: world.imagine(observation, actions), 64),
    }
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    bandwidth = copy_bandwidth()
    print(f'{chosen.threads} thread(s), weights {weights / 1e6:.1f} MB, copy {bandwidth:.1f} GB/s')
    print(f'{"":22}{"median":>10}{"passes":>8}{"limit":>10}{"ratio":>8}')
    found = {}
    for name, (call, passes) in rows.items():
        found[name] = median_ms(call, chosen.repeats)
        limit = passes * weights / (bandwidth / 2) / 1e6
        print(
            f'{name:22}{found[name]:7.1f} ms{passes:8d}{limit:7.1f} ms{found[name] / limit:7.1f}×'
        )
    ratio = found['chunk, sequential'] / found['chunk, parallel']
    print(f'parallel decoding is {ratio:.1f} × faster than sequential, same actions')


if __name__ == '__main__':
    main()
