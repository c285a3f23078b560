"""Where an object is: one row of five numbers, whose columns have names.

    x  y  z │ column  row       float32[..., 5], NaN where nobody knows

Position in the robot's base frame [m]; then where the first camera's image shows it, as a share
of width and height, 0 … 1 where it is in view. The slices serve NumPy arrays and torch tensors
alike. Knows columns only.
"""

import numpy as np

COLUMNS = ('x', 'y', 'z', 'column', 'row')
POSITION = slice(0, 3)
"""x, y, z [m]."""
VIEW = slice(3, 5)
"""Column, then row, in the first camera's image."""
VIEW_COLUMN, VIEW_ROW = 3, 4


def unknown(*shape: int) -> np.ndarray:
    """Return rows of which nothing is known: float32[*shape, 5], all NaN."""
    return np.full((*shape, len(COLUMNS)), np.nan, np.float32)
