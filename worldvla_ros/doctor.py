"""What this machine has and what it lacks, each with its remedy: for `worldvla doctor`.

Libraries that may crash or hang are asked in processes of their own. Must not change anything, and
must not import what it asks about.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys

from worldvla_ros.package_files import share_folder

OK, NOTE, PROBLEM = 'ok', 'note', 'problem'
PYTHONS = ((3, 10), (3, 13))
NEEDED = (
    'torch',
    'numpy',
    'einops',
    'pillow',
    'pyyaml',
    'safetensors',
    'tokenizers',
    'pin',
    'daqp',
)
EXTRAS = {
    'mujoco': ('sim', 'the simulated arm'),
    'mcap': ('record', 'recordings'),
    'rerun-sdk': ('rerun', 'worldvla view'),
    'viser': ('view', 'the page in the browser'),
    'huggingface_hub': ('hub', 'worldvla pull'),
    'torchao': ('quantise', 'int8 and int4 weights'),
}
"""Distributions that only some uses need: their extra, and what for."""
ANSWER_S = 60.0
"""How long a library may take to answer [s]."""
GB = 1 << 30
LEAST_DISK_GB, LEAST_MEMORY_GB = 2, 2
LEAST_SHARED_MB = 64
"""What containers have by default; DDS passes images through it within one computer."""
FAST_DDS = 'rmw_fastrtps_cpp'
RECEIVE_BUFFER = 2 << 20
"""Bytes; a raw 640 × 480 image has 0.9 MB, which the usual 0.2 MB of UDP drop between machines."""
CHECKPOINT_MB = 1
RENDERER = (
    'import mujoco; c = mujoco.GLContext(64, 64); c.make_current(); '
    'from OpenGL import GL; print(GL.glGetString(GL.GL_RENDERER).decode()); c.free()'
)
MIDDLEWARE = (
    'import rclpy; from rclpy.utilities import get_rmw_implementation_identifier as rmw; '
    'import worldvla_ros.msg; print(rmw())'
)
GRAPHICS = (
    'import torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; '
    'print("; ".join(f"{p.name}, {p.total_memory / 2**30:.0f} GiB" for p in '
    'map(torch.cuda.get_device_properties, range(n))))'
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: OK, NOTE for what only some uses need, or PROBLEM.
        text: What was found.
        remedy: What to do, a sentence; empty where nothing is to be done.
    """

    name: str
    state: str
    text: str
    remedy: str = ''


def examine(root: Path = Path('/')) -> Iterator[Check]:
    """Look at this machine, one thing after the other.

    Args:
        root: Where /proc and /dev lie.
    """
    yield python_version(sys.version_info[:2])
    yield from packages()
    yield demo_checkpoint(share_folder() / 'checkpoints/demo')
    yield middleware(os.environ)
    yield commands(shutil.which)
    yield from network(os.environ, root)
    yield renderer(os.environ)
    yield graphics()
    yield from room(root)


def python_version(found: tuple[int, ...]) -> Check:
    """Judge the version of Python."""
    text = '.'.join(map(str, found))
    if PYTHONS[0] <= found <= PYTHONS[1]:
        return Check('Python', OK, f'{text}, {platform.machine()}')
    return Check('Python', PROBLEM, text, 'Use Python 3.10 to 3.13.')


