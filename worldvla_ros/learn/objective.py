"""What training minimises: named terms, each with a weight.

    outputs ─┬─ term × weight ─┐
             ├─ term × weight ─┼─ total; each term's value is logged by its name
             └─ …              ┘

A term that weighs nothing is left out, with all that only it asks for. Terms may have parameters
of their own, such as heads that are thrown away after training; they are trained and clipped with
the rest. Knows terms. Must not know what their outputs are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Outputs = TypeVar('Outputs')


class Term(nn.Module, Generic[Outputs]):
    """One part of an objective.

    Attributes:
        name: Its name in logs.
        auxiliary: Whether it only helps to learn, and is no part of the validation loss.
        weight: What its value is multiplied with.
    """

    name: str
    auxiliary = False

    def __init__(self, weight: float = 1.0) -> None:
        """Keep the weight."""
        super().__init__()
        self.weight = weight

    def forward(self, outputs: Outputs) -> Tensor:
        """Return the value, not yet weighted: an fp32 scalar."""
        raise NotImplementedError

    def figures(self, outputs: Outputs) -> dict[str, float]:
        """Return what an evaluation says of this term beside the validation loss."""
        return {}


@dataclass(frozen=True)
class Losses:
    """What an objective makes of outputs.

    Attributes:
        total: fp32 scalar, to be minimised.
        values: Name → fp32 scalar, each term before it is weighted.
    """

    total: Tensor
    values: dict[str, Tensor]

    def figures(self) -> dict[str, float]:
        """Return the total as 'loss' and the terms as 'loss_<name>', as plain numbers."""
        terms = {f'loss_{name}': value.item() for name, value in self.values.items()}
        return {'loss': self.total.item(), **terms}


class Objective(nn.Module, Generic[Outputs]):
    """A weighted sum of terms."""

    def __init__(self, terms: Iterable[Term[Outputs]]) -> None:
        """Take the terms whose weight is not 0, in their order."""
        super().__init__()
        self.terms = {term.name: term for term in terms if term.weight}
        self._modules_of_terms = nn.ModuleDict(self.terms)  # so that their parameters are found

    def __contains__(self, name: str) -> bool:
        """Whether a term counts, and so what it needs must be computed."""
        return name in self.terms

    def forward(self, outputs: Outputs) -> Losses:
        """Return the sum of all terms, and each by its name."""
        values = {name: term(outputs) for name, term in self.terms.items()}
        return Losses(self._sum(values), values)

    def main(self, outputs: Outputs) -> Tensor:
        """Return the sum without auxiliary terms: fp32 scalar."""
        terms = {name: term for name, term in self.terms.items() if not term.auxiliary}
        return self._sum({name: term(outputs) for name, term in terms.items()})

    def figures(self, outputs: Outputs) -> dict[str, float]:
        """Return the figures of all terms."""
        return {k: v for term in self.terms.values() for k, v in term.figures(outputs).items()}

    def _sum(self, values: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.terms[name].weight * v for name, v in values.items()]).sum()
