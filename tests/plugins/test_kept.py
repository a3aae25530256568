"""Kept maps are read with the code of their solver; what does not fit it is refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import otbench
from otbench.errors import DataError, OtbenchError, OtbenchWarning, PluginError
from otbench.plugins.kept import load_map

from ..helpers.kept_maps import Forged, small_map

MINE = '''
from otbench.recorded import Recorded
from otbench.solver import Config, Field, Solver, StepInfo, Transport, Yes, register_solver
import torch


class MineConfig(Config):
    layers: int = Field(2, "layers", ge=1)


class Pile(Recorded):
    def __init__(self, layers: int, width: int = 2) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Through(Transport):
    def __init__(self, pile) -> None:
        super().__init__()
        self.pile = pile

    def forward(self, x, label=None, generator=None):
        return self.pile(x)


@register_solver("mine", config=MineConfig, reference="none", presets={"quick": {"steps": 1}})
class Mine(Solver[MineConfig]):
    """A pile of layers that learns nothing."""

    def __init__(self, problem, config, context):
        super().__init__(problem, config, context)
        self.pile = Pile(layers=config.layers)

    def step(self):
        return StepInfo(0.0, done=True)

    def transport(self):
        return Through(self.pile)
'''


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_map(tmp_path_factory.mktemp("kept") / "map.otmap")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(scope="module")
def mine(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "mine.otmap"
    x = np.random.default_rng(0).standard_normal((20, 2))
    otbench.fit(x, x, solver="mine", plugins=plugin, device="cpu", standardise=False).save(path)
    return path


def refusal(path: Path, *plugins: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_map(path, plugins=plugins)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 700
    return said


# ------------------------------------------------------------------------------------------------------- good files


def solvers() -> list[str]:
    return list(otbench.solvers().index)


@pytest.mark.parametrize("solver", solvers())
def test_every_map_comes_back_bit_for_bit(solver: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 2)), 2 * rng.standard_normal((200, 2)) + 1
    label = np.arange(200) % 2
    both: dict[str, Any] = {"x_label": label, "y_label": label}
    made = None
    for classes in ({}, both):
        try:
            made = otbench.fit(x, y, solver=solver, preset="smoke", steps=2, device="cpu", **classes)
            break
        except OtbenchError as error:
            why = str(error)
    if made is None:
        pytest.skip(why)
    assert made.origin is not None
    assert (made.origin.solver, made.origin.plugin, made.origin.source_shape) == (solver, "", (2,))
    made.save(tmp_path / "map.otmap")
    again = load_map(tmp_path / "map.otmap")
    assert again.origin == made.origin
    assert not again.training
    assert not any(tensor.requires_grad for tensor in again.parameters())
    for name in ("forward", "backward", "log_prob"):
        if hasattr(made, name):
            one, other = (getattr(maps, name)(x, label, torch.Generator().manual_seed(1)) for maps in (made, again))
            assert np.array_equal(one, other), name


def test_a_plugin_of_the_users_must_be_given_again(mine: Path, plugin: Path) -> None:
    assert "'mine' is registered by mine.py, which must be given again (--plugin mine.py" in refusal(mine)
    x = np.ones((3, 2))
    assert load_map(mine, plugins=[plugin]).forward(x).shape == (3, 2)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="no such file"):
        load_map(mine, plugins=[plugin.with_name("gone.py")])


def test_other_code_is_said_and_hurts_nobody_as_long_as_the_tensors_fit(mine: Path, tmp_path: Path) -> None:
    changed = tmp_path / "mine.py"
    changed.write_text(MINE.replace("return self.pile(x)", "return 2 * self.pile(x)"))
    with pytest.warns(OtbenchWarning, match="made by other code of solver 'mine' than is here"):
        load_map(mine, plugins=[changed])


def test_the_same_code_with_other_comments_is_the_same(mine: Path, tmp_path: Path) -> None:
    commented = tmp_path / "mine.py"
    commented.write_text("# by me\n" + MINE)
    load_map(mine, plugins=[commented])  # warnings are errors here


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("Linear(width, width)", "Linear(width, width + 1)", "its tensors do not fit"),
        ("range(layers)", "range(layers + 1)", "its tensors do not fit"),
        ("layers: int, width", "layers: int, depth: int, width", "cannot be built as described"),
        ("class Through(Transport)", "class Through(Recorded)", "is no Transport"),
    ],
)
def test_code_that_no_longer_fits_is_refused(before: str, after: str, why: str, mine: Path, tmp_path: Path) -> None:
    changed = tmp_path / "mine.py"
    changed.write_text(MINE.replace(before, after))
    assert why in refusal(mine, changed)


# ----------------------------------------------------------------------------------------------------- hostile files


def forge(change: Callable[[Forged], object]) -> Callable[[Path, Path], Path]:
    def made(kept: Path, folder: Path) -> Path:
        forged = Forged(kept)
        change(forged)
        return forged.write(folder / "forged.otmap")

    return made


def arguments(**values: object) -> Callable[[Forged], object]:
    return lambda forged: forged.arguments.update(values)


def origin(**values: object) -> Callable[[Forged], object]:
    return lambda forged: forged.content["origin"].update(values)


def modules(value: object) -> Callable[[Forged], object]:
    return lambda forged: forged.content.update(modules=value)


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Forged], object]:
    return lambda forged: forged.tensors.update({name: change(forged.tensors[name])})


def affine(shape: object, dtype: str = "float32") -> dict[str, Any]:
    held = {"tensor": [shape, dtype]}
    return {
        "module": {"class": "affine.AffineMap", "arguments": {"matrix": held, "offset": {"tensor": [[2], "float32"]}}}
    }


def mlp(**values: object) -> dict[str, Any]:
    return {"module": {"class": "mlp.MLP", "arguments": values}}


def many(forged: Forged) -> None:
    inner: Any = {"class": "affine.AffineMap", "arguments": {"matrix": None, "offset": {"tensor": [[2], "float32"]}}}
    forged.arguments["there"] = [{"module": inner}] * 20_000


CLASS, ARGUMENTS = "_two_maps.TwoModules", {"there": affine([2, 2]), "back": affine([2, 2])}
FORGED: dict[str, tuple[Callable[[Forged], object], str]] = {
    "an unknown class": (modules({"class": "os.system", "arguments": {}}), "names the module 'os.system'"),
    "a builtin": (modules({"class": "builtins.eval", "arguments": {"x": "1"}}), "names the module 'builtins.eval'"),
    "a class with a terminal's escape sequences": (
        modules({"class": "\x1b[2J\n", "arguments": {}}),
        "names the module",
    ),
    "a class that is no Transport": (modules(affine([2, 2])["module"]), "is no Transport"),
    "a class that is a number": (modules({"class": 1, "arguments": {}}), "cannot be read"),
    "no class": (modules({"arguments": {}}), "cannot be read"),
    "arguments that are a list": (modules({"class": CLASS, "arguments": []}), "cannot be read"),
    "an argument called self": (arguments(self=1), "cannot be built as described"),
    "an argument too many": (arguments(colour="red"), "cannot be built as described"),
    "an argument too few": (lambda forged: forged.arguments.pop("back"), "cannot be built as described"),
    "text where a module should be": (arguments(there="identity"), "cannot be built|do not fit"),
    "a number where a module should be": (arguments(there=3), "cannot be built|do not fit"),
    "nothing where a module should be": (arguments(there=None), "do not fit"),
    "a list where a module should be": (arguments(there=[1, 2]), "cannot be built|do not fit"),
    "an object of no kind": (arguments(there={"pickle": "gASV"}), "cannot be read"),
    "a huge tensor": (arguments(there=affine([2**31, 2**31])), "a tensor that the file does not hold"),
    "a huge whole number": (arguments(there=2**62), "larger than the file"),
    "a negative shape": (arguments(there=affine([-2, -2])), "a tensor that the file does not hold"),
    "a shape of floats": (arguments(there=affine([2.0, 2.0])), "a tensor that the file does not hold"),
    "a shape of truths": (arguments(there=affine([True, True])), "a tensor that the file does not hold"),
    "a shape of text": (arguments(there=affine(["2", "2"])), "a tensor that the file does not hold"),
    "a shape that is a number": (arguments(there=affine(4)), "cannot be read"),
    "a type that is never written": (arguments(there=affine([2, 2], "bfloat16")), "cannot be read"),
    "a negative width": (arguments(there=mlp(dim=-2)), "cannot be built"),
    "a width with a fraction": (arguments(there=mlp(dim=2.5)), "cannot be built"),
    "a width in words": (arguments(there=mlp(dim="two")), "cannot be built"),
    "20 000 modules": (many, "cannot be read"),
    "tensors of another shape": (tensor("there.matrix", lambda t: torch.zeros(3, 3)), "tensors do not fit"),
    "tensors of whole numbers": (tensor("there.matrix", lambda t: t.long()), "tensors do not fit"),
    "tensors of truths": (tensor("there.offset", lambda t: t.bool()), "tensors do not fit"),
    "a tensor too many": (lambda f: f.tensors.update(more=torch.zeros(1)), "first 'more'"),
    "a tensor too few": (lambda f: f.tensors.pop("there.matrix"), "first 'there.matrix'"),
    "a tensor's name with escape sequences": (lambda f: f.tensors.update({"\x1b]0;x\x07": torch.zeros(1)}), "first '"),
    "no origin": (lambda f: f.content.update(origin={}), "where its map comes from"),
    "an origin with more in it": (origin(colour="red"), "where its map comes from"),
    "a solver with escape sequences": (origin(solver="\x1b[31mred"), "solver"),
    "a solver with a name of a million letters": (origin(solver="a" * 10**6), "solver"),
    "a solver that nobody knows": (origin(solver="fixdpoint"), "did you mean 'fixedpoint'"),
    "a task instead of a solver": (origin(solver="gaussian"), "unknown solver or baseline 'gaussian'"),
    "a solver that is a number": (origin(solver=7), "solver"),
    "a kind of its own": (origin(kind="wizard"), "kind"),
    "a shape with negative numbers": (origin(source_shape=[-2]), "source_shape"),
    "a shape with fractions": (origin(source_shape=[2.0]), "source_shape"),
    "a negative number of classes": (origin(classes=-1), "classes"),
    "classes that are true": (origin(classes=True), "classes"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files(name: str, kept: Path, tmp_path: Path) -> None:
    change, why = FORGED[name]
    said = refusal(forge(change)(kept, tmp_path))
    assert any(words in said for words in why.split("|")), said
    assert str(tmp_path) in said


def test_one_number_cannot_ask_for_a_million_layers(mine: Path, plugin: Path, tmp_path: Path) -> None:
    forged = Forged(mine)
    forged.tensors["large"] = torch.zeros(10**6)  # so large a file may ask for large numbers
    forged.arguments["pile"]["module"]["arguments"]["layers"] = 10**6
    assert "more than 10,000 modules" in refusal(forged.write(tmp_path / "a.otmap"), plugin)
    torch.nn.Sequential(torch.nn.Linear(2, 2))  # nothing is left behind that counts the user's own modules


def test_networks_of_two_floating_types_are_refused(mine: Path, plugin: Path, tmp_path: Path) -> None:
    forged = Forged(mine)
    name = forged.content["parameters"][0]
    forged.tensors[name] = forged.tensors[name].double()
    assert "mix types of numbers" in refusal(forged.write(tmp_path / "a.otmap"), plugin)