def packages(installed: Callable[[str], str] = version) -> Iterator[Check]:
    """Look for Python packages."""
    missing = []
    for name in NEEDED:
        try:
            installed(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        remedy = 'pip install -r requirements/base.txt installs them.'
        yield Check('packages', PROBLEM, f'missing: {", ".join(missing)}', remedy)
    else:
        yield Check('packages', OK, f'torch {installed("torch")}, pinocchio {installed("pin")}')
    for name, (extra, use) in EXTRAS.items():
        try:
            yield Check(name, OK, f'{installed(name)}, for {use}')
        except PackageNotFoundError:
            remedy = f"pip install 'worldvla_ros[{extra}]' installs it."
            yield Check(name, NOTE, f'not installed; {use} needs it', remedy)


def demo_checkpoint(folder: Path) -> Check:
    """Look whether the shipped checkpoint is there, and no pointer in its place."""
    size_mb = sum(file.stat().st_size for file in folder.rglob('*.safetensors')) / 1e6
    if size_mb >= CHECKPOINT_MB:
        return Check('demo checkpoint', OK, f'{size_mb:.0f} MB')
    remedy = 'Clone the repository anew; with Git LFS, run git lfs pull.'
    return Check('demo checkpoint', PROBLEM, f'no weights in {folder}', remedy)


def middleware(environment: Mapping[str, str]) -> Check:
    """Ask ROS for its middleware, and for the messages of this package."""
    found, error = asked(MIDDLEWARE)
    if not error:
        distro = environment.get('ROS_DISTRO', 'from wheels')
        return Check('ROS 2', OK, f'{distro}, {found}, messages of worldvla_ros are built')
    if 'worldvla_ros.msg' in error:
        remedy = 'Build the package: colcon build, or pip install --no-build-isolation -e .'
        return Check('ROS 2', PROBLEM, 'the messages of worldvla_ros are not built', remedy)
    remedy = 'Source a ROS 2 installation, or make demo once: it installs ROS 2 from wheels.'
    return Check('ROS 2', NOTE, f'rclpy cannot be used ({error})', remedy)


def commands(which: Callable[[str], str | None]) -> Check:
    """Look for the ros2 command."""
    if which('ros2'):
        return Check('ros2 command', OK, 'launch files can be used')
    remedy = 'worldvla up starts the same nodes.'
    return Check('ros2 command', NOTE, 'not there; launch files need it', remedy)


def network(environment: Mapping[str, str], root: Path) -> Iterator[Check]:
    """Look at settings of DDS, and at those that lose images."""
    reach = environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    if environment.get('ROS_LOCALHOST_ONLY') == '1':
        reach = 'LOCALHOST'
    domain = environment.get('ROS_DOMAIN_ID', '0')
    yield Check('discovery', OK, f'domain {domain}, range {reach}')
    profile = environment.get('FASTDDS_DEFAULT_PROFILES_FILE', '')
    if profile and not Path(profile).is_file():
        remedy = 'Correct FASTDDS_DEFAULT_PROFILES_FILE, or unset it.'
        yield Check('DDS profile', PROBLEM, f'no file {profile}', remedy)
    if not profile and environment.get('RMW_IMPLEMENTATION', FAST_DDS) == FAST_DDS:
        text = 'shared memory of 512 kB: raw images from 640 x 480 on get lost'
        remedy = (
            f'export FASTDDS_DEFAULT_PROFILES_FILE={share_folder() / "config/dds/images.xml"} for '
            "the camera's driver and the nodes, or compressed images."
        )
        yield Check('Fast DDS', NOTE, text, remedy)
    buffer = _number(root / 'proc/sys/net/core/rmem_max')
    if buffer is not None and buffer < RECEIVE_BUFFER:
        text = (
            f'UDP receives at most {buffer / 1e6:.1f} MB: raw images from other machines get lost'
        )
        remedy = f'sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, or compressed images.'
        yield Check('UDP buffer', NOTE, text, remedy)
    shared = root / 'dev/shm'
    if shared.is_dir() and shutil.disk_usage(shared).total < LEAST_SHARED_MB << 20:
        total_mb = shutil.disk_usage(shared).total / (1 << 20)
        remedy = 'Give the container more: docker run --shm-size=256m, or --ipc=host.'
        yield Check('shared memory', PROBLEM, f'/dev/shm has {total_mb:.0f} MB', remedy)


def renderer(environment: Mapping[str, str]) -> Check:
    """Have the simulation's camera draw something."""
    found, error = asked(RENDERER, {'MUJOCO_GL': environment.get('MUJOCO_GL', 'egl')})
    if not error:
        return Check('renderer', OK, found)
    if 'mujoco' in error and 'No module' in error:
        return Check('renderer', NOTE, 'not asked, without mujoco')
    remedy = 'sudo apt install libegl1 libgl1-mesa-dri libgles2, or set MUJOCO_GL=osmesa.'
    return Check('renderer', PROBLEM, f'the simulated camera cannot draw ({error})', remedy)


def graphics() -> Check:
    """Ask torch for GPUs."""
    found, error = asked(GRAPHICS)
    if error:
        return Check('GPU', NOTE, f'torch cannot be asked ({error})', 'Install torch.')
    if found:
        return Check('GPU', OK, found)
    remedy = 'The demo checkpoint needs none; 7B checkpoints act at useful rates on one alone.'
    return Check('GPU', NOTE, 'none that torch can use', remedy)


def room(root: Path) -> Iterator[Check]:
    """Look at cores, memory and disk."""
    total_kb = _field(root / 'proc/meminfo', 'MemTotal')
    free_kb = _field(root / 'proc/meminfo', 'MemAvailable')
    if total_kb is not None and free_kb is not None:
        text = f'{free_kb >> 20} of {total_kb >> 20} GiB free, {os.cpu_count()} cores'
        enough = free_kb >> 20 >= LEAST_MEMORY_GB
        remedy = '' if enough else f'The demo takes {LEAST_MEMORY_GB} GiB: end other programs.'
        yield Check('memory', OK if enough else PROBLEM, text, remedy)
    free_gb = shutil.disk_usage(Path.cwd()).free / GB
    enough = free_gb >= LEAST_DISK_GB
    remedy = '' if enough else 'Free some before you record.'
    yield Check('disk', OK if enough else PROBLEM, f'{free_gb:.0f} GiB free here', remedy)


def asked(program: str, environment: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Run a line of Python; return the last line that it printed, and why it could not."""
    try:
        done = subprocess.run(
            [sys.executable, '-c', program],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return '', f'no answer within {ANSWER_S:.0f} s'
    if done.returncode == 0:
        return (done.stdout.strip().splitlines() or [''])[-1], ''
    said = done.stderr.strip().splitlines()
    return '', said[-1][:200] if said else f'ended with status {done.returncode}'


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _field(file: Path, name: str) -> int | None:
    """Return a number of /proc/meminfo [kB]."""
    try:
        rows = dict(line.split(':', 1) for line in file.read_text().splitlines() if ':' in line)
        return int(rows[name].split()[0])
    except (OSError, KeyError, ValueError):
        return None
