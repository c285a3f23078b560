import json
import os
from pathlib import Path
import subprocess
import sys

import publish
import pytest

from worldvla_ros.cli import parts
from worldvla_ros.cli.parts import load_checkpoint
from worldvla_ros.cli.verbs import main, parser

VERBS = (
    ['up'],
    ['demo'],
    ['collect'],
    ['train'],
    ['eval', 'sim'],
    ['eval', 'imagination'],
    ['eval', 'libero'],
    ['eval', 'world'],
    ['eval', 'quantisation'],
    ['bench'],
    ['imagine'],
    ['pull'],
    ['inspect'],
    ['convert'],
)


@pytest.fixture(scope='module')
def renamed(tmp_path_factory):
    """A folder in the published layout whose path says nothing."""
    return publish.write_published(tmp_path_factory.mktemp('root'), 'mine')


@pytest.mark.parametrize('verb', VERBS, ids=' '.join)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb, '--help'])
    assert ended.value.code == 0
    assert f'example: worldvla {" ".join(verb)}' in ' '.join(capsys.readouterr().out.split())


def test_a_missing_checkpoint_is_one_message_and_status_2(capsys, tmp_path):
    command = ['eval', 'sim', '--task', 'pick', '--checkpoint', str(tmp_path / 'nowhere')]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert 'nowhere' in said[0]
    assert 'worldvla.json' in said[0]


@pytest.mark.parametrize(
    'verb',
    [
        ['eval', 'sim', '--task', 'pick'],
        ['eval', 'imagination', '--task', 'pick'],
        ['eval', 'libero', '--suite', 'goal'],
        ['eval', 'world', '--episodes-dir', 'data'],
        ['imagine', '--episode', '8500', '--out', 'strip.png'],
    ],
    ids=lambda verb: ' '.join(verb[:2]),
)
def test_a_published_folder_under_another_name_is_loaded_by_its_profile(verb, renamed):
    command = [*verb, '--checkpoint', str(renamed), '--profile', 'worldvla_256_libero_goal']
    loaded = load_checkpoint(parser().parse_args(command))
    assert loaded.spec.name == 'worldvla_256_libero_goal'


def test_seeds_kept_for_others_are_refused(capsys, tmp_path):
    command = [
        'collect',
        '--task',
        'pick',
        '--episodes',
        '2',
        '--seed',
        '8999',
        '--out',
        str(tmp_path),
    ]
    assert main(command) == 2
    assert '0 … 8999' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_no_yaml_is_one_message(capsys, tmp_path):
    file = tmp_path / 'train.yaml'
    file.write_text('a: [1')
    assert main(['train', str(file)]) == 2
    assert 'train.yaml is not YAML' in capsys.readouterr().err


def test_collect_records_and_says_how_many(capsys, tmp_path):
    command = ['collect', '--task', 'push', '--episodes', '1', '--seed', '3',
               '--out', str(tmp_path),
               '--cameras', 'front']  # fmt: skip
    assert main(command) == 0
    assert '1 episodes recorded' in capsys.readouterr().out
    assert main(command) == 0
    assert '0 episodes recorded, 0 succeeded; 1 were there already' in capsys.readouterr().out


def test_eval_writes_one_record_per_episode_and_a_summary(tiny_folder, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__('worldvla_ros.sim.tabletop').sim.tabletop.MAX_STEPS, 'pick', 8)
    file = tmp_path / 'sim.json'
    command = [
        'eval',
        'sim',
        '--task',
        'pick',
        '--episodes',
        '2',
        '--seed',
        '8000',
        '--json',
        str(file),
    ]
    assert main([*command, '--checkpoint', str(tiny_folder)]) == 0
    found = json.loads(file.read_text())
    assert [e['seed'] for e in found['episodes']] == [8000, 8001]
    assert {'instruction', 'success', 'seconds'} <= set(found['episodes'][0])
    low, high = found['summary']['wilson_95']
    assert low <= found['summary']['success_rate'] <= high


