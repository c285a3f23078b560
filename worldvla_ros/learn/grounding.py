"""An auxiliary loss of training: the model should know where the object to move is.

To act, the model must find the object that the sentence names. Actions say so only indirectly; a
simulation knows the place. Three linear heads read it off hidden states and are thrown away
afterwards: neither sequences nor checkpoint know of them.

    half-way up, at the image's codes:  which code shows it, and from that code, where it is
    at the top, at the prompt's end:    where it is

The first two teach codes what they show, in every patch at once; the last carries the place to
where actions begin. Knows hidden states and places. Must not know tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

TARGET_DIM = 5
"""A target is x, y, z [m] and column, row in the image [0, 1]; see `learn.episodes.Episode`."""
SCALE_M = 0.1
CENTRE_M = (0.5, 0.0, 0.05)


class Grounding(nn.Module):
    """Heads from hidden states to places. Legend: b sequences, n codes of an image, d width."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        """Start knowing nothing: in the middle of the table, every code alike.

        Args:
            width: d.
            grid: Rows and columns of codes; n is their product.
        """
        super().__init__()
        self._grid = grid
        self.norm = nn.LayerNorm(width)
        self.pointer, self.patch_place = nn.Linear(width, 1), nn.Linear(width, 3)
        self.place = nn.Linear(width, 3)
        for head in (self.pointer, self.patch_place, self.place):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def loss(self, summaries: Tensor, patches: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the three losses over the sequences whose target is known.

        Args:
            summaries: float[b, d], hidden states of the prompts' last tokens.
            patches: float[b, n, d], hidden states of the image's codes, row by row.
            targets: float32[b, 5]; rows with NaN do not count.
        """
        known = targets.isfinite().all(-1)
        if not known.any():
            return summaries.sum() * 0
        summaries, patches, targets = summaries[known], self.norm(patches[known]), targets[known]
        total = _distance(self.place(summaries), targets)
        cells, seen = self.cells(targets)
        if seen.any():
            patches, cells = patches[seen], cells[seen]
            total = total + functional.cross_entropy(self.pointer(patches)[..., 0], cells)
            shown = patches[torch.arange(len(cells), device=cells.device), cells]
            total = total + _distance(self.patch_place(shown), targets[seen])
        return total

    def cells(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return which code shows each target, int64[b], and whether it is in view, bool[b]."""
        rows, columns = self._grid
        column, row = (targets[:, 3] * columns).floor(), (targets[:, 4] * rows).floor()
        seen = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        return (row * columns + column).long(), seen

    @torch.inference_mode()
    def figures(self, summaries: Tensor, patches: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the mean distance from known targets [m] and the share of codes found."""
        known = targets.isfinite().all(-1)
        targets, patches = targets[known], self.norm(patches[known])
        centre = torch.tensor(CENTRE_M, device=targets.device)
        places = self.place(summaries[known]) * SCALE_M + centre
        cells, seen = self.cells(targets)
        found = self.pointer(patches)[..., 0].argmax(-1)
        return {
            'grounding_error_m': (places - targets[:, :3]).norm(dim=-1).mean().item(),
            'pointer_accuracy': (found == cells)[seen].float().mean().item(),
        }


def _distance(made: Tensor, targets: Tensor) -> Tensor:
    """Return the mean distance per axis in units of `SCALE_M`, quadratic near zero."""
    centre = torch.tensor(CENTRE_M, device=targets.device)
    return functional.smooth_l1_loss(made, (targets[:, :3] - centre) / SCALE_M, beta=0.1)
