import json
import os
from pathlib import Path
import subprocess
import sys

import publish
import pytest
import yaml

from worldvla_ros.checkpoint.hardware import use_threads
from worldvla_ros.cli.parts import check_outputs, load_checkpoint
from worldvla_ros.cli.verbs import main, parser
from worldvla_ros.errors import ConfigError
from worldvla_ros.package_files import share_folder
from worldvla_ros.sim.wording import TabletopWording

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
    ['robot', 'check'],
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


def test_a_negative_seed_is_one_message_and_status_2(capsys, tmp_path):
    command = [
        'collect',
        '--task',
        'pick',
        '--episodes',
        '2',
        '--seed',
        '-1',
        '--out',
        str(tmp_path),
    ]
    assert main(command) == 2
    assert 'from 0 up' in capsys.readouterr().err
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


WRITERS = (
    ['collect', '--task', 'pick', '--out'],
    ['demo', '--out'],
    ['eval', 'sim', '--task', 'pick', '--json'],
    ['eval', 'imagination', '--task', 'pick', '--json'],
    ['eval', 'libero', '--suite', 'goal', '--json'],
    ['eval', 'libero', '--suite', 'goal', '--videos'],
    ['eval', 'world', '--episodes-dir', 'data', '--json'],
    ['eval', 'quantisation', '--json'],
    ['bench', '--json'],
    ['imagine', '--episode', '8000', '--out'],
    ['imagine', '--episode', '8000', '--out', 'strip.png', '--json'],
    ['inspect', 'checkpoint', '--json'],
)


@pytest.mark.parametrize('verb', WRITERS, ids=' '.join)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(verb, capsys, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    arguments = parser().parse_args([*verb, str(tmp_path / 'file/below')])
    with pytest.raises(ConfigError, match=f'{verb[-1]} cannot be written'):
        check_outputs(arguments)
    assert main([*verb, str(tmp_path / 'file/below')]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f'{verb[-1]} cannot be written' in said[0]


def test_training_refuses_folders_that_it_cannot_write(capsys, tmp_path):
    content = yaml.safe_load((share_folder() / 'config/train/demo.yaml').read_text())
    (tmp_path / 'file').write_text('no folder')
    for name in ('work', 'checkpoint'):
        places = {'work': str(tmp_path / 'work'), 'checkpoint': str(tmp_path / 'checkpoint')}
        places[name] = str(tmp_path / 'file/below')
        file = tmp_path / 'train.yaml'
        file.write_text(yaml.safe_dump(content | places))
        assert main(['train', str(file)]) == 2
        assert f'{name} cannot be written' in capsys.readouterr().err


def test_training_is_told_how_the_tabletop_words_its_tasks(monkeypatch, tmp_path, capsys):
    told = {}
    monkeypatch.setattr('worldvla_ros.learn.train.run', lambda *_, **o: told.update(o) or tmp_path)
    assert main(['train', 'x.yaml', '--resume']) == 0
    assert told['resume'] is True
    assert list(told['wordings']) == ['tabletop']
    assert isinstance(told['wordings']['tabletop'], TabletopWording)


THREADED = (
    ['eval', 'sim', '--task', 'pick'],
    ['eval', 'imagination', '--task', 'pick'],
    ['eval', 'libero', '--suite', 'goal'],
    ['eval', 'world', '--episodes-dir', 'data'],
    ['eval', 'quantisation'],
    ['bench'],
    ['imagine', '--episode', '8000', '--out', 'strip.png'],
)


@pytest.mark.parametrize('verb', THREADED, ids=lambda verb: ' '.join(verb[:2]))
def test_verbs_take_one_thread_and_no_negative_number(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parser().parse_args(verb).threads == 1
    assert main([*verb, '--threads', '-1']) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert 'threads' in said[0]
    assert 'or 0 for what PyTorch chooses, got -1' in said[0]


def test_threads_are_set_unless_pytorch_is_to_choose(monkeypatch):
    counts = []
    monkeypatch.setattr('torch.set_num_threads', counts.append)
    for count in (1, 0, 3):
        use_threads(count)
    assert counts == [1, 3]


@pytest.mark.parametrize('start', ['100000', '-1'])
def test_a_start_beyond_the_episode_is_one_message(start, tiny_folder, tmp_path, capsys):
    command = ['imagine', '--episode', '8000', '--start', start, '--out', str(tmp_path / 'x.png')]
    assert main([*command, '--checkpoint', str(tiny_folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert 'start: expected a step in 0 … ' in said[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'verb',
    [
        ['eval', 'imagination', '--task', 'pick', '--episodes', '1', '--ahead', '0'],
        ['eval', 'imagination', '--task', 'pick', '--episodes', '0'],
        ['eval', 'imagination', '--task', 'pick', '--seed', '-1'],
        ['eval', 'sim', '--task', 'pick', '--seed', '-1'],
        ['eval', 'sim', '--task', 'pick', '--episodes', '-2'],
        ['eval', 'quantisation', '--observations', '-1', '--dtype', 'float32'],
        ['eval', 'quantisation', '--seed', '-1', '--dtype', 'float32'],
        ['imagine', '--episode', '-1', '--out', 'never.png'],
        ['imagine', '--episode', '8000', '--ahead', '-1', '--out', 'never.png'],
    ],
    ids=lambda verb: ' '.join(verb),
)
def test_numbers_out_of_range_are_one_message(verb, tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, '--checkpoint', str(tiny_folder)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith('worldvla: ')
    assert not list(tmp_path.iterdir())


def test_imagine_draws_a_picture_and_writes_figures(tiny_folder, tmp_path):
    picture, figures = tmp_path / 'a/strip.png', tmp_path / 'a/strip.json'
    command = ['imagine', '--episode', '8000', '--ahead', '4', '--out', str(picture)]
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
        'imagine --episode 8000 --ahead 10 --out p.png --json f',
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
        (
            ['--json', '/proc/none/a.json'],
            '--json cannot be written: expected a file that can be written, got /proc/none/a.json',
        ),
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


@pytest.mark.parametrize('encoding', ['latin-1', 'ascii'])
def test_a_terminal_of_another_encoding_gets_ascii(encoding, tiny_folder):
    root = Path(__file__).parents[2]
    command = [sys.executable, '-m', 'worldvla_ros.cli', 'inspect', str(tiny_folder)]
    done = subprocess.run(
        command, cwd=root, capture_output=True, env={**os.environ, 'PYTHONIOENCODING': encoding}
    )
    assert done.returncode == 0, done.stderr
    assert '-1.0 ... 1.0' in done.stdout.decode(encoding)
