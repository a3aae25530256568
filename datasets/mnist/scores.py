"""How transported images are judged: by a classifier, and by Frechet distances in three feature spaces.

One judge knows the test images of one side. What does not depend on a solver (moments of real and of VAE-decoded test
images, their accuracy, their Inception features) is computed once and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from otbench.data.tensorfile import cached
from otbench.datasets.mnist.images import Images
from otbench.datasets.mnist.points import Side
from otbench.datasets.mnist.pretrained import Trained
from otbench.metrics.frechet import Moments, frechet_distance, moments
from otbench.metrics.inception import WEIGHTS, Inception, kernel_distance
from otbench.metrics.share import wilson
from otbench.nets.classifier import Classifier

REAL_SAMPLE = 10_000
"""Training images that stand for perfect ones in the row of real images."""

_AIMS = {"real": "", "decoded": "_decoded"}
"""What images are compared with, and how the names of such distances end."""


@dataclass(frozen=True)
class Seen:
    """What the classifier and the pixels say of a set of images."""

    found: Tensor
    """Classes found, (n,) int64, on the CPU."""
    moments: Mapping[str, Moments]
    """By feature space: `pixel` (values in [0, 1], 1024 dimensions) and `classifier` (penultimate layer, 512)."""


class Judge:
    """The test images of one side, as a classifier and Frechet distances see them."""

    def __init__(
        self,
        side: Side,
        classifier: Trained[Classifier],
        *,
        device: torch.device,
        inception: Path | None = None,
    ) -> None:
        """Look at the real test images and, where there is a VAE, at the same ones decoded.

        Args:
            side: its test images are what is measured against; a part of the others, which solvers may see, stands for
                perfect transported images.
            classifier: of this set.
            device: where the classifier is.
            inception: verified weights, if any.
        """
        data = side.data
        self._name, self._classifier, self._test = data.name, classifier.network, data.test
        self._inception = None if inception is None else Inception(inception, device)
        identity = {"images": data.digest, "decoder": "" if side.vae is None else side.vae.digest}
        self._inception_identity = identity | {"inception": str(WEIGHTS.sha256)}

        def sets() -> dict[str, Tensor]:
            sample = Images(data.train.pixels[:REAL_SAMPLE], data.train.label[:REAL_SAMPLE])
            found = {"real": data.test.unit(device), "fresh": sample.unit(device)}
            decoded = side.decoded()
            return found if decoded is None else found | {"decoded": decoded}

        self._sets = sets

        def look() -> dict[str, Tensor]:
            tensors: dict[str, Tensor] = {}
            for key, images in sets().items():
                seen = self.look(images)
                tensors[f"{key}_found"] = seen.found
                for space, found in seen.moments.items():
                    tensors[f"{key}_{space}_mean"], tensors[f"{key}_{space}_cov"] = found.mean, found.cov
            return tensors

        held = cached(f"reference-{data.name}", identity | {"classifier": classifier.digest}, look).tensors
        self._found = {key: held[f"{key}_found"] for key in ("real", "fresh", "decoded") if f"{key}_found" in held}
        self._held = {
            key: {
                space: Moments(held[f"{key}_{space}_mean"], held[f"{key}_{space}_cov"], len(found))
                for space in ("pixel", "classifier")
            }
            for key, found in self._found.items()
        }

    def look(self, images: Tensor) -> Seen:
        """Return what is seen of `images` in [0, 1], (n, 1, 32, 32), n >= 2."""
        features, found = self._classifier.look(images.float())
        return Seen(found.cpu(), {"pixel": moments(images), "classifier": moments(features)})

    def classes(self, images: Tensor) -> Tensor:
        """Return the classes found in `images`, (n,) int64, on the CPU."""
        return self._classifier.look(images.float())[1].cpu()

    def distances(self, seen: Seen) -> dict[str, float]:
        """Return Frechet distances to the real and, where there are any, to the decoded test images."""
        return self._to(seen.moments)

    def _to(self, seen: Mapping[str, Moments], aims: Mapping[str, str] = _AIMS) -> dict[str, float]:
        held = [(self._held[key], ending) for key, ending in aims.items() if key in self._held]
        return {f"fd_{space}{end}": frechet_distance(aim[space], seen[space]) for aim, end in held for space in seen}

    def inception(self, images: Tensor) -> dict[str, float]:
        """Return FID and KID to the real and, where there are any, to the decoded test images; nothing without weights.

        Args:
            images: in [0, 1], (n, 1, 32, 32).
        """
        return {} if self._inception is None else self._inception_to(self._inception.features(images))

    def _inception_to(self, features: Tensor, aims: Mapping[str, str] = _AIMS) -> dict[str, float]:
        found: dict[str, float] = {}
        for key, ending in aims.items():
            if key in self._held:
                aim = self._inception_features[key]
                found[f"fid_inception{ending}"] = frechet_distance(moments(features), moments(aim))
                found[f"kid{ending}"] = kernel_distance(features, aim)
        return found

    @cached_property
    def _inception_features(self) -> Mapping[str, Tensor]:
        """Features of the real, fresh and decoded images, (n, 2048), float32: minutes on a CPU, so they are kept."""
        network = self._inception
        assert network is not None

        def look() -> dict[str, Tensor]:
            return {key: network.features(images) for key, images in self._sets().items()}

        return cached(f"inception-{self._name}", self._inception_identity, look).tensors

    def task_rows(self) -> dict[str, dict[str, float]]:
        """Return the rows that need test data and no solver, metrics by name.

        `real_images`: accuracy of the real test images; Frechet distances of training images to test images, about
        what a perfect generator would score (the classifier has seen these images, its features of new ones lie a
        little elsewhere). `reconstruction`: the test images through the VAE, which bounds every
        latent method.
        """
        rows: dict[str, dict[str, float]] = {}
        to_real = {"real": ""}  # decoded images are at distance zero from themselves, which says nothing
        for name, judged, shown, aims in (
            ("real_images", "real", "fresh", _AIMS),
            ("reconstruction", "decoded", "decoded", to_real),
        ):
            if judged in self._held:
                rows[name] = accuracy(self._found[judged], self._test.label) | self._to(self._held[shown], aims)
                if self._inception is not None:
                    rows[name] |= self._inception_to(self._inception_features[shown], aims)
        return rows


def accuracy(found: Tensor, wanted: Tensor, ending: str = "") -> dict[str, float]:
    """Return the share of images that are what they should be, and its 95 % interval (Wilson), in %."""
    hits, n = int((found == wanted).sum()), len(wanted)
    low, high = wilson(hits, n)
    return {
        f"accuracy{ending}": 100 * hits / n,
        f"accuracy{ending}_low": 100 * low,
        f"accuracy{ending}_high": 100 * high,
    }
