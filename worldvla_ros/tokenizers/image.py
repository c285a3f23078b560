"""Image codes ⇄ blocks of token ids, and the crop that precedes the encoder.

    block of h × w grid cells (a cell is 2 × 2 codes):
    image_start, grid h, grid w, (2w codes, new_line) × 2h rows, image_end

Height comes first; every row, the last one too, ends with a new line (WorldVLA
`data/item_processor.py`). Knows layout and pixel geometry; must not know the VQ-GAN's weights.
Legend: r, c rows and columns of codes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldvla_ros.errors import ObservationError
from worldvla_ros.tokenizers.vocab import Vocabulary

CODES_PER_CELL = 2
MAX_ASPECT = 4
STRUCTURE_IDS = 4
"""image_start, two grid ids, image_end."""


@dataclass(frozen=True)
class ImageTokenizer:
    """Lays the codes of one image out as token ids, and back."""

    vocab: Vocabulary

    def block_length(self, rows: int, columns: int) -> int:
        """Ids of an image of rows × columns codes."""
        return rows * (columns + 1) + STRUCTURE_IDS

    def encode(self, codes: np.ndarray) -> NDArray[np.int64]:
        """Return the block of an image: int[rows, columns] codes → int64[block_length].

        Raises:
            ValueError: Rows or columns are odd, or a code is outside the codebook.
        """
        codes = np.asarray(codes, np.int64)
        if codes.ndim != 2 or codes.shape[0] % CODES_PER_CELL or codes.shape[1] % CODES_PER_CELL:
            raise ValueError(f'expected an even number of rows and columns, got {codes.shape}')
        if codes.min() < 0 or codes.max() >= self.vocab.codebook_size:
            raise ValueError(f'codes outside 0…{self.vocab.codebook_size - 1}')
        new_lines = np.full((codes.shape[0], 1), self.vocab.new_line)
        rows = np.concatenate([codes + self.vocab.code_base, new_lines], axis=1)  # [r, c + 1]
        head = [self.vocab.image_start, *self._grid(codes.shape)]
        return np.concatenate([head, rows.reshape(-1), [self.vocab.image_end]])

    def decode(self, ids: np.ndarray) -> NDArray[np.int64]:
        """Return the codes of a block: int[block_length] → int64[rows, columns].

        Raises:
            ValueError: The block is malformed; the message says where.
        """
        ids = np.asarray(ids, np.int64)
        if len(ids) < STRUCTURE_IDS or ids[0] != self.vocab.image_start:
            raise ValueError('an image block must begin with image_start')
        rows, columns = (int(g - self.vocab.grid_base) * CODES_PER_CELL for g in ids[1:3])
        if rows <= 0 or columns <= 0 or len(ids) != self.block_length(rows, columns):
            raise ValueError(f'grid {rows} × {columns} codes does not fit {len(ids)} ids')
        body = ids[3:-1].reshape(rows, columns + 1)
        codes = body[:, :-1] - self.vocab.code_base
        if ids[-1] != self.vocab.image_end or (body[:, -1] != self.vocab.new_line).any():
            raise ValueError('image_end or a new_line is missing')
        if codes.min() < 0 or codes.max() >= self.vocab.codebook_size:
            raise ValueError('an id among the codes is no image code')
        return codes

    def _grid(self, shape: tuple[int, int]) -> list[int]:
        return [self.vocab.grid_base + n // CODES_PER_CELL for n in shape]


def crop_sizes(target: int, patch: int) -> list[tuple[int, int]]:
    """Return the (width, height) candidates [px] of about target² pixels, aspect at most 4.

    The frontier of sizes in patches with w · h ≤ (target / patch)² (WorldVLA §2.3 of the
    reference).
    """
    budget = (target // patch) ** 2
    width, height = budget, 1
    sizes = []
    while width > 0:
        if max(width, height) / min(width, height) <= MAX_ASPECT:
            sizes.append((width * patch, height * patch))
        if (height + 1) * width <= budget:
            height += 1
        else:
            width -= 1
    return sizes


def fit_image(image: np.ndarray, target: int, patch: int) -> np.ndarray:
    """Scale and centre-crop an image to the candidate size that keeps most of it.

    A square image becomes target × target; one that already has that size is unchanged. Halving
    uses a box filter while both sides stay at least twice the size, then bicubic scaling. The
    reference crops at a random offset; the centre is taken here, so that equal images give equal
    tokens.

    What is cut off is scaled too, since cutting first would move the grid of the filter by a part
    of a pixel; `Observation` bounds how much that can be.

    Args:
        image: uint8[h, w, 3], as `Observation` accepts it.
        target: Side of a square image of the model [px].
        patch: Sizes are multiples of this [px].

    Raises:
        ObservationError: `target` is below one patch.
    """
    if image.shape[0] == image.shape[1] == target:
        return image
    picture = Image.fromarray(image)
    width, height = fitted_size(picture.size, target, patch)
    while picture.width >= 2 * width and picture.height >= 2 * height:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = max(width / picture.width, height / picture.height)
    scaled = (round(picture.width * scale), round(picture.height * scale))
    if scaled != picture.size:
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def fitted_size(size: tuple[int, int], target: int, patch: int) -> tuple[int, int]:
    """Return the (width, height) that `fit_image` gives an image of a (width, height) [px].

    Raises:
        ObservationError: `target` is below one patch.
    """
    return _best_size(size, crop_sizes(target, patch))


def _best_size(size: tuple[int, int], candidates: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the candidate whose two scale factors are most alike; ties go to the larger."""
    if not candidates:
        raise ObservationError('no crop size for this image', remedy='Use a larger target size.')

    def likeness(candidate: tuple[int, int]) -> float:
        factors = (candidate[0] / size[0], candidate[1] / size[1])
        return min(factors) / max(factors)

    return max(candidates, key=lambda c: (likeness(c), c))
