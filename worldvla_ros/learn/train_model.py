"""Training of the unified model on the mixture of both tasks.

Knows batches, optimiser and evaluation. Must not know how sequences are made or what ids mean
beyond spans.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import logging
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import trange

from worldvla_ros.learn.continuous import head_error
from worldvla_ros.learn.grounding import Grounding
from worldvla_ros.learn.loss import Loss
from worldvla_ros.learn.mixture import IGNORE, Batch, Mixture
from worldvla_ros.learn.runs import Run, trapezoid
from worldvla_ros.learn.settings import ModelTraining
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """What a model says about batches.

    Attributes:
        logits: fp32[m, v], scores of the supervised tokens.
        labels: int64[m].
        summaries: float[b, d], hidden states of the last prompt tokens.
        patches: float[b, n, d], hidden states of the codes of the prompts' first images after half
            the layers.
        targets: float32[b, 5], where the object to move is; NaN where unknown.
        head_error: fp32 scalar, mean distance of the continuous action head's numbers from their
            labels; None without a head.
    """

    logits: Tensor
    labels: Tensor
    summaries: Tensor
    patches: Tensor
    targets: Tensor
    head_error: Tensor | None


def answers(model: Transformer, batches: tuple[Batch, ...], vocab: Vocabulary, n: int) -> Answers:
    """Run batches through a model; their images have n codes."""
    hidden, labels, summaries, patches, every = [], [], [], [], []
    for batch in batches:
        mask = sequence_mask(batch.positions, batch.blocks)
        with half_way(model) as halves:
            states = model(batch.ids, batch.positions, mask)
        patches.append(first_patches(batch, halves[0], vocab, n))
        wanted = batch.labels[:, 1:] != IGNORE
        hidden.append(states[:, :-1][wanted])
        labels.append(batch.labels[:, 1:][wanted])
        rows = torch.arange(len(states), device=states.device)
        summaries.append(states[rows, batch.prompt_lengths - 1])
        every.append(states)
    head = model.action_head
    targets = torch.cat([batch.targets for batch in batches])
    return Answers(
        model.logits(torch.cat(hidden)),
        torch.cat(labels),
        torch.cat(summaries),
        torch.cat(patches),
        targets,
        head_error(head, batches, every, vocab) if head is not None else None,
    )


@contextmanager
def half_way(model: Transformer) -> Iterator[list[Tensor]]:
    """Collect the hidden states that leave the middle layer."""
    states: list[Tensor] = []
    middle = model.model.layers[(len(model.model.layers) - 1) // 2]
    handle = middle.register_forward_hook(lambda _module, _given, made: states.append(made))
    try:
        yield states
    finally:
        handle.remove()


def first_patches(batch: Batch, states: Tensor, vocab: Vocabulary, n: int) -> Tensor:
    """Return the states of the first n codes of each sequence: float[b, t, d] → [b, n, d]."""
    span = vocab.codes
    codes = (batch.ids >= span.start) & (batch.ids < span.stop)
    return states[codes & (codes.cumsum(1) <= n)].view(len(states), n, -1)


def _may_compile() -> bool:
    """Whether torch.compile works here: its C++ compiler is called without quotes."""
    spaced = ' ' in torch.__file__
    if spaced:
        LOG.warning('not compiled, which takes longer: torch lies in a path with a space')
    return not spaced


def optimisers(model: Transformer, settings: ModelTraining) -> list[torch.optim.Optimizer]:
    """Return the optimisers that share a model's parameters; see `ModelTraining.optimiser`."""
    inner = [p for p in model.model.layers.parameters() if p.dim() == 2 and min(p.shape) > 1]
    matrices = inner if settings.optimiser == 'muon' else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    made = [
        torch.optim.AdamW(
            rest, settings.learning_rate, (0.9, 0.95), weight_decay=settings.weight_decay
        )
    ]
    if matrices:
        made.append(
            torch.optim.Muon(
                matrices,
                settings.learning_rate,
                weight_decay=settings.weight_decay,
                adjust_lr_fn='match_rms_adamw',
            )
        )
    return made


