"""Fetching published checkpoints, from a Hub that is faked."""

import json
from pathlib import Path
import subprocess
import sys
import types

import publish
import pytest

from worldvla_ros.checkpoint.folder import load
from worldvla_ros.checkpoint.pull import pull
from worldvla_ros.cli.verbs import main
from worldvla_ros.errors import CheckpointError, ConfigError, MissingDependencyError

NAME = 'worldvla_256_libero_goal'


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: writes what a published repository holds."""

    def __init__(self):
        super().__init__('huggingface_hub')
        self.calls, self.revisions, self.failure = [], [], None
        self.unreachable, self.lost = None, 'nothing'

    def model_info(self, repo, *, revision=None):
        if self.unreachable:
            raise self.unreachable
        return types.SimpleNamespace(sha=f'commit of {repo} at {revision}')

    def snapshot_download(self, repo, *, revision, allow_patterns, local_dir):
        self.calls.append((repo, tuple(allow_patterns), local_dir))
        self.revisions.append(revision)
        if self.unreachable:
            return  # as it does where there is a folder already
        if self.failure:
            raise self.failure
        if any('vqgan.ckpt' in pattern for pattern in allow_patterns):
            publish.write_tokenizers(local_dir / 'chameleon/tokenizer')
            return
        place = (
            local_dir / allow_patterns[0].rsplit('/', 1)[0]
            if '/' in allow_patterns[0]
            else local_dir
        )
        place.mkdir(parents=True, exist_ok=True)
        publish.write_config(place)
        publish.write_weights(place, publish.random_tensors())
        for file in place.glob(self.lost):
            file.unlink()


class HubError(OSError):
    pass


@pytest.fixture
def hub(monkeypatch):
    made = FakeHub()
    errors = types.ModuleType('huggingface_hub.errors')
    errors.HfHubHTTPError = HubError
    monkeypatch.setitem(sys.modules, 'huggingface_hub', made)
    monkeypatch.setitem(sys.modules, 'huggingface_hub.errors', errors)
    return made


def test_what_was_pulled_loads_with_nothing_to_edit(hub, tmp_path):
    folder = pull(NAME, tmp_path)
    assert folder == tmp_path / 'model_256/libero_goal'
    assert load(folder).spec.name == NAME


def test_only_weights_and_tokenizers_are_asked_for(hub, tmp_path):
    pull('rynnvla_vla_256_libero_10', tmp_path)
    (tokenizer, files, _), (weights, patterns, _) = hub.calls
    assert tokenizer == 'Alibaba-DAMO-Academy/WorldVLA'
    assert set(files) == {
        f'chameleon/tokenizer/{name}'
        for name in ('text_tokenizer.json', 'vqgan.yaml', 'vqgan.ckpt')
    }
    assert weights == 'Alibaba-DAMO-Academy/RynnVLA-002'
    assert set(patterns) == {
        f'VLA_model_256/libero_10/*.{kind}' for kind in ('json', 'safetensors')
    }


def test_a_whole_repository_gets_a_folder_of_its_name(hub, tmp_path):
    folder = pull('chameleon_7b_mgpt', tmp_path)
    assert folder == tmp_path / 'Chameleon_7B_mGPT'
    assert load(folder).spec.name == 'chameleon_7b_mgpt'


def test_what_was_pulled_says_from_which_commit(hub, tmp_path):
    folder = pull(NAME, tmp_path)
    repo = 'Alibaba-DAMO-Academy/WorldVLA'
    assert hub.revisions == [f'commit of {repo} at None'] * 2
    tokenizers = 'chameleon/tokenizer'
    places = {folder: 'model_256/libero_goal', tmp_path / tokenizers: tokenizers}
    for place, path in places.items():
        assert json.loads((place / 'pulled.json').read_text()) == {
            'repository': repo, 'path': path, 'commit': f'commit of {repo} at None',
        }  # fmt: skip


def test_a_revision_can_be_asked_for(hub, tmp_path):
    command = ['pull', NAME, '--to', str(tmp_path), '--revision', 'abc', '--tokenizer-revision']
    assert main([*command, 'v1']) == 0
    assert [revision.split(' at ')[1] for revision in hub.revisions] == ['v1', 'abc']


def test_names_are_listed_on_demand(capsys):
    assert main(['pull', '--list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'{NAME}: WorldVLA on libero_goal, 256 px' in lines
    assert main(['pull']) == 2
    assert '--list' in capsys.readouterr().err


ENDLESS = """
import http.server, sys, threading
class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.end_headers()
        try:
            self.wfile.write(START)
            while True:
                self.wfile.write(b'1,' * (1 << 20))
        except OSError:
            pass
    do_HEAD = do_GET
    def log_message(self, *_): pass
