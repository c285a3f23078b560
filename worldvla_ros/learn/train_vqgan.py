"""Training of the image tokenizer on recorded images.

Reconstruction (L1 + L2, more where something stands before the mean background), image gradients,
and a codebook that follows moving averages of the latents (`codebook`). No adversarial part: on
flat-shaded images it brought nothing that the gradient term does not.

    images ─ encoder ─ latents ─ nearest codes ─ decoder ─ objective     (see `trainer.Trainer`)

Knows pixels and codes. Must not know token ids. Legend: b batch, z latent width, r, c rows and
columns.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worldvla_ros.learn.codebook import CodebookAverages
from worldvla_ros.learn.landmarks import Landmarks
from worldvla_ros.learn.objective import Losses, Objective, Term
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.settings import ImageTraining
from worldvla_ros.learn.trainer import Schedule, Stateful, Trainer
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig, to_pixels
from worldvla_ros.tokenizers.image import fit_image

WARMUP, DECAY_SHARE, CLIP, SAVE_EVERY = 100, 0.3, 1.0, 500
MEAN_OF = 500
"""Images that the mean background is taken from."""
FULL_FOREGROUND = 0.3
"""Distance from the mean background, of 2, from which a pixel has the whole extra weight."""


@dataclass(frozen=True)
class Rebuilt:
    """A batch of images, and what the network makes of them.

    Attributes:
        pixels: float[b, 3, h, w] in [-1, 1].
        made: float[b, 3, h, w], rebuilt.
        latents: float[b, z, r, c], as the encoder gives them.
        quantised: float[b, z, r, c], what the decoder got; the gradient goes to the latents.
        chosen: float[b, z, r, c], the nearest codes; None while nothing is quantised.
        places: float32[b, objects, 2], column and row of each object; NaN where it is not there.
    """

    pixels: Tensor
    made: Tensor
    latents: Tensor
    quantised: Tensor
    chosen: Tensor | None
    places: Tensor


class Reconstruction(Term[Rebuilt]):
    """L1 + L2 of pixels, more where they differ from the mean background."""

    name = 'reconstruction'

    def __init__(self, mean: Tensor, foreground: float) -> None:
        """Keep the mean background float[1, 3, h, w] and the extra weight before it."""
        super().__init__()
        self._mean, self._foreground = mean, foreground

    def forward(self, outputs: Rebuilt) -> Tensor:
        """Return the weighted mean."""
        distance = (outputs.pixels - self._mean).abs().amax(1, keepdim=True)  # [b, 1, h, w]
        weight = 1 + self._foreground * (distance / FULL_FOREGROUND).clamp(max=1)
        error = outputs.made - outputs.pixels
        return (weight * (error.abs() + error.square())).mean() / weight.mean()


class Edges(Term[Rebuilt]):
    """Difference of image gradients along both sides."""

    name = 'edges'

    def forward(self, outputs: Rebuilt) -> Tensor:
        """Return the sum of both means."""
        error = outputs.made - outputs.pixels
        return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


class Commitment(Term[Rebuilt]):
    """Distance of latents from their codes."""

    name = 'commitment'

    def forward(self, outputs: Rebuilt) -> Tensor:
        """Return the mean square; 0 while nothing is quantised."""
        if outputs.chosen is None:
            return outputs.latents.new_zeros(())
        return functional.mse_loss(outputs.latents, outputs.chosen)


class LandmarkTerm(Term[Rebuilt]):
    """What codes tell of the objects that they show."""

    name = 'landmarks'
    auxiliary = True

    def __init__(self, weight: float, width: int, objects: int) -> None:
        """Make heads for latents of a width and a number of objects."""
        super().__init__(weight)
        self.heads = Landmarks(width, objects)

    def forward(self, outputs: Rebuilt) -> Tensor:
        """Return the heads' loss."""
        return self.heads.loss(outputs.quantised, outputs.places)


def fit_images(images: np.ndarray, size: int, reduction: int) -> np.ndarray:
    """Return images at the model's size: uint8[n, h, w, 3] → uint8[n, size, size, 3]."""
    return np.stack([fit_image(i, size, 2 * reduction) for i in images])


