"""LIBERO as an environment: the protocol's facts on a stand-in, and on LIBERO where it is."""

import importlib.util
import os
from pathlib import Path
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from worldvla_ros.errors import ConfigError, EpisodeError, MissingDependencyError
from worldvla_ros.sim import libero
from worldvla_ros.sim.libero import LiberoEnv, read_init_states, tasks

ROOT = Path(__file__).parents[2]
FOREVER = (0, 0)


@pytest.fixture
def calls(fake_libero):
    """What was called of the stand-in's environments."""
    from libero.libero.envs import OffScreenRenderEnv

    OffScreenRenderEnv.calls.clear()
    return OffScreenRenderEnv.calls


@pytest.fixture
def env(fake_libero, calls):
    fake_libero([FOREVER] * 4)
    env = LiberoEnv(tasks('spatial')[0], resolution=32, cameras=('front', 'wrist'))
    yield env
    env.close()


def named(calls, *names):
    return [call for call in calls if call[0] in names]


class TestTasks:
    def test_they_are_those_of_the_suite_in_order(self, fake_libero, tmp_path):
        found = tasks('spatial')
        assert [(t.suite, t.index) for t in found] == [('spatial', 0), ('spatial', 1)]
        assert [t.language for t in found] == ['pick up the bowl', 'open the drawer']
        folder = tmp_path / 'libero'
        assert found[1].bddl_file == folder / 'bddl_files/libero_spatial/open_the_drawer.bddl'
        assert found[1].init_states_file.parent == folder / 'init_files/libero_spatial'

    def test_every_suite_of_the_protocol_is_known(self, fake_libero):
        for suite in ('spatial', 'object', 'goal', '10', '90'):
            assert tasks(suite)[0].suite == suite

    def test_the_sentence_is_the_language_or_the_folder_with_its_scene(self, fake_libero):
        task = tasks('10')[0]
        assert task.sentence('language') == 'turn on the stove'
        assert task.sentence('folder') == 'KITCHEN SCENE3 turn on the stove'

    def test_another_wording_is_refused(self, fake_libero):
        with pytest.raises(ConfigError, match="expected language or folder, got 'rude'"):
            tasks('10')[0].sentence('rude')

    def test_an_unknown_suite_is_refused(self):
        with pytest.raises(ConfigError, match='expected one of spatial, object, goal, 10, 90'):
            tasks('100')


class TestInitialStates:
    def test_they_are_read_as_saved(self, fake_libero):
        file = fake_libero([(3, 0), (0, 7)])
        np.testing.assert_array_equal(read_init_states(file), [[0, 3, 0], [1, 0, 7]])

    def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / 'harm'),)

        torch.save(Evil(), tmp_path / 'evil.pruned_init')
        with pytest.raises(EpisodeError, match=r'it asks for (posix|os)\.mkdir'):
            read_init_states(tmp_path / 'evil.pruned_init')
        assert not (tmp_path / 'harm').exists()

    @pytest.mark.parametrize(
        'content',
        [torch.zeros(3), [1.0], np.zeros(3), np.array([['a']]), np.zeros((2, 2), object)],
    )
    def test_anything_but_an_array_of_numbers_is_refused(self, tmp_path, content):
        torch.save(content, tmp_path / 'x.pruned_init')
        with pytest.raises(EpisodeError, match='holds no readable initial states'):
            read_init_states(tmp_path / 'x.pruned_init')

    def test_a_file_that_grows_when_it_is_unpacked_is_refused(
        self, fake_libero, tmp_path, monkeypatch
    ):
        file = tmp_path / 'bomb.pruned_init'
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('bomb/data.pkl', pickle.dumps(np.zeros((100_000, 8))))
        assert file.stat().st_size < 100_000
        assert read_init_states(file).shape == (100_000, 8)
        monkeypatch.setattr('worldvla_ros.sim.libero.MAX_STATES_BYTES', 10**6)
        with pytest.raises(EpisodeError, match='6400[0-9]+ bytes when it is unpacked'):
            read_init_states(file)

    def test_damaged_and_missing_files_are_refused(self, fake_libero, tmp_path):
        file = fake_libero([FOREVER])
        file.write_bytes(file.read_bytes()[:100])
        bare = tmp_path / 'bare.pruned_init'
        bare.write_bytes(pickle.dumps(np.zeros((2, 2))))
        for damaged in (file, bare, tmp_path / 'absent.pruned_init'):
            with pytest.raises(EpisodeError, match='Restore the file'):
                read_init_states(damaged)


