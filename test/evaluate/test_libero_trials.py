"""Success in LIBERO: which trials run, what is recorded, and what becomes of errors."""

from dataclasses import asdict, replace
import functools
import json
from pathlib import Path
import shutil
import sys

import publish
import pytest

from worldvla_ros.checkpoint.folder import read_spec
from worldvla_ros.cli.verbs import main
from worldvla_ros.errors import (
    ConfigError,
    EpisodeError,
    MissingDependencyError,
    RobotError,
    WorkerError,
)
from worldvla_ros.evaluate import libero as evaluate_libero
from worldvla_ros.evaluate import libero_trials
from worldvla_ros.evaluate.libero import LiberoSettings, TrialRunner, check_fit, evaluate
from worldvla_ros.evaluate.libero_trials import LiberoTrial, figures, report, table
from worldvla_ros.evaluate.rollout import Rollout
from worldvla_ros.metrics import wilson_interval
from worldvla_ros.policy import WARM_UP_INSTRUCTION, Policy
from worldvla_ros.sim import libero

TASKS = ('pick_up_the_bowl', 'open_the_drawer')
STEPS = 6
SOON = (2, 0)
NEVER = (0, 0)
CRASH = (0, 3)
DEATH = (0, -1)


@pytest.fixture(scope='session')
def libero_folder(tiny_folder, tmp_path_factory):
    """The tiny checkpoint as one of LIBERO: two images of the past, two cameras, its state."""
    folder = tmp_path_factory.mktemp('libero') / 'tiny'
    shutil.copytree(tiny_folder, folder)
    spec = json.loads((folder / 'worldvla.json').read_text())
    names = ['x', 'y', 'z', 'rx', 'ry', 'rz', 'left', 'right']
    spec |= {'robot': 'libero', 'images_per_camera': 2, 'cameras': ['front', 'wrist']}
    spec['state'] = {
        'recipe': 'libero', 'names': names, 'units': ['m'] * 3 + ['rad'] * 3 + ['m'] * 2,
        'minimum': [-4.0] * 8, 'maximum': [4.0] * 8,
    }  # fmt: skip
    (folder / 'worldvla.json').write_text(json.dumps(spec))
    return folder


@pytest.fixture
def settings(libero_folder, fake_libero, monkeypatch):
    """Two trials of two tasks, each of which ends soon."""
    monkeypatch.setitem(libero.MAX_STEPS, 'spatial', STEPS)
    for task in TASKS:
        fake_libero([SOON, NEVER], task=task)
    return LiberoSettings('spatial', libero_folder, trials=2)


@pytest.fixture
def asked(monkeypatch):
    """Every observation that the policy was asked about."""
    found, act = [], Policy.act
    monkeypatch.setattr(Policy, 'act', lambda self, seen: found.append(seen) or act(self, seen))
    return found


run = functools.partial(evaluate, progress=False)


def outcomes(made):
    return [(t.task, t.trial, t.outcome) for t in made]


