r"""Augmented CycleGAN: two image translators, each with noise, that undo each other; labels are ignored.

Almahairi, Rajeswar, Sordoni, Bachman, Courville, "Augmented CycleGAN: Learning Many-to-Many Mappings from Unpaired
Data", ICML 2018 (arXiv 1802.10151). Beside the maps T(x, z) and S(y, w) there are two codes, which read the noise off a
pair of images: Z(x, y) of what takes x to y, W(x, y) of what takes y to x. With z, w from N(0, I), made images
y' = T(x, z), x' = S(y, w), and codes w' = W(x, y'), z' = Z(x', y), critics compare y' with y, x' with x, w' with w and
z' with z (`_translation`), and the loss beside them is

$$\mathrm{cycle}\,\big(|x - S(y', w')| + |y - T(x', z')|\big)
+ \mathrm{code\_cycle}\,\big(|z - Z(x, y')| + |w - W(x', y)|\big) ,$$

each a mean over coordinates. Nothing here is a cost of transport, and no label is looked at, so class k need not go to
class k: published accuracies are those of a guess. The row is there because the papers on optimal transport between
images have it.

`paper` has the authors' values as far as they carry over: codes of 16 coordinates, widths 32 and 64, batches of 32,
Adam at 2e-4 with betas 0.5 and 0.999, constant for 25 epochs and then linear to 0 in 25, weights 1 and 0.025, gradients
clipped at norm 500. Their images are larger; what the papers on transport changed for 32 x 32 pixels is not known, nor
is the number of residual blocks, which is ours (3). Deviations of all presets: noise on both sides, as in the paper,
whatever the number of sides in its experiments; networks of `otbench.nets.translation`, with adaptive instance norm
for the authors' conditional one; critics step before the maps, on the same draws. Ours besides: narrow networks, a
higher rate with cosine decay, maps averaged over the steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otbench.nets.mlp import MLP
from otbench.nets.start import start_of
from otbench.nets.translation import ImageCode
from otbench.solver import Field, register_solver
from otbench.solvers._translation import Judged, Translation, TranslationConfig


class AugCycleGANConfig(TranslationConfig):
    """Parameters of all translators, and those of cycles and codes."""

    grad_clip: float | None = Field(500.0, "largest norm of the gradient of all maps together; none = as it is", gt=0)
    latent: int = Field(8, "coordinates of the noise on each side", ge=1)
    code_width: int = Field(64, "hidden width of the critics of noise", ge=1)
    cycle: float = Field(1.0, "weight of images that come back", ge=0)
    code_cycle: float = Field(0.025, "weight of noise that comes back", ge=0)


@register_solver(
    "augcyclegan",
    config=AugCycleGANConfig,
    reference="Almahairi, Rajeswar, Sordoni, Bachman, Courville, Augmented CycleGAN, ICML 2018, arXiv 1802.10151",
    search={
        "lr": (3e-4, 1e-3, 3e-3),
        "optimiser": ("adam", "soap"),
        "batch_size": (8, 16, 32),
        "cycle": (0.3, 1.0, 10.0),
    },
    presets={
        "smoke": {"steps": 10, "batch_size": 4, "width": 4, "critic_width": 4, "blocks": 1},
        "quick": {"steps": 500},
        "full": {"steps": 6000},
        "paper": {
            "steps": 93_750,  # 50 epochs of 60 000 images
            "lr": 2e-4,
            "decay": "linear",
            "averaging": 0.0,
            "batch_size": 32,
            "width": 32,
            "blocks": 3,
            "critic_width": 64,
            "latent": 16,
        },
    },
)
class AugCycleGAN(Translation[AugCycleGANConfig]):
    """Two noisy image translators that undo each other, each against a critic; images only, ignores labels.

    A step waits for the device only where SOAP does.

    Attributes:
        codes: W and Z, of the noise with which the source and the target were made.
    """

    noise = "latent"

    def build_codes(self) -> nn.ModuleList:
        """Return W and Z, each of a pair of images."""
        config, channels, start = self.config, self.problem.source.shape[0], start_of(self.context)
        return nn.ModuleList(ImageCode(2 * channels, config.latent, width=config.width, **start) for _ in range(2))

    def build_critics(self) -> list[nn.Module]:
        """Return the critics of source and target, then those of their noise."""
        widths = [self.config.code_width] * 3
        noise = [MLP(self.config.latent, widths=widths, activation="relu", **start_of(self.context)) for _ in range(2)]
        return [*super().build_critics(), *noise]

    def translated(self, x: Tensor, y: Tensor, z_source: Tensor, z_target: Tensor) -> tuple[list[Judged], Tensor]:
        """Return images and codes with their critics, and the loss of both cycles, shape ()."""
        config = self.config
        encode_source, encode_target, decode_source, decode_target = self.maps
        code_source, code_target = self.codes
        made_y, made_x = decode_target(encode_source(x), z_target), decode_source(encode_target(y), z_source)
        pair, other = torch.cat((x, made_y), 1), torch.cat((made_x, y), 1)
        found_source, found_target = code_source(pair), code_target(other)
        images = (x - decode_source(encode_target(made_y), found_source)).abs().mean()
        images = images + (y - decode_target(encode_source(made_x), found_target)).abs().mean()
        noise = (z_target - code_target(pair)).abs().mean() + (z_source - code_source(other)).abs().mean()
        judged = zip(
            self.critics, (x, y, z_source, z_target), (made_x, made_y, found_source, found_target), strict=True
        )
        return [Judged(*shown) for shown in judged], config.cycle * images + config.code_cycle * noise
