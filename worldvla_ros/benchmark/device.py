"""What a device can do: bytes copied, matrices multiplied, images convolved per second.

Knows clocks and devices. Must not know any model.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
import platform
import resource
import time

import torch
from torch.nn import functional

BUDGET_S = 0.3
"""How long each rate is looked for."""
SMALLEST_COPY = 1 << 22
LARGEST_COPY = {'cpu': 1 << 27, 'cuda': 1 << 29}
"""A copied block is as large as the weights, within these bounds: small weights stay in caches."""
CPU_WORK, GPU_WORK = 2e9, 1e12
"""FLOPs of one product that is timed: long enough to be measured, short enough to wait for."""
MATRIX_STEP = 256


@dataclass(frozen=True)
class Rates:
    """Measured rates of an otherwise idle device.

    Attributes:
        bandwidth: Bytes read and written in a copy [B/s].
        matmul: Of square matrices in the transformer's type, or in fp32 where a device is faster
            at that [FLOP/s].
        convolution: Of the fastest 3 × 3 convolution of the image tokenizer [FLOP/s].
    """

    bandwidth: float
    matmul: float
    convolution: float


def seconds(call: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Return how long a call takes until the device has done its work [s], and its result."""
    if device.type != 'cuda':
        begin = time.perf_counter()
        made = call()
        return time.perf_counter() - begin, made
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):
        start.record()
        made = call()
        end.record()
        end.synchronize()
    return start.elapsed_time(end) / 1000, made


def measure_rates(
    device: torch.device,
    dtype: torch.dtype,
    weight_bytes: int,
    levels: Iterable[tuple[int, int]],
) -> Rates:
    """Measure a device.

    Args:
        device: Where.
        dtype: Type in which the transformer computes.
        weight_bytes: Bytes of its weights, which tell how large a block is copied.
        levels: Channels and side [px] of each level of the image tokenizer.
    """
    return Rates(
        _copy_bandwidth(device, weight_bytes),
        max(_matmul_rate(device, each) for each in {dtype, torch.float32}),
        max(_convolution_rate(device, *level) for level in levels),
    )


def device_name(device: torch.device) -> str:
    """Return the name of the device's hardware."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    lines = Path('/proc/cpuinfo').read_text().splitlines() if platform.system() == 'Linux' else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def free_memory(device: torch.device) -> float:
    """Return the free memory [B]; infinity where the system does not report it."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    file = Path('/proc/meminfo')
    lines = file.read_text().splitlines() if file.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable')]
    return found[0] if found else float('inf')


def peak_memory(device: torch.device) -> int:
    """Return the peak so far [B]: allocated on a GPU, resident in this process on a CPU."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == 'Darwin' else peak * 1024


def forget_peak(device: torch.device) -> None:
    """Reset `peak_memory` where that is possible, which is on a GPU."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Return the least time of a call [s], of those that fit the budget."""
    times: list[float] = []
    end = time.perf_counter() + BUDGET_S
    while not times or time.perf_counter() < end:
        times.append(seconds(call, device)[0])
    return min(times)


def _copy_bandwidth(device: torch.device, size: int) -> float:
    largest = LARGEST_COPY.get(device.type, SMALLEST_COPY)
    length = min(max(size, SMALLEST_COPY), largest)
    source = torch.ones(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / _best(lambda: target.copy_(source), device)


def _work(device: torch.device) -> float:
    return GPU_WORK if device.type == 'cuda' else CPU_WORK


@torch.inference_mode()
def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = round((_work(device) / 2) ** (1 / 3) / MATRIX_STEP) * MATRIX_STEP
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: left @ right, device)


@torch.inference_mode()
def _convolution_rate(device: torch.device, channels: int, side: int) -> float:
    image = torch.randn(1, channels, side, side, device=device)
    kernel = torch.randn(channels, channels, 3, 3, device=device)
    work = 18 * channels**2 * side**2
    return work / _best(lambda: functional.conv2d(image, kernel, padding=1), device)
