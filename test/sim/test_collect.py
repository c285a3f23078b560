"""Recording: files per seed, going on, reproducing, and refusing what is damaged."""

from dataclasses import replace
import json

import numpy as np
import pytest

from worldvla_ros.data import episodes
from worldvla_ros.data.episodes import (
    ARRAYS,
    META,
    Episode,
    episode_file,
    episode_files,
    load_episode,
    load_episodes,
    read_info,
    save_episode,
)
from worldvla_ros.errors import ConfigError, EpisodeError
from worldvla_ros.sim.collect import (
    START_NOISE,
    WIDE_START,
    ExecutionNoise,
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
        source='laboratory',
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
        assert episode.source == 'tabletop'
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
    ('seed', 'episodes', 'message'),
    [(-1, 2, r'from 0 up.*8000–8999 for validation\), got -1'), (0, 0, 'at least 1, got 0')],
)
def test_impossible_seeds_are_refused_before_anything_is_written(
    tmp_path, seed, episodes, message
):
    with pytest.raises(EpisodeError, match=message):
        record(tmp_path / 'out', episodes, seed)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('seed', [8999, 9000, 123456])
def test_seeds_are_everybodys(tmp_path, seed):
    assert record(tmp_path, 1, seed)[0] == 1
    assert [load_episode(f).seed for f in episode_files(tmp_path)] == [seed]


def test_files_are_ordered_by_seed(episode, tmp_path):
    for seed in (100000, 99999, 3):
        save_episode(replace(episode, seed=seed), tmp_path)
    assert [load_episode(f).seed for f in episode_files(tmp_path)] == [3, 99999, 100000]


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


def rewrite(file, **changes):
    """Change arrays of a file, or leave them out where they are None."""
    with np.load(file) as content:
        arrays = dict(content) | changes
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'state': np.full((4, 7), np.nan, np.float32)}, 'state: expected finite numbers'),
        ({'action': np.full((3, 7), np.inf, np.float32)}, 'action: expected finite numbers'),
        ({'executed': np.full((3, 7), -np.inf, np.float32)}, 'executed: expected finite'),
        ({'state': np.zeros((4, 2000), np.float32)}, r'state: expected float\[n, 1 … 1024\]'),
        ({'state': np.zeros((4, 7), int)}, r'got int64\[4, 7\]'),
        ({'state': np.zeros(4, np.float32)}, r'got float32\[4\]'),
        ({'executed': np.zeros((3, 6), np.float32)}, 'as many numbers as action'),
        ({'image_front': np.zeros((4, 2, 2), np.uint8)}, r'expected uint8\[n, h, w, 3\]'),
        ({'image_front': np.zeros((4, 2, 2, 3), np.float32)}, r'got float32\[4, 2, 2, 3\]'),
        ({'image_front': np.zeros((4, 1, 5000, 3), np.uint8)}, r'1 … 4096 px, got \[1, 5000\]'),
        ({'image_front': np.zeros((4, 0, 2, 3), np.uint8)}, r'got \[0, 2\]'),
        ({'places': np.zeros((4, 2, 5), np.float32)}, r'places: expected float\[n, 0, 5\]'),
        ({'meta': np.array('[1]')}, 'expected a mapping'),
        ({'meta': np.array('[' * 100_000)}, 'recursion'),
        ({'meta': np.array('{"task": 1}')}, 'missing'),
        ({'noise': np.zeros(3)}, 'noise'),
    ],
)  # fmt: skip
def test_values_that_no_robot_has_are_refused(episode, tmp_path, changes, message):
    file = save_episode(episode, tmp_path)
    rewrite(file, **changes)
    with pytest.raises(EpisodeError, match=message):
        load_episode(file)


@pytest.mark.parametrize(
    'meta', [{'seed': -1}, {'seed': 1.5}, {'success': 'yes'}, {'task': 3}, {'objects': [1]}]
)
def test_facts_of_a_wrong_type_are_refused(episode, tmp_path, meta):
    file = save_episode(episode, tmp_path)
    facts = {name: getattr(episode, name) for name in META}
    rewrite(file, meta=np.array(json.dumps(facts | meta)))
    for read in (load_episode, read_info):
        with pytest.raises(EpisodeError, match='no readable episode.*must be'):
            read(file)


def test_places_may_be_unknown_but_not_infinite(episode):
    places = np.full((4, 1, 5), np.nan, np.float32)
    known = replace(episode, objects=('red',), places=places)
    assert np.isnan(known.target).all()
    with pytest.raises(EpisodeError, match='numbers or NaN, got infinity'):
        replace(known, places=np.where(np.isnan(places), np.inf, places))
    with pytest.raises(EpisodeError, match='those of 1 objects'):
        replace(episode, objects=('red',))


def test_a_file_that_would_fill_the_memory_is_refused_unread(episode, tmp_path, monkeypatch):
    file = save_episode(episode, tmp_path)
    monkeypatch.setattr(episodes, 'MAX_BYTES', 1000)
    monkeypatch.setattr(np, 'load', lambda *_, **__: pytest.fail('was unpacked'))
    for read in (load_episode, read_info):
        with pytest.raises(EpisodeError, match='bytes, more than 1000'):
            read(file)


def test_the_largest_file_is_8_gib():
    assert episodes.MAX_BYTES == 8 * 1024**3


def test_facts_are_read_without_the_arrays(episode, tmp_path):
    info = read_info(save_episode(episode, tmp_path))
    assert {name: getattr(episode, name) for name in META} == vars(info)


def test_a_file_of_an_earlier_version_has_no_source(episode, tmp_path):
    file = save_episode(episode, tmp_path)
    facts = {name: getattr(episode, name) for name in META if name != 'source'} | {'dt_s': 0.05}
    rewrite(file, meta=np.array(json.dumps(facts)))
    assert_same(load_episode(file), replace(episode, source=''))


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
