"""From folders of episodes to sentences, images and codes."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from worldvla_ros.data.episodes import Episode, save_episode
from worldvla_ros.errors import EpisodeError
from worldvla_ros.learn.recordings import image_samples, source_corpus, token_episodes
from worldvla_ros.sim.wording import SOURCE, TabletopWording

WORDINGS = {SOURCE: TabletopWording()}


def episode(seed, source, instruction, **changes):
    images = (
        np.full((4, 32, 32, 3), seed, np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    )
    values = {
        'images': {'front': images},
        'state': np.full((4, 7), seed, np.float32),
        'action': np.full((3, 7), 0.1, np.float32),
        'executed': np.full((3, 7), 0.2, np.float32),
        'task': 'pick', 'instruction': instruction, 'seed': seed, 'success': True,
        'source': source,
    }  # fmt: skip
    return Episode(**values | changes)


@pytest.fixture
def settings(tmp_path, tiny_spec):
    folder = tmp_path / 'pick'
    return SimpleNamespace(
        data=SimpleNamespace(train=(str(folder),), validation=(str(folder),)),
        work=tmp_path, cameras=('front',), image_size=32, vqgan=tiny_spec.vqgan, seed=0,
    )  # fmt: skip


@pytest.fixture
def both(settings):
    """One episode of the tabletop, one of a laboratory."""
    (folder,) = settings.data.train
    save_episode(episode(1, SOURCE, 'pick up the red cube'), folder)
    save_episode(episode(2, 'laboratory', 'open the drawer'), folder)
    return folder


def test_sentences_are_those_of_each_source(settings, both):
    assert source_corpus(settings, WORDINGS) == [*TabletopWording().corpus(), 'open the drawer']


def test_a_source_that_nobody_speaks_for_says_what_was_recorded(settings, both, caplog):
    with caplog.at_level(logging.INFO):
        found = source_corpus(settings, {})
    assert found == ['open the drawer', 'pick up the red cube']
    assert '1 episodes of laboratory: only the recorded instruction' in caplog.text


def test_codes_come_with_the_sentences_of_their_source(settings, both, tiny_checkpoint):
    for _ in range(2):  # the second time from the cache
        one, other = token_episodes(settings, both, tiny_checkpoint.vqgan, WORDINGS)
        rng = np.random.default_rng(0)
        assert len({one.instruction(rng) for _ in range(30)}) > 10
        assert {other.instruction(rng) for _ in range(30)} == {'open the drawer'}
        assert one.codes.shape == (4, 1, 4, 4)
        assert (one.state == 1).all()
        assert (other.state == 2).all()
        assert np.isnan(one.target).all()
    assert [f.name for f in settings.work.glob('codes_*')] == [
        f'codes_{both.strip("/").replace("/", "_").replace("-", "_")}.npz'
    ]


def test_a_cache_that_was_not_finished_is_not_read(settings, both, tiny_checkpoint, monkeypatch):
    vqgan = tiny_checkpoint.vqgan
    monkeypatch.setattr(np, 'savez', lambda stream, **_: stream.write(b'half') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        token_episodes(settings, both, vqgan, WORDINGS)
    monkeypatch.undo()
    assert len(token_episodes(settings, both, vqgan, WORDINGS)) == 2


def test_places_go_with_their_images_by_name(settings):
    (folder,) = settings.data.train
    places = np.arange(4 * 2 * 5, dtype=np.float32).reshape(4, 2, 5)
    save_episode(episode(1, SOURCE, 'x', objects=('red', 'blue'), places=places), folder)
    save_episode(episode(100, SOURCE, 'x'), folder)
    images, views = image_samples(settings)
    assert images.shape == (8, 32, 32, 3)
    assert views.shape == (8, 2, 2)
    for image, view in zip(images, views, strict=True):
        shown = int(image[0, 0, 0])
        if shown >= 100:
            assert np.isnan(view).all()
        else:
            blue, red = view  # objects are ordered by name
            np.testing.assert_array_equal(red, places[shown - 1, 0, 3:])
            np.testing.assert_array_equal(blue, places[shown - 1, 1, 3:])


def test_a_folder_without_episodes_is_refused(settings):
    with pytest.raises(EpisodeError, match='no episodes'):
        source_corpus(settings, WORDINGS)
