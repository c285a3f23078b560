"""What all tests share: a tiny checkpoint with random weights, and a ROS domain of their own."""

import fcntl
import os
from pathlib import Path
import signal
import sys
import tempfile

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent


def free_domain():
    """Return a ROS domain id that no other test run has, and the lock that keeps it."""
    for i in range(100):
        domain = 1 + (os.getpid() + i) % 100
        lock = (Path(tempfile.gettempdir()) / f'worldvla_ros_domain_{domain}').open('w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return domain, lock
    raise RuntimeError('all ROS domains from 1 to 100 are taken by other test runs')


os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
# away from whatever else runs on this machine, and from test runs beside this one
DOMAIN, DOMAIN_LOCK = free_domain()
os.environ['ROS_DOMAIN_ID'] = str(DOMAIN)
# UDP on the loopback interface: shared memory, which LOCALHOST would choose, leaves readers deaf
# where a process is suspended in a write, and perhaps where it is killed, as many are here
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(ROOT / 'config/dds/loopback.xml')

# children inherit it: under nohup a hang-up would be ignored, and tests of it could not pass
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# networks are tiny here: more threads would wait for each other
torch.set_num_threads(1)
ROBOT_NAMES = ('dx', 'dy', 'dz', 'drx', 'dry', 'drz', 'gripper')


@pytest.fixture(scope='session')
def tiny_spec():
    """What the tiny weights mean: 32 px images as 4 × 4 codes, 4 actions per chunk."""
    from worldvla_ros.checkpoint.spec import ActionSpec, CheckpointSpec, StateSpec, WorldSpec
    from worldvla_ros.model.transformer import TransformerConfig
    from worldvla_ros.model.vqgan import VQGANConfig
    from worldvla_ros.tokenizers import vocab

    vocabulary = vocab.compact(codebook_size=32, text_size=300)
    return CheckpointSpec(
        name='tiny',
        robot='sim_panda',
        cameras=('front',),
        image_size=32,
        action=ActionSpec(
            names=ROBOT_NAMES,
            units=('m', 'm', 'm', 'rad', 'rad', 'rad', '1'),
            scale=(0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0),
            minimum=(-1.0,) * 7,
            maximum=(1.0,) * 7,
            horizon=4,
            dt=0.05,
        ),
        state=StateSpec(
            recipe='tcp_pose_width',
            names=('x', 'y', 'z', 'rx', 'ry', 'rz', 'width'),
            units=('m', 'm', 'm', 'rad', 'rad', 'rad', 'm'),
            minimum=(0.2, -0.3, 0.0, -0.2, -0.2, -0.2, 0.0),
            maximum=(0.8, 0.3, 0.4, 0.2, 0.2, 0.2, 0.08),
        ),
        world=WorldSpec(actions_per_image=2),
        vocabulary=vocabulary,
        transformer=TransformerConfig(
            vocab_size=vocabulary.size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        ),
        vqgan=VQGANConfig(
            embed_dim=8, n_embed=32, z_channels=8, ch=8, ch_mult=(1, 1, 2, 2),
            num_res_blocks=1, norm_groups=4,
        ),
    )  # fmt: skip


@pytest.fixture(scope='session')
def tiny_folder(tiny_spec, tmp_path_factory):
    """A checkpoint folder with random weights; do not write to it."""
    import torch

    from worldvla_ros.checkpoint.folder import save
    from worldvla_ros.model.transformer import Transformer
    from worldvla_ros.model.vqgan import VQGAN
    from worldvla_ros.sim.tasks import corpus
    from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer

    folder = tmp_path_factory.mktemp('checkpoint')
    sentences = [tiny_spec.prompts.action.format(task=s) for s in corpus()[:500]]
    text_file = folder / 'text.json'
    train_text_tokenizer([*sentences, tiny_spec.prompts.world], 300).save(str(text_file))
    text = TextTokenizer.load(text_file, tiny_spec.vocabulary.text_base)
    torch.manual_seed(0)
    model = Transformer(tiny_spec.transformer)
    model.initialise(std=0.2)
    save(folder / 'tiny', tiny_spec, model, VQGAN(tiny_spec.vqgan), text)
    return folder / 'tiny'


@pytest.fixture(scope='session')
def tiny_checkpoint(tiny_folder):
    """The checkpoint of `tiny_folder`, loaded on the CPU."""
    from worldvla_ros.checkpoint.folder import load

    return load(tiny_folder)


@pytest.fixture(scope='session')
def head_checkpoint(tiny_checkpoint, tmp_path_factory):
    """The tiny checkpoint with a random continuous action head, in a folder of its own."""
    from dataclasses import replace

    import torch

    from worldvla_ros.checkpoint.folder import load, save
    from worldvla_ros.model.action_head import ActionHeadConfig
    from worldvla_ros.model.transformer import Transformer

    old = tiny_checkpoint
    head = ActionHeadConfig(
        context_size=old.spec.transformer.hidden_size,
        hidden_size=16,
        intermediate_size=24,
        horizon=old.spec.action.horizon,
        dim=len(old.spec.action.names),
    )
    torch.manual_seed(1)
    model = Transformer(old.spec.transformer, head)
    model.action_head.initialise(std=0.2)
    model.load_state_dict(old.model.state_dict(), strict=False)
    folder = tmp_path_factory.mktemp('head')
    save(folder, replace(old.spec, name='headed', action_head=head), model, old.vqgan, old.text)
    return load(folder)


@pytest.fixture
def picture():
    """A random image uint8[48, 64, 3]."""
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def fake_libero(tmp_path, monkeypatch):
    """The stand-in for LIBERO, importable here and in child processes; returns its `plan`.

    `plan(states, suite, task)` writes the initial states of a task (see its envs.py).
    """
    import torch

    monkeypatch.syspath_prepend(Path(__file__).parent / 'fake_libero')
    monkeypatch.setenv('FAKE_LIBERO', str(tmp_path / 'libero'))
    for name in [name for name in sys.modules if name.split('.')[0] == 'libero']:
        monkeypatch.delitem(sys.modules, name)

    def plan(states, suite='spatial', task='pick_up_the_bowl'):
        file = tmp_path / f'libero/init_files/libero_{suite}/{task}.pruned_init'
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [(number, *state) for number, state in enumerate(states)]
        torch.save(np.array(rows, np.float64).reshape(-1, 3), file)
        return file

    yield plan
    for name in [name for name in sys.modules if name.split('.')[0] == 'libero']:
        del sys.modules[name]


REAL_TIME = {
    'nodes', 'demo', 'processes', 'test_graph.py', 'test_security.py', 'test_soak.py',
    'test_injected_faults.py',
}  # fmt: skip
"""Folders and files of tests in which nodes or processes run by the clock of the wall."""


def pytest_collection_modifyitems(items):
    """Mark tests in real time; leave time for compiling interfaces to whichever asks first."""
    for item in items:
        if REAL_TIME & set(item.path.relative_to(ROOT / 'test').parts):
            item.add_marker(pytest.mark.realtime)
        if 'lookalikes' in getattr(item, 'fixturenames', ()):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope='session')
def lookalikes():
    """Packages that look like moveit_msgs, control_msgs and franka_msgs, importable here.

    Real ones that are installed win. Returns what child processes need in their environment.
    """
    import ctypes

    import lookalike

    lack = lookalike.lack()
    if lack:
        pytest.skip(lack)
    packages, libraries = lookalike.build()
    sys.path.append(str(packages))
    left, tried = sorted(libraries.glob('*.so')), -1
    while left and len(left) != tried:  # each needs others of them
        tried = len(left)
        for library in list(left):
            try:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
                left.remove(library)
            except OSError:
                continue
    assert not left
    return {
        'PYTHONPATH': os.pathsep.join(
            [*filter(None, [os.environ.get('PYTHONPATH')]), str(packages)]
        ),
        'LD_LIBRARY_PATH': os.pathsep.join(
            [*filter(None, [os.environ.get('LD_LIBRARY_PATH')]), str(libraries)]
        ),
    }