class TestTrials:
    def test_there_is_one_per_task_and_initial_state(self, settings):
        made = run(settings)
        assert outcomes(made) == [
            (0, 0, 'success'), (0, 1, 'failure'), (1, 0, 'success'), (1, 1, 'failure'),
        ]  # fmt: skip
        assert [t.rollout.steps for t in made] == [2, STEPS, 2, STEPS]
        assert [t.instruction for t in made[::2]] == ['pick up the bowl', 'open the drawer']
        assert made[0].model_id.startswith('tiny@')
        assert all(t.rollout.chunk_ms > 0 for t in made)

    def test_defaults_are_those_of_the_published_results(self):
        settings = LiberoSettings('spatial', Path('x'))
        assert (settings.trials, settings.delay_s, settings.threads) == (50, 0.0, 1)
        assert libero.MAX_STEPS == {
            'spatial': 220, 'object': 280, 'goal': 300, '10': 520, '90': 400,
        }  # fmt: skip
        assert (libero.SETTLE_STEPS, libero.CONTROL_DT_S, libero.SEED) == (10, 0.05, 0)
        assert (settings.wording, settings.tasks) == ('language', ())

    def test_the_model_is_asked_with_both_cameras_and_the_step_before(self, settings, asked):
        run(replace(settings, tasks=(0,)))
        _, first, second = asked
        assert first.history == ()
        assert list(second.images) == list(second.history[0]) == ['front', 'wrist']
        assert second.images['front'].shape == (256, 256, 3)
        shown = [int(i['front'][-1, -1, 0]) for i in (*second.history, second.images)]
        assert shown == [13, 14]

    @pytest.mark.parametrize(
        ('image_size', 'rendered'), [(32, 256), (256, 256), (288, 512), (512, 512), (1024, 512)]
    )
    def test_images_are_rendered_as_large_as_the_checkpoint_needs(
        self, tiny_spec, image_size, rendered
    ):
        spec = replace(tiny_spec, image_size=image_size)
        assert evaluate_libero.default_resolution(spec) == rendered

    def test_a_512_px_checkpoint_is_shown_512_px(self, settings, libero_folder, tmp_path, asked):
        folder = tmp_path / 'large'
        shutil.copytree(libero_folder, folder)
        spec = json.loads((folder / 'worldvla.json').read_text())
        (folder / 'worldvla.json').write_text(json.dumps(spec | {'image_size': 512}))
        run(replace(settings, checkpoint=folder, tasks=(0,), trials=1))
        assert asked[0].images['front'].shape == (512, 512, 3)

    def test_images_are_rendered_at_the_asked_for_size(self, settings, asked):
        run(replace(settings, tasks=(0,), trials=1, resolution=512))
        assert asked[0].images['wrist'].shape == (512, 512, 3)

    def test_the_folder_wording_is_told_where_it_is_asked_for(self, settings, fake_libero, asked):
        task = 'KITCHEN_SCENE3_turn_on_the_stove'
        fake_libero([SOON], '10', task)
        for wording, sentence in (
            ('language', 'turn on the stove'), ('folder', 'KITCHEN SCENE3 turn on the stove'),
        ):  # fmt: skip
            made = run(replace(settings, suite='10', trials=1, wording=wording))
            assert made[0].instruction == asked[-1].instruction == sentence

    def test_tasks_can_be_chosen(self, settings):
        assert {t.name for t in run(replace(settings, tasks=(1,)))} == {'open_the_drawer'}

    def test_a_published_folder_under_another_name_runs_with_its_profile(
        self, settings, fake_libero, tmp_path
    ):
        folder = publish.write_published(tmp_path, 'mine')
        fake_libero([(1, 0)])
        named = replace(settings, checkpoint=folder, profile='worldvla_256_libero_goal')
        (made,) = run(replace(named, tasks=(0,), trials=1))
        assert made.model_id.startswith('worldvla_256_libero_goal@')
        assert made.protocol['profile'] == 'worldvla_256_libero_goal'
        assert 'profile' not in settings.protocol

    def test_decoding_can_be_chosen(self, settings):
        made = run(replace(settings, tasks=(0,), trials=1, decoding='verified'))
        # random weights answer with anything but actions, and that is an error, not a failure
        assert made[0].outcome == 'error'
        assert 'does not begin with an action' in made[0].error

    def test_a_delay_is_held_out(self, settings):
        (_, made) = run(replace(settings, tasks=(0,), delay_s=0.1))
        assert (made.rollout.held, made.protocol['delay']) == (2, 0.1)

    def test_the_measured_delay_is_that_of_a_warm_model(self, settings, asked):
        made = run(replace(settings, tasks=(0,), delay_s=None))
        assert made[0].protocol['delay'] == 'measured'
        assert asked[0].instruction == WARM_UP_INSTRUCTION
        assert all(1 <= t.rollout.held <= STEPS for t in made)

    def test_several_processes_give_the_same_trials(self, settings, fake_libero):
        fake_libero([(2, 0), (3, 0), (1, 0), (4, 0)])
        settings = replace(settings, tasks=(0,), trials=4, threads=1)
        alone, together = (
            [replace(t, rollout=replace(t.rollout, chunk_ms=0)) for t in run(settings, workers=n)]
            for n in (1, 2)
        )
        assert together == alone
        assert [t.rollout.steps for t in together] == [2, 3, 1, 4]


