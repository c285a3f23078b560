"""Tensors in files: names, shapes and types first, then one tensor after another.

A file is memory-mapped, and nothing of it is read before everything has been checked. Then each
tensor goes straight to its device and type, and its mapping is dropped before the next, so that
host memory holds the weights once and one tensor more. Must not know what a tensor is for.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import pickle
from typing import Any, TypeVar
import zipfile

from safetensors import SafetensorError, safe_open
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from worldvla_ros.config import load_json, refuse_pointer, shown
from worldvla_ros.errors import CheckpointError

MODEL_FILE = 'model.safetensors'
INDEX_FILE = 'model.safetensors.index.json'
MAX_PICKLE_BYTES = 1 << 26
"""Names and shapes of a torch file; the tensors lie beside them, uncompressed."""

DTYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'BF16': torch.bfloat16,
    'F16': torch.float16,
    'I64': torch.int64,
}
HASHED_BLOCKS = 256
HASHED_BLOCK_BYTES = 1 << 18
"""Files up to 64 MiB are hashed as a whole, larger ones by this many blocks of this size."""

Network = TypeVar('Network', bound=nn.Module)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in a file.

    Attributes:
        shape: Its shape.
        dtype: Its stored type.
        read: Returns it, memory-mapped where the file allows.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


Tensors = dict[str, StoredTensor]


def open_model(folder: Path) -> Tensors:
    """Return the tensors of a folder's transformer: one file, or shards that an index names.

    Raises:
        CheckpointError: They are missing or damaged.
    """
    if os.path.isfile(folder / INDEX_FILE):
        return open_sharded(folder / INDEX_FILE)
    if os.path.isfile(folder / MODEL_FILE):
        return open_safetensors(folder / MODEL_FILE)
    raise CheckpointError(
        f'no weights in {folder}',
        expected=f'{MODEL_FILE}, or {INDEX_FILE} with its shards',
        got=', '.join(sorted(p.name for p in folder.iterdir())),
        remedy='Fetch the folder again; what is there is kept.',
    )


def model_files(folder: Path) -> list[Path]:
    """Return the files that `open_model` opens, in the order in which they are hashed."""
    if os.path.isfile(folder / INDEX_FILE):
        return sorted(folder.glob('model-*.safetensors'))
    return [folder / MODEL_FILE]


def open_safetensors(file: Path) -> Tensors:
    """Return the tensors of one safetensors file.

    Raises:
        CheckpointError: The file is missing, cut off or of another format, a git-lfs pointer, or
            holds a type that is no plain number.
    """
    if not os.path.isfile(file):
        raise CheckpointError(f'no weights {file}', remedy='Restore the file.')
    refuse_pointer(file, CheckpointError)
    try:
        with safe_open(file, framework='pt') as stream:
            return {name: _stored(file, name, stream.get_slice(name)) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f'{file} cannot be read: {error}',
            expected='a complete safetensors file',
            remedy='It may be cut off or of another format; restore it.',
        ) from error


def open_sharded(index: Path) -> Tensors:
    """Return the tensors of several safetensors files, found by their index.

    Raises:
        CheckpointError: Index or shard is missing or damaged, or the index names absent tensors.
    """
    placed = _placed(index)
    names = sorted(set(placed.values()))
    missing = [name for name in names if not os.path.isfile(index.parent / name)]
    if missing:
        raise CheckpointError(
            f'{index.parent} lacks {len(missing)} of its shards',
            expected=_listed(names),
            got=f'no {_listed(missing)}',
            remedy='Fetch the folder again; what is there is kept.',
        )
    shards = {name: open_safetensors(index.parent / name) for name in names}
    absent = [name for name, shard in placed.items() if name not in shards[shard]]
    if absent:
        raise CheckpointError(
            f'{index} names tensors that its shards do not hold',
            expected=f'{shown(absent[0])} in {placed[absent[0]]}',
            got=f'{len(absent)} absent tensors',
            remedy='Restore index and shards of the same checkpoint.',
        )
    return {name: shards[shard][name] for name, shard in placed.items()}


def open_pickled(file: Path, key: str | None = None) -> Tensors:
    """Return the tensors of a torch file, read so that it cannot run code.

    Args:
        file: What `torch.save` wrote.
        key: Where in it the tensors are, if not at the top.

    Raises:
        CheckpointError: The file is missing, cut off or compressed, or holds other things than
            tensors.
    """
    if not os.path.isfile(file):
        raise CheckpointError(f'no weights {file}', remedy='Restore the file.')
    refuse_pointer(file, CheckpointError)
    try:
        _check_archive(file)
        content = torch.load(file, map_location='cpu', mmap=True, weights_only=True)
        tensors = content[key] if key and isinstance(content, dict) else content
        return _pickled_tensors(tensors)
    except (
        RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f'{file} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}',
            expected='a complete torch file of tensors' + (f' under {key!r}' if key else ''),
            remedy='It may be cut off, or hold more than tensors (never read); restore it.',
        ) from error


def check_tensors(network: nn.Module, found: Tensors, where: object) -> None:
    """Check names and shapes of what was found `where`.

    Raises:
        CheckpointError: They are not those of the network.
    """
    wanted = network.state_dict()
    missing, foreign = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or foreign:
        raise CheckpointError(
            f'{where} holds other tensors than the configuration beside it describes',
            expected=f'{len(wanted)} tensors; missing: {missing[:3]}',
            got=f'{len(found)} tensors; foreign: {foreign[:3]}',
            remedy='Use the weights that belong to this folder.',
        )
    for name, tensor in wanted.items():
        if tuple(tensor.shape) != found[name].shape:
            raise CheckpointError(
                f'{where}: shape of {name}',
                expected=list(tensor.shape),
                got=list(found[name].shape),
                remedy='Use the weights that belong to this folder.',
            )


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are where a layer would draw its first weights."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor itself in place of what `torch.nn.init` makes of it."""
        given = kwargs or {}
        if getattr(func, '__module__', '') == nn.init.__name__:
            return given['tensor'] if 'tensor' in given else args[0]
        return func(*args, **given)


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Build networks whose tensors take no memory, for `read_network`.

    Nothing is drawn: on the device without memory torch would import its compiler for that, which
    takes a second and 100 MB.
    """
    with torch.device('meta'), _Undrawn():
        yield


def read_network(
    network: Network,
    tensors: Tensors,
    device: torch.device,
    dtype: torch.dtype | None,
    finish: Callable[[nn.Module], None] | None = None,
) -> Network:
    """Give a network without memory its checked tensors, one at a time.

    Args:
        network: The network; each layer of a list is a part of it, and so is the rest of the tree.
        tensors: Its tensors.
        device: Where they go.
        dtype: Their type; None keeps the stored one.
        finish: Called with each part that has its tensors, before the next part is read.

    Raises:
        CheckpointError: A number is not finite, as stored or in the type asked for. All are
            looked at, where they lie then: 17 GB/s in bf16 on one core, less than a second for
            7B and a twentieth of the time that reading takes.
    """
    for prefix, part in _parts(network):
        loaded = {
            name: tensors[prefix + name].read().to(device=device, dtype=dtype)
            for name in part.state_dict()
        }
        _check_finite(prefix, loaded)
        part.load_state_dict(loaded, assign=True)
        part.requires_grad_(False)
        del loaded  # what `finish` replaces must go at once, and no gradient may hold it
        if finish is not None:
            finish(part)
    return network.eval()


def stored_dtype(tensors: Tensors) -> torch.dtype:
    """Return the narrowest type that holds every tensor without loss."""
    found = torch.bool
    for stored in tensors.values():
        found = torch.promote_types(found, stored.dtype)
    return found


def content_hash(files: list[Path]) -> str:
    """Return 12 hexadecimal digits that change with the weights.

    Large files are sampled, since hashing 14 GB takes longer than loading it: their size and
    `HASHED_BLOCKS` evenly spaced blocks, the first and the last among them. Training moves every
    weight, so two trained checkpoints never agree on all of these.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        whole = size <= HASHED_BLOCKS * HASHED_BLOCK_BYTES
        if not whole:
            digest.update(str(size).encode())
        step = (size - HASHED_BLOCK_BYTES) / (HASHED_BLOCKS - 1)
        with file.open('rb') as stream:
            for block in range(HASHED_BLOCKS):
                if not whole:
                    stream.seek(round(block * step))
                digest.update(stream.read(HASHED_BLOCK_BYTES))
    return digest.hexdigest()[:12]


