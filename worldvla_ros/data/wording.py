"""How a source of episodes words its tasks, for training on more sentences than were recorded.

A source is where episodes come from: a simulation, a laboratory, a public data set. One that can
say a task in many ways implements `Wording`; whoever starts a training hands it over under the
name that the episodes carry. Knows sentences. Must not know any source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Wording(Protocol):
    """How one source words its tasks."""

    def corpus(self) -> Sequence[str]:
        """Return sentences to learn a text tokenizer from."""

    def sentence(self, task: str, instruction: str, rng: np.random.Generator) -> str:
        """Draw a sentence for an episode, from its kind of task and its recorded instruction.

        Raises:
            InstructionError: The source does not understand the instruction.
        """


@dataclass(frozen=True)
class AsRecorded:
    """The wording of a source that nobody else speaks for: what was recorded.

    Attributes:
        instructions: All recorded instructions.
    """

    instructions: tuple[str, ...] = ()

    def corpus(self) -> Sequence[str]:
        """Return the recorded instructions."""
        return self.instructions

    def sentence(self, task: str, instruction: str, rng: np.random.Generator) -> str:
        """Return the recorded instruction."""
        return instruction


Wordings = Mapping[str, Wording]
"""Name of a source → how it words its tasks; of sources that are not in it, `AsRecorded`."""