class TestRecord:
    def test_a_line_per_trial_is_appended_and_not_run_again(self, settings, tmp_path, monkeypatch):
        record = tmp_path / 'new/goal.jsonl'
        first = run(replace(settings, tasks=(0,)), record=record)
        lines = record.read_text().splitlines()
        assert [json.loads(line) for line in lines] == json.loads(
            json.dumps([asdict(t) for t in first])
        )
        jobs = []
        act = TrialRunner.__call__
        monkeypatch.setattr(TrialRunner, '__call__', lambda s, j: jobs.append(j) or act(s, j))
        made = run(settings, record=record)
        assert [(task.index, trial) for task, trial in jobs] == [(1, 0), (1, 1)]
        assert made[:2] == first
        assert len(record.read_text().splitlines()) == 4

    def test_a_complete_record_needs_no_weights(self, settings, tmp_path, monkeypatch):
        made = run(settings, record=tmp_path / 'x.jsonl')
        monkeypatch.setattr(evaluate_libero, 'load', lambda *_: pytest.fail('was loaded'))
        assert run(settings, record=tmp_path / 'x.jsonl') == made

    def test_a_line_that_was_cut_off_is_run_again(self, settings, tmp_path):
        record = tmp_path / 'x.jsonl'
        run(settings, record=record)
        record.write_text(record.read_text()[:-40])
        assert len(run(settings, record=record)) == 4
        assert [json.loads(line)['trial'] for line in record.read_text().splitlines()] == [
            0,
            1,
        ] * 2

    def test_another_protocol_is_refused(self, settings, tmp_path):
        record = tmp_path / 'x.jsonl'
        run(replace(settings, trials=1), record=record)
        for other, words in (
            ({'delay_s': 0.1}, 'expected delay 0.1, got delay 0.0'),
            ({'wording': 'folder'}, 'expected wording folder, got wording language'),
            ({'resolution': 512}, 'expected resolution 512, got resolution 256'),
            ({'decoding': 'discrete'}, 'decoding discrete'),
            ({'dtype': 'bfloat16'}, 'dtype bfloat16'),
        ):
            with pytest.raises(ConfigError, match='trials of another evaluation') as caught:
                run(replace(settings, **other), record=record)
            assert words in str(caught.value)

    def test_other_weights_in_the_same_folder_are_refused(self, settings, tmp_path):
        record = tmp_path / 'x.jsonl'
        run(replace(settings, trials=1), record=record)
        record.write_text(record.read_text().replace('tiny@', 'other@'))
        with pytest.raises(ConfigError, match='other weights'):
            run(settings, record=record)

    def test_lines_that_are_no_trials_are_refused(self, settings, tmp_path):
        record = tmp_path / 'x.jsonl'
        for line, wanted in (
            ('{', 'no record of a trial'), ('{"a": 1}', "unknown key 'a'"),
            ('[' * 100_000, 'no record of a trial'), ('{"task": NaN}', 'NaN is no figure'),
            ('\xe9', 'cannot be read'),
        ):  # fmt: skip
            record.write_bytes(f'{line}\n'.encode('latin1'))
            with pytest.raises(ConfigError, match=wanted):
                run(settings, record=record)