@pytest.mark.parametrize(
    'verb',
    [
        ['eval', 'sim', '--task', 'pick', '--episodes', '1'],
        ['eval', 'quantisation'],
        ['imagine', '--episode', '8000', '--out', 'never.png'],
    ],
)
def test_an_unknown_precision_is_one_message_and_status_2(verb, tiny_folder, capsys):
    assert main([*verb, '--checkpoint', str(tiny_folder), '--dtype', 'int9']) == 2
    assert 'precision int9: expected one of auto, float32' in capsys.readouterr().err


def test_imagine_draws_a_picture_and_writes_figures(tiny_folder, tmp_path):
    picture, figures = tmp_path / 'a/strip.png', tmp_path / 'a/strip.json'
    command = ['imagine', '--episode', '8000', '--horizon', '4', '--out', str(picture)]
    assert main([*command, '--json', str(figures), '--checkpoint', str(tiny_folder)]) == 0
    assert picture.read_bytes().startswith(b'\x89PNG')
    images = json.loads(figures.read_text())['images']
    assert [i['actions_ahead'] for i in images] == [2, 4]


def test_help_of_up_does_not_load_torch():
    code = ('import sys, worldvla_ros.cli.verbs as c\n'
            'try: c.main(["up", "--help"])\nexcept SystemExit: pass\n'
            'sys.exit("torch" in sys.modules)')  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', code], cwd=root, stdout=subprocess.DEVNULL)
    assert done.returncode == 0


def test_the_flags_of_the_contract_parse():
    lines = (
        'up --instruction go',
        'collect --task put --episodes 1 --seed 2 --out d',
        'train c.yaml --resume',
        'eval sim --task pick --episodes 1 --seed 2 --instruction go --checkpoint d --json f',
        'eval libero --suite 10 --checkpoint d --tasks 0 3 --trials 5 --delay 0.2 --workers 2',
        'eval libero --suite goal --checkpoint d --delay measured --resolution 512 --videos v',
        'eval world --episodes-dir e --checkpoint d --lpips l.pt --fvd f.pt --json j',
        'eval quantisation --checkpoint d --dtype int8 --against bfloat16 --json f',
        'imagine --episode 8000 --horizon 10 --out p.png --json f',
        'up --dtype int8',
        'pull worldvla_256_libero_goal --to d',
        'inspect d --json f',
        'convert s d',
    )
    for line in lines:
        assert parser().parse_args(line.split()).verb


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--device', 'tpu'], "device 'tpu': expected cpu, cuda or cuda:N"),
        (['--device', 'cuda:99'], 'device cuda:99: expected a GPU that PyTorch can use'),
        (['--threads', '-1'], 'threads: expected 1 … 1024, or 0 for what PyTorch chooses, got -1'),
        (['--threads', '1000000'], 'threads: expected 1 … 1024'),
        (['--json', '/proc/none/a.json'], '/proc/none/a.json cannot be written'),
    ],
)
def test_flags_that_cannot_be_are_one_message_before_the_work(flags, words, tiny_folder, capsys):
    verbs = (
        ['eval', 'sim', '--task', 'pick', '--checkpoint', str(tiny_folder)],
        ['bench', '--model', str(tiny_folder)],
    )
    for verb in verbs:
        assert main([*verb, *flags]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert words in said[0]


def test_a_refused_file_for_figures_leaves_none_behind(tmp_path):
    parts.check_writable(str(tmp_path / 'a/b.json'))
    assert not (tmp_path / 'a/b.json').exists()
    (tmp_path / 'old.json').write_text('{}')
    parts.check_writable(str(tmp_path / 'old.json'))
    assert (tmp_path / 'old.json').read_text() == '{}'


@pytest.mark.parametrize('encoding', ['latin-1', 'ascii'])
def test_a_terminal_of_another_encoding_gets_ascii(encoding, tiny_folder):
    root = Path(__file__).parents[2]
    command = [sys.executable, '-m', 'worldvla_ros.cli', 'inspect', str(tiny_folder)]
    done = subprocess.run(
        command, cwd=root, capture_output=True, env={**os.environ, 'PYTHONIOENCODING': encoding}
    )
    assert done.returncode == 0, done.stderr
    assert '-1.0 ... 1.0' in done.stdout.decode(encoding)
