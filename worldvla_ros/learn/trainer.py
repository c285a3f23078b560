"""The loop of training, one for whatever is trained.

    draw, forward, objective ─ backward ─ clip ─ optimisers ─ moving average ─┐
      ↑                                             log ─ save ─ evaluate ────┤
      └───────────────────────────────────────────────────────────────────────┘

A `Learner` says what its loss is; the trainer takes the steps, and resumes where a run was saved.
Knows optimisers and runs. Must not know what is trained. Read `train_model` or `train_vqgan` for
the two learners.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import logging
from typing import Any, Protocol

import torch
from torch import nn
from tqdm import trange

from worldvla_ros.errors import ConfigError
from worldvla_ros.learn.objective import Losses
from worldvla_ros.learn.runs import Run

LOG = logging.getLogger(__name__)
LOG_EVERY = 50
DIGITS = 5


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Its peak.
        warmup: Steps of linear warm-up.
        decay_share: Share of the steps, at the end, over which the rate falls to zero.
        clip: Largest norm of the gradient of everything that the optimisers move.
        average: Decay of the moving average of the weights; 0 keeps none.
        save_every: Steps between evaluations, each of which also saves the run.
    """

    steps: int
    learning_rate: float
    warmup: int
    decay_share: float
    clip: float
    average: float
    save_every: int


class Stateful(Protocol):
    """Something that training changes, and that a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Resume."""


class Learner(Protocol):
    """What a trainer trains."""

    name: str
    """For the progress bar."""
    parts: dict[str, Stateful]
    """What a resumed run needs beside optimisers and average, by name."""

    @property
    def module(self) -> nn.Module:
        """Whose weights are averaged."""

    @property
    def optimisers(self) -> Sequence[torch.optim.Optimizer]:
        """All that move anything, the objective's own parameters among it."""

    def losses(self, step: int) -> Losses:
        """Draw the batch of a step and return what its objective makes of it."""

    def evaluate(self, weights: dict[str, torch.Tensor]) -> dict[str, float]:
        """Return figures of some weights on data that is not trained on; empty for none."""


class MovingAverage:
    """An exponential moving average of a module's state, warmed up over the first steps."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the present state."""
        self._module, self._decay = module, decay
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def update(self, step: int) -> None:
        """Follow the module."""
        decay = min(self._decay, (1 + step) / (10 + step))
        state = self._module.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), list(state.values()), 1 - decay)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the averages."""
        return self.weights

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over averages of the same names.

        Raises:
            ValueError: Names differ.
        """
        if state.keys() != self.weights.keys():
            raise ValueError('averages of other weights')
        self.weights = {k: v.to(self.weights[k].device) for k, v in state.items()}


class Trainer:
    """Takes the steps of a run."""

    def __init__(self, learner: Learner, schedule: Schedule, run: Run) -> None:
        """Start, or resume the run if it has a state.

        Raises:
            ConfigError: The state is damaged, or of other settings.
        """
        self.learner, self._schedule, self._run = learner, schedule, run
        self._average = (
            MovingAverage(learner.module, schedule.average) if schedule.average else None
        )
        self._step = self._resume()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """What is evaluated and exported: the averaged weights, or the weights themselves."""
        return self._average.weights if self._average else self.learner.module.state_dict()

    def train(self) -> None:
        """Train to the end, logging, saving and evaluating."""
        steps = self._schedule.steps
        progress = trange(
            self._step, steps, desc=self.learner.name, initial=self._step, total=steps,
            mininterval=5,
        )  # fmt: skip
        for step in progress:
            losses = self.step(step)
            if step % LOG_EVERY == 0:
                self._log(step, losses.figures())
                progress.set_postfix(loss=f'{losses.total.item():.4f}')
            self._step = step + 1
            if self._step % self._schedule.save_every == 0 or self._step == steps:
                self._save()
                self._log(self._step, self.evaluate())

    def step(self, step: int) -> Losses:
        """Take one optimiser step."""
        self._set_rate(step)
        losses = self.learner.losses(step)
        for optimiser in self.learner.optimisers:
            optimiser.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.moved(), self._schedule.clip)
        for optimiser in self.learner.optimisers:
            optimiser.step()
        if self._average:
            self._average.update(step)
        return losses

    def moved(self) -> list[nn.Parameter]:
        """Return all parameters that the optimisers move."""
        groups = [group for o in self.learner.optimisers for group in o.param_groups]
        return [parameter for group in groups for parameter in group['params']]

    def evaluate(self) -> dict[str, float]:
        """Return the learner's figures of the weights that would be exported."""
        return self.learner.evaluate(self.weights)

    def _set_rate(self, step: int) -> None:
        schedule = self._schedule
        factor = trapezoid(step, schedule.steps, schedule.warmup, schedule.decay_share)
        for optimiser in self.learner.optimisers:
            for group in optimiser.param_groups:
                group['lr'] = schedule.learning_rate * factor

    def _log(self, step: int, figures: dict[str, float]) -> None:
        if figures:
            rounded = {name: round(value, DIGITS) for name, value in figures.items()}
            self._run.log(step=step, **rounded)

    def _parts(self) -> dict[str, Stateful]:
        average = {'average': self._average} if self._average else {}
        return self.learner.parts | average

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        optimisers = [optimiser.state_dict() for optimiser in self.learner.optimisers]
        self._run.save(state | {'optimisers': optimisers, 'step': self._step})

    def _resume(self) -> int:
        state = self._run.load()
        if state is None:
            return 0
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            for optimiser, saved in zip(self.learner.optimisers, state['optimisers'], strict=True):
                optimiser.load_state_dict(saved)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f'the saved {self.learner.name} is of a run with other settings: {error}',
                remedy='Restore the settings of that run, or start anew, without --resume.',
            ) from error
        LOG.info('%s: resuming at step %d', self.learner.name, state['step'])
        return state['step']


def trapezoid(step: int, steps: int, warmup: int, decay_share: float) -> float:
    """Return the factor of the learning rate: linear up, flat, linear down to zero."""
    up = min(1.0, (step + 1) / max(1, warmup))
    down = (steps - step) / max(1.0, decay_share * steps)
    return min(up, max(0.0, min(1.0, down)))