def _parts(network: nn.Module, prefix: str = '') -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are read as a whole, each with the start of its tensors' names."""
    if not any(isinstance(module, nn.ModuleList) for module in network.modules()):
        yield prefix, network
        return
    if any(True for _ in network.parameters(recurse=False)):
        raise ValueError(f'{prefix or "the network"} has tensors of its own beside a list')
    for name, child in network.named_children():
        yield from _parts(child, f'{prefix}{name}.')


def _check_finite(prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse tensors with NaN or infinity; the two extremes show either in one pass."""
    for name, tensor in tensors.items():
        if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise CheckpointError(
                f'{prefix}{name} holds numbers that are not finite in {tensor.dtype}',
                expected='finite weights',
                remedy='The weights are damaged, or too large for this dtype: restore the file, '
                'or choose float32 or bfloat16.',
            )


def _stored(file: Path, name: str, header: Any) -> StoredTensor:
    stored_as = header.get_dtype()
    if stored_as not in DTYPES:
        raise CheckpointError(
            f'{file}: {shown(name)} is stored as {stored_as}',
            expected=f'one of {", ".join(DTYPES)}',
            remedy='Use the weights before they were quantised; dtype quantises them while they '
            'are read.',
        )

    def read() -> torch.Tensor:
        with safe_open(file, framework='pt') as stream:
            tensor: torch.Tensor = stream.get_tensor(name)
            return tensor

    return StoredTensor(tuple(header.get_shape()), DTYPES[stored_as], read)


def _placed(index: Path) -> dict[str, str]:
    """Return which shard of its folder holds each tensor, as the index says."""
    placed = load_json(index, CheckpointError).get('weight_map')
    plain = isinstance(placed, dict) and all(
        isinstance(shard, str) and shard and Path(shard).name == shard for shard in placed.values()
    )
    if not plain:
        raise CheckpointError(
            f'{index} is damaged',
            expected='a weight_map from tensor names to shards of this folder',
            got=shown(placed),
            remedy='Restore the file.',
        )
    return dict(placed or {})


def _check_archive(file: Path) -> None:
    """Refuse an archive that grows when it is read; torch stores all without compression."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
    large = [e.filename for e in entries
             if e.filename.endswith('.pkl') and e.file_size > MAX_PICKLE_BYTES]  # fmt: skip
    if packed or large:
        raise ValueError(f'{shown((packed + large)[0])} is compressed, or too large to be names')


def _pickled_tensors(content: object) -> Tensors:
    if not isinstance(content, dict):
        raise ValueError(f'it holds {type(content).__name__}, no mapping')
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f'{shown(name)} is {type(tensor).__name__}, no tensor with a name')
    return {
        name: StoredTensor(tuple(tensor.shape), tensor.dtype, _returning(tensor))
        for name, tensor in content.items()
    }


def _returning(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: tensor


def _listed(names: list[str]) -> str:
    """Return names for a message; of many, the first."""
    return ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')
