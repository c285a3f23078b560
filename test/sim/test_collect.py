"""Recording: files per seed, going on, reproducing, and refusing what is damaged."""

from dataclasses import replace

import numpy as np
import pytest

from worldvla_ros.data.episodes import (
    ARRAYS,
    META,
    Episode,
    episode_file,
    episode_files,
    load_episode,
    load_episodes,
    save_episode,
)
from worldvla_ros.errors import ConfigError, EpisodeError
from worldvla_ros.sim.collect import (
    SEEDS_END,
    START_NOISE,
    WIDE_START,
    ExecutionNoise,
    check_seeds,
    collect,
    start_options,
)
from worldvla_ros.sim.experts import expert_action
from worldvla_ros.sim.tabletop import TabletopEnv
from worldvla_ros.sim.tasks import Goal


def record(out, episodes=2, seed=0, task='pick'):
    return collect(task, episodes, seed, out, cameras=('front',), progress=False)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """A folder with the episodes of seeds 0 and 1; do not write to it."""
    out = tmp_path_factory.mktemp('episodes') / 'pick'
    assert record(out) == (2, 2)
    return out


@pytest.fixture
def episode():
    """Three steps of two by two pixels."""
    rng = np.random.default_rng(0)
    return Episode(
        images={'front': rng.integers(0, 256, (4, 2, 2, 3), np.uint8)},
        state=rng.random((4, 7), np.float32),
        action=rng.random((3, 7), np.float32),
        executed=rng.random((3, 7), np.float32),
        task='pick',
        instruction='pick up the red cube',
        seed=7,
        success=True,
        dt_s=0.05,
    )


def assert_same(one, other):
    for name in META:
        assert getattr(one, name) == getattr(other, name)
    assert one.images.keys() == other.images.keys()
    for name, images in one.images.items():
        np.testing.assert_array_equal(images, other.images[name])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_there_is_one_file_per_seed(recorded):
    names = [f.name for f in sorted(recorded.iterdir())]
    assert names == ['episode_00000.npz', 'episode_00001.npz']
    assert [e.seed for e in load_episodes(recorded)] == [0, 1]


def test_an_episode_tells_what_was_seen_and_done(recorded):
    for episode in load_episodes(recorded):
        assert episode.success
        assert list(episode.images) == ['front']
        assert episode.images['front'].shape == (episode.length + 1, 128, 128, 3)
        assert episode.images['front'].dtype == np.uint8
        assert episode.state.shape == (episode.length + 1, 7)
        assert episode.dt_s == 0.05
        assert Goal.from_text(episode.task, episode.instruction).kind == 'pick'


def test_labels_are_the_experts_and_follow_what_was_executed(recorded):
    episode = load_episode(episode_file(recorded, 0))
    env = TabletopEnv(task='pick', image_size=0, start_noise=START_NOISE)
    env.reset(seed=0, options=start_options(np.random.default_rng((0, 1))))
    for label, executed, state in zip(
        episode.action, episode.executed, episode.state[1:], strict=True
    ):
        np.testing.assert_array_equal(label, expert_action(env))
        np.testing.assert_array_equal(env.step(executed)[0]['state'], state)


def test_episodes_start_all_over_the_table():
    rng = np.random.default_rng(0)
    starts = [start_options(rng).get('start') for _ in range(400)]
    wide = np.array([s for s in starts if s is not None])
    assert 0.5 < len(wide) / len(starts) < 0.7
    np.testing.assert_allclose(wide.min(0), WIDE_START[0], atol=0.01)
    np.testing.assert_allclose(wide.max(0), WIDE_START[1], atol=0.01)


def test_noise_is_on_what_was_executed_only(recorded):
    for episode in load_episodes(recorded):
        difference = episode.executed - episode.action
        assert np.abs(difference[:, :3]).max() > 0.05
        np.testing.assert_array_equal(difference[:, 3:6], 0)
        assert np.abs(episode.executed).max() <= 1


def test_a_second_call_records_nothing_and_leaves_files_untouched(recorded):
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in recorded.iterdir()}
    assert record(recorded) == (0, 0)
    assert {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in recorded.iterdir()} == before


def test_missing_episodes_are_recorded_as_if_never_interrupted(recorded, tmp_path):
    assert record(tmp_path, episodes=1, seed=1) == (1, 1)
    kept = episode_file(tmp_path, 1).stat().st_mtime_ns
    assert record(tmp_path) == (1, 1)
    assert episode_file(tmp_path, 1).stat().st_mtime_ns == kept
    for seed in (0, 1):
        file = episode_file(tmp_path, seed)
        assert_same(load_episode(file), load_episode(episode_file(recorded, seed)))


