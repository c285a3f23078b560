"""The image tokenizer's network: VQ-GAN encoder, quantiser and decoder.

Knows pixels and codes. Must not know token ids. Module names are those of Chameleon's
`vqgan.ckpt`, so its state dict loads as it is. Legend: b batch, h, w pixels, r, c rows and columns
of codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldvla_ros.errors import CheckpointError


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes; the defaults are those of Chameleon's tokenizer (`vqgan.yaml`).

    `norm_groups` is 32 in the published network; a thinner one needs fewer. Without
    `mid_attention` a code depends on the pixels around it more than on the whole image.
    """

    embed_dim: int = 256
    n_embed: int = 8192
    z_channels: int = 256
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    in_channels: int = 3
    out_ch: int = 3
    norm_groups: int = 32
    mid_attention: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that make no network.

        Raises:
            CheckpointError: A size is not positive, there is no level, or groups do not divide
                channels.
        """
        sizes = (self.embed_dim, self.n_embed, self.z_channels, self.ch, self.in_channels)
        counts = (self.out_ch, self.num_res_blocks, self.norm_groups, *self.ch_mult)
        if not self.ch_mult or min(*sizes, *counts) < 1:
            raise CheckpointError(
                'VQ-GAN sizes',
                expected='positive sizes, and at least one level in ch_mult',
                got=self,
            )
        if any(self.ch * m % self.norm_groups for m in self.ch_mult):
            raise CheckpointError(
                'VQ-GAN channels',
                expected=f'multiples of norm_groups = {self.norm_groups}',
                got=[self.ch * m for m in self.ch_mult],
            )

    @property
    def reduction(self) -> int:
        """Pixels per code and side."""
        return 1 << (len(self.ch_mult) - 1)


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0)


class ResnetBlock(nn.Module):
    """Two normed convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        """Create a block from `inputs` to `outputs` channels."""
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6)
        self.conv1 = _conv(inputs, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6)
        self.conv2 = _conv(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = _conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, inputs, h, w] → [b, outputs, h, w]."""
        y: Tensor = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, 'nin_shortcut') else x)


class AttnBlock(nn.Module):
    """Single-head attention over all positions."""

    def __init__(self, channels: int, groups: int) -> None:
        """Create the projections."""
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q = _conv(channels, channels, 1)
        self.k = _conv(channels, channels, 1)
        self.v = _conv(channels, channels, 1)
        self.proj_out = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, channels, h, w] to the same shape."""
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2).mT for layer in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        seen: Tensor = self.proj_out(attended[:, 0].mT.reshape(x.shape))
        return x + seen


class Downsample(nn.Module):
    """Halves the size; pads right and bottom, as the published weights expect."""

    def __init__(self, channels: int) -> None:
        """Create the strided convolution."""
        super().__init__()
        self.conv = _conv(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c, h, w] → [b, c, h / 2, w / 2]."""
        halved: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Doubles the size by repetition, then smooths."""

    def __init__(self, channels: int) -> None:
        """Create the convolution."""
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c, h, w] → [b, c, 2h, 2w]."""
        doubled: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode='nearest'))
        return doubled


class Level(nn.Module):
    """The blocks of one resolution, with the step to the next one."""

    def __init__(
        self, channels: list[int], groups: int, step: tuple[str, nn.Module] | None
    ) -> None:
        """`channels` are the widths before, between and after the blocks."""
        super().__init__()
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.block = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in pairs)
        self._step = step[0] if step else None
        if step:
            self.add_module(*step)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks, then the step."""
        for block in self.block:
            x = block(x)
        stepped: Tensor = getattr(self, self._step)(x) if self._step else x
        return stepped


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int, config: VQGANConfig) -> None:
        """Create the three."""
        super().__init__()
        groups = config.norm_groups
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.attn_1 = AttnBlock(channels, groups) if config.mid_attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, channels, r, c] to the same shape."""
        mixed: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return mixed


class Encoder(nn.Module):
    """Pixels → latents."""

    def __init__(self, config: VQGANConfig) -> None:
        """Create one level for each channel multiple."""
        super().__init__()
        groups, widths = config.norm_groups, [config.ch * m for m in config.ch_mult]
        self.conv_in = _conv(config.in_channels, config.ch)
        self.down = nn.ModuleList()
        before = config.ch
        for i, width in enumerate(widths):
            step = ('downsample', Downsample(width)) if i < len(widths) - 1 else None
            channels = [before] + [width] * config.num_res_blocks
            self.down.append(Level(channels, groups, step))
            before = width
        self.mid = Middle(before, config)
        self.norm_out = nn.GroupNorm(groups, before, eps=1e-6)
        self.conv_out = _conv(before, config.z_channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map [b, 3, h, w] → [b, z, r, c]."""
        x = self.conv_in(pixels)
        for level in self.down:
            x = level(x)
        latents: Tensor = self.conv_out(functional.silu(self.norm_out(self.mid(x))))
        return latents


