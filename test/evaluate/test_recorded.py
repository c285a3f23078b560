"""Imagined episodes: which images are compared, the figures, and weights given by path."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch
from torch import nn

from worldvla_ros.cli.verbs import main
from worldvla_ros.data.episodes import Episode, load_episode, save_episode
from worldvla_ros.errors import ConfigError, EpisodeError
from worldvla_ros.evaluate import recorded as module
from worldvla_ros.evaluate.comparison import compare
from worldvla_ros.evaluate.perceptual import Lpips, VideoFeatures
from worldvla_ros.evaluate.recorded import VIDEOS, evaluate_world, shrink, video_figures
from worldvla_ros.metrics import frechet_distance, psnr, ssim
from worldvla_ros.world_model import WorldModel


class MeanDistance(nn.Module):
    """Stands in for LPIPS: the mean absolute difference."""

    def forward(self, x, y):
        return (x - y).abs().mean([1, 2, 3], keepdim=True)


class Colours(nn.Module):
    """Stands in for I3D: the mean of each colour at the start and at the end of a clip."""

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        assert rescale and resize and return_features  # noqa: PT018 (TorchScript)
        return torch.cat([x[:, :, 0], x[:, :, -1]], 1).mean([2, 3])


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """Both stand-ins as TorchScript files."""
    folder = tmp_path_factory.mktemp('weights')
    torch.jit.script(MeanDistance()).save(folder / 'lpips.pt')
    torch.jit.script(Colours()).save(folder / 'i3d.pt')
    return folder


@pytest.fixture(scope='module')
def world(tiny_checkpoint):
    return WorldModel(tiny_checkpoint)


@pytest.fixture(scope='module')
def two_views(tiny_checkpoint):
    spec = replace(tiny_checkpoint.spec, cameras=('front', 'wrist'))
    return WorldModel(replace(tiny_checkpoint, spec=spec))


def made_episode(seed, length):
    """Return an episode in which a square wanders over a ground of the seed's colour."""
    images = np.full((length + 1, 32, 32, 3), 20 * seed, np.uint8)
    for step, image in enumerate(images):
        image[8:16, step : step + 8] = 240
    actions = np.zeros((length, 7), np.float32)
    return Episode(
        {'front': images}, np.zeros((length + 1, 7), np.float32), actions, actions,
        task='pick', instruction='pick up the red cube', seed=seed, success=seed != 1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Three short episodes, one of which did not succeed."""
    for seed, length in enumerate((4, 6, 9)):
        save_episode(made_episode(seed, length), tmp_path / 'episodes')
    return tmp_path / 'episodes'


def run(world, folder, **options):
    return evaluate_world(world, folder, progress=False, **options)


class TestEvaluation:
    def test_every_episode_is_imagined_to_its_last_whole_image(self, world, folder):
        found = run(world, folder)
        assert [(row['seed'], row['images']) for row in found['episodes']] == [
            (0, 2), (1, 3), (2, 4),
        ]  # fmt: skip
        assert (found['videos'], found['images'], found['actions_per_image']) == (3, 9, 2)

    def test_looking_less_far_ahead_shortens_all(self, world, folder):
        found = run(world, folder, ahead=4)
        assert [row['images'] for row in found['episodes']] == [2, 2, 2]

    def test_figures_are_means_over_images_then_over_videos(self, world, folder):
        found = run(world, folder)
        wanted = []
        for seed, length in enumerate((4, 6, 9)):
            made = compare(world, made_episode(seed, length), 0, length)
            pairs = list(zip(made.imagined, made.observed, strict=True))
            wanted.append(
                (np.mean([psnr(a, b) for a, b in pairs]), np.mean([ssim(a, b) for a, b in pairs]))
            )
        rows = found['episodes']
        assert [r['imagined']['psnr'] for r in rows] == pytest.approx(
            [p for p, _ in wanted], abs=1e-3
        )
        assert found['imagined']['psnr'] == pytest.approx(
            np.mean([p for p, _ in wanted]), abs=1e-3
        )
        assert found['imagined']['ssim'] == pytest.approx(
            np.mean([s for _, s in wanted]), abs=1e-3
        )

    def test_a_video_in_which_nothing_moves_repeats_the_first_image(self, world, folder):
        episode = made_episode(0, 4)
        first, *_ = episode.images['front']
        wanted = np.mean([psnr(first, episode.images['front'][step]) for step in (2, 4)])
        found = run(world, folder)['episodes'][0]
        assert found['nothing_moves']['psnr'] == pytest.approx(wanted, abs=1e-2)

    def test_videos_of_all_cameras_are_pooled_and_told_apart(self, two_views, folder):
        for file in folder.iterdir():
            episode = load_episode(file)
            images = episode.images | {'wrist': 255 - episode.images['front']}
            save_episode(replace(episode, images=images), folder)
        found = run(two_views, folder)
        assert [(row['seed'], row['camera']) for row in found['episodes']] == [
            (seed, camera) for seed in range(3) for camera in ('front', 'wrist')
        ]
        assert (found['videos'], found['images']) == (6, 18)
        views = found['by_camera']
        assert {name: (v['videos'], v['images']) for name, v in views.items()} == {
            'front': (3, 9), 'wrist': (3, 9),
        }  # fmt: skip
        means = [views[name]['imagined']['psnr'] for name in ('front', 'wrist')]
        assert found['imagined']['psnr'] == pytest.approx(np.mean(means), abs=2e-3)
        assert abs(means[0] - means[1]) > 0.1

    def test_one_camera_is_all(self, world, folder):
        found = run(world, folder)
        (only,) = found['by_camera'].values()
        assert only.items() <= found.items()

    def test_everything_is_plain_values_for_json(self, world, folder):
        found = run(world, folder)
        assert json.loads(json.dumps(found)) == found

    def test_no_episodes_and_nothing_ahead_are_refused(self, world, folder, tmp_path):
        with pytest.raises(EpisodeError, match='no episodes'):
            run(world, tmp_path / 'nowhere')
        with pytest.raises(ConfigError, match='ahead: expected at least 1 action, got 0'):
            run(world, folder, ahead=0)


class TestFigures:
    def test_equal_videos_have_80_db_and_full_similarity(self, picture):
        video = np.stack([picture, picture])
        assert video_figures(video, video, None) == {
            'psnr': pytest.approx(80), 'ssim': pytest.approx(1), 'mse': 0,
        }  # fmt: skip

    def test_psnr_is_the_mean_of_each_image_and_not_of_the_mean_error(self):
        observed = np.zeros((2, 16, 16, 3), np.uint8)
        images = observed + np.array([5, 16], np.uint8)[:, None, None, None]
        found = video_figures(images, observed, None)
        assert found['psnr'] == pytest.approx((34.1514 + 24.0484) / 2, abs=1e-3)
        assert found['mse'] == pytest.approx((25 + 256) / 2 / 255**2)

    def test_equal_images_have_80_db_since_the_floor_is_1e_8(self):
        assert module.MSE_FLOOR == 1e-8
        assert (module.MAX_SIDE, module.MIN_CLIP) == (256, 22)

    def test_large_images_are_halved_by_areas_and_small_ones_kept(self):
        fine = np.zeros((2, 512, 512, 3), np.uint8)
        fine[:, ::2] = 100
        halved = shrink(fine)
        assert halved.shape == (2, 256, 256, 3)
        assert (halved == 50).all()
        assert shrink(halved) is halved

    def test_the_longer_side_becomes_256(self):
        assert shrink(np.zeros((1, 448, 576, 3), np.uint8)).shape == (1, 199, 256, 3)


class TestWeights:
    def test_without_them_figures_say_what_to_give(self, world, folder):
        found = run(world, folder)
        assert 'lpips' not in found['imagined']
        assert 'give --lpips FILE' in found['not_measured']['lpips']
        assert 'give --fvd FILE' in found['not_measured']['fvd']

    def test_lpips_sees_values_of_minus_1_to_1(self, weights, picture):
        network = Lpips(weights / 'lpips.pt')
        black, white = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 255, np.uint8)
        assert network.distance(black, white) == pytest.approx(2)
        assert network.distance(black, np.stack([black[0], white[0]])) == pytest.approx(1)

    def test_features_see_the_whole_clip_in_order(self, weights):
        clip = np.zeros((5, 8, 8, 3), np.uint8)
        clip[0], clip[-1] = (1, 2, 3), (40, 50, 60)
        found = VideoFeatures(weights / 'i3d.pt').of(clip)
        np.testing.assert_allclose(found, [1, 2, 3, 40, 50, 60])
        assert found.dtype == np.float64

    def test_both_are_measured_where_they_are_given(self, world, folder, weights, monkeypatch):
        monkeypatch.setattr(module, 'MIN_CLIP', 3)
        lpips, features = Lpips(weights / 'lpips.pt'), VideoFeatures(weights / 'i3d.pt')
        found = run(world, folder, lpips=lpips, features=features)
        assert (found['not_measured'], found['fvd_clips']) == ({}, 2)
        made = [compare(world, made_episode(s, n), 0, n) for s, n in ((1, 6), (2, 9))]
        wanted = frechet_distance(
            np.stack([features.of(m.imagined) for m in made]),
            np.stack([features.of(m.observed) for m in made]),
        )
        assert found['imagined']['fvd'] == pytest.approx(wanted, abs=1e-3)
        first = compare(world, made_episode(0, 4), 0, 4)
        wanted = lpips.distance(first.imagined, first.observed)
        assert found['episodes'][0]['imagined']['lpips'] == pytest.approx(wanted, abs=1e-3)
        assert all({'psnr', 'ssim', 'mse', 'lpips', 'fvd'} == set(found[name]) for name in VIDEOS)

    def test_fvd_needs_two_long_videos(self, world, folder, weights):
        found = run(world, folder, features=VideoFeatures(weights / 'i3d.pt'))
        assert 'two videos of 22 images or more, got 0' in found['not_measured']['fvd']
        assert 'fvd' not in found['imagined']

    @pytest.mark.parametrize(('cls', 'name'), [(Lpips, 'lpips'), (VideoFeatures, 'fvd')])
    def test_missing_foreign_and_unfit_files_are_refused(self, tmp_path, weights, cls, name):
        with pytest.raises(ConfigError, match=f'{name}: expected a TorchScript file, got no file'):
            cls(tmp_path / 'absent.pt')
        (tmp_path / 'text.pt').write_text('no network')
        with pytest.raises(ConfigError, match='torch.jit.load refuses'):
            cls(tmp_path / 'text.pt')
        other = 'i3d.pt' if cls is Lpips else 'lpips.pt'
        with pytest.raises(ConfigError, match='of another convention'):
            cls(weights / other)


class TestCommand:
    def test_it_prints_a_line_per_video_and_writes_all(
        self, tiny_folder, folder, weights, tmp_path, capsys
    ):
        file = tmp_path / 'out/world.json'
        command = [
            'eval', 'world', '--episodes-dir', str(folder), '--checkpoint', str(tiny_folder),
            '--ahead', '4', '--lpips', str(weights / 'lpips.pt'), '--json', str(file),
        ]  # fmt: skip
        assert main(command) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in said[:3]] == list(VIDEOS)
        assert 'lpips' in said[0]
        assert said[3].startswith('fvd was not measured')
        assert json.loads(file.read_text())['videos'] == 3

    def test_several_cameras_have_lines_of_their_own(self, two_views, folder, monkeypatch, capsys):
        monkeypatch.setattr(
            'worldvla_ros.cli.evaluate.load_checkpoint', lambda _: two_views.checkpoint
        )
        for file in folder.iterdir():
            episode = load_episode(file)
            images = episode.images | {'wrist': episode.images['front']}
            save_episode(replace(episode, images=images), folder)
        assert main(['eval', 'world', '--episodes-dir', str(folder), '--ahead', '2']) == 0
        said = [line.split('  ')[0] for line in capsys.readouterr().out.splitlines()]
        assert said[:4] == [
            'video imagined', 'video reconstructed', 'video nothing_moves', 'video imagined front',
        ]  # fmt: skip

    def test_weights_that_are_not_there_are_one_message(self, tiny_folder, folder, capsys):
        command = [
            'eval',
            'world',
            '--episodes-dir',
            str(folder),
            '--checkpoint',
            str(tiny_folder),
        ]
        assert main([*command, '--fvd', 'nowhere.pt']) == 2
        assert 'got no file nowhere.pt' in capsys.readouterr().err
