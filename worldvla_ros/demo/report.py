"""What the demonstration shows at its end: table, video and strip. Must not know ROS."""

from bisect import bisect_left
import json
from pathlib import Path
import sys
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from worldvla_ros.metrics import changed_pixels, pooled_psnr
from worldvla_ros.nodes.demo_sample import Sample
from worldvla_ros.pictures import captioned, difference, grid, write_video

Pair: TypeAlias = tuple[float, int, np.ndarray, np.ndarray, np.ndarray]
"""Stamp of the start, strides ahead, and three images: start, observed, imagined."""
SAME_S = 1e-3
"""Stamps that differ by less are the same; images come every 0.05 s."""
NEAR_S = 0.03
LOOK_AHEAD_S = 0.3
VIDEO_RATE_HZ = 10.0
CHUNK_PERIOD_MS = 200.0
"""That of config/nodes/worldvla.yaml: max_rate 5 Hz."""
HEADER = ('sentence', 'success', 'time', 'chunk p50', 'p95', 'imagined', 'PSNR', 'nothing moves')


def write_report(
    out: Path, samples: list[Sample], stride_s: float, per_chunk: int, memory_mb: float
) -> int:
    """Write table.json, demo.mp4 and strip.png, and print the table.

    Args:
        out: Folder that holds the bag already.
        samples: What was published.
        stride_s: Time between imagined images [s].
        per_chunk: Images imagined per chunk.
        memory_mb: Largest memory of the nodes [MB].

    Returns:
        0 if every sentence brought chunks, at least one was done, there is a bag, and images were
        imagined wherever acting left time for it; else 1.
    """
    pairs = [matched(sample, stride_s, per_chunk) for sample in samples]
    rows = [figures(s, p) for s, p in zip(samples, pairs, strict=True)]
    bag = out / 'bag/bag_0.mcap'
    imagined = any(r['images_imagined'] for r in rows)
    worked = all(r['chunks'] for r in rows) and bag.is_file() and (imagined or _overloaded(rows))
    slowest = min(s.slowest for s in samples)
    record = {'rows': rows, 'peak_memory_mb': memory_mb, 'smallest_real_time_factor': slowest}
    (out / 'table.json').write_text(json.dumps(record, indent=1) + '\n')
    files = ['table.json', 'bag']
    if worked and any(pairs):
        write_video(out / 'demo.mp4', video(samples), VIDEO_RATE_HZ)
        strip(samples, pairs, stride_s).save(out / 'strip.png')
        files += ['demo.mp4', 'strip.png']
    sys.stdout.write('\n' + table(rows) + '\n\n')
    if worked and not imagined:
        sys.stdout.write('No image was imagined: acting comes first and took all the time.\n')
    done = sum(bool(row['success']) for row in rows)
    sys.stdout.write(
        f'{done} of {len(rows)} sentences done. Peak memory of all nodes {memory_mb:.0f} MB, '
        f'simulation at no less than {slowest:.2f} × real time.\n'
        f'Written to {out}: {", ".join(files)}\n'
    )
    return 0 if worked and done else 1


def _overloaded(rows: list[dict[str, Any]]) -> bool:
    """Return whether chunks took longer than their period, so that nothing could be imagined."""
    return all(row['chunk_ms_p50'] > CHUNK_PERIOD_MS for row in rows)


def matched(sample: Sample, stride_s: float, per_chunk: int) -> list[Pair]:
    """Return each imagined image with its start and with what was seen at the predicted time.

    The images of a chunk come one after another, each a stride after the last; the first lies a
    stride after the start.

    Returns:
        (stamp of the start, strides ahead, start, observed, imagined); images uint8[h, w, 3] at
        the size of the imagined one.
    """
    found: list[Pair] = []
    start_s, ahead = -np.inf, per_chunk
    for stamp, imagined in sample.imagined:
        follows = abs(start_s + (ahead + 1) * stride_s - stamp) < SAME_S
        if ahead < per_chunk and follows:
            ahead += 1
        else:
            start_s, ahead = stamp - stride_s, 1
        start = image_at(sample, start_s, SAME_S)
        observed = image_at(sample, stamp, NEAR_S)
        if start is not None and observed is not None:
            side = imagined.shape[0]
            images = _shrink(start, side), _shrink(observed, side), imagined
            found.append((start_s, ahead, *images))
    return found


