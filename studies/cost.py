"""Draws how the cost of acting and imagining grows, measured here and counted for other devices.

    python studies/cost.py --rates 30,0.16 --rates 1000,165 --rates 3350,990

Above, a model of the demo checkpoint's size on this CPU: times and the limits that its bytes and
FLOPs imply. Below, the published 7B model in bfloat16: limits for devices of so many GB/s and
TFLOP/s, which need not be here. One size varies in each column, the rest are the model's own.
"""

import argparse
from dataclasses import dataclass, replace

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.benchmark.cases import BenchmarkCases, counter_of
from worldvla_ros.benchmark.device import measure_rates, seconds
from worldvla_ros.benchmark.measure import measured
from worldvla_ros.benchmark.passes import Pass, chunk_passes, image_passes
from worldvla_ros.benchmark.prompts import Prompts
from worldvla_ros.benchmark.report import duration
from worldvla_ros.benchmark.target import open_target, sequence_lengths
from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.checkpoint.quantise import weight_bytes
from worldvla_ros.model.cost import TransformerCost
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.image import ImageTokenizer

CPU = torch.device('cpu')
LONGEST = 1 << 15
"""Positions of the demo-size model, so that no size is refused."""
BATCH = 'batch: sequences side by side, each'
COLUMNS = {
    'actions per chunk, K': ((1, 2, 5, 10, 20, 40), (1, 2, 5, 10, 25, 50)),
    'images per camera, M': ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16)),
    'side of an image [px]': ((32, 64, 96, 128), (128, 256, 384, 512)),
    'views': ((1, 2, 3, 4), (1, 2, 3, 4)),
    BATCH: ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)),
}
"""What is varied, with the values for the demo size and for 7B."""
KINDS = {'prompt': 'C2', 'chunk': 'C0', 'image': 'C1'}
DASHES = ('-', '--', ':', '-.')


@dataclass(frozen=True)
class Device:
    """Rates by which limits are counted: B/s and FLOP/s."""

    bandwidth: float
    rate: float

    @classmethod
    def parse(cls, text):
        """Read 'GB/s,TFLOP/s'."""
        bandwidth, rate = (float(number) for number in text.split(','))
        return cls(1e9 * bandwidth, 1e12 * rate)

    def __str__(self):
        return f'{self.bandwidth / 1e9:g} GB/s, {self.rate / 1e12:g} TFLOP/s'


def varied(spec, name, value):
    """Return a specification with one size changed; a batch changes none."""
    changes = {
        'actions per chunk, K': {'action': replace(spec.action, horizon=value)},
        'images per camera, M': {'images_per_camera': value},
        'side of an image [px]': {'image_size': value},
        'views': {'cameras': tuple(f'view{i}' for i in range(value))},
    }
    return replace(spec, **changes.get(name, {}))


def passes_of(spec, text):
    """Return the passes of the prompt alone, of a chunk, and of one image per view."""
    side, views, action = spec.image_size // spec.vqgan.reduction, len(spec.cameras), spec.action
    act, imagine = sequence_lengths(spec, text)
    prompt = act - action.horizon * (action.dim + 2)
    world = imagine - views * ImageTokenizer(spec.vocabulary).block_length(side, side)
    return {
        'prompt': [Pass(prompt, prompt)],
        'chunk': chunk_passes(prompt, action.horizon, action.dim),
        'image': image_passes(world, side, side, spec.vqgan.n_embed, views),
    }


def limits(spec, text, counter, device, batch=1):
    """Return the least time [s] of each kind of work, for each sequence of a batch."""
    return {
        kind: sum(p.cost(counter, batch).seconds(device.bandwidth, device.rate) for p in passes)
        / batch
        for kind, passes in passes_of(spec, text).items()
    }


def long_demo():
    """Return the demo checkpoint with room for long sequences."""
    checkpoint = load(demo_path())
    config = replace(checkpoint.spec.transformer, max_position_embeddings=LONGEST)
    model = Transformer(config)
    model.load_state_dict(checkpoint.model.state_dict())
    spec = replace(checkpoint.spec, transformer=config)
    return replace(checkpoint, spec=spec, model=model.eval().requires_grad_(False))


def measure_sizes(checkpoint, spec, rates, repeats):
    """Return times and limits [s] of a chunk and of an image of each view."""
    bench = BenchmarkCases(replace(checkpoint, spec=spec))
    jobs = {'chunk': bench.chunk(), 'image': bench.sequential_image()}
    rows = {kind: measured(bench, job, rates, repeats)[0] for kind, job in jobs.items()}
    times = {kind: row.p50_s for kind, row in rows.items()}
    return times, {kind: row.limit_s for kind, row in rows.items()}


def measure_batch(checkpoint, batch, repeats):
    """Return times [s] of a prompt and of an image, for each of so many side by side."""
    prompts, engine = Prompts(checkpoint), checkpoint.engine
    ids = np.stack([prompts.action(i).ids for i in range(batch)])

    @torch.inference_mode()
    def prompt():
        return checkpoint.model(torch.from_numpy(ids))

    def image(number):
        scenes = [prompts.scene(number * batch + i).prompt for i in range(batch)]
        grid = (prompts.side, prompts.side)
        return list(engine.images.rollout([scenes], *grid, speculative=False))

    calls = {'prompt': lambda number: prompt(), 'image': image}
    times = {
        kind: [seconds(lambda n=n, call=call: call(n), CPU)[0] for n in range(repeats + 1)][1:]
        for kind, call in calls.items()
    }
    return {kind: float(np.median(found)) / batch for kind, found in times.items()}


