"""The quality gate: what passes, what is refused, and on which observations."""

import json

import numpy as np
import pytest
import torch

from worldvla_ros.checkpoint import quantise
from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.cli.verbs import main
from worldvla_ros.data.episodes import Episode, save_episode, spread_observations
from worldvla_ros.errors import CheckpointError, ConfigError, EpisodeError
from worldvla_ros.evaluate.precision import (
    FAR_BINS,
    GATE,
    Answers,
    Gate,
    answer,
    compare,
    made_observations,
)

OBSERVATIONS = 4
needs_torchao = pytest.mark.skipif(
    not quantise.available(), reason=f'needs torchao {quantise.TORCHAO}, an optional package'
)


@pytest.fixture(scope='module')
def demo():
    return load(demo_path())


@pytest.fixture(scope='module')
def observations(demo):
    return made_observations(demo.spec, OBSERVATIONS)


def answers(bins):
    bins = np.asarray(bins)
    return Answers(bins, 2 * bins / 255, 1.0)


def episode(seed, length, success=True):
    images = np.arange(length + 1, dtype=np.uint8)[:, None, None, None]
    return Episode(
        images={'front': np.broadcast_to(images, (length + 1, 4, 4, 3))},
        state=np.full((length + 1, 7), seed, np.float32),
        action=np.zeros((length, 7), np.float32),
        executed=np.zeros((length, 7), np.float32),
        task='pick', instruction='go', seed=seed, success=success,
    )  # fmt: skip


def quality(reference, candidate, observations):
    return compare(answer(reference, observations), answer(candidate, observations))


# figures


def test_differences_are_counted_in_bins_and_in_normalised_units():
    found = compare(answers([[10, 20, 30, 40]]), answers([[10, 21, 23, 32]]))
    assert found.numbers == 4
    assert found.identical == 0.25
    assert found.mean_bins == 4.0
    assert found.mean_normalised == pytest.approx(4 * 2 / 255)
    assert found.far == 0.25  # 8 bins are far, 7 are not


def test_the_same_weights_agree_in_every_number(tiny_checkpoint):
    given = made_observations(tiny_checkpoint.spec, 2)
    found = quality(tiny_checkpoint, tiny_checkpoint, given)
    assert (found.identical, found.mean_bins, found.mean_normalised, found.far) == (1, 0, 0, 0)
    assert found.numbers == 2 * 4 * 7
    assert found.passes()


def test_actions_of_a_head_are_compared_too(head_checkpoint):
    found = quality(head_checkpoint, head_checkpoint, made_observations(head_checkpoint.spec, 1))
    assert found.identical == 1


def test_nothing_cannot_be_compared(tiny_checkpoint):
    with pytest.raises(ConfigError, match='at least one'):
        quality(tiny_checkpoint, tiny_checkpoint, [])


@needs_torchao
@pytest.mark.parametrize('word', ['int8', 'bfloat16'])
def test_the_demo_passes_the_gate(demo, observations, word):
    found = quality(demo, load(demo_path(), dtype=word), observations)
    assert found.identical >= 0.8
    found.require(word)


def test_a_model_with_one_damaged_layer_is_refused(demo, observations):
    damaged = load(demo_path())
    torch.manual_seed(0)
    for parameter in damaged.model.model.layers[2].mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    found = quality(demo, damaged, observations)
    assert not found.passes()
    with pytest.raises(CheckpointError, match='precision int9 .* at most 1.5 bins') as caught:
        found.require('int9')
    assert f'{found.mean_bins:.2f} bins' in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ('off', 'passes'), [([1] * 100, True), ([0] * 97 + [8] * 3, False), ([2] * 100, False)]
)
def test_the_gate_bounds_the_mean_and_the_share_of_far_numbers(off, passes):
    still = np.full((1, 1, 100), 100)
    found = compare(answers(still), answers(still + np.asarray(off)))
    assert found.passes() is passes


def test_the_gate_has_these_numbers():
    assert Gate(mean_bins=1.5, far=0.025) == GATE
    assert FAR_BINS == 8


