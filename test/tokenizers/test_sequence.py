"""Layouts of both tasks, id by id."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.errors import CheckpointError, InstructionError
from worldvla_ros.tokenizers.bins import action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import Prompts, SequenceBuilder
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer
from worldvla_ros.tokenizers.vocab import compact

VOCAB = compact(codebook_size=16, text_size=300)
CODES = [np.arange(4).reshape(2, 2), np.arange(8).reshape(4, 2)]
ACTIONS = np.array([[-1.0, 0.0, 1.0], [0.5, -0.5, 0.25]])
STATE = np.array([0.1, 0.2])


@pytest.fixture(scope='module')
def builder():
    return SequenceBuilder(
        vocab=VOCAB,
        text=TextTokenizer(train_text_tokenizer(['the robot'], 300), VOCAB.text_base),
        action=action_tokenizer(VOCAB, (-1.0,) * 3, (1.0,) * 3),
        state=state_tokenizer(VOCAB, (0.0,) * 2, (1.0,) * 2),
        image=ImageTokenizer(VOCAB),
        prompts=Prompts(),
    )


def joined(*parts):
    return np.concatenate([np.ravel(p) for p in parts]).tolist()


def test_action_prompt_is_bos_text_state_images_sep(builder):
    prompt = builder.action_prompt('wave', CODES, STATE)
    question = 'What action should the robot take to wave?'
    assert prompt.ids.tolist() == joined(
        [VOCAB.bos],
        builder.text.encode(question),
        builder.state.encode(STATE),
        builder.image.encode(CODES[0]),
        builder.image.encode(CODES[1]),
        [VOCAB.sep],
    )


def test_action_prompt_without_state_recipe_has_no_state(builder):
    stateless = replace(builder, state=None)
    with_state = builder.action_prompt('wave', CODES, STATE).ids
    ids = stateless.action_prompt('wave', CODES).ids
    assert VOCAB.state_start in with_state
    assert VOCAB.state_start not in ids
    assert len(with_state) - len(ids) == builder.state.block_length


def test_past_actions_lie_behind_their_images_and_are_hidden_from_the_chunk(builder):
    prompt = builder.action_prompt('wave', [*CODES, *CODES], STATE, [ACTIONS])
    plain = builder.action_prompt('wave', [*CODES, *CODES], STATE)
    images = joined(*(builder.image.encode(c) for c in CODES))
    start = len(plain.ids) - 2 * len(images) - 1
    acted = joined(builder.action.encode(ACTIONS))
    assert prompt.ids.tolist() == joined(plain.ids[:start], images, acted, images, [VOCAB.sep])
    first = start + len(images)
    expected = [0] * first + [-1] * len(acted) + [0] * (len(images) + 1)
    assert prompt.roles.tolist() == expected


def test_past_actions_follow_the_images_of_their_own_instant(builder):
    instants = [[np.full((2, 2), 2 * i), np.full((2, 2), 2 * i + 1)] for i in range(3)]
    codes = [code for instant in instants for code in instant]
    past = [ACTIONS, -ACTIONS]
    prompt = builder.action_prompt('wave', codes, STATE, past)
    laid_out = []
    for i, instant in enumerate(instants):
        laid_out += [builder.image.encode(code) for code in instant]
        laid_out += [builder.action.encode(past[i])] if i < len(past) else []
    expected = joined(*laid_out, [VOCAB.sep])
    assert prompt.ids.tolist()[-len(expected) :] == expected


def test_images_that_do_not_divide_into_instants_are_refused(builder):
    with pytest.raises(ValueError, match='3 images do not divide into 2 instants'):
        builder.action_prompt('wave', [*CODES, CODES[0]], STATE, [ACTIONS])


def test_action_response_is_action_blocks_and_sep(builder):
    prompt = builder.action_prompt('wave', CODES, STATE)
    whole = builder.with_actions(prompt, ACTIONS)
    first, second = builder.action.encode(ACTIONS)
    assert whole.ids.tolist() == joined(prompt.ids, first, second, [VOCAB.sep])


def test_each_action_of_the_response_is_a_block_of_its_own(builder):
    prompt = builder.action_prompt('wave', CODES, STATE)
    whole = builder.with_actions(prompt, ACTIONS)
    assert whole.roles.tolist() == [0] * len(prompt.ids) + [1] * 5 + [2] * 5 + [0]


def test_world_prompt_is_bos_text_images_actions_sep(builder):
    prompt = builder.world_prompt(CODES, ACTIONS)
    assert prompt.ids.tolist() == joined(
        [VOCAB.bos],
        builder.text.encode('Generate the image based on the current image and the action.'),
        builder.image.encode(CODES[0]),
        builder.image.encode(CODES[1]),
        builder.action.encode(ACTIONS),
        [VOCAB.sep],
    )


def test_world_response_is_images_and_sep(builder):
    prompt = builder.world_prompt(CODES, ACTIONS)
    whole = builder.with_images(prompt, CODES[::-1])
    images = [builder.image.encode(c) for c in CODES[::-1]]
    assert whole.ids.tolist() == joined(prompt.ids, *images, [VOCAB.sep])


def test_world_sequence_is_shared_throughout(builder):
    whole = builder.with_images(builder.world_prompt(CODES, ACTIONS), CODES)
    assert whole.roles.tolist() == [0] * len(whole.ids)


def test_prompt_length_stays_that_of_the_prompt(builder):
    action = builder.action_prompt('wave', CODES, STATE)
    world = builder.world_prompt(CODES, ACTIONS)
    assert action.prompt_length == len(action.ids)
    assert world.prompt_length == len(world.ids)
    assert builder.with_actions(action, ACTIONS).prompt_length == len(action.ids)
    assert builder.with_images(world, CODES).prompt_length == len(world.ids)


def test_ids_and_blocks_are_int64(builder):
    whole = builder.with_actions(builder.action_prompt('wave', CODES, STATE), ACTIONS)
    assert (whole.ids.dtype, whole.roles.dtype) == (np.int64, np.int64)
    assert whole.ids.shape == whole.roles.shape


def test_braces_in_an_instruction_are_text(builder):
    prompt = builder.action_prompt('take {task} {0}', CODES, STATE)
    end = list(prompt.ids).index(VOCAB.state_start)
    question = 'What action should the robot take to take {task} {0}?'
    assert builder.text.decode(prompt.ids[1:end].tolist()) == question


def test_wording_comes_from_the_prompts(builder):
    other = replace(builder, prompts=Prompts(action='{task} now', world='and then'))
    ids = other.action_prompt('wave', [], STATE).ids
    text = builder.text.encode('wave now')
    assert ids[1 : 1 + len(text)].tolist() == text
    assert other.world_prompt([], ACTIONS).ids[1:].tolist() == joined(
        builder.text.encode('and then'), builder.action.encode(ACTIONS), [VOCAB.sep]
    )


@pytest.mark.parametrize('action', ['go', 'go {place}', 'go {0}', 'go {', 'go {{task}}'])
def test_wording_without_a_place_for_the_instruction_is_refused(action):
    with pytest.raises(CheckpointError, match='wording of the action prompt') as caught:
        Prompts(action=action)
    assert repr(action) in str(caught.value)


def test_the_name_of_an_id_that_is_no_text_is_refused(builder):
    foreign = replace(builder, vocab=replace(VOCAB, text_size=260))
    word = next(
        w for w in ('the', 'robot') if max(builder.text.encode(w)) >= VOCAB.text_base + 260
    )
    with pytest.raises(InstructionError, match=f"the text '.*{word}.*' holds a token") as caught:
        foreign.action_prompt(word, CODES, STATE)
    assert 'got token id' in str(caught.value)


def test_missing_state_is_refused(builder):
    with pytest.raises(ValueError, match='state'):
        builder.action_prompt('wave', CODES)


def test_state_without_recipe_is_refused(builder):
    with pytest.raises(ValueError, match='state'):
        replace(builder, state=None).action_prompt('wave', CODES, STATE)


def test_state_of_another_size_is_refused(builder):
    with pytest.raises(ValueError, match='2'):
        builder.action_prompt('wave', CODES, np.zeros(3))


def test_actions_of_another_size_are_refused(builder):
    with pytest.raises(ValueError, match='3'):
        builder.world_prompt(CODES, np.zeros((2, 4)))
