"""Images are what they are code by code, however they are guessed; surprise is step by step's."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from tiny import IMAGE, VOCAB, images_of, make_model, make_prompt, next_scores, world_prompt
import torch

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.errors import CheckpointError
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.images import Sampling
from worldvla_ros.observation import Observation
from worldvla_ros.sim.collect import expert_episode
from worldvla_ros.tokenizers.sequence import Sequence
from worldvla_ros.world_model import WorldModel

CODES = VOCAB.codes


def imagine_without_cache(model, prompt, rows, columns, images):
    ids, found = prompt.ids.tolist(), []
    for _ in range(images):
        codes = np.zeros((rows, columns), int)
        for row, column in np.ndindex(rows, columns):
            # what precedes a code in its block does not depend on the codes that follow
            before = IMAGE.encode(codes)[: 3 + row * (columns + 1) + column].tolist()
            scores = next_scores(model, ids + before, [0] * (len(ids) + len(before)), CODES)
            codes[row, column] = int(scores.argmax())
        ids += IMAGE.encode(codes).tolist()
        found.append(codes)
    return found


@pytest.mark.parametrize(('rows', 'columns', 'images'), [(2, 2, 1), (2, 4, 2), (4, 2, 1)])
@pytest.mark.parametrize('speculative', [True, False])
@pytest.mark.parametrize('seed', [0, 1])
def test_imagined_codes_equal_full_passes_without_cache(seed, speculative, rows, columns, images):
    model, prompt = make_model(seed), world_prompt(seed, rows, columns, images)
    steps = Engine(model, VOCAB).images.imagine(
        prompt, rows, columns, images, speculative=speculative
    )
    found = images_of(steps)
    np.testing.assert_array_equal(
        found, imagine_without_cache(model, prompt, rows, columns, images)
    )
    assert len(np.unique(found)) > 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([(2, 2, 1), (4, 4, 2)]))
def test_any_window_gives_the_images_decoded_code_by_code(seed, window, shape):
    rows, columns, images = shape
    engine, prompt = Engine(make_model(seed), VOCAB), world_prompt(seed, rows, columns, images)
    slow = images_of(engine.images.imagine(prompt, rows, columns, images, speculative=False))
    engine.images.window = window
    np.testing.assert_array_equal(
        images_of(engine.images.imagine(prompt, rows, columns, images)), slow
    )


def test_prompts_without_images_have_nothing_to_guess_by_and_are_decoded_all_the_same():
    engine, prompt = Engine(make_model(3), VOCAB), make_prompt(3, shared=True)
    slow = images_of(engine.images.imagine(prompt, 4, 4, speculative=False))
    np.testing.assert_array_equal(images_of(engine.images.imagine(prompt, 4, 4)), slow)


def test_code_by_code_takes_a_pass_for_each_code():
    engine = Engine(make_model(0), VOCAB)
    steps = list(
        engine.images.imagine(world_prompt(0, 2, 4, 3), 2, 4, images=3, speculative=False)
    )
    assert [step is not None for step in steps] == ([False] * 7 + [True]) * 3
    assert engine.fast.passes == 24


def test_right_guesses_are_kept_in_one_pass(monkeypatch):
    engine, prompt = Engine(make_model(0), VOCAB), world_prompt(0, 4, 4)
    present = IMAGE.decode(prompt.ids[4:-1])
    block = IMAGE.encode(present)
    after = torch.zeros(len(prompt.ids) + len(block), dtype=torch.long)
    after[len(prompt.ids) - 1 : -1] = torch.from_numpy(block)

    def forward(ids, positions, cache, end):
        hidden = torch.zeros(*ids.shape, 32)
        hidden[..., 0] = positions.float()
        return hidden

    def logits(hidden, span):
        wanted = after[hidden[..., 0].long()]
        return torch.nn.functional.one_hot(wanted, VOCAB.size).float()[..., span]

    monkeypatch.setattr(engine.fast, '_run', forward)
    monkeypatch.setattr(engine.fast, 'logits', logits)
    engine.images.window = 100
    np.testing.assert_array_equal(images_of(engine.images.imagine(prompt, 4, 4)), [present])
    assert engine.fast.passes == 1


def test_sequences_side_by_side_are_those_decoded_alone():
    engine = Engine(make_model(5), VOCAB)
    prompts = [world_prompt(seed, 4, 4) for seed in range(3)]
    for prompt in prompts[1:]:  # all begin alike
        prompt.ids[:9] = prompts[0].ids[:9]
    for speculative in (True, False):
        together = images_of(engine.images.rollout([prompts], 4, 4, speculative=speculative))[0]
        alone = [
            images_of(engine.images.imagine(p, 4, 4, speculative=speculative))[0] for p in prompts
        ]
        np.testing.assert_array_equal(together, alone)


def test_rollouts_feed_what_was_imagined_back():
    engine, first = Engine(make_model(6), VOCAB), world_prompt(6, 4, 4, images=2)
    template = first.undecided(CODES)
    rolled = images_of(engine.images.rollout([[first], [template], [template]], 4, 4, images=2))
    expected, prompt = [], first
    for _ in range(3):
        expected += images_of(engine.images.imagine(prompt, 4, 4, images=2))
        blocks = np.concatenate([IMAGE.encode(c) for c in expected[-2:]])
        ids = np.concatenate([first.ids[:4], blocks, [VOCAB.sep]])
        prompt = Sequence(ids, np.zeros(len(ids), np.int64), len(ids))
    np.testing.assert_array_equal(np.stack(rolled)[:, 0], expected)


def test_later_prompts_leave_as_many_places_open_as_images_have_codes():
    engine, first = Engine(make_model(6), VOCAB), world_prompt(6, 4, 4)
    short = first.undecided(slice(first.ids[9], first.ids[9] + 1))
    with pytest.raises(ValueError, match='expected 16 open places in a prompt'):
        images_of(engine.images.rollout([[first], [short]], 4, 4))
    with pytest.raises(ValueError, match='expected 0 open places in a prompt, got 16'):
        images_of(engine.images.rollout([[first.undecided(CODES)]], 4, 4))


def test_a_generator_that_is_left_alone_does_no_harm():
    engine, prompt = Engine(make_model(8), VOCAB), world_prompt(8, 4, 4)
    expected = images_of(engine.images.imagine(prompt, 4, 4))
    left = engine.images.imagine(prompt, 4, 4, speculative=False)
    next(left)
    other = engine.images.imagine(prompt, 4, 4, speculative=False)  # both at once
    for _ in range(5):
        next(left)
        next(other)
    left.close()
    np.testing.assert_array_equal(images_of(other), expected)
    np.testing.assert_array_equal(images_of(engine.images.imagine(prompt, 4, 4)), expected)


def sampled(seed, speculative, temperature=1.0, top_k=24):
    sampling = Sampling(temperature, top_k, torch.Generator().manual_seed(seed))
    engine, prompt = Engine(make_model(0), VOCAB), world_prompt(0, 4, 4)
    return images_of(
        engine.images.imagine(prompt, 4, 4, speculative=speculative, sampling=sampling)
    )[0]


@pytest.mark.parametrize('seed', range(5))
def test_guessing_does_not_change_what_is_drawn(seed):
    np.testing.assert_array_equal(sampled(seed, True), sampled(seed, False))


def test_sampling_is_reproducible_with_a_seeded_generator():
    np.testing.assert_array_equal(sampled(5, True), sampled(5, True))
    assert not np.array_equal(sampled(5, True), sampled(6, True))


@pytest.mark.parametrize('setting', [{'top_k': 1}, {'temperature': 1e-4}])
def test_top_1_and_low_temperatures_are_greedy(setting):
    greedy = images_of(Engine(make_model(0), VOCAB).images.imagine(world_prompt(0, 4, 4), 4, 4))[0]
    np.testing.assert_array_equal(sampled(0, True, **setting), greedy)


def draws(scores, count, temperature, top_k, seed=0):
    sampling = Sampling(temperature, top_k, torch.Generator().manual_seed(seed))
    scores = scores.expand(count, -1)
    return sampling.choose(scores, sampling.noise(scores.shape, scores.device))


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_draws_have_the_distribution_of_the_scores(temperature):
    scores, count = torch.tensor([0.3, -1.0, 1.2, 0.0, -2.0]), 20000
    share = draws(scores, count, temperature, 5).bincount(minlength=5) / count
    expected = (scores / temperature).softmax(-1)
    error = (expected * (1 - expected) / count).sqrt()
    assert ((share - expected).abs() < 4 * error).all()


def test_draws_keep_to_the_top_k():
    scores = torch.tensor([0.0, 3.0, -1.0, 2.9, 2.8, -5.0])
    assert set(draws(scores, 200, 10.0, 3).tolist()) == {1, 3, 4}
    assert set(draws(torch.zeros(3), 100, 10.0, 99).tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ('temperature', 'top_k'), [(0.0, 5), (-1.0, 5), (1.0, 0), (1.0, -3), (-float('inf'), 1)]
)
def test_impossible_settings_of_sampling_are_refused(temperature, top_k):
    with pytest.raises(ValueError, match='temperature > 0 and top_k >= 1'):
        Sampling(temperature, top_k, torch.Generator())


def surprise_step_by_step(model, prompt, images):
    """Return the surprise of each code by a whole pass of its own."""
    ids, maps = prompt.ids.tolist(), []
    for codes in images:
        block, found = IMAGE.encode(codes).tolist(), np.zeros(codes.shape, np.float32)
        for row, column in np.ndindex(codes.shape):
            before = ids + block[: 3 + row * (codes.shape[1] + 1) + column]
            scores = next_scores(model, before, [0] * len(before), CODES).log_softmax(-1)
            found[row, column] = -scores[codes[row, column]]
        ids, maps = ids + block, [*maps, found]
    return maps


@pytest.mark.parametrize('images', [1, 2])
@pytest.mark.parametrize('seed', range(3))
def test_surprise_in_one_pass_is_that_of_every_step(seed, images):
    model, prompt = make_model(seed), world_prompt(seed, 4, 2, images)
    codes = list(np.random.default_rng(seed + 9).integers(0, 24, (images, 4, 2)))
    engine = Engine(model, VOCAB)
    for _ in range(2):  # from an empty cache, and from one that knows the prompt
        before = engine.fast.passes
        found = engine.images.surprise(prompt, codes)
        assert engine.fast.passes == before + 1
        np.testing.assert_allclose(
            found, surprise_step_by_step(model, prompt, codes), rtol=1e-4, atol=1e-5
        )


def test_surprise_after_imagining_is_that_of_a_fresh_engine():
    model, prompt = make_model(4), world_prompt(4, 4, 4)
    engine, codes = Engine(model, VOCAB), [np.random.default_rng(1).integers(0, 24, (4, 4))]
    images_of(engine.images.imagine(prompt, 4, 4))
    np.testing.assert_allclose(
        engine.images.surprise(prompt, codes),
        Engine(model, VOCAB).images.surprise(prompt, codes),
        rtol=1e-4,
    )


def test_images_too_large_for_the_model_are_refused_with_the_limit():
    engine = Engine(make_model(0), VOCAB)
    with pytest.raises(
        CheckpointError, match=r'at most 4096 tokens, got \d+ \(prompt of'
    ) as caught:
        list(engine.images.imagine(world_prompt(0, 2, 2), 64, 64))
    assert 'smaller images' in caught.value.remedy


def test_damaged_weights_are_noticed():
    model = make_model(0)
    model.lm_head.weight[VOCAB.code_base + 2] = float('nan')
    with pytest.raises(CheckpointError, match='lm_head.weight holds a weight that is not finite'):
        Engine(model, VOCAB)


def test_scores_that_are_not_finite_are_noticed():
    model, prompt = make_model(0), world_prompt(0, 2, 2)
    engine = Engine(model, VOCAB)
    model.lm_head.weight[VOCAB.code_base + 2] = float('nan')
    with pytest.raises(CheckpointError, match='not finite'):
        list(engine.images.imagine(prompt, 2, 2))
    with pytest.raises(CheckpointError, match='not finite'):
        engine.images.surprise(prompt, [np.zeros((2, 2), int)])


def test_along_a_held_out_episode_guessing_takes_less_than_half_the_passes():
    checkpoint = load(demo_path())
    worlds = [WorldModel(checkpoint, speculative=guess) for guess in (True, False)]
    episode, passes = expert_episode('push', 8507, worlds[0].checkpoint.spec.cameras), []
    starts = range(0, episode.length - 10, 10)
    images = []
    for world in worlds:
        before = checkpoint.engine.fast.passes
        images.append(
            [
                world.imagine(Observation({'front': episode.images['front'][s]}), actions)
                for s in starts
                for actions in [episode.executed[s : s + 10]]
            ]
        )
        passes.append(checkpoint.engine.fast.passes - before)
    np.testing.assert_array_equal(*images)
    assert passes[1] == 64 * 2 * len(starts)
    assert 2 * passes[0] < passes[1]