@pytest.mark.parametrize(
    ('off', 'passes'),
    [([1, 2] * 100, True), ([1, 2] * 99 + [2, 2], False), ([8] * 5 + [0] * 195, True),
     ([8] * 6 + [0] * 194, False), ([7] * 6 + [0] * 194, True)],
)  # fmt: skip
def test_the_gate_takes_what_lies_on_its_bounds(off, passes):
    still = np.full((1, 1, 200), 100)
    assert compare(answers(still), answers(still - np.asarray(off))).passes() is passes


# observations


@pytest.mark.parametrize(('count', 'seed'), [(0, 0), (-3, 0), (1, -1)])
def test_impossible_requests_are_refused(tiny_spec, count, seed):
    with pytest.raises(ConfigError, match='expected at least'):
        made_observations(tiny_spec, count, seed)


def test_made_observations_depend_on_the_seed_alone(tiny_spec):
    one, other, third = (made_observations(tiny_spec, 3, seed) for seed in (5, 5, 6))
    for a, b, c in zip(one, other, third, strict=True):
        assert np.array_equal(a.images['front'], b.images['front'])
        assert np.array_equal(a.state, b.state)
        assert a.instruction == b.instruction
        assert not np.array_equal(a.images['front'], c.images['front'])
    assert not np.array_equal(one[0].state, one[1].state)


def test_made_observations_have_the_history_that_a_checkpoint_looks_back_on(tiny_spec):
    from dataclasses import replace

    made = made_observations(replace(tiny_spec, images_per_camera=2, state=None), 1)[0]
    assert [set(instant) for instant in made.history] == [{'front'}]
    assert made.state is None


def test_recorded_observations_are_spread_over_all_successful_episodes(tmp_path):
    for seed, length, success in ((1, 4, True), (2, 9, False), (3, 6, True)):
        save_episode(episode(seed, length, success), tmp_path)
    found = spread_observations(tmp_path, 3, images_per_camera=2)
    assert [o.state[0] for o in found] == [1, 3, 3]
    assert [int(o.images['front'].max()) for o in found] == [0, 0, 5]
    assert [int(o.history[0]['front'].max()) for o in found] == [0, 0, 4]
    assert len(spread_observations(tmp_path, 99)) == 10
    for count in (0, -1):
        with pytest.raises(ConfigError, match='observations: expected at least 1'):
            spread_observations(tmp_path, count)


def test_a_folder_without_success_gives_no_observations(tmp_path):
    save_episode(episode(1, 2, success=False), tmp_path)
    with pytest.raises(EpisodeError, match='no successful episode'):
        spread_observations(tmp_path, 3)


# the command


def run_gate(tmp_path, *flags):
    file = tmp_path / 'gate.json'
    command = ['eval', 'quantisation', '--observations', '2', '--json', str(file), *flags]
    return main(command), json.loads(file.read_text())


@needs_torchao
def test_the_command_writes_both_precisions_and_their_difference(tmp_path, capsys):
    status, found = run_gate(tmp_path, '--dtype', 'int8', '--against', 'float32')
    assert status == 0
    assert found['candidate']['model_id'] == found['reference']['model_id'] + '/int8'
    assert found['candidate']['weights_mb'] < 0.5 * found['reference']['weights_mb']
    assert found['quality']['numbers'] == 2 * 10 * 7
    assert found['quality']['passes']
    assert 'identical' in capsys.readouterr().out


@needs_torchao
def test_the_command_fails_below_the_gate_and_still_writes_the_figures(tmp_path, capsys):
    status, found = run_gate(tmp_path, '--dtype', 'int4')
    assert status == 2
    assert not found['quality']['passes']
    assert 'precision int4 does not hold' in capsys.readouterr().err


@needs_torchao
def test_the_command_takes_recorded_observations(tmp_path, tiny_folder):
    save_episode(episode(1, 6), tmp_path / 'episodes')
    flags = ('--checkpoint', str(tiny_folder), '--episodes-dir', str(tmp_path / 'episodes'))
    status, found = run_gate(tmp_path, '--dtype', 'bfloat16', '--against', 'bfloat16', *flags)
    assert status == 0
    assert found['quality']['identical'] == 1
