"""The parts of studies/gpu.sh that are Python: rates of the device, kernels of a decode pass.

python studies/gpu.py missing NAME …                  names that cannot be imported
python studies/gpu.py device cuda FILE.json           versions, copy and matmul rates
python studies/gpu.py profile cuda 7b FILE.json       kernels of a chunk whose prompt is cached
python studies/gpu.py report FOLDER                   gpu.md and gpu.json of all parts
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
import json
from pathlib import Path
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from worldvla_ros.checkpoint.folder import Checkpoint

PARTS = ('device', 'tests', 'bench_bfloat16', 'bench_int8', 'profile')
WHEELS = ('torch', 'numpy', 'triton', 'torchao', 'transformers', 'safetensors', 'tokenizers')
VQGAN_LEVEL = (128, 256)
"""Channels and side [px] of the image tokenizer's first level in the published size."""
WEIGHTS = 1 << 30
"""A copied block of this size [B], or the largest that `measure_rates` takes."""
KERNELS = 20
RANDOM_PROFILE = 'worldvla_256_libero_goal'
"""Whose cameras and sizes the random weights have, as in `worldvla bench --model 7b`."""
QUERY = 'name,driver_version,memory.total,clocks.max.sm,power.limit'


def missing(*names: str) -> None:
    """Print the packages that are not installed."""
    print(*(name for name in names if find_spec(name) is None))


def device(where: str, file: str) -> None:
    """Print and write what the device is and does."""
    import torch

    from worldvla_ros.benchmark.device import device_name, measure_rates

    place = torch.device(where)
    rates = measure_rates(place, torch.bfloat16, WEIGHTS, [VQGAN_LEVEL])
    found = {
        'device': device_name(place),
        'nvidia-smi': nvidia_smi(),
        'python': platform.python_version(),
        'cuda': torch.version.cuda,
        'wheels': {name: version_of(name) for name in WHEELS},
        'copy_bytes_per_s': rates.bandwidth,
        'matmul_flops_per_s': rates.matmul,
        'convolution_flops_per_s': rates.convolution,
    }
    Path(file).write_text(json.dumps(found, indent=1))
    wheels = ', '.join(f'{name} {number}' for name, number in found['wheels'].items() if number)
    print(f'{found["device"]}, CUDA {found["cuda"]}, Python {found["python"]}, {wheels}')
    print(f'nvidia-smi ({QUERY}): {found["nvidia-smi"]}')
    print(
        f'copy {rates.bandwidth / 1e9:.1f} GB/s, bfloat16 matmul {rates.matmul / 1e12:.2f} '
        f'TFLOP/s, float32 convolution {rates.convolution / 1e12:.2f} TFLOP/s'
    )


def nvidia_smi() -> str:
    """Return the driver's own line about the GPU, or why there is none."""
    if shutil.which('nvidia-smi') is None:
        return 'not installed'
    done = subprocess.run(
        ['nvidia-smi', f'--query-gpu={QUERY}', '--format=csv,noheader'],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    return (done.stdout or done.stderr).strip()


def version_of(name: str) -> str | None:
    """Return the version of a wheel, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def loaded(model: str, place: 'torch.device') -> 'Checkpoint':
    """Return the demo checkpoint, or random weights of the published size ('7b'), in bfloat16."""
    from worldvla_ros.benchmark.random_model import random_checkpoint, random_spec, random_text
    from worldvla_ros.checkpoint import demo_path, load
    from worldvla_ros.checkpoint.profiles import load_profile

    if model == 'demo':
        return load(demo_path(), place, 'bfloat16')
    spec = random_spec(load_profile(RANDOM_PROFILE))
    return random_checkpoint(spec, random_text(spec), place)


def profile(where: str, model: str, file: str) -> None:
    """Print and write the kernels of a chunk whose prompt is cached: its decode passes."""
    import numpy as np
    import torch
    from torch.profiler import ProfilerActivity

    from worldvla_ros.observation import Observation
    from worldvla_ros.policy import Policy

    checkpoint = loaded(model, torch.device(where))
    spec = checkpoint.spec
    picture = np.random.default_rng(0).integers(0, 256, (spec.image_size,) * 2 + (3,), np.uint8)
    images = dict.fromkeys(spec.cameras, picture)
    state = np.zeros(len(spec.state.names), np.float32) if spec.state else None
    observation = Observation(images, 'pick up the red cube', state)
    policy = Policy(checkpoint)
    for _ in range(3):  # kernels are chosen, graphs captured, the prompt cached
        policy.act(observation)
    on_gpu = where.startswith('cuda')
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        policy.act(observation)
        if on_gpu:
            torch.cuda.synchronize()
    averages = profiler.key_averages()
    order = 'self_device_time_total' if on_gpu else 'self_cpu_time_total'
    rows = sorted(averages, key=lambda row: getattr(row, order), reverse=True)[:KERNELS]
    found = [{'name': r.key, 'calls': r.count, 'self_us': getattr(r, order)} for r in rows]
    Path(file).write_text(json.dumps({'model': checkpoint.model_id, 'kernels': found}, indent=1))
    sort_by = 'self_cuda_time_total' if on_gpu else 'self_cpu_time_total'
    print(averages.table(sort_by=sort_by, row_limit=KERNELS, max_name_column_width=60))


def outcome(folder: Path, name: str) -> tuple[str, str]:
    """Return whether a part is done, skipped, failed or not run, and what it printed."""
    for ending, word in (('txt', 'done'), ('skipped', 'skipped'), ('failed', 'failed')):
        file = folder / f'{name}.{ending}'
        if file.is_file():
            return word, file.read_text(errors='replace').strip()
    return 'not run', ''


def headline(name: str, folder: Path, text: str) -> str:
    """Return the figures of a part in one line, or the last line of what it printed."""
    file = folder / f'{name}.json'
    if name.startswith('bench') and file.is_file():
        rows = json.loads(file.read_text())['rows']
        return ', '.join(
            f'{r["name"]} {r["p50_s"] * 1e3:.3g} ms ({r["ratio"]:.1f} ×)' for r in rows
        )
    if name == 'profile' and file.is_file():
        first = json.loads(file.read_text())['kernels'][0]
        return f'most time in {first["name"]}: {first["calls"]} calls, {first["self_us"]:.0f} µs'
    return text.splitlines()[-1] if text else ''


def report(place: str) -> None:
    """Write gpu.md and gpu.json from the results of all parts."""
    folder = Path(place)
    found = {name: outcome(folder, name) for name in PARTS}
    lines = ['| part | outcome | figures |', '|---|---|---|']
    for name, (word, text) in found.items():
        line = headline(name, folder, text).replace('|', '\\|')
        lines.append(f'| {name} | {word} | {line} |')
    for name, (_, text) in found.items():
        lines += ['', f'## {name}', '', '```text', text, '```'] if text else []
    (folder / 'gpu.md').write_text('\n'.join(lines) + '\n')
    record = {
        name: {'outcome': word, 'text': text, 'figures': figures(folder / f'{name}.json')}
        for name, (word, text) in found.items()
    }
    (folder / 'gpu.json').write_text(json.dumps(record, indent=1))


def figures(file: Path) -> object:
    """Return what a part wrote as JSON, or None."""
    return json.loads(file.read_text()) if file.is_file() else None


if __name__ == '__main__':
    verbs = {'missing': missing, 'device': device, 'profile': profile, 'report': report}
    verbs[sys.argv[1]](*sys.argv[2:])
