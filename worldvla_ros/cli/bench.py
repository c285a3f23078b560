"""`worldvla bench`: inference times beside a lower bound for this device."""

import argparse

from worldvla_ros.cli.parts import (
    DTYPE_HELP,
    JSON_HELP,
    add_output,
    add_threads,
    add_verb,
    write_json,
)

ROWS = ('prefill', 'chunk', 'image', 'surprise', 'encode', 'decode', 'end-to-end')


def add_bench(verbs: argparse._SubParsersAction) -> None:
    """Add `bench`."""
    bench = add_verb(
        verbs, 'bench', _bench,
        'Measure inference time against the roofline limit of this device.',
        'worldvla bench --against reference',
    )  # fmt: skip
    bench.add_argument(
        '--model', default='demo',
        help='demo; 7b, random weights of the published sizes (15 GB); a checkpoint folder; or a '
        'profile of config/models, for random weights with its cameras and sizes',
    )  # fmt: skip
    bench.add_argument('--device', default='cpu', help='device: cpu, cuda or cuda:N')
    bench.add_argument('--dtype', default='auto', help=DTYPE_HELP)
    bench.add_argument('--horizon', type=int, default=None, metavar='K', help='actions per chunk')
    bench.add_argument(
        '--images-per-camera', type=int, default=None, metavar='M', help='images per camera'
    )
    bench.add_argument(
        '--resolution', type=int, default=None, metavar='PX', help='image side in pixels'
    )
    bench.add_argument(
        '--only',
        default='',
        metavar='ROWS',
        help=f'comma-separated rows of {",".join(ROWS)} (default: all)',
    )
    bench.add_argument(
        '--against', default=None, choices=['reference'],
        help='also decode token by token; compare results and times',
    )  # fmt: skip
    bench.add_argument(
        '--repeats',
        type=int,
        default=None,
        help='repetitions per row (default: as many as fit in 1 s)',
    )
    add_threads(bench)
    add_output(bench, '--json', default='', help=JSON_HELP)


def _bench(arguments: argparse.Namespace) -> int:
    from worldvla_ros.benchmark.measure import Settings, bench
    from worldvla_ros.checkpoint.hardware import use_threads

    use_threads(arguments.threads)
    report = bench(
        Settings(
            model=arguments.model,
            device=arguments.device,
            dtype=arguments.dtype,
            horizon=arguments.horizon,
            images_per_camera=arguments.images_per_camera,
            resolution=arguments.resolution,
            only=tuple(name for name in arguments.only.split(',') if name),
            references=arguments.against == 'reference',
            repeats=arguments.repeats,
            progress=True,
        )
    )
    write_json(arguments.json, report.record())
    print(report.table())
    return 0