class TestEnvironment:
    def test_images_of_both_cameras_are_turned_by_180_degrees(self, env):
        observed, _ = env.reset()
        for name, ground in (('front', 50), ('wrist', 100)):
            image = observed[name]
            assert image.shape == (32, 32, 3)
            assert image.dtype == np.uint8
            assert image[-1, -1].tolist() == [libero.SETTLE_STEPS] * 3
            assert (image[0] == ground).all()

    def test_the_state_is_position_axis_angle_and_fingers(self, env):
        observed, _ = env.reset()
        assert observed['state'].dtype == np.float32
        wanted = [0.1, -0.2, 1.0, 4.0, 0, 0, 0.02, -0.02]
        np.testing.assert_allclose(observed['state'], wanted, atol=1e-6)

    def test_observations_and_actions_lie_in_their_spaces(self, env):
        observed, _ = env.reset()
        assert env.observation_space.contains(observed)
        assert env.action_space.contains(np.zeros(7, np.float32))

    def test_ten_steps_with_an_open_gripper_settle_the_scene(self, env, calls):
        _, info = env.reset()
        assert named(calls, 'step') == [('step', 0, 0, 0, 0, 0, 0, -1)] * 10
        assert (info['steps'], info['seconds'], info['success']) == (0, 0, False)

    def test_the_generator_is_seeded_with_0_before_the_first_reset(self, env, calls):
        env.reset()
        assert [c[0] for c in calls[:4]] == ['create', 'seed', 'reset', 'set_init_state']
        assert named(calls, 'seed') == [('seed', 0)]

    def test_an_initial_state_follows_as_many_resets_as_in_the_reference(self, env, calls):
        env.reset(options={'init_state': 2})
        assert len(named(calls, 'reset')) == 3
        assert named(calls, 'set_init_state') == [('set_init_state', 2)]

    def test_fixtures_do_not_depend_on_the_trials_before(self, env):
        def fixture(number):
            observed, info = env.reset(options={'init_state': number})
            assert info['init_state'] == number
            return int(observed['front'][-1, -2, 0])

        forward = [fixture(number) for number in range(4)]
        assert [fixture(number) for number in (3, 1, 1, 0, 2)] == [
            forward[number] for number in (3, 1, 1, 0, 2)
        ]

    def test_another_seed_places_fixtures_elsewhere(self, env, calls):
        first = env.reset()[0]['front'][-1, -2, 0]
        other, info = env.reset(seed=5)
        assert other['front'][-1, -2, 0] != first
        assert info['seed'] == 5

    def test_actions_arrive_unchanged_and_time_goes_on(self, env, calls):
        env.reset()
        action = np.linspace(-0.9, 0.996078, 7)
        observed, reward, terminated, truncated, info = env.step(action)
        assert calls[-1] == ('step', *action.tolist())
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert observed['front'][-1, -1, 0] == 11
        assert info['seconds'] == pytest.approx(0.05)

    @pytest.mark.parametrize('action', [np.zeros(6), np.full(7, np.nan), np.zeros((1, 7))])
    def test_malformed_actions_are_refused(self, env, action):
        env.reset()
        with pytest.raises(ValueError, match='7 finite numbers'):
            env.step(action)

    def test_done_ends_the_episode_with_success(self, fake_libero):
        fake_libero([(3, 0)])
        env = LiberoEnv(tasks('spatial')[0], resolution=32)
        env.reset()
        assert [env.step(np.zeros(7))[2] for _ in range(3)] == [False, False, True]
        assert env.info()['success'] is True

    @pytest.mark.parametrize(
        ('suite', 'steps'),
        [('spatial', 220), ('object', 280), ('goal', 300), ('10', 520), ('90', 400)],
    )
    def test_time_is_up_after_the_steps_of_the_suite(self, fake_libero, suite, steps):
        task = tasks(suite)[0]
        fake_libero([FOREVER], suite, task.name)
        env = LiberoEnv(task, resolution=2)
        env.reset()
        ends = [env.step(np.zeros(7))[3] for _ in range(steps)]
        assert ends == [False] * (steps - 1) + [True]

    def test_an_initial_state_that_is_not_there_is_refused(self, env):
        with pytest.raises(EpisodeError, match='expected 0 … 3, got 4'):
            env.reset(options={'init_state': 4})

    @pytest.mark.parametrize('cameras', [(), ('front', 'back')])
    def test_unknown_cameras_are_refused(self, fake_libero, cameras):
        fake_libero([FOREVER])
        with pytest.raises(ConfigError, match='expected some of front, wrist'):
            LiberoEnv(tasks('spatial')[0], cameras=cameras)


class TestAbsence:
    def test_without_libero_one_message_names_the_command(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'libero', None)
        with pytest.raises(MissingDependencyError, match=r'pip install "hf-libero') as caught:
            tasks('spatial')
        assert 'LIBERO cannot be imported' in str(caught.value)

    def test_the_question_of_its_first_import_is_explained(self, monkeypatch, tmp_path):
        (tmp_path / 'libero').mkdir()
        (tmp_path / 'libero/__init__.py').write_text('input("Where is your data? ")')
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, 'libero', raising=False)
        monkeypatch.setattr('builtins.input', lambda _: (_ for _ in ()).throw(EOFError()))
        with pytest.raises(MissingDependencyError, match='python -c "import libero.libero"'):
            tasks('spatial')

    def test_the_module_itself_imports_without_libero(self):
        code = (
            'import sys, worldvla_ros.sim.libero; '
            'sys.exit(any(n.split(".")[0] in ("libero", "robosuite") for n in sys.modules))'
        )
        assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


@pytest.mark.libero
@pytest.mark.skipif(
    importlib.util.find_spec('libero') is None,
    reason='LIBERO is not installed: pip install "hf-libero>=0.1.4"',
)
class TestRealLibero:
    def test_suites_have_ten_tasks_and_fifty_initial_states(self):
        for suite in ('spatial', 'object', 'goal', '10'):
            found = tasks(suite)
            assert len(found) == 10
            assert all(len(read_init_states(t.init_states_file)) == 50 for t in found)

    def test_an_episode_begins_and_goes_on(self):
        env = LiberoEnv(tasks('spatial')[0], resolution=128, cameras=('front', 'wrist'))
        observed, _ = env.reset(options={'init_state': 1})
        assert env.observation_space.contains(observed)
        assert observed['front'].std() > 10
        after, _, _, truncated, info = env.step(np.array([0, 0, 1, 0, 0, 0, -1.0]))
        assert after['state'][2] > observed['state'][2]
        assert (truncated, info['steps']) == (False, 1)
        env.close()
