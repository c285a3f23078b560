"""Pictures for people: labelled grids of images and captioned videos.

Knows pixels and letters. Must not know models, ROS or the simulation.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT = (24, 24, 28), (250, 250, 248), (110, 110, 118)
GAP = 4
FONT_SIZE = 15


def enlarge(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image at a height of `side`, its pixels kept visible: uint8[side, w, 3]."""
    picture = Image.fromarray(image)
    width = round(picture.width * side / picture.height)
    return np.asarray(picture.resize((width, side), Image.Resampling.NEAREST))


def difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the absolute difference of two images uint8[h, w, 3]."""
    return np.asarray(np.abs(image.astype(int) - other), np.uint8)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = '',
    side: int = 128,
) -> Image.Image:
    """Lay images out in labelled rows and columns.

    Args:
        rows: Images uint8[h, w, 3] of equal size, as many in each row.
        row_labels: One per row.
        column_labels: One per column.
        title: Line above all.
        side: Height of one image in the picture [px].
    """
    font = ImageFont.load_default(FONT_SIZE)
    tiles = [[enlarge(image, side) for image in row] for row in rows]
    width = tiles[0][0].shape[1]
    left = round(max(font.getlength(label) for label in row_labels)) + 3 * GAP
    head = FONT_SIZE + 3 * GAP
    top = head * (2 if title else 1)
    size = (left + len(column_labels) * (width + GAP), top + len(rows) * (side + GAP))
    sheet = Image.new('RGB', size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, font)
    for column, label in enumerate(column_labels):
        place = (left + column * (width + GAP), top - head + GAP)
        draw.text(place, label, FAINT, font)
    for row, (label, images) in enumerate(zip(row_labels, tiles, strict=True)):
        y = top + row * (side + GAP)
        draw.text((GAP, y + side // 2 - FONT_SIZE // 2), label, INK, font)
        for column, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (left + column * (width + GAP), y))
    return sheet


def captioned(
    images: Sequence[np.ndarray], labels: Sequence[str], caption: str, side: int = 320
) -> np.ndarray:
    """Return images side by side, labelled, over a caption: uint8[h, w, 3] of even size."""
    font = ImageFont.load_default(FONT_SIZE + 1)
    tiles = [enlarge(image, side) for image in images]
    head, foot = FONT_SIZE + 3 * GAP, FONT_SIZE + 5 * GAP
    width = sum(t.shape[1] for t in tiles) + GAP * (len(tiles) + 1)
    size = (width + width % 2, head + side + foot)
    sheet = Image.new('RGB', (size[0], size[1] + size[1] % 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    x = GAP
    for tile, label in zip(tiles, labels, strict=True):
        draw.text((x + GAP, GAP), label, FAINT, font)
        sheet.paste(Image.fromarray(tile), (x, head))
        x += tile.shape[1] + GAP
    draw.text((2 * GAP, head + side + GAP), caption, INK, font)
    return np.asarray(sheet)


def write_video(file: str | Path, images: Iterable[np.ndarray], rate_hz: float) -> None:
    """Write images uint8[h, w, 3] of equal, even size as an H.264 MP4."""
    import imageio.v2 as imageio

    Path(file).parent.mkdir(parents=True, exist_ok=True)
    writer: Any  # imageio's annotations say nothing of it
    with imageio.get_writer(
        file, fps=rate_hz, codec='libx264', macro_block_size=2, quality=8
    ) as writer:
        for image in images:
            writer.append_data(image)
