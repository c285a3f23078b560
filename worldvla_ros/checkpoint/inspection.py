"""What a checkpoint folder is, what it expects, and what is missing, without loading weights.

Knows the folder formats. Must not know how reports are shown, beyond plain lines.
"""

from collections.abc import Callable
import math
import os
from pathlib import Path

import torch
from torch import nn

from worldvla_ros.checkpoint import published
from worldvla_ros.checkpoint.folder import Opened, empty_networks, open_folder
from worldvla_ros.checkpoint.quantise import INT4_GROUP
from worldvla_ros.checkpoint.spec import SPEC_FILE, CheckpointSpec
from worldvla_ros.checkpoint.weights import stored_dtype
from worldvla_ros.config import load_json
from worldvla_ros.errors import WorldVLAError
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.image import STRUCTURE_IDS
from worldvla_ros.tokenizers.vocab import published_vocabulary

DTYPES = (torch.float32, torch.bfloat16)
QUANTISED = {'int8': 1.0, 'int4': 0.5 + 2 * 2 / INT4_GROUP}
"""Bytes of a quantised weight; int4 keeps a scale and a zero in bf16 for each group."""
TEXT_ALLOWANCE = 64
"""Ids set aside for the sentence where the longest sequence is estimated."""
GIGABYTE = 1e9
RECORD_FILE = 'pulled.json'
"""What `pull` writes beside what it fetched: repository, path and commit."""


def inspect(path: str | Path, profile: str | Path | None = None) -> dict[str, object]:
    """Return a report about a folder, as plain values.

    A damaged folder is no error here: its problems are listed under 'missing'.
    """
    folder = Path(path)
    report: dict[str, object] = {
        'path': str(folder), 'layout': _layout(folder), 'files': _files(folder)
    }  # fmt: skip
    try:
        opened = open_folder(folder, profile)
        model, vqgan = empty_networks(opened)
        sources = _sources(folder)
    except WorldVLAError as error:
        return report | {'missing': _problems(folder, profile) or [str(error)]}
    return report | sources | _contents(opened, model, vqgan) | {'missing': []}


def report_lines(report: dict[str, object], name: str = '', indent: int = 0) -> list[str]:
    """Return a report as indented lines for people."""
    lead = ' ' * indent
    lines = [f'{lead}{name}:'] if name else []
    inner = indent + 2 if name else indent
    for key, value in report.items():
        if isinstance(value, dict) and value:
            lines += report_lines(value, key, inner)
        elif key == 'missing' and isinstance(value, list) and value:
            lines += [f'{" " * inner}{key}:', *(f'{" " * inner}  - {text}' for text in value)]
        else:
            lines.append(f'{" " * inner}{key}: {_word(value)}')
    return lines


def longest_sequence(spec: CheckpointSpec) -> int:
    """Return about how many ids the longer of both tasks' sequences has."""
    side = spec.image_size // spec.vqgan.reduction
    images = len(spec.cameras) * (side * (side + 1) + STRUCTURE_IDS)
    block = spec.action.dim + 2
    state = len(spec.state.names) + 2 if spec.state else 0
    act = state + spec.images_per_camera * images + spec.action.horizon * block
    imagine = 2 * images + spec.world.actions_per_image * block
    return TEXT_ALLOWANCE + max(act, imagine)


def _sources(folder: Path) -> dict[str, object]:
    """Return where a published folder's tokenizers lie, and the commit that was pulled."""
    if (folder / SPEC_FILE).is_file():
        return {}
    record = folder / RECORD_FILE
    pulled = load_json(record).get('commit') if record.is_file() else 'not recorded'
    return {'tokenizers': str(published.tokenizer_folder(folder)), 'commit': pulled}


def _contents(opened: Opened, model: Transformer, vqgan: nn.Module) -> dict[str, object]:
    spec, head = opened.spec, model.action_head
    sizes = {
        'transformer': _count(model) - (_count(head) if head is not None else 0),
        'action_head': _count(head) if head is not None else 0,
        'vqgan': _count(vqgan),
    }
    return {
        'name': spec.name,
        'tasks': list(spec.tasks),
        'parameters': sizes,
        'stored_as': _dtype_name(stored_dtype(opened.transformer)),
        'memory_gb': _memory(spec, sizes),
        'longest_sequence': longest_sequence(spec),
        'context_length': spec.transformer.max_position_embeddings,
        'qk_norms_per_layer': spec.transformer.qk_norm_heads,
        'expects': _expectations(spec),
    }


