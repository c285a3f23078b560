"""Draws the learning curve of a training run from the log in its work folder.

python studies/learning_curve.py out/train/demo --out curve.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt

PANELS = (
    ('action_error', 'mean action error, range −1 … 1'),
    ('grounding_error_m', 'distance from the named cube [m]'),
    ('code_accuracy', 'share of image codes hit'),
)


def rows_of(work):
    """Return the evaluations of a run, in order of steps."""
    lines = (Path(work) / 'model.jsonl').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if 'validation_loss' in row]


def main():
    """Read the log, draw, save."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('work')
    arguments.add_argument('--out', required=True)
    chosen = arguments.parse_args()
    rows = rows_of(chosen.work)
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 3.2), layout='constrained')
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        known = [(row['step'], row[name]) for row in rows if name in row]
        axis.plot(*zip(*known, strict=True), marker='o', markersize=3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('steps')
        axis.grid(alpha=0.3)
    figure.savefig(chosen.out, dpi=110)


if __name__ == '__main__':
    main()
