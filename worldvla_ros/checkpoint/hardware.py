"""Where weights go: devices and threads by the words of a user, refused where there are none.

Must not know what runs there.
"""

import torch

from worldvla_ros.errors import ConfigError

MAX_THREADS = 1024


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of a name: 'cpu', 'cuda' or 'cuda:1'.

    Raises:
        ConfigError: The name is none of these, or there is no such GPU.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ConfigError(f'device {str(name)[:100]!r}', expected='cpu, cuda or cuda:N',
                          remedy='Choose one of these.')  # fmt: skip
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == 'cuda' and (device.index or 0) >= there:
        raise ConfigError(
            f'device {name}',
            expected='a GPU that PyTorch can use',
            got=f'{there} of them',
            remedy='Use cpu, or install PyTorch for CUDA.'
            if not there
            else f'Use cuda:0 … cuda:{there - 1}.',
        )
    return device


def use_threads(count: int) -> None:
    """Let PyTorch compute with so many CPU threads; 0 leaves its own choice.

    Raises:
        ConfigError: The number is negative or absurd.
    """
    if not 0 <= count <= MAX_THREADS:
        raise ConfigError(
            'threads',
            expected=f'1 … {MAX_THREADS}, or 0 for what PyTorch chooses',
            got=count,
            remedy='Choose as many as there are cores, or fewer.',
        )
    if count:
        torch.set_num_threads(count)


def arithmetic(model: torch.nn.Module) -> str:
    """Return what decides how results are rounded: precision, processor and version of PyTorch.

    Where two of these are equal, the same prompt is answered with the same tokens.
    """
    weight = next(p for p in model.parameters() if p.is_floating_point())
    if weight.device.type == 'cuda':
        processor = torch.cuda.get_device_name(weight.device)
    else:
        processor = f'{weight.device.type} {torch.backends.cpu.get_cpu_capability()}'
    return f'{str(weight.dtype).removeprefix("torch.")}, {processor}, PyTorch {torch.__version__}'