class Trainer:
    """Weights, their moving average and the optimiser, with one step and one evaluation."""

    def __init__(
        self,
        model: Transformer,
        settings: ModelTraining,
        mixture: Mixture,
        validation: Mixture,
        run: Run,
        device: torch.device,
    ) -> None:
        """Start from the weights of a model, or resume the run if it has a state."""
        self._settings, self._mixture, self._validation = settings, mixture, validation
        self._run, self._device = run, device
        self.model = model.to(device)
        self._average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        grid = mixture.episodes[0].codes.shape[2:]
        self._codes_per_image = math.prod(grid)
        self._grounding = Grounding(model.config.hidden_size, grid).to(device)
        self._optimisers = optimisers(self.model, settings)
        self._optimisers.append(
            torch.optim.AdamW(self._grounding.parameters(), settings.learning_rate, weight_decay=0)
        )
        vocab = mixture.sequences.vocab
        self._loss = Loss(
            vocab,
            settings.image_weight,
            settings.z_loss,
            settings.bin_spread,
            settings.reference_span,
        )
        if settings.compile and _may_compile():
            for layer in self.model.model.layers:
                layer.compile(dynamic=False)
        self._step = self._resume()

    def train(self) -> Transformer:
        """Train to the end, evaluating and saving as it goes; return the averaged model."""
        steps = self._settings.steps
        progress = trange(
            self._step, steps, desc='model', initial=self._step, total=steps, mininterval=5
        )
        for step in progress:
            loss = self.step(step)
            if step % 50 == 0:
                self._run.log(step=step, loss=round(loss, 5))
                progress.set_postfix(loss=f'{loss:.3f}')
            self._step = step + 1
            if self._step % self._settings.evaluate_every == 0 or self._step == steps:
                self._save()
                self._run.log(step=self._step, **self.evaluate())
        return self.averaged()

    def step(self, step: int) -> float:
        """Take one optimiser step; return the loss."""
        settings = self._settings
        rate = settings.learning_rate * trapezoid(
            step, settings.steps, settings.warmup, settings.decay_share
        )
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group['lr'] = rate
        self.model.train()
        with self._fast():
            found = self._answers(self.model, self._mixture, (0, step))
        loss = self._loss(found.logits, found.labels)
        if settings.grounding_weight:
            loss = loss + settings.grounding_weight * self._grounding.loss(
                found.summaries, found.patches, found.targets
            )
        if found.head_error is not None:
            loss = loss + settings.head_weight * found.head_error
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        for optimiser in self._optimisers:
            optimiser.step()
        decay = min(settings.average, (1 + step) / (10 + step))
        state = self.model.state_dict()
        torch._foreach_lerp_(list(self._average.values()), list(state.values()), 1 - decay)
        return loss.item()

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """Multiply in the precision asked for; on short sequences plain attention is fastest."""
        lower = self._settings.precision == 'bfloat16'
        with (
            torch.autocast(self._device.type, torch.bfloat16, enabled=lower),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield

    def averaged(self) -> Transformer:
        """Return a model with the averaged weights, in evaluation mode."""
        head = self.model.action_head
        model = Transformer(self.model.config, head.config if head is not None else None)
        model = model.to(self._device)
        model.load_state_dict(self._average)
        return model.eval().requires_grad_(False)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Return loss and figures of the averaged model on fixed validation sequences."""
        model = self.averaged()
        sums: dict[str, list[float]] = {}
        for index in range(self._settings.validation_batches):
            made = self._answers(model, self._validation, (1, index))
            found = {'validation_loss': self._loss(made.logits, made.labels).item()}
            found |= figures(made.logits, made.labels, self._mixture.sequences.vocab)
            if self._settings.grounding_weight:
                found |= self._grounding.figures(made.summaries, made.patches, made.targets)
            if made.head_error is not None:
                found['head_error'] = made.head_error.item()
            for name, value in found.items():
                sums.setdefault(name, []).append(value)
        return {name: round(float(np.mean(values)), 5) for name, values in sums.items()}

    def _answers(self, model: Transformer, mixture: Mixture, seed: tuple[int, int]) -> Answers:
        batches = mixture.batches(self._settings.batch, np.random.default_rng(seed))
        batches = tuple(batch.to(self._device) for batch in batches)
        return answers(model, batches, mixture.sequences.vocab, self._codes_per_image)

    def _resume(self) -> int:
        state = self._run.load()
        if state is None:
            return 0
        self.model.load_state_dict(state['model'])
        self._average = {k: v.to(self._device) for k, v in state['average'].items()}
        self._grounding.load_state_dict(state['grounding'])
        for optimiser, found in zip(self._optimisers, state['optimisers'], strict=True):
            optimiser.load_state_dict(found)
        LOG.info('model: resuming at step %d', state['step'])
        return state['step']

    def _save(self) -> None:
        self._run.save(
            {
                'model': self.model.state_dict(),
                'average': self._average,
                'grounding': self._grounding.state_dict(),
                'optimisers': [o.state_dict() for o in self._optimisers],
                'step': self._step,
            }
        )


def figures(logits: Tensor, labels: Tensor, vocab: Vocabulary) -> dict[str, float]:
    """Return teacher-forced figures of supervised tokens.

    Returns:
        action_error: Mean distance of the best bin from the true one, in action units of a [-1, 1]
            range.
        action_accuracy: Share of bins hit within one bin.
        code_accuracy: Share of image codes hit.
    """
    bins = vocab.action_bins
    is_bin = (labels >= bins.start) & (labels < bins.stop)
    best = logits[is_bin, bins].argmax(-1)
    distance = (best - (labels[is_bin] - bins.start)).abs().float()
    codes = vocab.codes
    is_code = (labels >= codes.start) & (labels < codes.stop)
    hit = logits[is_code, codes].argmax(-1) == labels[is_code] - codes.start
    return {
        'action_error': (distance.mean() * 2 / (BINS - 1)).item(),
        'action_accuracy': (distance <= 1).float().mean().item(),
        'code_accuracy': hit.float().mean().item(),
    }