class TestErrors:
    def test_an_exception_is_an_error_with_its_traceback_and_no_failure(
        self, settings, fake_libero
    ):
        fake_libero([CRASH, SOON])
        made = run(replace(settings, tasks=(0,)))
        assert outcomes(made) == [(0, 0, 'error'), (0, 1, 'success')]
        assert 'RuntimeError: the physics exploded' in made[0].error
        assert 'Traceback' in made[0].error
        assert made[0].rollout is None

    def test_after_an_error_the_next_trial_has_a_new_environment(self, settings, fake_libero):
        fake_libero([CRASH, SOON])
        run(replace(settings, tasks=(0,)))
        from libero.libero.envs import OffScreenRenderEnv

        kinds = [c[0] for c in OffScreenRenderEnv.calls if c[0] in ('create', 'close')]
        assert kinds[-4:] == ['create', 'close', 'create', 'close']

    def test_a_simulator_that_does_not_even_close_ends_nothing(
        self, settings, fake_libero, monkeypatch
    ):
        from libero.libero.envs import OffScreenRenderEnv

        fake_libero([CRASH, SOON])
        monkeypatch.setattr(OffScreenRenderEnv, 'close', lambda self: 1 / (self._clock == 2 + 10))
        made = run(replace(settings, tasks=(0,)))
        assert outcomes(made) == [(0, 0, 'error'), (0, 1, 'success')]
        assert 'ZeroDivisionError' not in made[0].error

    def test_a_trial_that_ended_in_an_error_is_run_again(self, settings, fake_libero, tmp_path):
        settings, record = replace(settings, tasks=(0,)), tmp_path / 'x.jsonl'
        fake_libero([CRASH, SOON])
        run(settings, record=record)
        fake_libero([SOON, SOON])
        assert outcomes(run(settings, record=record)) == [(0, 0, 'success'), (0, 1, 'success')]

    def test_a_process_that_dies_ends_the_evaluation_and_keeps_what_was_done(
        self, settings, fake_libero, tmp_path
    ):
        fake_libero([SOON, SOON, SOON, DEATH])
        settings, record = replace(settings, tasks=(0,), trials=4), tmp_path / 'x.jsonl'
        with pytest.raises(WorkerError, match='exit code 9'):
            run(settings, record=record, workers=2)
        assert 1 <= len(record.read_text().splitlines()) <= 3

    def test_libero_missing_ends_the_evaluation(self, settings, monkeypatch):
        monkeypatch.setitem(sys.modules, 'libero.libero.envs', None)
        with pytest.raises(MissingDependencyError, match='pip install'):
            run(settings)


class TestRefusals:
    @pytest.mark.parametrize(
        'options',
        [
            {'trials': 0}, {'delay_s': -1.0}, {'delay_s': float('nan')}, {'resolution': 128},
            {'wording': 'rude'}, {'threads': -1},
        ],
    )  # fmt: skip
    def test_settings_out_of_range_never_construct(self, options):
        with pytest.raises(ConfigError, match=next(iter(options)).removesuffix('_s')):
            LiberoSettings('spatial', Path('x'), **options)

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'tasks': (2,)}, r'tasks: expected 0 … 1, got \[2\]'),
            ({'trials': 3}, 'trials of pick_up_the_bowl: expected at most 2, got 3'),
        ],
    )
    def test_tasks_and_initial_states_that_are_not_there(self, settings, options, message):
        with pytest.raises(ConfigError, match=message):
            run(replace(settings, **options))

    def test_no_workers(self, settings):
        with pytest.raises(ConfigError, match='workers: expected at least 1, got 0'):
            run(settings, workers=0)

    def test_initial_states_that_cannot_be_read(self, settings, fake_libero):
        fake_libero([SOON]).write_bytes(b'')
        with pytest.raises(EpisodeError, match='no readable initial states'):
            run(settings)

    def test_a_checkpoint_for_another_robot(self, libero_folder, tiny_folder):
        check_fit(read_spec(libero_folder))
        spec = read_spec(libero_folder)
        unfit = {
            'cameras': replace(spec, cameras=('front', 'belly')),
            'state': read_spec(tiny_folder),
            'action:': replace(
                spec,
                action=replace(
                    spec.action,
                    **{
                        name: getattr(spec.action, name)[:6]
                        for name in ('names', 'units', 'scale', 'minimum', 'maximum')
                    },
                ),
            ),
            'action.dt': replace(spec, action=replace(spec.action, dt=0.1)),
        }
        for field, other in unfit.items():
            with pytest.raises(RobotError, match=f'does not fit LIBERO: {field}'):
                check_fit(other)
        check_fit(replace(spec, state=None, cameras=('front',)))


def made_trial(task, trial, success):
    rollout = None if success is None else Rollout(success, 10, 0.5, 2, 0, 40.0)
    error = 'Traceback: it broke' if success is None else None
    return LiberoTrial({'suite': 'goal'}, task, f'task_{task}', trial, 'go', 'm', rollout, error)