def measure_demo(repeats):
    """Return (column, value, limits, times) of each point of the upper row, and the device."""
    checkpoint = long_demo()
    spec, model = checkpoint.spec, checkpoint.model
    counter = counter_of(model)
    rates = measure_rates(CPU, torch.float32, weight_bytes(model), [(spec.vqgan.ch, 64)])
    device = Device(rates.bandwidth, rates.matmul)
    points = []
    sizes = [(name, value) for name, (values, _) in COLUMNS.items() for value in values]
    for name, value in tqdm(sizes, desc='measuring'):
        if name == BATCH:
            times = measure_batch(checkpoint, value, repeats)
            least = limits(spec, checkpoint.text, counter, device, value)
        else:
            changed = varied(spec, name, value)
            times, least = measure_sizes(checkpoint, changed, rates, repeats)
        points.append((name, value, least, times))
    return points, device


def kinds_of(name):
    """Return what a column shows."""
    return ('prompt', 'chunk', 'image') if name == BATCH else ('chunk', 'image')


def draw_measured(axes, points):
    """Draw limits as lines and times as dots."""
    for axis, name in zip(axes, COLUMNS, strict=True):
        own = [point for point in points if point[0] == name]
        values = [value for _, value, _, _ in own]
        for kind in kinds_of(name):
            colour = KINDS[kind]
            axis.plot(values, [least[kind] for _, _, least, _ in own], color=colour)
            times = [took.get(kind, np.nan) for _, _, _, took in own]
            axis.plot(values, times, 'o', color=colour)


def draw_counted(axes, devices):
    """Draw the limits of the published sizes on other devices."""
    subject = open_target('7b')
    counter = TransformerCost(subject.spec.transformer, 2, 2, 2)
    for axis, (name, (_, values)) in zip(axes, COLUMNS.items(), strict=True):
        for device, dashes in zip(devices, DASHES, strict=False):
            found = [
                limits(varied(subject.spec, name, value), subject.text, counter, device,
                       value if name == BATCH else 1)
                for value in values
            ]  # fmt: skip
            for kind in kinds_of(name):
                times = [each[kind] for each in found]
                axis.plot(values, times, dashes, color=KINDS[kind], marker='.')


def draw(points, here, devices, out):
    """Draw both rows into one picture."""
    figure, axes = plt.subplots(
        2, len(COLUMNS), figsize=(19, 8), layout='constrained', sharey='row'
    )
    draw_measured(axes[0], points)
    draw_counted(axes[1], devices)
    for column, name in enumerate(COLUMNS):
        axes[1, column].set_xlabel(name)
        for row, axis in enumerate(axes[:, column]):
            values = COLUMNS[name][row]
            axis.set_yscale('log')
            axis.set_xscale('log', base=2)
            axis.set_xticks(values, [str(value) for value in values])
            axis.yaxis.set_major_formatter(lambda seconds, _: duration(seconds))
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f'demo size on this CPU\n{here}')
    axes[1, 0].set_ylabel('7B in bfloat16, limits')
    add_legend(figure, devices)
    figure.savefig(out, dpi=100)


def add_legend(figure, devices):
    """Say what colours, dots and dashes mean."""
    words = {
        'prompt': 'prompt, one pass without cache',
        'chunk': 'chunk, all actions side by side',
        'image': 'image of each view, code by code',
    }
    line = matplotlib.lines.Line2D
    entries = [line([], [], color=KINDS[k], label=label) for k, label in words.items()]
    entries.append(line([], [], color='grey', marker='o', linestyle='', label='measured'))
    entries.append(line([], [], color='grey', label='limit on this CPU'))
    entries += [
        line([], [], color='grey', linestyle=dashes, marker='.', label=f'limit at {device}')
        for device, dashes in zip(devices, DASHES, strict=False)
    ]
    figure.legend(handles=entries, loc='outside upper center', ncols=4, frameon=False)


def main():
    """Measure, count and draw."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument(
        '--rates', type=Device.parse, action='append', required=True, metavar='GB/s,TFLOP/s',
        help='a device for the 7B model; up to four',
    )  # fmt: skip
    arguments.add_argument('--out', default='docs/cost.png', help='PNG file')
    arguments.add_argument('--threads', type=int, default=1)
    arguments.add_argument('--repeats', type=int, default=5)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    points, here = measure_demo(chosen.repeats)
    for name, value, least, times in points:
        for kind, took in times.items():
            print(f'{name} {value}: {kind} {duration(took)}, limit {duration(least[kind])}')
    rounded = Device(round(here.bandwidth, -9), round(here.rate, -9))
    draw(points, rounded, chosen.rates, chosen.out)


if __name__ == '__main__':
    main()
