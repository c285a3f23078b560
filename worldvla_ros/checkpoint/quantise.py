"""Precision: one word for the type of a transformer's weights, and the quantising of its layers.

    auto                        fp32 on a CPU, as stored elsewhere
    float32 bfloat16 float16    all weights in this type
    int8 int4 float8            the linear maps of the decoder layers in it, the rest a float type

Embeddings, norms, output head and action head are never quantised: together they are few weights,
the output head is read in slices, and an error in it moves bins directly. torchao does the
quantising; it is optional and imported only when asked for. Knows words, hardware and torchao.
Must not know how good a quantised model is (evaluate/precision.py).
"""

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import dataclass
import logging
from types import ModuleType
from typing import Any

import torch
from torch import nn

from worldvla_ros.errors import CheckpointError, ConfigError, MissingDependencyError
from worldvla_ros.model.transformer import Transformer

TORCHAO = '0.18'
"""The version of torchao that this was tested with; its API changes between releases."""
AUTO = 'auto'
FLOATS = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16,
}
QUANTISED = ('int8', 'int4', 'float8')
WORDS = (AUTO, *FLOATS, *QUANTISED)
INT4_GROUP = 32
"""Weights that share an int4 scale: the smallest group that torchao has kernels for."""
CAPABILITIES = {'int4': (8, 0), 'float8': (8, 9)}
"""Compute capability that the kernels need of a GPU."""
MULTIPLES = {'int8': 1, 'int4': INT4_GROUP, 'float8': 16}
"""Both sizes of a linear map must be a multiple of this."""
_NOISE = {
    'torchao': 'Failed to load',
    'torchao.kernel.intmm': 'Warning: Detected no triton',
    'torch.utils._pytree': "<enum 'KernelPreference'>",
}
"""Loggers, and how their messages at torchao's import begin."""


@dataclass(frozen=True)
class Precision:
    """What becomes of the weights of a transformer.

    Attributes:
        dtype: Type of the weights that are not quantised; None keeps the stored one.
        scheme: How the decoder layers are quantised: 'int8', 'int4', 'float8', or '' for not.
    """

    dtype: torch.dtype | None
    scheme: str = ''


def choose(wanted: torch.dtype | str | None, device: torch.device) -> Precision:
    """Return the precision that a word, a type of torch or None (as 'auto') asks for.

    Raises:
        ConfigError: The word is unknown, the type is no float, or the hardware lacks it.
        MissingDependencyError: Quantising is asked for, and torchao is not installed.
    """
    cpu = device.type == 'cpu'
    if wanted is None or wanted == AUTO:
        return Precision(torch.float32 if cpu else None)
    if isinstance(wanted, torch.dtype) and wanted.is_floating_point and wanted.itemsize > 1:
        return Precision(wanted)
    if wanted in FLOATS:
        return Precision(FLOATS[wanted])
    if wanted not in QUANTISED:
        raise ConfigError(
            f'precision {wanted}',
            expected=f'one of {", ".join(WORDS)}',
            got=repr(wanted),
            remedy='Choose one of these words.',
        )
    _check_hardware(wanted, device)
    _torchao()
    # int4 and float8 have fast kernels for bf16 alone, on every device
    return Precision(torch.float32 if cpu and wanted == 'int8' else torch.bfloat16, wanted)


def quantiser(
    model: Transformer, precision: Precision, device: torch.device
) -> Callable[[nn.Module], None] | None:
    """Return what quantises a module if it is one of the model's decoder layers.

    Args:
        model: The transformer; it need not have memory yet.
        precision: From `choose`; None is returned where it does not quantise.
        device: Where the layers are when they are quantised.

    Raises:
        CheckpointError: A linear map has a size that cannot be quantised like this.
    """
    if not precision.scheme:
        return None
    _check_sizes(model, precision.scheme)
    layers, config = set(model.model.layers), _config(precision.scheme, device)

    @torch.no_grad()  # else the history of the scales keeps the weights that they came from
    def finish(module: nn.Module) -> None:
        if module in layers:
            _torchao().quantize_(module, config)

    return finish


