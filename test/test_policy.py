"""Acting and imagining with a tiny random checkpoint: from pixels to actions, and to images."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.checkpoint import demo_path, load
from worldvla_ros.errors import (
    CheckpointError,
    ConfigError,
    DecodingError,
    InstructionError,
    ObservationError,
)
from worldvla_ros.inference.engine import Engine
from worldvla_ros.observation import (
    MAX_INSTRUCTION_CHARACTERS,
    EncodedObservation,
    Observation,
    camera_images,
    grey_image,
)
from worldvla_ros.policy import Policy
from worldvla_ros.sim.collect import expert_episode
from worldvla_ros.world_model import WorldModel

STATE = np.array([0.5, 0.0, 0.2, 0.0, 0.1, 0.0, 0.04], np.float32)
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 7)).astype(np.float32)


@pytest.fixture
def policy(tiny_checkpoint):
    return Policy(tiny_checkpoint)


@pytest.fixture
def world_model(tiny_checkpoint):
    return WorldModel(tiny_checkpoint)


@pytest.fixture
def observation(picture):
    return Observation({'front': picture}, 'pick up the red cube', STATE, stamp_s=12.5)


# policy


def test_chunk_has_the_shape_of_the_specification(policy, observation, tiny_spec):
    chunk = policy.act(observation)
    assert chunk.actions.shape == chunk.log_probs.shape == (4, 7)
    assert (chunk.horizon, chunk.dim) == (4, 7)
    assert chunk.actions.dtype == chunk.log_probs.dtype == np.float32
    assert (chunk.names, chunk.units) == (tiny_spec.action.names, tiny_spec.action.units)
    np.testing.assert_allclose(chunk.scale, tiny_spec.action.scale)


def test_actions_are_finite_and_in_range(policy, observation):
    actions = policy.act(observation).actions
    assert np.isfinite(actions).all()
    assert -1 <= actions.min() < actions.max() <= 1


def test_log_probabilities_are_those_of_likely_bins(policy, observation):
    log_probs = policy.act(observation).log_probs
    assert (log_probs <= 0).all()
    # the most likely of 256 bins has at least their mean probability
    assert (log_probs >= np.log(1 / 256) - 1e-4).all()


def test_chunk_answers_its_observation(policy, observation, tiny_checkpoint):
    chunk = policy.act(observation)
    assert chunk.stamp_s == 12.5
    assert chunk.instruction == 'pick up the red cube'
    assert chunk.model_id == tiny_checkpoint.model_id
    assert chunk.dt == 0.05


def test_chunk_ids_count_up_for_each_policy(policy, observation, tiny_checkpoint):
    assert [policy.act(observation).chunk_id for _ in range(3)] == [1, 2, 3]
    assert Policy(tiny_checkpoint).act(observation).chunk_id == 1


def test_refused_observation_takes_no_chunk_id(policy, observation):
    with pytest.raises(ObservationError):
        policy.act(replace(observation, images={}))
    assert policy.act(observation).chunk_id == 1


def test_equal_observations_get_equal_actions(policy, observation, tiny_checkpoint):
    first, second = policy.act(observation), policy.act(observation)
    other = Policy(tiny_checkpoint).act(observation)
    np.testing.assert_array_equal(first.actions, second.actions)
    np.testing.assert_array_equal(first.log_probs, other.log_probs)


@pytest.mark.parametrize(
    'change',
    [
        {'instruction': 'open the gripper'},
        {'state': STATE + 0.03},
        {'images': {'front': np.zeros((48, 64, 3), np.uint8)}},
    ],
    ids=['instruction', 'state', 'image'],
)
def test_each_part_of_an_observation_matters(policy, observation, change):
    before = policy.act(observation).log_probs
    after = policy.act(replace(observation, **change)).log_probs
    assert np.abs(before - after).max() > 1e-3


def test_white_space_around_an_instruction_does_not_matter(policy, observation):
    spaced = replace(observation, instruction='  pick up the red cube\n')
    np.testing.assert_array_equal(policy.prompt(spaced).ids, policy.prompt(observation).ids)


def test_other_cameras_and_old_images_are_left_aside(policy, observation, picture):
    more = replace(
        observation,
        images={'back': picture[::-1], 'front': picture},
        history=({'front': picture[::-1]},),
    )
    np.testing.assert_array_equal(policy.prompt(more).ids, policy.prompt(observation).ids)


def test_prompt_holds_bos_state_image_and_sep(policy, observation, tiny_spec):
    vocab, prompt = tiny_spec.vocabulary, policy.prompt(observation)
    ids = prompt.ids.tolist()
    assert (ids[0], ids[-1]) == (vocab.bos, vocab.sep)
    assert ids.index(vocab.state_start) < ids.index(vocab.image_start)
    assert sum(vocab.codes.start <= i < vocab.codes.stop for i in ids) == 4 * 4
    assert prompt.prompt_length == len(ids)


@pytest.mark.parametrize('shape', [(32, 32), (1, 1), (480, 640), (33, 31), (100, 300), (300, 20)])
def test_images_of_any_size_are_accepted(policy, observation, shape):
    image = np.full((*shape, 3), 100, np.uint8)
    chunk = policy.act(replace(observation, images={'front': image}))
    assert np.isfinite(chunk.actions).all()


def test_image_is_not_written_to(policy, observation, picture):
    before = picture.copy()
    picture.setflags(write=False)
    policy.act(observation)
    np.testing.assert_array_equal(picture, before)


def test_codes_of_an_image_of_the_model_size_are_those_of_the_network(tiny_checkpoint, picture):
    codes = tiny_checkpoint.images.encode([picture[:32, :32], picture])
    assert codes[0].shape == (4, 4)
    assert 0 <= codes[0].min() < codes[0].max() < 32
    again = tiny_checkpoint.images.encode([picture[:32, :32]])
    np.testing.assert_array_equal(again[0], codes[0])


@pytest.mark.parametrize('images', [{}, {'wrist': np.zeros((8, 8, 3), np.uint8)}])
def test_missing_camera_is_named(policy, observation, images):
    with pytest.raises(ObservationError, match="camera 'front' is missing") as caught:
        policy.act(replace(observation, images=images))
    assert ', '.join(images) in caught.value.got
    assert caught.value.remedy


def test_images_follow_the_order_of_the_cameras(picture):
    found = camera_images({'a': picture, 'c': picture, 'b': picture[:8]}, ('b', 'a'))
    assert [len(image) for image in found] == [8, 48]


@pytest.mark.parametrize('state', [None, STATE[:6], np.append(STATE, 0), STATE[None]])
def test_missing_or_misshapen_state_is_refused(policy, observation, state):
    with pytest.raises(ObservationError, match='robot state: expected 7 values: x, y') as caught:
        policy.act(replace(observation, state=state))
    assert caught.value.remedy


def test_state_out_of_range_is_clipped(policy, observation, tiny_spec):
    far = policy.prompt(replace(observation, state=STATE + 1e6)).ids
    edge = policy.prompt(replace(observation, state=np.full(7, 1e3))).ids
    np.testing.assert_array_equal(far, edge)


@pytest.mark.parametrize('text', ['', '   ', '\n\t'])
def test_empty_instruction_is_refused(policy, observation, text):
    with pytest.raises(InstructionError, match='empty'):
        policy.act(replace(observation, instruction=text))


@pytest.mark.parametrize(
    'text',
    ['x' * MAX_INSTRUCTION_CHARACTERS, '{task}', 'hebe den Würfel 🟥', '\x00', '拿起红色方块'],
)
def test_any_short_instruction_is_understood(policy, observation, text):
    assert np.isfinite(policy.act(replace(observation, instruction=text)).actions).all()


# several at once, codes, warming up


SENTENCES = ('go', 'pick up the red cube', 'push the blue cube to the left of the green one')


@pytest.fixture
def observations(picture):
    """Observations whose prompts differ in length and content."""
    return [
        Observation({'front': np.roll(picture, 7 * i, 1)}, sentence, STATE - 0.01 * i, stamp_s=i)
        for i, sentence in enumerate((*SENTENCES, *SENTENCES[::-1]))
    ]


def in_decoding(decoding, tiny_checkpoint, head_checkpoint):
    """Return a policy; with random weights most answers to verified decoding are no chunk."""
    return Policy(head_checkpoint if decoding == 'continuous' else tiny_checkpoint, decoding)


@pytest.mark.parametrize('decoding', ['discrete', 'continuous'])
def test_observations_side_by_side_get_the_chunks_of_one_by_one(
    tiny_checkpoint, head_checkpoint, observations, decoding
):
    policy = in_decoding(decoding, tiny_checkpoint, head_checkpoint)
    assert len({len(policy.prompt(o).ids) for o in observations}) > 1
    alone = [policy.act(observation) for observation in observations]
    for _ in range(2):  # from an empty cache, and from one that holds the prompts
        together = policy.act_many(observations)
        for one, each in zip(alone, together, strict=True):
            np.testing.assert_allclose(each.actions, one.actions, atol=1e-5)
            np.testing.assert_allclose(each.log_probs, one.log_probs, atol=1e-4)
            assert (each.stamp_s, each.instruction) == (one.stamp_s, one.instruction)
    assert [c.chunk_id for c in together] == [13, 14, 15, 16, 17, 18]


def test_no_observation_gets_no_chunk(policy):
    assert policy.act_many([]) == []


def test_one_unusable_observation_is_named_and_none_is_answered(policy, observations):
    with pytest.raises(ObservationError, match='robot state'):
        policy.act_many([observations[0], replace(observations[1], state=None)])
    assert policy.act(observations[0]).chunk_id == 1


@pytest.mark.parametrize('decoding', ['discrete', 'verified'])
def test_the_demo_acts_on_several_observations_as_on_one_after_the_other(decoding):
    checkpoint = load(demo_path())
    action = replace(checkpoint.spec.action, bin_choice='greedy')  # only those can be proven
    checkpoint = replace(checkpoint, spec=replace(checkpoint.spec, action=action))
    policy, cameras = Policy(checkpoint, decoding), checkpoint.spec.cameras
    observations = []
    for task, seed in (('pick', 8501), ('push', 8502), ('put', 8503)):
        episode = expert_episode(task, seed, cameras)
        observations += [episode.observation(step) for step in (0, episode.length // 2)]
    together = policy.act_many(observations)
    for one, each in zip(map(policy.act, observations), together, strict=True):
        np.testing.assert_array_equal(each.actions, one.actions)
        assert each.free_from == one.free_from


def test_codes_in_place_of_images_give_the_same_chunk(policy, observation, tiny_checkpoint):
    codes = tiny_checkpoint.images.encode([observation.images['front']])[0]
    encoded = EncodedObservation({'front': codes}, observation.instruction, STATE, stamp_s=12.5)
    chunk, expected = policy.act(encoded), policy.act(observation)
    np.testing.assert_array_equal(chunk.actions, expected.actions)
    assert chunk.stamp_s == 12.5


def test_codes_of_the_past_come_before_those_of_the_present(tiny_checkpoint, picture):
    remembering = replace(tiny_checkpoint, spec=replace(tiny_checkpoint.spec, images_per_camera=2))
    policy, images = Policy(remembering), [picture, picture[::-1].copy()]
    old, new = remembering.images.encode(images)
    seen = Observation({'front': images[1]}, 'go', STATE, ({'front': images[0]},))
    encoded = EncodedObservation({'front': new}, 'go', STATE, ({'front': old},))
    np.testing.assert_array_equal(policy.prompt(encoded).ids, policy.prompt(seen).ids)


def test_the_world_model_imagines_the_same_from_codes(tiny_checkpoint, observation):
    world, actions = WorldModel(tiny_checkpoint), np.full((4, 7), 0.3)
    codes = tiny_checkpoint.images.encode([observation.images['front']])[0]
    encoded = EncodedObservation({'front': codes})
    expected = world.imagine(observation, actions)
    np.testing.assert_array_equal(world.imagine(encoded, actions), expected)
    steps = world.imagine_codes_stepwise(encoded, actions)
    imagined = [codes for codes in steps if codes is not None]
    np.testing.assert_array_equal(world.decode(np.stack(imagined)), expected)
    with pytest.raises(ObservationError, match='do not fit the checkpoint'):
        world.imagine(EncodedObservation({'front': codes + 32}), actions)


@pytest.mark.parametrize(
    'codes', [np.full((4, 4), 32), np.full((4, 4), -1), np.zeros((4, 6), int)], ids=str
)
def test_codes_of_another_tokenizer_are_refused(policy, codes):
    with pytest.raises(ObservationError, match='image codes do not fit .*at most 16 codes in 0 …'):
        policy.act(EncodedObservation({'front': codes}, 'go', STATE))


def test_warming_up_takes_a_chunk_and_no_more(tiny_checkpoint, head_checkpoint):
    for checkpoint, decoding in ((tiny_checkpoint, None), (head_checkpoint, None)):
        before = checkpoint.engine.fast.passes
        Policy(checkpoint, decoding).warm_up()
        assert checkpoint.engine.fast.passes > before


def test_a_checkpoint_that_answers_a_grey_image_with_no_chunk_is_warmed_up(tiny_checkpoint):
    policy = Policy(tiny_checkpoint, 'verified')
    grey = Observation({'front': grey_image(32)}, 'pick up the red cube', np.zeros(7, np.float32))
    with pytest.raises(DecodingError):  # as random weights do
        policy.act(grey)
    policy.warm_up()


def test_a_world_model_warms_up_by_imagining_one_image(tiny_checkpoint):
    engine = Engine(tiny_checkpoint.model, tiny_checkpoint.spec.vocabulary)
    world = WorldModel(tiny_checkpoint)
    world.warm_up()
    assert tiny_checkpoint.engine.fast.passes > engine.fast.passes


# continuous action head


def test_head_is_asked_where_there_is_one(head_checkpoint, tiny_checkpoint, observation):
    assert Policy(tiny_checkpoint).decoding == 'discrete'
    assert Policy(head_checkpoint).decoding == 'continuous'
    chunk = Policy(head_checkpoint).act(observation)
    assert chunk.actions.shape == (4, 7)
    assert chunk.actions.dtype == np.float32
    assert chunk.log_probs.shape == (0, 0)
    asked = Policy(head_checkpoint, 'continuous').act(observation)
    np.testing.assert_array_equal(asked.actions, chunk.actions)


def test_discrete_decoding_does_not_know_of_the_head(
    head_checkpoint, tiny_checkpoint, observation
):
    chunk = Policy(head_checkpoint, 'discrete').act(observation)
    np.testing.assert_array_equal(chunk.actions, Policy(tiny_checkpoint).act(observation).actions)
    assert chunk.log_probs.shape == (4, 7)


def test_continuous_actions_are_in_the_units_of_the_checkpoint(head_checkpoint, observation):
    low, high = np.linspace(-0.9, -0.3, 7), np.linspace(0.2, 0.8, 7)
    action = replace(head_checkpoint.spec.action, minimum=tuple(low), maximum=tuple(high))
    other = replace(head_checkpoint, spec=replace(head_checkpoint.spec, action=action))
    actions, normalised = (Policy(c).act(observation).actions for c in (other, head_checkpoint))
    np.testing.assert_allclose(actions, (normalised + 1) / 2 * (high - low) + low, atol=1e-6)


def test_continuous_actions_may_leave_the_range(head_checkpoint, observation):
    model = deepcopy(head_checkpoint.model)
    model.action_head.output_projection['model'].fc2.bias += 1.5
    changed = replace(head_checkpoint, model=model)
    assert Policy(changed).act(observation).actions.max() > 1


def test_unknown_decoding_is_refused(tiny_checkpoint):
    with pytest.raises(ConfigError, match="discrete or verified or continuous, got 'greedy'"):
        Policy(tiny_checkpoint, 'greedy')


def test_continuous_decoding_without_a_head_is_refused(tiny_checkpoint):
    with pytest.raises(CheckpointError, match='continuous decoding with tiny@.*') as caught:
        Policy(tiny_checkpoint, 'continuous')
    assert caught.value.got == 'one without'
    assert 'discrete' in caught.value.remedy


# world model


@pytest.mark.parametrize(('actions', 'images'), [(2, 1), (3, 1), (4, 2), (6, 3)])
def test_one_image_is_imagined_for_each_stride(world_model, observation, actions, images):
    imagined = world_model.imagine(observation, ACTIONS[:actions])
    assert imagined.shape == (images, 32, 32, 3)
    assert imagined.dtype == np.uint8


@pytest.mark.parametrize('speculative', [True, False])
def test_stepwise_images_equal_those_at_once(tiny_checkpoint, observation, speculative):
    world_model = WorldModel(tiny_checkpoint, speculative=speculative)
    steps = list(world_model.imagine_stepwise(observation, ACTIONS))
    images = [s for s in steps if s is not None]
    np.testing.assert_array_equal(images, world_model.imagine(observation, ACTIONS))
    if not speculative:  # 4 × 4 codes per image, of which the last brings the image
        assert [s is not None for s in steps] == ([False] * 15 + [True]) * 3


def test_longer_rollouts_continue_shorter_ones(world_model, observation):
    short = world_model.imagine(observation, ACTIONS[:2])
    np.testing.assert_array_equal(world_model.imagine(observation, ACTIONS)[:1], short)


def test_imagined_image_is_fed_back_as_codes(tiny_checkpoint, observation):
    world_model, engine = WorldModel(tiny_checkpoint), tiny_checkpoint.engine
    codes = tiny_checkpoint.images.encode([observation.images['front']])[0]
    for image, actions in zip(
        world_model.imagine(observation, ACTIONS), ACTIONS.reshape(3, 2, 7), strict=True
    ):
        prompt = tiny_checkpoint.sequences.world_prompt([codes], actions)
        codes = [c for c in engine.images.imagine(prompt, 4, 4) if c is not None][0]
        np.testing.assert_array_equal(image, tiny_checkpoint.images.decode(codes))


def test_futures_side_by_side_are_those_imagined_alone(world_model, observation):
    futures = np.stack([ACTIONS, -ACTIONS, ACTIONS[::-1]])
    together = world_model.imagine_each(observation, futures)
    assert together.shape == (3, 3, 32, 32, 3)
    alone = [world_model.imagine(observation, actions) for actions in futures]
    # a batch of equal codes may be cut off to the pixel value beside
    np.testing.assert_allclose(together.astype(int), alone, atol=1)


def test_surprise_is_a_map_per_camera_that_depends_on_actions(world_model, observation, picture):
    surprise = world_model.surprise(observation, ACTIONS[:2], {'front': picture[::-1].copy()})
    assert list(surprise) == ['front']
    assert surprise['front'].shape == (4, 4)
    assert surprise['front'].min() >= 0
    other = world_model.surprise(observation, -ACTIONS[:2], {'front': picture[::-1].copy()})
    assert np.abs(surprise['front'] - other['front']).max() > 1e-4


def test_the_likeliest_code_surprises_less_than_any_other(world_model, observation, picture):
    checkpoint = world_model.checkpoint
    start, engine = checkpoint.images.encode([picture]), checkpoint.engine
    prompt = checkpoint.sequences.world_prompt(start, ACTIONS[:2])
    greedy = next(c for c in engine.images.imagine(prompt, 4, 4) if c is not None)
    codes = checkpoint.spec.vocabulary.codebook_size
    # the first code alone, since those behind it are likeliest behind it alone
    first = [engine.images.surprise(prompt, [(greedy + i) % codes])[0][0, 0] for i in range(codes)]
    assert first[0] < min(first[1:])


@pytest.mark.parametrize('count', [1, 3, 4])
def test_surprise_is_asked_of_one_image(world_model, observation, picture, count):
    with pytest.raises(ObservationError, match='2 finite actions of 7'):
        world_model.surprise(observation, ACTIONS[:count], {'front': picture})


def test_actions_matter_to_what_is_imagined(tiny_checkpoint, observation):
    codes = tiny_checkpoint.images.encode([observation.images['front']])
    first = [
        tiny_checkpoint.engine.images.surprise(
            tiny_checkpoint.sequences.world_prompt(codes, actions), codes
        )[0][0, 0]
        for actions in (ACTIONS[:2], -ACTIONS[:2])
    ]
    assert abs(first[0] - first[1]) > 1e-4


def test_state_and_instruction_are_not_needed_to_imagine(world_model, observation, picture):
    bare = Observation({'front': picture})
    np.testing.assert_array_equal(
        world_model.imagine(bare, ACTIONS[:2]), world_model.imagine(observation, ACTIONS[:2])
    )


@pytest.mark.parametrize('shape', [(0, 7), (1, 7), (2, 6), (7,), (2, 2, 7), ()])
def test_too_few_or_malformed_actions_are_refused(world_model, observation, shape):
    with pytest.raises(ObservationError, match='at least 2 finite actions of 7') as caught:
        world_model.imagine(observation, np.zeros(shape))
    assert caught.value.remedy


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_actions_that_are_not_finite_are_refused(world_model, observation, value):
    actions = ACTIONS.copy()
    actions[1, 3] = value
    with pytest.raises(ObservationError, match='finite'):
        world_model.imagine(observation, actions)


def test_camera_missing_for_the_world_model_is_named(world_model, observation):
    with pytest.raises(ObservationError, match="camera 'front' is missing"):
        world_model.imagine(replace(observation, images={}), ACTIONS)