def _expectations(spec: CheckpointSpec) -> dict[str, object]:
    """Return what a robot must give and take."""
    action, state = spec.action, spec.state
    ranges = zip(
        action.names, action.minimum, action.maximum, action.scale, action.units, strict=True
    )
    return {
        'robot': spec.robot,
        'cameras': list(spec.cameras),
        'images': f'{spec.image_size} px square, turned by {spec.camera_rotation} degrees',
        'images_per_camera': spec.images_per_camera,
        'state': f'{state.recipe}: {", ".join(state.names)}' if state else 'none',
        'actions': {
            name: _range(low, high, scale, unit) for name, low, high, scale, unit in ranges
        },
        'actions_per_chunk': action.horizon,
        'seconds_per_action': action.dt,
        'decoding': 'discrete or continuous' if spec.action_head else 'discrete',
        'action_prompt': spec.prompts.action,
        'world_prompt': spec.prompts.world,
    }


def _range(low: float, high: float, scale: float, unit: str) -> str:
    """Return a range, and what its 1 means where that has a unit."""
    return f'{low} … {high}' + ('' if unit == '1' else f', 1 is {scale} {unit}')


def _memory(spec: CheckpointSpec, sizes: dict[str, int]) -> dict[str, float]:
    """Return the memory [GB] in each precision; quantised layers are beside bf16."""
    wide = torch.bfloat16
    linear = spec.transformer.num_hidden_layers * spec.transformer.hidden_size * (
        4 * spec.transformer.hidden_size + 3 * spec.transformer.intermediate_size
    )  # fmt: skip
    spared = {
        name: linear * (wide.itemsize - width) / GIGABYTE for name, width in QUANTISED.items()
    }
    plain = {_dtype_name(dtype): _memory_gb(spec, sizes, dtype) for dtype in DTYPES}
    return plain | {
        name: round(plain[_dtype_name(wide)] - less, 3) for name, less in spared.items()
    }


def _memory_gb(spec: CheckpointSpec, sizes: dict[str, int], dtype: torch.dtype) -> float:
    """Return the memory of weights and of one sequence's keys and values [GB]."""
    size = spec.transformer
    cache = 2 * size.num_hidden_layers * size.hidden_size * longest_sequence(spec)
    numbers = sizes['transformer'] + sizes['action_head'] + cache
    return round(
        (numbers * dtype.itemsize + sizes['vqgan'] * torch.float32.itemsize) / GIGABYTE, 3
    )


def _layout(folder: Path) -> str:
    if os.path.isfile(folder / SPEC_FILE):
        return 'worldvla_ros'
    if os.path.isfile(folder / published.CONFIG_FILE):
        return 'Hugging Face'
    return 'Meta' if published.is_published(folder) else 'unknown'


def _files(folder: Path) -> dict[str, str]:
    """Return the sizes of the folder's files."""
    files = sorted(p for p in folder.iterdir() if p.is_file()) if os.path.isdir(folder) else []
    return {p.name: _size(p.stat().st_size) for p in files}


def _size(count: int) -> str:
    """Return a number of bytes with three digits."""
    units = {'GB': 1e9, 'MB': 1e6, 'kB': 1e3}
    unit = next((name for name, one in units.items() if count >= 0.9995 * one), '')
    return f'{float(f"{count / units[unit]:.3g}"):g} {unit}' if unit else f'{count} B'


def _problems(folder: Path, profile: str | Path | None) -> list[str]:
    """Return everything that is wrong with a published folder, not only what comes first."""
    if not published.is_published(folder) or os.path.isfile(folder / SPEC_FILE):
        return []

    def vocabulary() -> None:
        place = published.tokenizer_folder(folder)
        published_vocabulary(published.open_text(place).ids_by_name(), published.TEXT_FILE)

    stages: list[Callable[[], object]] = [
        lambda: published.choose_profile(folder, profile),
        lambda: published.open_transformer(folder),
        vocabulary,
        lambda: published.open_vqgan(published.tokenizer_folder(folder)),
    ]
    found = []
    for stage in stages:
        try:
            stage()
        except WorldVLAError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _count(network: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in network.parameters())


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


def _word(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return ', '.join(map(_word, value)) or 'nothing'
    return f'{value:,}' if isinstance(value, int) else str(value)
