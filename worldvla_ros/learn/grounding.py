"""An auxiliary loss of training: the model should know where the object to move is.

To act, the model must find the object that the sentence names. Actions say so only indirectly; a
simulation knows the place. Linear heads read it off hidden states and are thrown away afterwards:
neither sequences nor checkpoint know of them.

    half-way up, at the image's codes:  where in the image each code itself lies, which of them
                                        shows the object, and from that code, where it is
    at the top, at the prompt's end:    where it is

The first ones teach codes what they show, in every patch at once; the last carries the place to
where actions begin. Knows hidden states and places, and ids only to find an image's codes.
Legend: b sequences, t tokens, n codes of an image, d width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldvla_ros.data.places import POSITION, VIEW_COLUMN, VIEW_ROW
from worldvla_ros.learn.batches import Batch
from worldvla_ros.learn.forward import Outputs
from worldvla_ros.learn.objective import Term
from worldvla_ros.tokenizers.vocab import Vocabulary

SCALE_M = 0.1
CENTRE_M = (0.5, 0.0, 0.05)


class Grounding(nn.Module):
    """Heads from hidden states to places."""

    _own: Tensor

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        """Make heads that first name the middle of the table, and every code alike.

        Args:
            width: d.
            grid: Rows and columns of codes; n is their product.
        """
        super().__init__()
        self._grid = grid
        self.norm = nn.LayerNorm(width)
        self.pointer, self.patch_place = nn.Linear(width, 1), nn.Linear(width, 3)
        self.place, self.own_place = nn.Linear(width, 3), nn.Linear(width, 2)
        own = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in grid), indexing='ij')
        self.register_buffer('_own', torch.stack(own, -1).flatten(0, 1), persistent=False)
        for head in (self.pointer, self.patch_place, self.place, self.own_place):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def loss(self, summaries: Tensor, patches: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the losses over the sequences whose target is known.

        Args:
            summaries: float[b, d], hidden states of the prompts' last tokens.
            patches: float[b, n, d], hidden states of the image's codes, row by row.
            targets: float32[b, 5] of `data.places`; rows with NaN do not count.
        """
        known = targets.isfinite().all(-1)
        if not known.any():
            return summaries.sum() * 0
        summaries, patches, targets = summaries[known], self.norm(patches[known]), targets[known]
        own = self._own.expand(len(patches), -1, -1)
        total = _distance(self.place(summaries), targets)
        total = total + functional.smooth_l1_loss(self.own_place(patches), own, beta=0.1)
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
        column = (targets[:, VIEW_COLUMN] * columns).floor()
        row = (targets[:, VIEW_ROW] * rows).floor()
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
            'grounding_error_m': (places - targets[:, POSITION]).norm(dim=-1).mean().item(),
            'pointer_accuracy': (found == cells)[seen].float().mean().item(),
        }


class GroundingTerm(Term[Outputs]):
    """The heads' loss as a term of the model's objective."""

    name = 'grounding'
    auxiliary = True

    def __init__(
        self, weight: float, width: int, grid: tuple[int, int], vocab: Vocabulary
    ) -> None:
        """Make heads for hidden states of a width and images of a grid of codes."""
        super().__init__(weight)
        self.heads = Grounding(width, grid)
        self._codes, self._vocab = math.prod(grid), vocab

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the heads' loss; the outputs must hold the states half-way up."""
        return self.heads.loss(*self._seen(outputs))

    def figures(self, outputs: Outputs) -> dict[str, float]:
        """Return the heads' figures."""
        return self.heads.figures(*self._seen(outputs))

    def _seen(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return float[b, d] at the prompts' ends, float[b, n, d] at codes, float32[b, 5]."""
        pairs = list(zip(outputs.batches, outputs.half_way, strict=True))
        patches = [first_patches(*pair, self._vocab, self._codes) for pair in pairs]
        ends = zip(outputs.batches, outputs.states, strict=True)
        summaries = [prompt_ends(*pair) for pair in ends]
        targets = [batch.targets for batch in outputs.batches]
        return torch.cat(summaries), torch.cat(patches), torch.cat(targets)


def prompt_ends(batch: Batch, states: Tensor) -> Tensor:
    """Return the states of the prompts' last tokens: float[b, t, d] → [b, d]."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, batch.prompt_lengths - 1]


def first_patches(batch: Batch, states: Tensor, vocab: Vocabulary, n: int) -> Tensor:
    """Return the states of the first n codes of each sequence: float[b, t, d] → [b, n, d]."""
    span = vocab.codes
    codes = (batch.ids >= span.start) & (batch.ids < span.stop)
    return states[codes & (codes.cumsum(1) <= n)].view(len(states), n, -1)


def _distance(made: Tensor, targets: Tensor) -> Tensor:
    """Return the mean distance per axis in units of `SCALE_M`, quadratic near zero."""
    centre = torch.tensor(CENTRE_M, device=targets.device)
    return functional.smooth_l1_loss(made, (targets[:, POSITION] - centre) / SCALE_M, beta=0.1)