def available() -> bool:
    """Return whether torchao is there to quantise with."""
    try:
        _torchao()
    except MissingDependencyError:
        return False
    return True


def is_quantised(network: nn.Module) -> bool:
    """Return whether any weight is quantised."""
    return any(_is_composed(parameter) for parameter in network.parameters())


def weight_bytes(network: nn.Module) -> int:
    """Return the memory of all parameters, scales of quantised ones included [bytes]."""
    return sum(_bytes(parameter) for parameter in network.parameters())


def _is_composed(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is made of others, as torchao's are: numbers, scales and zeros."""
    return hasattr(tensor, '__tensor_flatten__')


def _bytes(tensor: torch.Tensor) -> int:
    if _is_composed(tensor):
        composed: Any = tensor
        return sum(_bytes(getattr(composed, name)) for name in composed.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def _check_hardware(scheme: str, device: torch.device) -> None:
    """Refuse a device without kernels; int8 is ordinary arithmetic and runs anywhere."""
    least = CAPABILITIES.get(scheme)
    if least is None or (scheme == 'int4' and device.type == 'cpu'):
        return
    there = device.type == 'cuda' and torch.cuda.is_available()
    found = torch.cuda.get_device_capability(device) if there else None
    if found is None or found < least:
        raise ConfigError(
            f'precision {scheme} on {device}',
            expected='{}a GPU of compute capability {}.{} or more'.format(
                'a CPU, or ' if scheme == 'int4' else '', *least
            ),
            got='{}.{}'.format(*found) if found else f'{device.type}, without CUDA',
            remedy='Use int8, which runs everywhere, or bfloat16.',
        )


def _check_sizes(model: Transformer, scheme: str) -> None:
    unit = MULTIPLES[scheme]
    for name, module in model.model.layers.named_modules():
        if isinstance(module, nn.Linear) and (
            module.in_features % unit + module.out_features % unit
        ):
            raise CheckpointError(
                f'layers.{name} cannot be quantised to {scheme}',
                expected=f'sizes that are multiples of {unit}',
                got=f'{module.in_features} to {module.out_features}',
                remedy='Use int8, which takes any size.',
            )


def _config(scheme: str, device: torch.device) -> object:
    """Return torchao's description of a scheme.

    No scheme may set the options of torch's compiler: torchao's choice would lower the precision
    of fp32 products for everything else in the process.
    """
    torchao = _torchao()
    if scheme == 'int8':
        return torchao.Int8WeightOnlyConfig(set_inductor_config=False)
    if scheme == 'float8':
        return torchao.Float8DynamicActivationFloat8WeightConfig(
            granularity=torchao.PerRow(), set_inductor_config=False
        )
    if device.type == 'cpu':
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP, set_inductor_config=False)
    return torchao.Int4WeightOnlyConfig(
        group_size=INT4_GROUP,
        int4_packing_format='tile_packed_to_4d',
        set_inductor_config=False,
    )


def _torchao() -> ModuleType:
    """Return torchao.quantization, imported quietly.

    Raises:
        MissingDependencyError: It is not installed, or in another version: its API changes.
    """
    try:
        with _quiet():
            import torchao.prototype.quantization.int4
            import torchao.quantization
    except ImportError as error:
        raise _missing(f'it cannot be imported ({error})') from error
    if not torchao.__version__.startswith(f'{TORCHAO}.'):
        raise _missing(torchao.__version__)
    return torchao.quantization


def _missing(got: str) -> MissingDependencyError:
    return MissingDependencyError(
        'torchao, which quantises weights, cannot be used',
        expected=f'torchao {TORCHAO}',
        got=got,
        remedy='pip install "worldvla_ros[quantise]", or use bfloat16.',
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop torchao's messages at import, about kernels that are not used here."""
    filters = {
        logging.getLogger(name): lambda record, start=start: (
            not record.getMessage().startswith(start)
        )
        for name, start in _NOISE.items()
    }
    for logger, keep in filters.items():
        logger.addFilter(keep)
    try:
        yield
    finally:
        for logger, keep in filters.items():
            logger.removeFilter(keep)