def image_at(sample: Sample, stamp_s: float, tolerance_s: float) -> np.ndarray | None:
    """Return the observed image nearest to a time, or None where none is near."""
    stamps = [s for s, _ in sample.images]
    place = bisect_left(stamps, stamp_s)
    near = [i for i in (place - 1, place) if 0 <= i < len(stamps)]
    best = min(near, key=lambda i: abs(stamps[i] - stamp_s), default=None)
    if best is None or abs(stamps[best] - stamp_s) > tolerance_s:
        return None
    return sample.images[best][1]


def figures(sample: Sample, pairs: list[Pair]) -> dict[str, Any]:
    """Return the row of one sentence; PSNR [dB] is pooled over the pixels that changed."""
    latencies = [1000 * latency for _, latency in sample.chunks]
    errors: dict[str, list[np.ndarray]] = {'imagined': [], 'start': []}
    for _, _, start, observed, imagined in pairs:
        mask = changed_pixels(start, observed)
        for name, image in (('imagined', imagined), ('start', start)):
            errors[name].append(np.square(image.astype(float) - observed)[mask])
    return {
        'sentence': sample.sentence,
        'success': sample.time_to_success is not None,
        'time_to_success_s': sample.time_to_success,
        'chunks': len(sample.chunks),
        'chunk_ms_p50': float(np.percentile(latencies, 50)) if latencies else None,
        'chunk_ms_p95': float(np.percentile(latencies, 95)) if latencies else None,
        'images_imagined': len(sample.imagined),
        'images_compared': len(pairs),
        'psnr_imagined_db': _finite(pooled_psnr(errors['imagined'])),
        'psnr_nothing_moves_db': _finite(pooled_psnr(errors['start'])),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""

    def number(value: float | None, form: str) -> str:
        return '–' if value is None else form.format(value)

    cells: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        cells.append(
            (
                row['sentence'],
                'yes' if row['success'] else 'no',
                number(row['time_to_success_s'], '{:.1f} s'),
                number(row['chunk_ms_p50'], '{:.0f} ms'),
                number(row['chunk_ms_p95'], '{:.0f} ms'),
                str(row['images_imagined']),
                number(row['psnr_imagined_db'], '{:.1f} dB'),
                number(row['psnr_nothing_moves_db'], '{:.1f} dB'),
            )
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    lines = ['  '.join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return '\n'.join([lines[0], '─' * len(lines[0]), *lines[1:]])


def video(samples: list[Sample]) -> list[np.ndarray]:
    """Return the images of the video: observed beside what had been imagined for that time."""
    made = []
    for sample in samples:
        next_s = sample.images[0][0]
        for stamp, observed in sample.images:
            if stamp < next_s:
                continue
            next_s += 1 / VIDEO_RATE_HZ
            near = [(abs(s - stamp), i) for i, (s, _) in enumerate(sample.imagined)]
            distance, index = min(near, default=(np.inf, 0))
            known = distance <= LOOK_AHEAD_S
            imagined = sample.imagined[index][1] if known else np.full_like(observed, 235)
            done = sample.time_to_success
            seconds = stamp - sample.images[0][0]
            mark = '   done' if done is not None and seconds >= done else ''
            caption = f'“{sample.sentence}”   {seconds:4.1f} s{mark}'
            made.append(captioned([observed, imagined], ['observed', 'imagined'], caption))
    return made


def strip(samples: list[Sample], pairs: list[list[Pair]], stride_s: float) -> Image.Image:
    """Return one row per sentence: the start at which most was to move, and what came of it."""
    rows, labels = [], []
    furthest = max(ahead for found in pairs for _, ahead, *_ in found)
    for sample, found in zip(samples, pairs, strict=True):
        last = [p for p in found if p[1] == furthest]
        if not last:
            continue
        start_s = max(last, key=lambda p: changed_pixels(p[2], p[3]).mean())[0]
        row = sorted((p for p in found if p[0] == start_s), key=lambda p: p[1])
        images = [row[0][2]]
        for _, _, _, observed, imagined in row:
            images += [observed, imagined, difference(observed, imagined)]
        if len(row) == furthest:
            rows.append(images)
            labels.append(sample.sentence)
    columns = ['start']
    for ahead in range(1, furthest + 1):
        moment = f'{ahead * stride_s:.2f} s'
        columns += [f'observed +{moment}', f'imagined +{moment}', 'difference']
    return grid(
        rows, labels, columns, 'What the camera saw, and what the model had imagined before'
    )


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
