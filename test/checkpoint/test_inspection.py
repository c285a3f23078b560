"""What is said about checkpoint folders, whole and damaged, and which wordings they know."""

import json
import shutil

import numpy as np
import publish
import pytest

from worldvla_ros.benchmark.target import open_target
from worldvla_ros.checkpoint import inspection
from worldvla_ros.checkpoint.folder import load
from worldvla_ros.checkpoint.inspection import inspect, longest_sequence, report_lines
from worldvla_ros.cli.verbs import main
from worldvla_ros.data.episodes import Episode, save_episode
from worldvla_ros.errors import EpisodeError
from worldvla_ros.evaluate.wording import WORLD_WORDINGS, known_words

GOAL_256 = 'model_256/libero_goal'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A published folder; do not write to it."""
    return publish.write_published(tmp_path_factory.mktemp('published'), GOAL_256)


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder.parents[1], tmp_path / 'copy') / GOAL_256


def test_a_published_folder_says_what_it_is_and_expects(folder):
    report = inspect(folder)
    assert (report['layout'], report['name']) == ('Hugging Face', 'worldvla_256_libero_goal')
    assert report['missing'] == []
    assert report['stored_as'] == 'bfloat16'
    assert report['parameters']['transformer'] == sum(
        tensor.numel() for tensor in publish.random_tensors().values()
    )
    assert report['expects']['robot'] == 'libero'
    assert report['expects']['images_per_camera'] == 2
    assert '0.05 m' in report['expects']['actions']['dx']
    assert 'libero_goal' not in report['expects']['action_prompt']
    memory = report['memory_gb']
    assert memory['float32'] > memory['bfloat16'] >= memory['int8'] >= memory['int4'] > 0
    assert report['tokenizers'] == str(folder.parents[1] / 'chameleon/tokenizer')
    assert report['commit'] == 'not recorded'
    assert report['context_length'] == 8192
    json.dumps(report)


def test_memory_of_the_published_size_is_that_of_its_weights():
    spec = open_target('7b').spec
    counted = {'transformer': 7_013_158_912, 'action_head': 0, 'vqgan': 68_718_467}
    memory = inspection._memory(spec, counted)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert memory['bfloat16'] - memory['int8'] == pytest.approx(linear / 1e9, abs=2e-3)
    assert memory['bfloat16'] - memory['int4'] == pytest.approx(linear * 1.375 / 1e9, abs=2e-3)
    assert 14.3 < memory['bfloat16'] < 15.0


def test_the_commit_that_was_pulled_is_reported(copied):
    (copied / 'pulled.json').write_text('{"commit": "abc"}')
    assert inspect(copied)['commit'] == 'abc'


def test_our_own_folder_and_metas_are_told_apart(tiny_folder, tmp_path):
    assert inspect(tiny_folder)['layout'] == 'worldvla_ros'
    meta = inspect(publish.write_meta(tmp_path, publish.random_tensors()))
    assert (meta['layout'], meta['tasks'], meta['missing']) == ('Meta', [], [])
    assert inspect(tmp_path / 'nowhere')['missing']


def test_sequences_are_as_long_as_published(folder):
    spec = load(folder).spec
    assert longest_sequence(spec) == 64 + 2 * 276 + 5 * 9


def test_everything_that_is_missing_is_listed_at_once(copied):
    (copied / 'model-00002-of-00003.safetensors').unlink()
    tokenizers = copied.parents[1] / 'chameleon/tokenizer'
    (tokenizers / 'vqgan.yaml').unlink()
    renamed = copied.rename(copied.with_name('mine'))
    missing = inspect(renamed)['missing']
    assert len(missing) == 3
    for words in ('no profile is for it', 'lacks 1 of its shards', 'vqgan.yaml'):
        assert any(words in text for text in missing)
    assert len(inspect(renamed, 'worldvla_256_libero_goal')['missing']) == 2


def test_wrong_shapes_are_listed(copied):
    config = json.loads((copied / 'config.json').read_text())
    (copied / 'config.json').write_text(json.dumps(config | {'intermediate_size': 64}))
    assert 'shape of' in inspect(copied)['missing'][0]


def test_the_report_is_printed_and_written(folder, tmp_path, capsys):
    file = tmp_path / 'report.json'
    assert main(['inspect', str(folder), '--json', str(file)]) == 0
    said = capsys.readouterr().out
    assert 'layout: Hugging Face' in said
    assert 'missing: nothing' in said
    assert json.loads(file.read_text()) == json.loads(json.dumps(inspect(folder)))
    assert '  robot: libero' in report_lines(inspect(folder))


def test_each_thing_that_is_missing_has_a_line_of_its_own(copied):
    (copied / 'model-00002-of-00003.safetensors').unlink()
    (copied.parents[1] / 'chameleon/tokenizer/vqgan.yaml').unlink()
    lines = report_lines(inspect(copied))
    place = lines.index('missing:')
    assert [line[:4] for line in lines[place + 1 :]] == ['  - '] * 2


def test_a_range_without_a_unit_is_a_range_alone(folder):
    assert inspect(folder)['expects']['actions']['gripper'] == '-1.0 … 1.0'


@pytest.mark.parametrize(
    ('count', 'text'),
    [(0, '0 B'), (999, '999 B'), (1000, '1 kB'), (999_960, '1 MB'), (14_026_317_824, '14 GB'),
     (4_956_000_000, '4.96 GB')],
)  # fmt: skip
def test_sizes_of_files_have_three_digits(count, text, tmp_path):
    with (tmp_path / 'x').open('wb') as stream:
        stream.truncate(count)
    assert inspect(tmp_path)['files'] == {'x': text}


def test_no_files_are_nothing(tmp_path):
    assert 'files: nothing' in report_lines(inspect(tmp_path))


def test_a_damaged_folder_is_status_1(copied, capsys):
    (copied / 'model.safetensors.index.json').unlink()
    assert main(['inspect', str(copied)]) == 1
    assert 'model.safetensors.index.json' in capsys.readouterr().out


def test_convert_writes_a_folder_of_our_own(folder, tmp_path, capsys):
    assert main(['convert', str(folder), str(tmp_path / 'mine')]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'mine')
    assert inspect(tmp_path / 'mine')['layout'] == 'worldvla_ros'


# wordings


def episode(spec, seed=0, steps=12, size=32, **changes):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8)
    action = rng.uniform(-0.3, 0.3, (steps, spec.action.dim)).astype(np.float32)
    width = len(spec.state.names) if spec.state else 1
    values = {
        'images': dict.fromkeys(spec.cameras, images),
        'state': np.zeros((steps + 1, width), np.float32),
        'action': action,
        'executed': changes.get('action', action),
        'task': 'KITCHEN_SCENE3_turn_on_the_stove',
        'instruction': 'turn on the stove',
        'seed': seed,
        'success': True,
    } | changes
    return Episode(**values)


def test_the_wording_with_the_lowest_cross_entropy_is_named(tiny_checkpoint, tmp_path):
    for seed in (0, 1):
        save_episode(episode(tiny_checkpoint.spec, seed), tmp_path)
    found = known_words(tiny_checkpoint, tmp_path, transitions=3)
    assert found['transitions'] == 3
    world, task = found['world_prompt'], found['task_text']
    assert world['cross_entropy'].keys() == WORLD_WORDINGS.keys()
    assert len(set(world['cross_entropy'].values())) == 3
    assert task['cross_entropy'].keys() == {'language', 'folder'}
    for part in (world, task):
        assert all(np.isfinite(value) for value in part['cross_entropy'].values())
        best = part['knows_best']
        assert part['cross_entropy'][best] == min(part['cross_entropy'].values())


def test_a_model_without_knowledge_is_as_unsure_as_chance(tiny_folder, tmp_path):
    blank = load(tiny_folder)
    blank.model.lm_head.weight.zero_()
    save_episode(episode(blank.spec), tmp_path)
    found = known_words(blank, tmp_path)
    chance = np.log(blank.spec.vocabulary.size)
    for part in ('world_prompt', 'task_text'):
        for value in found[part]['cross_entropy'].values():
            assert value == pytest.approx(chance, abs=1e-4)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'images': {'back': np.zeros((13, 8, 8, 3), np.uint8)}}, 'cameras'),
        ({'action': np.zeros((12, 6), np.float32)}, 'numbers per action'),
        ({'state': np.zeros((13, 2), np.float32)}, 'numbers per state'),
    ],
)
def test_episodes_of_another_robot_are_refused(tiny_checkpoint, tmp_path, changes, words):
    save_episode(episode(tiny_checkpoint.spec, **changes), tmp_path)
    with pytest.raises(EpisodeError, match=words) as caught:
        known_words(tiny_checkpoint, tmp_path)
    assert caught.value.remedy


def test_episodes_that_are_too_short_are_refused(tiny_checkpoint, tmp_path):
    save_episode(episode(tiny_checkpoint.spec, steps=2), tmp_path)
    with pytest.raises(EpisodeError, match='long enough'):
        known_words(tiny_checkpoint, tmp_path)


def test_the_command_measures_wordings(tiny_checkpoint, tiny_folder, tmp_path, capsys):
    save_episode(episode(tiny_checkpoint.spec), tmp_path)
    assert main(['inspect', str(tiny_folder), '--episodes', str(tmp_path)]) == 0
    assert 'knows_best' in capsys.readouterr().out
