"""`worldvla bench`: how fast a model runs here, and how fast it could."""

import argparse

from worldvla_ros.cli.parts import (
    DTYPE_HELP,
    JSON_HELP,
    add_output,
    add_threads,
    add_verb,
    use_threads,
    write_json,
)

ROWS = ('prefill', 'chunk', 'image', 'surprise', 'encode', 'decode', 'end-to-end')


def add_bench(verbs: argparse._SubParsersAction) -> None:
    """Add `bench`."""
    bench = add_verb(
        verbs, 'bench', _bench, 'Time acting and imagining beside the least time that they need.',
        'worldvla bench --against reference',
    )  # fmt: skip
    bench.add_argument(
        '--model', default='demo',
        help='demo; 7b, random weights of the published sizes (15 GB); a checkpoint folder; or a '
        'profile of config/models, for random weights with its cameras and sizes',
    )  # fmt: skip
    bench.add_argument('--device', default='cpu', help='cpu or cuda')
    bench.add_argument('--dtype', default='auto', help=DTYPE_HELP)
    bench.add_argument('--horizon', type=int, default=None, metavar='K', help='actions per chunk')
    bench.add_argument('--history', type=int, default=None, metavar='M', help='images per camera')
    bench.add_argument(
        '--resolution', type=int, default=None, metavar='PX', help='side of an image'
    )
    bench.add_argument(
        '--only', default='', metavar='ROWS', help=f'some of {",".join(ROWS)}; all by default'
    )
    bench.add_argument(
        '--against', default=None, choices=['reference'],
        help='also decode token after token, and compare results and times',
    )  # fmt: skip
    bench.add_argument(
        '--repeats', type=int, default=None, help='times of each row; by default what 1 s allows'
    )
    add_threads(bench)
    add_output(bench, '--json', default='', help=JSON_HELP)


def _bench(arguments: argparse.Namespace) -> int:
    from worldvla_ros.benchmark.measure import Settings, bench

    use_threads(arguments.threads)
    report = bench(
        Settings(
            model=arguments.model,
            device=arguments.device,
            dtype=arguments.dtype,
            horizon=arguments.horizon,
            history=arguments.history,
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