class Decoder(nn.Module):
    """Latents → pixels. Levels are numbered from the highest resolution, and run from the last."""

    def __init__(self, config: VQGANConfig) -> None:
        """Create one level for each channel multiple, with one block more than the encoder's."""
        super().__init__()
        groups, widths = config.norm_groups, [config.ch * m for m in config.ch_mult]
        self.conv_in = _conv(config.z_channels, widths[-1])
        self.mid = Middle(widths[-1], config)
        levels: list[Level] = []
        before = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            step = ('upsample', Upsample(width)) if i > 0 else None
            channels = [before] + [width] * (config.num_res_blocks + 1)
            levels.insert(0, Level(channels, groups, step))
            before = width
        self.up = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(groups, before, eps=1e-6)
        self.conv_out = _conv(before, config.out_ch)

    def forward(self, latents: Tensor) -> Tensor:
        """Map [b, z, r, c] → [b, 3, h, w]."""
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        pixels: Tensor = self.conv_out(functional.silu(self.norm_out(x)))
        return pixels


class Quantiser(nn.Module):
    """The codebook: nearest entry by squared distance, in fp32."""

    def __init__(self, entries: int, width: int) -> None:
        """Create a codebook drawn as the reference does."""
        super().__init__()
        self.embedding = nn.Embedding(entries, width)
        nn.init.uniform_(self.embedding.weight, -1.0 / entries, 1.0 / entries)

    def codes(self, latents: Tensor) -> Tensor:
        """Return the nearest entries: [b, width, r, c] → int64[b, r, c]."""
        flat = latents.movedim(1, -1).float()
        table = self.embedding.weight.float()
        distance = flat.pow(2).sum(-1, keepdim=True) + table.pow(2).sum(-1) - 2 * flat @ table.mT
        return distance.argmin(-1)

    def forward(self, codes: Tensor) -> Tensor:
        """Look entries up: int64[b, r, c] → [b, width, r, c].

        The result stays channels-last: decoding is faster so on a CPU, and what rounds
        otherwise (see `to_pixels`) is the last bit of a pixel and never a code.
        """
        entries: Tensor = self.embedding(codes)  # [b, r, c, width]
        return entries.movedim(-1, 1)


class VQGAN(nn.Module):
    """Pixels ⇄ codes."""

    def __init__(self, config: VQGANConfig) -> None:
        """Create encoder, quantiser and decoder."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantiser(config.n_embed, config.embed_dim)
        self.quant_conv = _conv(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = _conv(config.embed_dim, config.z_channels, 1)

    def latents(self, pixels: Tensor) -> Tensor:
        """Return what is quantised: float[b, 3, h, w] in [-1, 1] → float[b, embed_dim, r, c]."""
        latents: Tensor = self.quant_conv(self.encoder(pixels))
        return latents

    def pixels(self, latents: Tensor) -> Tensor:
        """Return pixels of (quantised) latents: float[b, embed_dim, r, c] → float[b, 3, h, w]."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the codes of images: uint8[b, h, w, 3] → int64[b, r, c].

        Raises:
            ValueError: A side is no multiple of the reduction.
        """
        side = self.config.reduction
        if images.shape[1] % side or images.shape[2] % side:
            raise ValueError(f'image sides must be multiples of {side}: {tuple(images.shape)}')
        return self.quantize.codes(self.latents(to_pixels(images)))

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the images of codes: int64[b, r, c] → uint8[b, h, w, 3], truncated."""
        return to_images(self.pixels(self.quantize(codes)))


def to_pixels(images: Tensor) -> Tensor:
    """Scale uint8[b, h, w, 3] to float32[b, 3, h, w] in [-1, 1], in float64 as the official code.

    The result is contiguous. Left channels-last, convolutions would go on so and round otherwise
    on a CPU: of 16,384 codes of published size 3 then differ from the official ones.
    """
    return (images.movedim(-1, 1).double() / 255 * 2 - 1).float().contiguous()


def to_images(pixels: Tensor) -> Tensor:
    """Scale float[b, 3, h, w] in [-1, 1] to uint8[b, h, w, 3]; values are cut off, not rounded."""
    scaled = (pixels.float().clamp(-1, 1) + 1) / 2 * 255
    return scaled.to(torch.uint8).movedim(1, -1)
