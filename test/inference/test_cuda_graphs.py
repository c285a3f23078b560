"""Passes of fixed shape, over all slots and with padding, give what passes of any shape give.

Capturing needs a GPU; here a pass is run anew where it would be replayed, all else is the same.
"""

import contextlib

import numpy as np
import pytest
from tiny import VOCAB, images_of, make_model, make_prompt, world_prompt
import torch

from worldvla_ros.inference import cuda_graphs as graphs
from worldvla_ros.inference.cuda_graphs import PassGraphs
from worldvla_ros.inference.engine import Engine


class Uncaptured:
    """Stands for a captured pass: runs it with ids and positions of the shape it was made for."""

    def __init__(self, run, ids, positions, pool):
        self._shapes, self._run = (ids.shape, positions.shape), run

    def replay(self, ids, positions):
        assert (ids.shape, positions.shape) == self._shapes
        return self._run(ids, positions)


@pytest.fixture
def made():
    """Shapes for which a pass was captured."""
    return []


@pytest.fixture
def engines(monkeypatch, made):
    """Return an engine, and one that captures."""

    class Counted(Uncaptured):
        def __init__(self, run, ids, *rest):
            made.append(tuple(ids.shape))
            super().__init__(run, ids, *rest)

    monkeypatch.setattr(graphs, 'Captured', Counted)
    monkeypatch.setattr(torch.cuda, 'graph_pool_handle', lambda: None)
    monkeypatch.setattr(torch.cuda, 'device', lambda _: contextlib.nullcontext())

    def make(seed):
        graphed = Engine(make_model(seed), VOCAB)
        graphed.fast._graphs = PassGraphs(graphed.fast.device)
        graphed.images.window = 1024
        return Engine(make_model(seed), VOCAB), graphed

    return make


@pytest.mark.parametrize('seed', range(4))
def test_chunks_are_the_same(engines, seed):
    plain, graphed = engines(seed)
    for prompt in (make_prompt(seed), make_prompt(seed + 10), make_prompt(seed)):
        for horizon in (1, 5, 6):
            expected = plain.chunks.act(prompt, horizon, 6)
            found = graphed.chunks.act(prompt, horizon, 6)
            np.testing.assert_array_equal(found.bins, expected.bins)
            np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-4)


@pytest.mark.parametrize('seed', range(3))
def test_images_and_surprise_are_the_same(engines, seed):
    plain, graphed = engines(seed)
    prompts = [world_prompt(s, 4, 4, images=2) for s in (seed, seed + 5)]
    expected = images_of(plain.images.rollout([prompts], 4, 4, images=2))
    np.testing.assert_array_equal(
        images_of(graphed.images.rollout([prompts], 4, 4, images=2)), expected
    )
    codes = [image[0] for image in expected]
    np.testing.assert_allclose(
        graphed.images.surprise(prompts[0], codes),
        plain.images.surprise(prompts[0], codes),
        atol=1e-4,
    )


def test_the_same_shapes_are_captured_once(engines, made):
    _, graphed = engines(0)
    prompt = make_prompt(0)
    for _ in range(3):
        graphed.chunks.act(prompt, 5, 6)
    assert len(made) == len(set(made)) <= 3  # the prompt, what is left of it, a step


def test_guessing_ahead_captures_few_shapes(engines, made):
    _, graphed = engines(1)
    for seed in range(6):
        images_of(graphed.images.imagine(world_prompt(seed, 8, 8), 8, 8))
    assert {tokens for _, tokens in made} <= {1, 2, 4, 8, 16, 32, 64, 128, 192, 256}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('seed', range(3))
def test_an_engine_on_a_gpu_decodes_what_one_on_a_cpu_does(seed):
    plain, graphed = Engine(make_model(seed), VOCAB), Engine(make_model(seed).cuda(), VOCAB)
    prompt, world = make_prompt(seed), world_prompt(seed, 4, 4)
    for _ in range(2):  # captured, then replayed
        np.testing.assert_array_equal(
            graphed.chunks.act(prompt, 5, 6).bins, plain.chunks.act(prompt, 5, 6).bins
        )
        np.testing.assert_array_equal(
            images_of(graphed.images.imagine(world, 4, 4)),
            images_of(plain.images.imagine(world, 4, 4)),
        )
    codes = images_of(plain.images.imagine(world, 4, 4))
    np.testing.assert_allclose(
        graphed.images.surprise(world, codes), plain.images.surprise(world, codes), atol=1e-3
    )