class ImageLearner:
    """The image tokenizer, its codebook, objective and images; see `trainer.Learner`."""

    name = 'image tokenizer'

    def __init__(
        self, config: VQGANConfig, settings: ImageTraining, images: np.ndarray, places: np.ndarray
    ) -> None:
        """Make a network for images; arguments as for `train_vqgan`."""
        self._settings, self._images, self._places = settings, images, places
        self.module = VQGAN(config).train()
        # faster on CPUs; torch's own annotations lack this overload
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._averages = CodebookAverages(self.module, settings)
        self.objective = image_objective(config, settings, images, places.shape[1])
        # the codebook follows its averages, not a gradient
        moved = [p for n, p in self.module.named_parameters() if not n.startswith('quantize')]
        moved += self.objective.parameters()
        self.optimisers = [
            torch.optim.AdamW(moved, settings.learning_rate, (0.9, 0.95), weight_decay=0.01)
        ]
        self.parts: dict[str, Stateful] = {'vqgan': self.module, 'averages': self._averages}
        landmarks = self.objective.terms.get('landmarks')
        if isinstance(landmarks, LandmarkTerm):
            self.parts['landmarks'] = landmarks.heads

    def losses(self, step: int) -> Losses:
        """Draw the images of a step; return what the objective makes of them."""
        count = self._settings.batch
        chosen = np.random.default_rng(step).integers(len(self._images), size=count)
        pixels = to_pixels(torch.from_numpy(self._images[chosen]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.objective(self._rebuild(pixels, torch.from_numpy(self._places[chosen]), step))

    def evaluate(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """Return nothing: codes are judged by the model that is trained on them."""
        return {}

    def _rebuild(self, pixels: Tensor, places: Tensor, step: int) -> Rebuilt:
        """Encode and decode, moving the codebook along once it is in use."""
        vqgan, first = self.module, self._settings.continuous_steps
        latents = vqgan.latents(pixels)
        if step < first:
            return Rebuilt(pixels, vqgan.pixels(latents), latents, latents, None, places)
        flat = latents.detach().movedim(1, -1).flatten(0, 2)  # [b, z, r, c] → [b * r * c, z]
        if step == first:
            self._averages.start(_many_latents(vqgan, flat))
        codes = vqgan.quantize.codes(latents.detach())
        chosen = vqgan.quantize(codes).detach()
        through = latents + (chosen - latents).detach()
        made = vqgan.pixels(through)
        self._averages.update(flat, codes.flatten())
        return Rebuilt(pixels, made, latents, through, chosen, places)


def image_objective(
    config: VQGANConfig, settings: ImageTraining, images: np.ndarray, objects: int
) -> Objective:
    """Return the terms that the settings ask for; landmarks only where objects are known."""
    sample = images[:: max(1, len(images) // MEAN_OF)]
    mean = to_pixels(torch.from_numpy(sample)).mean(0, keepdim=True)
    terms: list[Term[Rebuilt]] = [
        Reconstruction(mean, settings.foreground),
        Edges(settings.edges),
        Commitment(settings.commitment),
    ]
    if objects:
        terms.append(LandmarkTerm(settings.landmarks, config.embed_dim, objects))
    return Objective(terms)


def train_vqgan(
    config: VQGANConfig,
    settings: ImageTraining,
    images: np.ndarray,
    places: np.ndarray,
    run: Run,
) -> VQGAN:
    """Train, resuming the run if it has a state.

    Args:
        config: Sizes of the network.
        settings: Steps and weights.
        images: uint8[n, h, w, 3].
        places: float32[n, objects, 2], column and row of each object in each image, 0 … 1; NaN
            where it is not there or nobody knows.
        run: Where log and state go.

    Raises:
        ConfigError: The state is damaged, or of other settings.
    """
    learner = ImageLearner(config, settings, images, places)
    schedule = Schedule(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=WARMUP,
        decay_share=DECAY_SHARE,
        clip=CLIP,
        average=0.0,
        save_every=SAVE_EVERY,
    )
    Trainer(learner, schedule, run).train()
    return learner.module.eval().requires_grad_(False)


def _many_latents(vqgan: VQGAN, flat: Tensor) -> Tensor:
    """Return latents to start the codebook from, with a little noise so that none coincide."""
    repeated = flat.repeat(1 + len(vqgan.quantize.embedding.weight) // len(flat), 1)
    return repeated + 0.01 * repeated.std() * torch.randn_like(repeated)
