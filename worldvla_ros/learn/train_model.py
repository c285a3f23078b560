"""Training of the unified model on the mixture of both tasks.

    mixture ─ batches ─ forward ─ objective      (its steps are taken by `trainer.Trainer`)

Knows which terms the objective has, and which weights each optimiser moves. Must not know how
sequences are made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldvla_ros.learn.batches import Mixture
from worldvla_ros.learn.continuous import HeadError
from worldvla_ros.learn.forward import Outputs, forward
from worldvla_ros.learn.grounding import GroundingTerm
from worldvla_ros.learn.loss import CrossEntropy, ZLoss
from worldvla_ros.learn.objective import Losses, Objective
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import ModelTraining
from worldvla_ros.learn.trainer import Schedule, Stateful, Trainer
from worldvla_ros.model.transformer import Transformer

LOG = logging.getLogger(__name__)
TRAINING, VALIDATION = 0, 1
"""First number of a batch's seed."""


def model_objective(model: Transformer, settings: ModelTraining, mixture: Mixture) -> Objective:
    """Return the terms that the settings ask for."""
    vocab, grid = mixture.sequences.vocab, mixture.episodes[0].codes.shape[2:]
    head_weight = settings.head_weight if model.action_head is not None else 0.0
    return Objective(
        [
            CrossEntropy(
                vocab, settings.image_weight, settings.bin_spread, settings.reference_span
            ),
            ZLoss(settings.z_loss),
            GroundingTerm(settings.grounding_weight, model.config.hidden_size, grid, vocab),
            HeadError(head_weight, vocab),
        ]
    )


def optimisers(model: Transformer, settings: ModelTraining) -> list[torch.optim.Optimizer]:
    """Return the optimisers that share a model's parameters; see `ModelTraining.optimiser`."""
    inner = [p for p in model.model.layers.parameters() if p.dim() == 2 and min(p.shape) > 1]
    matrices = inner if settings.optimiser == 'muon' else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    rate, decay = settings.learning_rate, settings.weight_decay
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, rate, (0.9, 0.95), weight_decay=decay)
    ]
    if matrices:
        made.append(
            torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn='match_rms_adamw')
        )
    return made


class ModelLearner:
    """The unified model, its objective and its batches; see `trainer.Learner`."""

    name = 'model'

    def __init__(
        self,
        model: Transformer,
        settings: ModelTraining,
        mixture: Mixture,
        validation: Mixture,
        device: torch.device,
    ) -> None:
        """Prepare a model for training, on a device."""
        self._settings, self._mixture, self._validation = settings, mixture, validation
        self._device = device
        self.module = model.to(device)
        self.objective = model_objective(model, settings, mixture).to(device)
        self.optimisers = optimisers(model, settings)
        self.parts: dict[str, Stateful] = {'model': model}
        grounding = self.objective.terms.get('grounding')
        if isinstance(grounding, GroundingTerm):
            heads = grounding.heads
            self.parts['grounding'] = heads
            self.optimisers.append(
                torch.optim.AdamW(heads.parameters(), settings.learning_rate, weight_decay=0)
            )
        if settings.compile and _may_compile():
            for layer in model.model.layers:
                layer.compile(dynamic=False)

    def losses(self, step: int) -> Losses:
        """Draw the batches of a step and return what the objective makes of them."""
        self.module.train()
        with self._fast():
            outputs = self._outputs(self.module, self._mixture, (TRAINING, step))
        return self.objective(outputs)

    @torch.inference_mode()
    def evaluate(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """Return validation loss and figures of some weights on fixed validation sequences."""
        model = self.with_weights(weights)
        rows = []
        for index in range(self._settings.validation_batches):
            outputs = self._outputs(model, self._validation, (VALIDATION, index))
            loss = self.objective.main(outputs).item()
            rows.append({'validation_loss': loss} | self.objective.figures(outputs))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def with_weights(self, weights: dict[str, Tensor]) -> Transformer:
        """Return a model of the same sizes with some weights, in evaluation mode."""
        head = self.module.action_head
        model = Transformer(self.module.config, head.config if head is not None else None)
        model = model.to(self._device)
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    def _outputs(self, model: Transformer, mixture: Mixture, seed: tuple[int, int]) -> Outputs:
        batches = mixture.batches(self._settings.batch, np.random.default_rng(seed))
        return forward(
            model,
            tuple(batch.to(self._device) for batch in batches),
            half_way='grounding' in self.objective,
            head='head_error' in self.objective,
        )

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """Multiply in the precision asked for; on short sequences plain attention is fastest."""
        lower = self._settings.precision == 'bfloat16'
        with (
            torch.autocast(self._device.type, torch.bfloat16, enabled=lower),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield


def train_model(learner: ModelLearner, settings: ModelTraining, run: Run) -> Transformer:
    """Train to the end, resuming the run if it has a state; return the averaged model.

    Raises:
        ConfigError: The state is damaged, or of other settings.
    """
    trainer = model_trainer(learner, settings, run)
    trainer.train()
    return learner.with_weights(trainer.weights)


def model_trainer(learner: ModelLearner, settings: ModelTraining, run: Run) -> Trainer:
    """Return what takes a model's steps."""
    schedule = Schedule(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        decay_share=settings.decay_share,
        clip=settings.clip,
        average=settings.average,
        save_every=settings.evaluate_every,
    )
    return Trainer(learner, schedule, run)


def _may_compile() -> bool:
    """Whether torch.compile works here: its C++ compiler is called without quotes."""
    spaced = ' ' in torch.__file__
    if spaced:
        LOG.warning('not compiled, which takes longer: torch lies in a path with a space')
    return not spaced
