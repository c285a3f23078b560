"""How the tabletop words its tasks, for training. Knows words. Must not know MuJoCo."""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.sim.tasks import Goal, corpus, paraphrase

SOURCE = 'tabletop'
"""Name of the tabletop in the episodes that it records."""


class TabletopWording:
    """The many ways to say a goal; see `data.wording.Wording`."""

    def corpus(self) -> Sequence[str]:
        """Return training sentences of every kind."""
        return corpus()

    def sentence(self, task: str, instruction: str, rng: np.random.Generator) -> str:
        """Draw a wording of the goal that an instruction names.

        Raises:
            InstructionError: It names none.
        """
        return paraphrase(Goal.from_text(task, instruction), rng)
