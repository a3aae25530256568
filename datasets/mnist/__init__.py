"""Images to images, class by class: Fashion-MNIST to MNIST, and digits to other digits.

A class of the source is given the name of the class of the target that it is to become, so for every solver "class k
goes to class k". Points are images (`space=pixel`, values in [-1, 1]) or the means that a VAE's encoder gives them
(`space=latent`), standardised per coordinate and side for all methods. Solvers learn from the training images of
torchvision's splits, all numbers are taken on test images.

Pairs: `fmnist-mnist`, class k to class k (Asadulaev et al., ICLR 2024; Park et al., arXiv 2510.01153 and 2605.10792);
`transfer` and `shift` within MNIST, digit k to k + 5 and to k + 1 modulo 10 (the second paper's two tasks, whose exact
index maps are not published); `digits`, k to k + 5 on scikit-learn's 8 x 8 images: a demonstration that needs no files.
`digit=3` moves the images of class 3 alone, for solvers that are told no classes: `mnist[pair=transfer,digit=3]` is
from threes to eights. Distances are then to test images of the wanted class.

What to bear in mind: a decoder that reads the wanted label draws a digit of that class from many codes, so with
`vae=conditional` accuracy alone says little of the map; `class_energy`, `cost` and the control rows do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from otbench.config import Value
from otbench.data.sources import DataSource, RemoteSource
from otbench.datasets.mnist.images import CLASSES, TEST_COUNT, ImageSet, SetName, all_present, files, load
from otbench.datasets.mnist.pictures import components, confusion, image_rows
from otbench.datasets.mnist.points import Side
from otbench.datasets.mnist.pretrained import NetworkSource, NetworkT, Trained, network_path, trained
from otbench.datasets.mnist.pretraining import NetworkSettings, classifier_settings, vae_settings
from otbench.datasets.mnist.scores import Judge, accuracy
from otbench.errors import UsageError
from otbench.metrics.class_energy import class_energy
from otbench.metrics.inception import WEIGHTS, find_weights
from otbench.ops.points import fixed_rows
from otbench.picture import Picture
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.task import Config, Field, Instance, Metric, Outputs, Published, Task, TestData, register_task

CURVE_IMAGES = 1000
"""Test images that are decoded and classified at points of the curve; at the end, all are."""
_LABELS = 0
"""Random stream that chooses the labelled target images."""


@dataclass(frozen=True)
class _Pair:
    """What is moved to what: sets, the number added to a source class (modulo 10), and words for it."""

    source: SetName
    target: SetName
    shift: int
    words: str


PAIRS = {
    "fmnist-mnist": _Pair("FashionMNIST", "MNIST", 0, "Fashion-MNIST to MNIST, class k to k"),
    "transfer": _Pair("MNIST", "MNIST", 5, "MNIST, digit k to k + 5"),
    "shift": _Pair("MNIST", "MNIST", 1, "MNIST, digit k to k + 1"),
    "digits": _Pair("digits", "digits", 5, "demo: scikit-learn's 8 x 8 digits, k to k + 5"),
}


class MNISTConfig(Config):
    """Parameters of the image task."""

    pair: Literal["fmnist-mnist", "transfer", "shift", "digits"] = Field("fmnist-mnist", "what becomes what")
    space: Literal["latent", "pixel"] = Field("latent", "where points live: codes of a VAE, or images")
    vae: Literal["unconditional", "conditional"] = Field(
        "unconditional", "whether encoder and decoder read the label (space=latent only)"
    )
    size: Literal["tiny", "default", "paper"] = Field("default", "size and training of VAE and classifier")
    target_labels: int | None = Field(
        None, "labelled target images per class, the rest unlabelled; left out: all are labelled", ge=1
    )
    held_out: int | None = Field(
        None, "training images of each set, its last, that take the place of the test images; left out: none", ge=100
    )
    digit: int | None = Field(None, "source class that is moved, alone and without labels; left out: all", ge=0, le=9)
    pool_seed: int | None = Field(None, "seed that chooses labelled images; left out: the run's seed", ge=0, lt=10**9)

    @model_validator(mode="before")
    @classmethod
    def _pixels_have_no_vae(cls, values: dict[str, Value]) -> dict[str, Value]:
        """Make one of what is the same: a preset's list of VAEs means nothing where points are images."""
        without = values.get("space") == "pixel" and values.get("vae") == "conditional"
        return {**values, "vae": "unconditional"} if without else values