START = sys.argv[2].encode()
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
import os
os.environ['HF_ENDPOINT'] = f'http://127.0.0.1:{server.server_address[1]}'
os.environ['NO_PROXY'] = '127.0.0.1'
from worldvla_ros.checkpoint import pull
from worldvla_ros.errors import CheckpointError
try:
    pull.pull('worldvla_256_libero_goal', sys.argv[1])
except CheckpointError as error:
    print(error)
"""


def test_a_hub_that_answers_without_end_is_cut_off(tmp_path):
    library = pytest.importorskip('huggingface_hub')
    if not hasattr(library, 'set_client_factory'):
        pytest.skip('this version does not let its connections be watched')
    done = subprocess.run(
        [sys.executable, '-c', ENDLESS, str(tmp_path), '{"siblings": ['],
        capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert 'could not be fetched: an answer of more than 67108864 bytes' in done.stdout, done


def test_an_unknown_name_is_refused_with_near_ones(hub, tmp_path):
    with pytest.raises(ConfigError) as caught:
        pull('worldvla_256_libero_gaol', tmp_path)
    assert NAME in caught.value.remedy
    assert not hub.calls


def test_metas_original_must_be_asked_for(hub, tmp_path):
    with pytest.raises(CheckpointError, match='cannot be pulled') as caught:
        pull('chameleon_7b_meta', tmp_path)
    assert caught.value.remedy
    assert not hub.calls


def test_a_repository_without_the_folder_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, 'write_weights', lambda *_: None)
    with pytest.raises(CheckpointError, match='has no weights') as caught:
        pull(NAME, tmp_path)
    assert 'huggingface.co' in caught.value.remedy


@pytest.mark.parametrize(
    'failure',
    [
        HubError('404 Client Error. (Request ID: 1)\n\nRepository Not Found.\nmore'),
        OSError('no route to host'),
        RecursionError('maximum recursion depth exceeded'),
    ],
)
def test_a_failed_download_says_how_to_go_on(hub, tmp_path, failure):
    hub.failure = failure
    with pytest.raises(CheckpointError, match='could not be fetched') as caught:
        pull(NAME, tmp_path)
    assert 'run this again' in caught.value.remedy
    assert 'more' not in str(caught.value).split(': expected')[0]
    if 'Not Found' in str(failure):
        assert '404 Client Error. (Request ID: 1) Repository Not Found: exp' in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_not_mistaken_for_one_that_has_all(hub, tmp_path):
    hub.lost = '*00002-of*'
    with pytest.raises(CheckpointError, match='lacks 1 of its shards'):
        pull(NAME, tmp_path)
    hub.unreachable = OSError('no route to host')
    with pytest.raises(CheckpointError, match='no route to host'):
        pull(NAME, tmp_path)


def test_without_huggingface_hub_the_command_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(MissingDependencyError):
        pull(NAME, tmp_path)
    assert main(['pull', NAME, '--to', str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert 'pip install' in said
    assert len(said.splitlines()) == 1


def test_the_command_prints_where_the_folder_is(hub, tmp_path, capsys):
    assert main(['pull', NAME, '--to', str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'model_256/libero_goal')


def test_what_libraries_say_of_their_requests_is_not_shown():
    code = (
        'import logging; from worldvla_ros.cli.verbs import main; main(["pull", "x"]); '
        'logging.getLogger("httpx").info("a request"); '
        'logging.getLogger("worldvla_ros.learn").info("a loss")'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'a loss' in done.stderr
    assert 'a request' not in done.stderr