def test_other_seeds_give_other_episodes(recorded):
    first, second = load_episodes(recorded)
    assert first.action.shape != second.action.shape or (first.action != second.action).any()
    assert (first.images['front'][0] != second.images['front'][0]).any()


@pytest.mark.parametrize(
    ('seed', 'episodes'), [(-1, 2), (9000, 1), (8999, 2), (0, 9001), (12345, 1), (0, 0)]
)
def test_seeds_outside_are_refused_before_anything_is_written(tmp_path, seed, episodes):
    with pytest.raises(EpisodeError, match=r'seeds in 0 … 8999.*8000–8999 for validation'):
        record(tmp_path / 'out', episodes, seed)
    assert not (tmp_path / 'out').exists()


def test_the_last_allowed_seed_is_allowed():
    check_seeds(SEEDS_END - 1, 1)
    check_seeds(0, SEEDS_END)


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="got 'pour'"):
        record(tmp_path, task='pour')


def test_an_episode_reads_back_as_saved(episode, tmp_path):
    file = save_episode(episode, tmp_path / 'new')
    assert file == episode_file(tmp_path / 'new', 7)
    assert_same(load_episode(file), episode)


def test_saving_leaves_no_partial_file(episode, tmp_path):
    save_episode(episode, tmp_path)
    assert [f.suffix for f in tmp_path.iterdir()] == ['.npz']


def test_a_partial_file_is_not_read(episode, tmp_path):
    save_episode(episode, tmp_path)
    (tmp_path / 'episode_00008.123.partial').write_bytes(b'half')
    assert [f.name for f in episode_files(tmp_path)] == ['episode_00007.npz']
    assert len(list(load_episodes(tmp_path))) == 1


def test_a_failed_episode_is_left_out(episode, tmp_path):
    save_episode(episode, tmp_path)
    save_episode(replace(episode, seed=3, success=False), tmp_path)
    assert len(episode_files(tmp_path)) == 2
    assert [e.seed for e in load_episodes(tmp_path)] == [7]


def test_a_folder_without_episodes_is_refused_with_a_command(tmp_path):
    with pytest.raises(EpisodeError, match='worldvla collect --task'):
        list(load_episodes(tmp_path))


@pytest.mark.parametrize('share', [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused_with_a_remedy(episode, tmp_path, share):
    file = save_episode(episode, tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EpisodeError, match=r'episode_00007.*Delete it and collect it again'):
        load_episode(file)


def test_a_file_of_another_kind_is_refused(tmp_path):
    file = tmp_path / 'episode_00001.npz'
    file.write_text('no archive')
    with pytest.raises(EpisodeError, match='Delete it'):
        load_episode(file)
    np.savez(file, numbers=np.arange(3))
    with pytest.raises(EpisodeError, match='meta'):
        load_episode(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match='no readable episode'):
        load_episode(tmp_path / 'episode_00001.npz')


@pytest.mark.parametrize('name', ['state', 'executed'])
def test_arrays_of_another_length_are_refused(episode, name):
    with pytest.raises(EpisodeError, match=rf"seed 7: expected 3 > 0 steps.*'{name}': 2"):
        replace(episode, **{name: getattr(episode, name)[:-1]})


def test_images_of_another_length_are_refused(episode):
    with pytest.raises(EpisodeError, match="'front': 2"):
        replace(episode, images={'front': episode.images['front'][1:]})


def test_an_episode_without_steps_is_refused(episode):
    empty = {'state': episode.state[:1], 'action': episode.action[:0]}
    images = {'front': episode.images['front'][:1]}
    with pytest.raises(EpisodeError, match='expected 0 > 0 steps'):
        replace(episode, images=images, executed=episode.executed[:0], **empty)


def test_noise_keeps_actions_in_range_and_the_label_as_it_was():
    noise, action = ExecutionNoise(np.random.default_rng(0)), np.ones(7, np.float32)
    for _ in range(30):
        disturbed = noise.apply(action)
        assert disturbed.dtype == np.float32
        assert np.abs(disturbed).max() <= 1
    np.testing.assert_array_equal(action, np.ones(7))


def test_some_episodes_start_with_a_closing_gripper():
    opening, starts = np.array([0, 0, 0, 0, 0, 0, -1], np.float32), []
    for seed in range(200):
        noise = ExecutionNoise(np.random.default_rng(seed))
        gripper = [noise.apply(opening)[6] for _ in range(8)]
        assert gripper[4:] == [-1] * 4
        starts.append(gripper[0] > 0)
    assert 0.1 < np.mean(starts) < 0.3