class MNISTInstance(Instance):
    """One pair of image sets with its pools, its judges and its test images."""

    def __init__(
        self,
        problem: Problem,
        test: TestData,
        sides: tuple[Side, Side],
        judges: tuple[Judge | None, Judge],
        facts: Mapping[str, Value],
    ) -> None:
        """Hold the parts; there is no judge of the source's images where no classifier of them is trained.

        Test points have classes only where solvers may be told them; those that count here are the sides' own.
        """
        self.problem, self.test, self.facts = problem, test, facts
        self._source, self._target = sides
        self._judge_back, self._judge = judges
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # points, images and classes of the last final score

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; before the end, accuracies are those of a fixed sample, without distances."""
        source, target = self._labelled()
        assert source.label is not None
        assert target.label is not None
        scores = self._points(outputs.forward, source, target)
        final = outputs.final
        images, found, judged = _judged(outputs.forward, source.label, self._target, self._judge, final=final)
        scores |= judged
        if final:
            self._last = outputs.forward, images, found
            scores |= self._judge.inception(images)
        if outputs.backward is None:
            return scores
        scores |= {f"{name}_bwd": value for name, value in self._points(outputs.backward, target, source).items()}
        if self._judge_back is None:
            return scores
        side, judge = self._source, self._judge_back
        return scores | _judged(outputs.backward, target.label, side, judge, final=final, ending="_bwd")[2]

    def _labelled(self) -> list[Batch]:
        """Return the test points of both sides with the classes that they are to have."""
        sides = ((self.test.source, self._source), (self.test.target, self._target))
        return [Batch(points.x, side.test_label.to(points.x.device)) for points, side in sides]

    def _points(self, moved: Tensor, here: Batch, there: Batch) -> dict[str, float]:
        """Return what does not need images: the transport cost, and the mean over classes of the energy distance."""
        image, aim = Batch(moved.flatten(1), here.label), Batch(there.x.flatten(1), there.label)
        return {
            "cost": float(self.problem.cost(here.x, moved).double().mean()),
            "class_energy": class_energy(image, aim),
        }

    def task_rows(self) -> Mapping[str, Mapping[str, float]]:
        """Return the rows of real and of reconstructed test images."""
        return self._judge.task_rows()

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return grids of images, the confusion matrix, and points along the target's principal components."""
        source, target = self._labelled()
        assert source.label is not None
        assert target.label is not None
        if self._last is None or self._last[0] is not outputs.forward:
            images = self._target.images(outputs.forward, source.label)
            self._last = outputs.forward, images, self._judge.classes(images)
        _, images, found = self._last
        wanted = source.label.cpu()
        goals = target.label.cpu()
        return (
            image_rows(self._source.data.test.pixels, wanted, images, self._target.data.test.pixels, goals),
            confusion(wanted, found),
            components(source.x, outputs.forward, target.x),
        )


