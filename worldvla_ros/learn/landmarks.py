"""An auxiliary loss of the image tokenizer: codes should say which object they show, and where.

A codebook that only rebuilds pixels spends its entries on shades of background; what an action
depends on, the colour of a cube and its place inside the code's patch, hides in small differences
between latents. Linear heads on the quantised latents ask for both and are thrown away
afterwards: the checkpoint does not know of them.

Knows latents and places in the image. Must not know token ids. Legend: b images, z latent width,
r, c rows and columns of codes, o objects by name.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

RARITY = 16.0
"""Weight of a code that shows an object's centre against one that does not, which are many."""


class Landmarks(nn.Module):
    """Heads from quantised latents to each object's presence and place inside a patch."""

    def __init__(self, width: int, objects: int) -> None:
        """Make untrained heads; `width` is z."""
        super().__init__()
        self.presence, self.offset = nn.Conv2d(width, objects, 1), nn.Conv2d(width, 2 * objects, 1)

    def loss(self, latents: Tensor, places: Tensor) -> Tensor:
        """Return how badly presence and place can be read off.

        Args:
            latents: float[b, z, r, c], quantised.
            places: float32[b, o, 2], column and row in [0, 1]; NaN where an object is not there.
        """
        shown, offsets = patch_targets(places, latents.shape[2:])
        scores = self.presence(latents)
        rare = torch.full((1, 1, 1), RARITY, device=scores.device)
        loss = functional.binary_cross_entropy_with_logits(scores, shown.float(), pos_weight=rare)
        if shown.any():
            made = self.offset(latents).unflatten(1, (-1, 2)).movedim(2, -1)[shown]
            loss = loss + functional.smooth_l1_loss(made, offsets[shown], beta=0.1)
        return loss


def patch_targets(places: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """Return which patch shows each object's centre, and where in that patch it is.

    Returns:
        bool[b, o, r, c], and float32[b, o, r, c, 2], column and row in [-0.5, 0.5] where shown.
    """
    rows, columns = grid
    scaled = places * torch.tensor([columns, rows], device=places.device)
    cell = scaled.floor()
    row = torch.arange(rows, device=places.device)[:, None]
    column = torch.arange(columns, device=places.device)
    shown = (cell[..., 1, None, None] == row) & (cell[..., 0, None, None] == column)
    offset = (scaled - cell - 0.5)[:, :, None, None].expand(*shown.shape, 2)
    return shown, offset
