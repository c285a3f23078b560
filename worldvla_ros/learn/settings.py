"""Settings of a training run: one YAML file, read into frozen dataclasses.

Knows names, defaults and meaning. Must not know how anything is trained.
"""

from dataclasses import dataclass
from pathlib import Path

from worldvla_ros.checkpoint.spec import ActionSpec, StateSpec, WorldSpec
from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import ConfigError
from worldvla_ros.model.vqgan import VQGANConfig
from worldvla_ros.tokenizers.sequence import Prompts

OPTIMISERS = ('adamw', 'muon')
PRECISIONS = ('float32', 'bfloat16')


@dataclass(frozen=True)
class DataSettings:
    """Folders of episodes, as `worldvla collect` writes them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class ImageTraining:
    """Training of the VQ-GAN.

    Attributes:
        steps: Optimiser steps.
        batch: Images per step.
        learning_rate: Peak of the schedule.
        continuous_steps: First steps without quantisation, after which the codebook starts from
            latents.
        commitment: Weight of the distance of latents from their code.
        foreground: Extra weight of pixels that differ from the mean image.
        edges: Weight of the difference of image gradients.
        landmarks: Weight of an auxiliary loss: how well a code tells which object it shows and
            where, where episodes tell; `learn.landmarks`.
        codebook_decay: Decay of the moving averages that the codebook follows.
        restart_below: Codes used less often than this (moving count) restart at a random latent.
    """

    steps: int = 4000
    batch: int = 16
    learning_rate: float = 1e-3
    continuous_steps: int = 400
    commitment: float = 0.25
    foreground: float = 4.0
    edges: float = 1.0
    landmarks: float = 0.0
    codebook_decay: float = 0.98
    restart_below: float = 0.05


@dataclass(frozen=True)
class TransformerSettings:
    """Sizes of the transformer; the vocabulary follows from the codebook and the text."""

    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    qk_norm_heads: int = 1
    rope_theta: float = 10000.0
    dropout: float = 0.0
    max_position_embeddings: int = 512


@dataclass(frozen=True)
class HeadSettings:
    """Sizes of the continuous action head; the others follow from actions and transformer."""

    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_mlp_blocks: int = 2
    dropout: float = 0.1


@dataclass(frozen=True)
class ModelTraining:
    """Training of the unified model.

    Attributes:
        steps: Optimiser steps.
        batch: Sequences per step.
        action_share: Share of action sequences; the others are world sequences.
        actions_kept: Actions of a chunk in one action sequence; under the chunk mask the others
            change nothing.
        head_weight: Weight of the continuous action head's loss, where there is a head;
            `learn.continuous`.
        grounding_weight: Weight of an auxiliary loss, in training only: how well the place of the
            object to move can be read off hidden states, where episodes tell; `learn.grounding`.
        optimiser: 'adamw' for all parameters as in the reference, or 'muon' for the matrices
            inside the layers (Jordan et al. 2024, with updates scaled to AdamW's) and AdamW for
            the rest.
        learning_rate: Peak; reached after `warmup` steps, kept, then lowered linearly to zero.
        warmup: Steps of linear warm-up.
        decay_share: Share of the steps, at the end, over which the rate falls.
        weight_decay: AdamW's, on every parameter as in the reference.
        clip: Largest norm of the gradient.
        image_weight: Weight of an image code in the loss; all other ids weigh 1.
        prompt_images: Share of the prompts' image codes that are supervised too. The paper's model
            has learnt to look from its base; a model trained from nothing learns it here.
        reference_span: Whether class weights begin and end one id early, as the reference's do.
        z_loss: Weight of mean(logsumexp²).
        bin_spread: Standard deviation of the target over neighbouring bins [bins]; 0 is one-hot.
        average: Decay of the moving average of the weights that is evaluated and exported.
        evaluate_every: Steps between evaluations, which also save the run.
        validation_batches: Batches per evaluation.
        threads: CPU threads; 0 leaves the choice to torch.
        precision: 'float32', or 'bfloat16' for the matrix products (weights stay float32).
        compile: Whether torch.compile fuses the layers; each length of a batch costs seconds once.
    """

    steps: int = 20000
    batch: int = 16
    action_share: float = 0.6
    actions_kept: int = 4
    head_weight: float = 10.0
    grounding_weight: float = 0.0
    optimiser: str = 'adamw'
    learning_rate: float = 1e-3
    warmup: int = 300
    decay_share: float = 0.3
    weight_decay: float = 0.1
    clip: float = 1.0
    image_weight: float = 0.3
    prompt_images: float = 0.0
    reference_span: bool = False
    z_loss: float = 1e-5
    bin_spread: float = 1.5
    average: float = 0.999
    evaluate_every: int = 1000
    validation_batches: int = 16
    threads: int = 0
    precision: str = 'float32'
    compile: bool = False

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ConfigError: A share is outside [0, 1], or optimiser or precision is unknown.
        """
        for name, known in (('optimiser', OPTIMISERS), ('precision', PRECISIONS)):
            got = getattr(self, name)
            if got not in known:
                raise ConfigError(f'training.{name}', expected=' or '.join(known), got=repr(got))
        if not (0 <= self.action_share <= 1 and 0 <= self.decay_share <= 1):
            raise ConfigError(
                'training shares',
                expected='values in [0, 1]',
                got=f'action_share {self.action_share}, decay_share {self.decay_share}',
            )


@dataclass(frozen=True)
class Settings:
    """A whole run, from episodes to a checkpoint folder.

    Attributes:
        name: Name of the checkpoint.
        robot: Name of the robot description.
        work: Folder of the run: caches, logs and the state to resume from.
        checkpoint: Folder to write the checkpoint to.
        cameras: Cameras of the model, in sequence order.
        image_size: Side of an image in the model [px].
        text_size: Most ids of the text tokenizer.
        action_head: Sizes of the continuous action head; without them none is trained.
        start: Checkpoint folder whose tokenizers and weights the run starts from; none by default.
        seed: Seed of weights and sampling.
    """

    name: str
    robot: str
    work: Path
    checkpoint: Path
    data: DataSettings
    cameras: tuple[str, ...]
    image_size: int
    action: ActionSpec
    state: StateSpec | None
    world: WorldSpec
    vqgan: VQGANConfig
    image_training: ImageTraining
    transformer: TransformerSettings
    training: ModelTraining
    prompts: Prompts = Prompts()
    action_head: HeadSettings | None = None
    start: Path | None = None
    text_size: int = 512
    seed: int = 0


def read_settings(path: str | Path) -> Settings:
    """Read a training configuration.

    Raises:
        ConfigError: The file or a field of it is missing, unknown or of a wrong type.
    """
    return from_mapping(Settings, load_yaml(path), where=str(path))