def _judged(
    moved: Tensor, label: Tensor, side: Side, judge: Judge, *, final: bool, ending: str = ""
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Return images of points that were moved to `side`, the classes found, and metrics, whose names end in `ending`.

    Before the end, a fixed sample is looked at, without distances.
    """
    rows = torch.arange(len(moved)) if final else fixed_rows(len(moved), CURVE_IMAGES)
    images, wanted = side.images(moved[rows], label[rows]), (label[rows].cpu() - side.shift) % CLASSES
    if not final:
        found = judge.classes(images)
        return images, found, accuracy(found, wanted, ending)
    seen = judge.look(images)
    distances = {f"{name}{ending}": value for name, value in judge.distances(seen).items()}
    return images, seen.found, accuracy(seen.found, wanted, ending) | distances


@register_task(
    "mnist",
    config=MNISTConfig,
    reference="Asadulaev et al., Neural Optimal Transport with General Cost Functionals, ICLR 2024, arXiv 2205.15403; "
    "Park, Liu, Zhou, Osher, arXiv 2510.01153; Park, Gelphman, Osher, Wu Fung, arXiv 2605.10792",
    presets={
        "smoke": {"pair": "digits", "size": "tiny"},
        "quick": {"pair": "fmnist-mnist"},
        "full": {"pair": ["fmnist-mnist", "transfer", "shift"], "vae": ["unconditional", "conditional"]},
        "paper": {"pair": "fmnist-mnist", "vae": "conditional", "size": "paper"},
    },
    tuning=[
        ({"pair": "fmnist-mnist", "space": "pixel", "held_out": 2000}, 100),
        ({"pair": "transfer", "space": "pixel", "held_out": 2000}, 101),
    ],
)
class MNIST(Task[MNISTConfig]):
    """Fashion-MNIST images to digits, and digits to other digits, class by class."""

    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {"target_labels": ("pair", "vae")}
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", "accuracy", "%", higher_is_better=True, primary=True),
        Metric("accuracy_low", "95 % from", "%", higher_is_better=True, primary=True),
        Metric("accuracy_high", "to", "%", higher_is_better=True, primary=True),
        Metric("fd_pixel", "FD pixel", primary=True),
        Metric("fd_classifier", "FD classifier", primary=True),
        Metric("fd_pixel_decoded", "FD pixel, to decoded"),
        Metric("fd_classifier_decoded", "FD cl. to decoded", primary=True),
        Metric("class_energy", "class energy", "data units", primary=True, flag_worse=True),
        Metric("cost", "cost", "data units^2", primary=True),
        Metric("fid_inception", "FID Inception", primary=True),
        Metric("kid", "KID"),
        Metric("fid_inception_decoded", "FID Inception, to decoded"),
        Metric("kid_decoded", "KID, to decoded"),
        Metric("accuracy_bwd", "accuracy bwd", "%", higher_is_better=True, primary=True),
        Metric("accuracy_bwd_low", "accuracy bwd, low end", "%", higher_is_better=True),
        Metric("accuracy_bwd_high", "accuracy bwd, high end", "%", higher_is_better=True),
        Metric("fd_pixel_bwd", "FD pixel bwd"),
        Metric("fd_classifier_bwd", "FD classifier bwd"),
        Metric("fd_pixel_decoded_bwd", "FD pixel bwd, to decoded"),
        Metric("fd_classifier_decoded_bwd", "FD classifier bwd, to decoded"),
        Metric("class_energy_bwd", "class energy bwd", "data units"),
        Metric("cost_bwd", "cost bwd", "data units^2"),
    )

    def __init__(self, config: MNISTConfig, *, data_dir: Path | None = None) -> None:
        """Take the configuration; images are read when first needed."""
        super().__init__(config, data_dir=data_dir)
        self._pair = PAIRS[config.pair]

    @classmethod
    def choose(
        cls, preset: Mapping[str, Value | Sequence[Value]], *, typed: frozenset[str], data_dir: Path | None
    ) -> tuple[Mapping[str, Value | Sequence[Value]], Sequence[str]]:
        """Take the bundled digits where the preset's images are not on this machine; say so, and what is skipped."""
        weights, why_not = find_weights(data_dir)
        notes = () if weights is not None else (f"task mnist: fid_inception and kid are skipped: {why_not}",)
        if "pair" in typed:
            return preset, notes
        wanted = preset.get("pair", "fmnist-mnist")
        pairs = [wanted] if isinstance(wanted, str) else [str(pair) for pair in wanted or ()]  # type: ignore[union-attr]
        here = [pair for pair in pairs if all_present([PAIRS[pair].source, PAIRS[pair].target], data_dir)]
        if len(here) == len(pairs):
            return preset, notes
        if here:
            left_out = ", ".join(pair for pair in pairs if pair not in here)
            note = f"task mnist: pair={left_out} is left out: its images are not on this machine; type it to fetch them"
            return {**preset, "pair": here}, (note, *notes)
        note = (
            "task mnist: no MNIST images on this machine, so this is the demo on scikit-learn's digits; for the real "
            "task put torchvision's MNIST/raw and FashionMNIST/raw into --data-dir, or type pair=fmnist-mnist to "
            "download them"
        )
        changed = {"pair": "digits"} | ({} if "size" in typed else {"size": "tiny"})
        return {**preset, **changed}, (note, *notes)

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return both image sets, the Inception weights, and the networks that are trained before any solver runs."""
        return [
            RemoteSource("MNIST", "70 000 digits, 28 x 28", files("MNIST"), "CC BY-SA 3.0 (LeCun, Cortes, Burges)"),
            RemoteSource(
                "FashionMNIST",
                "70 000 pictures of clothes, 28 x 28",
                files("FashionMNIST"),
                "MIT: https://github.com/zalandoresearch/fashion-mnist",
            ),
            RemoteSource(
                "inception",
                "the network of FID and KID; without it they are skipped",
                [WEIGHTS],
                "Apache 2.0: https://github.com/tensorflow/models",
            ),
            NetworkSource("vae"),
            NetworkSource("classifier"),
        ]

    def controls(self) -> tuple[str, ...]:
        """Return the rows without which accuracies and distances cannot be judged."""
        rows = ("class_mean", "classwise_linear", "real_images") if self.config.digit is None else ("real_images",)
        return (*rows, "prior_sample", "reconstruction") if self.config.space == "latent" else rows

    def check(self) -> None:
        """Look at images, labels, networks and weights.

        Raises:
            UsageError: more labels than there are images, labels hidden from a solver that a VAE would give away, or
                labels within one class.
            DataError: images or networks are missing or damaged, or the Inception weights that are there are not those.
        """
        config = self.config
        if config.target_labels is not None and config.digit is not None:
            raise UsageError("task mnist: target_labels with digit: within one class there is no label to hide")
        if config.target_labels is not None and config.space == "latent" and config.vae == "conditional":
            raise UsageError(
                "task mnist: target_labels with vae=conditional: that encoder reads every label, so codes of "
                "unlabelled images would give theirs away; use vae=unconditional or space=pixel"
            )
        if config.target_labels is not None and self._pair.source == self._pair.target:
            raise UsageError(
                f"task mnist: target_labels with pair={config.pair}: source and target are the same images, so the "
                "source's labels would give the hidden ones away; use pair=fmnist-mnist"
            )
        self._labels(self._sets[self._pair.target], 0)
        find_weights(self.data_dir)
        for data, settings in self._networks():
            # those of the digits are trained in the first run, if not before
            if data.name != "digits" or network_path(data.name, data.digest, settings, self.data_dir).exists():
                self._trained(data, settings, torch.device("cpu"))

    def inputs(self) -> tuple[Path, ...]:
        """Return the networks of real images, which may have been trained elsewhere.

        Those of the digits are not among them: they are trained in the first run, from a seed.
        """
        if self._pair.target == "digits":
            return ()
        return tuple(network_path(data.name, data.digest, made, self.data_dir) for data, made in self._networks())

    @cached_property
    def _published(self) -> Mapping[SetName, ImageSet]:
        """The images of both sides as published, read once; networks are trained on these."""
        return {name: load(name, self.data_dir) for name in sorted({self._pair.source, self._pair.target})}

    @cached_property
    def _sets(self) -> Mapping[SetName, ImageSet]:
        """The images of both sides that solvers learn from and are measured on."""
        if self.config.held_out is None:
            return self._published
        return {name: images.setting_aside(self.config.held_out) for name, images in self._published.items()}

    def _networks(self) -> list[tuple[ImageSet, NetworkSettings[nn.Module]]]:
        """Return images and settings of each network: the target's classifier and, of codes, the VAEs."""
        size, vae = self.config.size, self.config.vae
        coders = self._published.values() if self.config.space == "latent" else ()
        return [
            (self._published[self._pair.target], classifier_settings(size)),
            *((data, vae_settings(data.name, vae, size)) for data in coders),
        ]

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> MNISTInstance:
        """Make the instance: `seed` chooses the labelled target images, all else is the same for all seeds.

        On the bundled digits, networks that are not in the cache yet are trained here, in seconds.
        """
        pair, config, sets, seed = self._pair, self.config, self._sets, self.pool_seed(seed)
        published = self._published
        classifier = self._trained(published[pair.target], classifier_settings(config.size), device)
        weights, why_not = find_weights(self.data_dir)
        facts: dict[str, Value] = {f"classifier_{key}": value for key, value in classifier.numbers.items()}
        facts["classifier_sha256"] = classifier.digest
        sides: list[Side] = []
        for role, name, shift in (("source", pair.source, pair.shift), ("target", pair.target, 0)):
            data, vae = sets[name], None
            if config.digit is not None:
                data = data.of_class((config.digit + pair.shift - shift) % CLASSES)
            if config.space == "latent":
                vae = self._trained(published[name], vae_settings(name, config.vae, config.size), device)
                facts |= {f"{role}_vae_{key}": value for key, value in vae.numbers.items()}
                facts[f"{role}_vae_sha256"] = vae.digest
            sides.append(Side(data, shift, vae, device))
        source, target = sides
        judge = Judge(target, classifier, device=device, inception=weights)
        judge_back = None  # nobody classifies what is moved back to Fashion-MNIST
        if pair.source == pair.target:
            judge_back = judge
            if config.digit is not None:
                judge_back = Judge(source, classifier, device=device, inception=weights)
        measures, tests = [], []
        for side, label in ((source, source.train_label), (target, self._labels(target.data, seed))):
            train, test = (side.points(part, dtype) for part in ("train", "test"))
            if config.digit is None:
                measures.append(PoolMeasure(train, label=label.to(device), classes=CLASSES))
                tests.append(Batch(test, side.test_label.to(device)))
            else:  # one class on either side is none
                measures.append(PoolMeasure(train))
                tests.append(Batch(test))
        facts |= {
            "test_source": len(source.test_label),
            "test_target": len(target.test_label),
            "pool_source": len(source.train_label),
            "pool_target": len(target.train_label),
            "target_labels": "all" if config.target_labels is None else config.target_labels,
            "decoder_reads_label": config.space == "latent" and config.vae == "conditional",
            "inception": "standard weights" if weights is not None else f"skipped: {why_not}",
        }
        problem = Problem(measures[0], measures[1], QuadraticCost(), device, dtype)
        return MNISTInstance(problem, TestData(*tests), (source, target), (judge_back, judge), facts)

    def describe(self) -> str:
        """Return pair, space, labels and the number of test images in a few words."""
        config = self.config
        reading = ", which reads the label at both ends" if config.vae == "conditional" else ""
        where = "pixels" if config.space == "pixel" else f"codes of the {config.vae} VAE{reading}"
        size = "" if config.size == "default" else f" ({config.size})"
        labels = "" if config.target_labels is None else f", {config.target_labels} labelled targets per class"
        count = f"{config.held_out or TEST_COUNT[self._pair.source]:,} ".replace(",", " ")
        kind = "test images" if config.held_out is None else "training images set aside"
        one = ""
        if config.digit is not None:  # of each class there are about a tenth
            one, count = f", {config.digit} to {(config.digit + self._pair.shift) % CLASSES} alone", "its "
        return f"{self._pair.words}{one}, {where}{size}{labels}, {count}{kind}{self.pool_words()}"

    def published(self) -> Published | None:
        """Published rows stand beside the pairs of real images."""
        config = self.config
        if config.pair == "digits" or config.size == "tiny" or (config.held_out, config.digit) != (None, None):
            return None
        return Published("mnist", {"pair": config.pair})

    def _trained(self, data: ImageSet, settings: NetworkSettings[NetworkT], device: torch.device) -> Trained[NetworkT]:
        """Return a network; where it is not there, say how to make it, but train those of the digits in seconds."""
        wanted = ""
        if data.name != "digits":
            size = "" if self.config.size == "default" else f" --size {self.config.size}"
            wanted = (
                f"task mnist needs the {settings.words} of {data.name}, which is not trained yet; make it once with: "
                f"python bench.py data make {settings.command} --set {data.name}{size}"
            )
        return trained(data, settings, data_dir=self.data_dir, device=device, wanted=wanted)

    def _labels(self, data: ImageSet, seed: int) -> Tensor:
        """Return the labels that a solver may see, (n,) int64: all, or `target_labels` of each class, others -1."""
        label, count = data.train.label, self.config.target_labels
        if count is None:
            return label
        word = int(np.random.SeedSequence([_LABELS, seed]).generate_state(1)[0])
        order = torch.randperm(len(label), generator=torch.Generator().manual_seed(word))
        seen = torch.full_like(label, -1)
        for k in range(CLASSES):
            members = order[label[order] == k]
            if len(members) < count:
                raise UsageError(
                    f"task mnist: target_labels={count}: class {k} of {data.name} has {len(members)} training images"
                )
            seen[members[:count]] = k
        return seen
