"""An auxiliary loss of training: the prompt's last token should know where the object to move is.

To act, the model must find the object that the sentence names. Actions say so only indirectly; a
simulation knows the place. A linear head reads it off the hidden state and is thrown away
afterwards: neither sequences nor checkpoint know of it. Knows hidden states. Must not know tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE_M = 0.1
CENTRE_M = (0.5, 0.0, 0.05)


class Grounding(nn.Module):
    """A linear head from hidden states to positions."""

    def __init__(self, width: int) -> None:
        """Start in the middle of the table."""
        super().__init__()
        self.head = nn.Linear(width, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def places(self, summaries: Tensor) -> Tensor:
        """Return positions float[b, 3] [m] of hidden states float[b, d]."""
        centre = torch.tensor(CENTRE_M, device=summaries.device)
        return self.head(summaries) * SCALE_M + centre

    def loss(self, summaries: Tensor, targets: Tensor) -> Tensor:
        """Return the mean distance per axis in units of `SCALE_M`, quadratic near zero.

        Args:
            summaries: float[b, d].
            targets: float32[b, 3] [m]; rows with NaN do not count.
        """
        known = targets.isfinite().all(-1)
        if not known.any():
            return summaries.sum() * 0
        made, wanted = self.places(summaries[known]), targets[known]
        return functional.smooth_l1_loss(made / SCALE_M, wanted / SCALE_M, beta=0.1)

    @torch.inference_mode()
    def error(self, summaries: Tensor, targets: Tensor) -> float:
        """Return the mean distance from the targets that are known [m]."""
        known = targets.isfinite().all(-1)
        return (self.places(summaries[known]) - targets[known]).norm(dim=-1).mean().item()
