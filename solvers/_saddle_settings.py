"""Settings of NOT, its weak form and GNOT: three rows for either kind of points, and parameters that replace values.

Rows are `ours`, `smoke` and `paper`, each for vectors and for images (channels, side, side). Parameters left at none
have the value of the row `settings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from otbench.ops.optimisers import OptimiserName
from otbench.solver import Config, Field

RowName: TypeAlias = Literal["ours", "smoke", "paper"]
Kind: TypeAlias = Literal["vectors", "images"]


class SaddleConfig(Config):
    """Parameters of all methods; those left at none have the value of the row `settings`."""

    settings: RowName = Field("ours", "row of settings: ours, small ones, or the authors'; of vectors or of images")
    optimiser: OptimiserName | None = Field(None, "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float | None = Field(None, "learning rate of the map, at its peak", gt=0)
    critic_rate: float | None = Field(None, "learning rate of the critic, as a multiple of the map's", gt=0)
    lr_end: float | None = Field(None, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    halvings: int | None = Field(None, "how often the rates are halved, at even distances", ge=0)
    warmup: float | None = Field(None, "share of the budget over which the rates rise", ge=0, lt=1)
    weight_decay: float | None = Field(None, "peak of the weight decay, which falls with the learning rate", ge=0)
    averaging: float | None = Field(None, "the map is the mean of iterates k with weights ~ k^this; 0 = the last", ge=0)
    batch_size: int | None = Field(None, "points per side and update", unit="points", ge=2)
    inner: int | None = Field(None, "updates of the map per update of the critic", unit="updates", ge=1)
    residual: bool | None = Field(None, "the map is x + network; the network's last layer starts at zero")
    cost_scale: Literal["sum", "mean"] | None = Field(None, "cost over all coordinates, or per coordinate")
    iterations: int | None = Field(None, "steps after which training ends in any case", unit="steps", ge=1)
    critic: Literal["dense_icnn", "mlp"] | None = Field(None, "vectors: network of the critic")
    layers: int = Field(3, "vectors: hidden layers of an MLP", ge=1)
    width: int | None = Field(None, "vectors: hidden width of an MLP; if the row has none: max(2d, 64)", ge=1)
    activation: Literal["silu", "relu"] | None = Field(None, "vectors: activation of an MLP")
    map_width: int | None = Field(None, "images: channels of the UNet at full resolution", ge=1)
    critic_width: int | None = Field(None, "images: channels of the ResNet critic at full resolution", ge=1)
    norm: Literal["group", "batch"] | None = Field(None, "images: norm in the UNet, within an image or a batch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The values that a run uses; the defaults are ours for vectors. Meanings as in `SaddleConfig`."""

    optimiser: OptimiserName = "adam"
    lr: float = 3e-3
    critic_rate: float = 2.0
    lr_end: float = 0.0
    halvings: int = 0
    warmup: float = 0.02
    weight_decay: float = 1.0
    averaging: float = 8.0
    batch_size: int = 1024
    inner: int = 5
    residual: bool = True
    cost_scale: Literal["sum", "mean"] = "sum"
    iterations: int | None = None
    critic: Literal["dense_icnn", "mlp"] = "dense_icnn"
    width: int | None = None
    activation: Literal["silu", "relu"] = "silu"
    map_width: int = 8
    critic_width: int = 8
    norm: Literal["group", "batch"] = "group"


OURS: dict[str, Any] = {"optimiser": "adam", "lr": 1e-3, "critic_rate": 1.0, "weight_decay": 1e-10, "batch_size": 64}
"""Ours for images, where it is not as for vectors; sized for minutes on one core."""
SMALL: dict[str, Any] = {**OURS, "batch_size": 20, "inner": 2, "map_width": 4, "critic_width": 4}
"""For images, in seconds."""
PAPER: dict[str, Any] = {
    "optimiser": "adam",
    "lr": 1e-4,
    "critic_rate": 1.0,
    "lr_end": 1.0,
    "warmup": 0.0,
    "weight_decay": 1e-10,
    "averaging": 0.0,
    "batch_size": 64,
    "inner": 10,
    "residual": False,
    "cost_scale": "mean",
}
"""What the authors' toy and image notebooks have in common."""
PAPER_VECTORS: dict[str, Any] = {**PAPER, "critic": "mlp", "width": 100, "activation": "relu"}
PAPER_IMAGES: dict[str, Any] = {**PAPER, "map_width": 48, "critic_width": 64, "norm": "batch"}

ConfigT = TypeVar("ConfigT", bound=SaddleConfig)
Rows: TypeAlias = Mapping[tuple[RowName, Kind], Settings]