class TestReport:
    made = [made_trial(0, 0, True), made_trial(0, 1, False), made_trial(1, 0, None)]

    def test_errors_are_in_no_rate(self):
        assert figures(self.made) == {
            'trials': 2,
            'successes': 1,
            'success_rate': 0.5,
            'wilson_95': wilson_interval(1, 2),
            'errors': 1,
            'chunk_ms': 40.0,
        }

    def test_it_holds_figures_per_task_and_in_total_and_every_trial(self):
        found = json.loads(json.dumps(report(self.made)))
        assert [(t['name'], t['trials'], t['errors']) for t in found['tasks']] == [
            ('task_0', 2, 0), ('task_1', 0, 1),
        ]  # fmt: skip
        assert found['tasks'][1]['success_rate'] is None
        assert (found['total']['successes'], found['protocol']) == (1, {'suite': 'goal'})
        assert found['trials'][2]['error'] == 'Traceback: it broke'

    def test_the_table_has_a_row_per_task_and_one_for_all(self):
        lines = table(report(self.made)).splitlines()
        assert [line.split()[0] for line in lines] == ['task', '0', '1', 'all']
        assert '1 / 2' in lines[1]
        assert '50.0%' in lines[1]
        assert lines[1].endswith('task_0')
        assert '–' in lines[2]

    def test_the_first_error_is_told_with_its_place(self):
        assert libero_trials.first_error(self.made) == 'task 1, trial 0\nTraceback: it broke'
        assert libero_trials.first_error(self.made[:2]) == ''


class TestCommand:
    def test_it_prints_the_table_and_writes_report_and_record(
        self, settings, libero_folder, tmp_path, capsys
    ):
        file = tmp_path / 'out/spatial.json'
        command = ['eval', 'libero', '--suite', 'spatial', '--checkpoint', str(libero_folder)]
        assert main([*command, '--trials', '2', '--json', str(file)]) == 0
        assert '2 / 4' in capsys.readouterr().out
        assert json.loads(file.read_text())['total']['trials'] == 4
        assert len(file.with_suffix('.jsonl').read_text().splitlines()) == 4

    def test_errors_are_told_and_give_status_1(self, settings, libero_folder, fake_libero, capsys):
        fake_libero([CRASH])
        command = ['eval', 'libero', '--suite', 'spatial', '--checkpoint', str(libero_folder)]
        assert main([*command, '--tasks', '0', '--trials', '1']) == 1
        said = capsys.readouterr().out
        assert '1 of 1 trials ended in an error' in said
        assert 'the physics exploded' in said

    def test_videos_show_each_trial_and_tell_how_it_ended(
        self, settings, libero_folder, tmp_path, fake_libero
    ):
        import imageio.v2 as imageio

        fake_libero([SOON, CRASH])
        command = ['eval', 'libero', '--suite', 'spatial', '--checkpoint', str(libero_folder)]
        main([*command, '--tasks', '0', '--trials', '2', '--videos', str(tmp_path)])
        assert sorted(f.name for f in tmp_path.glob('*.mp4')) == [
            'libero_spatial_task00_trial00_success.mp4',
            'libero_spatial_task00_trial01_error.mp4',
        ]
        with imageio.get_reader(tmp_path / 'libero_spatial_task00_trial00_success.mp4') as video:
            images = list(video.iter_data())
        assert len(images) == 2
        assert images[0].shape[1] > 2 * 256

    def test_a_trial_that_ends_otherwise_replaces_its_video(
        self, settings, libero_folder, tmp_path, fake_libero
    ):
        command = ['eval', 'libero', '--suite', 'spatial', '--checkpoint', str(libero_folder)]
        command += ['--tasks', '0', '--trials', '1', '--videos', str(tmp_path)]
        for state, outcome in ((CRASH, 'error'), (SOON, 'success')):
            fake_libero([state])
            main(command)
            assert [f.name.split('_')[-1] for f in tmp_path.glob('*.mp4')] == [f'{outcome}.mp4']

    @pytest.mark.parametrize('delay', ['0.2', 'measured'])
    def test_a_delay_is_seconds_or_measured(self, settings, libero_folder, delay, capsys):
        command = ['eval', 'libero', '--suite', 'spatial', '--checkpoint', str(libero_folder)]
        assert main([*command, '--tasks', '0', '--trials', '1', '--delay', delay]) == 0

    def test_without_libero_there_is_one_message(self, libero_folder, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, 'libero', None)
        command = ['eval', 'libero', '--suite', 'goal', '--checkpoint', str(libero_folder)]
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert 'pip install "hf-libero' in said[0]
