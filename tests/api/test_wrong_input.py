"""Every class of mistake at the Python interface: the package's exception, with one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

import otbench
from otbench import DataError, OtbenchError, PluginError, StoreError, UsageError

Array = NDArray[np.float64]
X = np.random.default_rng(0).standard_normal((20, 2))
BIG = np.vstack([X, [[1e300, 0.0]]])
TOY = Path(__file__).parents[1] / "helpers" / "plugins" / "toy.py"
HOLE = np.vstack([X, [[np.nan, 0.0]]])
LABEL = np.arange(20) % 2
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls both young
    CSR = torch.from_numpy(X).to_sparse_csr()
    NESTED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def fit(x: Any = X, y: Any = X, **options: Any) -> Callable[[], object]:
    return lambda: otbench.fit(x, y, **{"solver": "linear", "device": "cpu", **options})


FIT: dict[str, tuple[Callable[[], object], type[OtbenchError], str]] = {
    "text for points": (fit("points.npy"), UsageError, "x must be an array of numbers"),
    "words for points": (fit([["a", "b"]] * 3), UsageError, "x must be an array of numbers"),
    "nothing for points": (fit(X, None), UsageError, "y must be an array of numbers"),
    "rows of several lengths": (fit([[1.0, 2.0], [3.0]]), UsageError, "x must be an array of numbers"),
    "complex numbers": (fit(X * 1j), UsageError, "x must be an array of numbers"),
    "a complex tensor": (fit(torch.zeros(3, 2, dtype=torch.complex64)), UsageError, "x must be an array of numbers"),
    "numbers in a row": (fit(X[:, 0]), UsageError, "shape (n, *shape); its shape is (20,)"),
    "no column": (fit(X[:, :0]), UsageError, "its shape is (20, 0)"),
    "no row": (fit(X[:0]), UsageError, "its shape is (0, 2)"),
    "one row": (fit(X, X[:1]), UsageError, "y holds one point; two are the least"),
    "NaN": (fit(HOLE), UsageError, "x must hold finite numbers"),
    "the row of a NaN": (fit(HOLE), UsageError, "row 20 (counted from 0) holds nan"),
    "too large for float32": (fit(BIG), UsageError, "up to 1e+18, and row 20 (counted from 0) holds 1e+300"),
    "all too large for float32": (fit(X, X * 1e300), UsageError, "y must hold finite numbers up to 1e+18, and row 0"),
    "too large, in double precision": (fit(BIG, dtype="float64"), UsageError, "row 20 (counted from 0) holds 1e+300"),
    "too close together": (fit(X * 1e-100, X * 1e-100, solver="ls"), UsageError, "too close together for float32"),
    "a sparse tensor": (fit(torch.from_numpy(X).to_sparse()), UsageError, "x is sparse; call .to_dense()"),
    "a sparse tensor by rows": (fit(X, CSR), UsageError, "y is sparse; call .to_dense()"),
    "a sparse matrix": (fit(sparse.csr_array(X)), UsageError, "x is sparse; call .toarray()"),
    "a nested tensor": (fit(NESTED), UsageError, "it is a nested tensor"),
    "a tensor on no device": (fit(torch.empty(3, 2, device="meta")), UsageError, "it is a tensor without numbers"),
    "numbers of 8 bits": (fit(torch.zeros(3, 2).to(torch.float8_e5m2)), UsageError, "it holds float8_e5m2"),
    "extended precision": (fit(X.astype(np.longdouble)), UsageError, "convert it to float64"),
    "masked points": (fit(np.ma.masked_greater(X, 1)), UsageError, "x has masked entries; leave such rows out"),
    "masked classes": (
        fit(x_label=np.ma.masked_equal(LABEL, 1), y_label=LABEL),
        UsageError,
        "x_label has masked entries",
    ),
    "complex numbers by name": (fit(X * 1j), UsageError, "it holds complex128; convert it to float64"),
    "words by name": (fit([["a", "b"]] * 3), UsageError, "it holds text"),
    "a word in a column": (fit(pd.DataFrame({"a": [1.0, "b"]})), UsageError, "row 1 (counted from 0) holds a str"),
    "several lengths by name": (fit([[1.0, 2.0], [3.0]]), UsageError, "its rows have several lengths"),
    "nothing by name": (fit(None), UsageError, "shape (n, *shape); it is None"),
    "tensors with a graph, in a list": (
        fit([torch.ones(2, requires_grad=True)] * 3),
        UsageError,
        "NumPy makes none of it",
    ),
    "two shapes": (fit(X, np.ones((20, 3))), UsageError, "linear cannot take this problem: shapes differ"),
    "an unknown solver": (fit(solver="fixdpoint"), UsageError, "'fixdpoint'; did you mean 'fixedpoint'?"),
    "a task": (fit(solver="gaussian"), UsageError, "unknown solver or baseline 'gaussian'"),
    "a row without a map": (fit(solver="real_images"), UsageError, "it has no map to fit"),
    "a solver that is a number": (fit(solver=3), UsageError, "solver: must be text, not an int"),
    "a solver for another problem": (fit(solver="otflow"), UsageError, "needs a source that is standard normal"),
    "an unknown preset": (fit(preset="fast"), UsageError, "unknown preset 'fast'"),
    "a preset that it lacks": (
        fit(solver="toyshift", preset="paper", plugins=TOY),
        UsageError,
        "toyshift declares no preset 'paper'",
    ),
    "an unknown parameter": (fit(solver="ncf", lrr=1), UsageError, "no parameter 'lrr'; did you mean 'lr'?"),
    "a parameter out of range": (fit(solver="ncf", lr=-1), UsageError, "solver ncf: lr=-1: input should be greater"),
    "a parameter of another type": (fit(solver="ncf", lr="fast"), UsageError, "solver ncf: lr='fast'"),
    "a parameter that is a list": (fit(solver="ncf", lr=[1, 2]), UsageError, "solver ncf: lr=[1, 2]"),
    "an old name beside the new": (
        fit(solver="fixedpoint", average=1, averaging=1),
        UsageError,
        "'average' is the old name of 'averaging'",
    ),
    "a cost of its own": (fit(cost="linear"), UsageError, 'cost \'linear\': use "quadratic" or "power"'),
    "a power without exponent": (fit(cost="power"), UsageError, "needs a number greater than 1"),
    "an exponent of 1": (fit(cost="power", exponent=1), UsageError, "needs a number greater than 1"),
    "an exponent in words": (fit(cost="power", exponent="two"), UsageError, "exponent: must be a number"),
    "an exponent without power": (fit(exponent=2), UsageError, 'belongs to cost="power"'),
    "a cost that it cannot take": (fit(cost="power", exponent=3), UsageError, "needs the quadratic cost, not power 3"),
    "no steps": (fit(steps=0), UsageError, "steps 0: must be a whole number from 1"),
    "half a step": (fit(steps=1.5), UsageError, "steps: must be a whole number, not a float"),
    "no time": (fit(time_limit=0), UsageError, "time_limit 0: must be a positive number of seconds"),
    "a time in words": (fit(time_limit="1 h"), UsageError, "time_limit: must be a number, not a str"),
    "a negative seed": (fit(seed=-1), UsageError, "seed -1: must be a whole number from 0"),
    "a seed without end": (fit(seed=10**9), UsageError, "seed 1000000000: must be a whole number from 0"),
    "no seed": (fit(seed=None), UsageError, "seed None: must be a whole number from 0"),
    "half a seed": (fit(seed=0.5), UsageError, "seed: must be a whole number, not a float"),
    "a switch in words": (fit(standardise="off"), UsageError, "standardise: must be True, False or None, not a str"),
    "a line in words": (fit(progress="no"), UsageError, "progress: must be True, False or None, not a str"),
    "a share of 2": (fit(validation=2), UsageError, "validation 2: must be a share from 0 to 0.9"),
    "an unknown device": (fit(device="tpu"), UsageError, "device 'tpu': use cpu, cuda, cuda:N or auto"),
    "a card that is not there": (fit(device="cuda:99"), UsageError, "device cuda:99: "),
    "half precision": (fit(dtype="float16"), UsageError, "dtype 'float16': use float32 or float64"),
    "no type at all": (fit(dtype="many"), UsageError, "dtype 'many': use float32 or float64"),
    "labels of one side": (fit(x_label=LABEL), UsageError, "give classes of both sides"),
    "no label at all": (fit(x_label=LABEL * 0 - 1, y_label=LABEL * 0 - 1), UsageError, "are -1 for all points"),
    "labels by type": (fit(x_label=LABEL / 2, y_label=LABEL), UsageError, "or -1 for none; it holds float64"),
    "labels by range": (fit(x_label=LABEL - 5, y_label=LABEL), UsageError, "or -1 for none; it holds -5 to -4"),
    "too few labels": (
        fit(x_label=LABEL[:5], y_label=LABEL),
        UsageError,
        "x_label must hold one whole number for each",
    ),
    "labels with fractions": (fit(x_label=LABEL / 2, y_label=LABEL), UsageError, "x_label must hold one whole number"),
    "labels in words": (fit(x_label=LABEL, y_label=["a"] * 20), UsageError, "y_label must hold one whole number"),
    "labels below -1": (fit(x_label=LABEL - 5, y_label=LABEL), UsageError, "x_label must hold one whole number"),
    "labels without end": (fit(x_label=LABEL + 10**9, y_label=LABEL), UsageError, "x_label must hold one whole"),
    "a class that one side lacks": (
        fit(solver="classwise_linear", x_label=LABEL, y_label=LABEL * 0),
        UsageError,
        "classwise_linear cannot take this problem",
    ),
    "a plugin that is not there": (fit(plugins="gone.py"), PluginError, "gone.py: no such file"),
    "plugins that are a number": (fit(plugins=3), UsageError, "plugins: must be a list of paths"),
    "maps applied to other points": (
        lambda: otbench.fit(X, X, solver="linear").forward(np.ones((3, 5))),
        UsageError,
        "forward: points must have shape (n, 2), not (3, 5)",
    ),
    "maps applied to NaN": (
        lambda: otbench.fit(X, X, solver="linear").backward(HOLE),
        UsageError,
        "backward: points must be finite numbers",
    ),
}


def run(solvers: Any = "ls", task: Any = "gaussian", **options: Any) -> Callable[[], object]:
    return lambda: otbench.run(solvers, task, **options)


def by_class(**options: Any) -> Callable[[], object]:
    return lambda: otbench.score(
        otbench.fit(X, X, solver="classwise_linear", x_label=LABEL, y_label=LABEL), X, X, **options
    )


def score(x: Any = X, y: Any = X, **options: Any) -> Callable[[], object]:
    return lambda: otbench.score(otbench.fit(X, X, solver="linear"), x, y, **options)


REST: dict[str, tuple[Callable[[], object], type[OtbenchError], str]] = {
    "load a file that is not there": (lambda: otbench.load("none.otmap"), DataError, "none.otmap: no such file"),
    "load a number": (lambda: otbench.load(3), UsageError, "path: must be a path, not an int"),  # type: ignore[arg-type]
    "load nothing": (lambda: otbench.load(""), UsageError, "path: the path is empty"),
    "load a folder": (lambda: otbench.load("."), DataError, "is a folder"),
    "load a record that is not there": (lambda: otbench.load("a.json"), DataError, "a.json: no such file"),
    "load from a folder that is not there": (lambda: otbench.load("a", folder="b"), UsageError, "no such folder"),
    "load a script": (lambda: otbench.load(__file__), DataError, "not a map kept by this version of otbench"),
    "save where nothing can be": (
        lambda: otbench.fit(X, X, solver="linear").save("/dev/null/map.otmap"),
        StoreError,
        "cannot write '/dev/null/map.otmap'",
    ),
    "score a file": (lambda: otbench.score("a.otmap", X, X), UsageError, "what otbench.fit or otbench.load returns"),  # type: ignore[arg-type]
    "score one point": (score(X, X[:1]), UsageError, "y holds one point"),
    "score other points": (score(np.ones((5, 3)), np.ones((5, 3))), UsageError, "points must have shape (n, 2)"),
    "score points of two shapes": (score(X, np.ones((5, 3))), UsageError, "points of one shape"),
    "score beside other training points": (score(training=np.ones((5, 3))), UsageError, "points of one shape"),
    "score NaN": (score(HOLE), UsageError, "x must hold finite numbers"),
    "score too large points": (score(BIG), UsageError, "row 20 (counted from 0) holds 1e+300"),
    "score a sparse tensor": (score(X, CSR), UsageError, "y is sparse; call .to_dense()"),
    "score beside sparse training points": (score(training=sparse.csr_array(X)), UsageError, "training is sparse"),
    "score with a negative seed": (score(seed=-1), UsageError, "seed -1: must be a whole number from 0"),
    "score with no seed": (score(seed=None), UsageError, "seed None: must be a whole number from 0"),
    "score by class, the source unlabelled": (
        by_class(y_label=LABEL),
        UsageError,
        "give the class of each point, x_label and y_label",
    ),
    "score by class, the target unlabelled": (by_class(x_label=LABEL), UsageError, "x_label and y_label"),
    "run with a switch in words": (run(force="no"), UsageError, "force: must be True, False or None, not a str"),
    "run and keep in words": (run(keep_maps="no"), UsageError, "keep_maps: must be True, False or None, not a str"),
    "run with a line in words": (run(progress="no"), UsageError, "progress: must be True, False or None, not a str"),
    "run an unknown solver": (run("lss"), UsageError, "'lss'; did you mean 'ls'?"),
    "run an unknown task": (run(task="gausian"), UsageError, "'gausian'; did you mean 'gaussian'?"),
    "run nothing": (run(""), UsageError, "solvers ''"),
    "run no seed": (run(seeds=[]), UsageError, "seeds: the list is empty; name at least one"),
    "run a number": (run(3.5), UsageError, "solvers: must be text, a number or a list of them, not a float"),
    "run in half a dimension": (run(dims=[2.5]), UsageError, "dims: must be text, a number or a list of them"),
    "run in no dimension": (run(dims=[0]), UsageError, "task gaussian: dim='0'"),
    "run with a negative seed": (run(seeds=-1), UsageError, "seeds '-1'"),
    "run no job": (run(jobs=0), UsageError, "jobs 0: must be a whole number from 1"),
    "run without limit": (run(hard_limit=float("inf")), UsageError, "hard_limit inf: must be a positive number"),
    "run on an unknown device": (run(device="tpu"), UsageError, "device tpu: use cpu, cuda, cuda:N or auto"),
    "run with data from nowhere": (run(data_dir="nowhere"), UsageError, "data_dir nowhere: no such folder"),
    "run with records in a file": (run("identity", out=__file__, device="cpu"), StoreError, "cannot write"),
    "read what is not there": (lambda: otbench.read("nowhere"), UsageError, "folders nowhere: no such folder"),
    "read an empty folder": (lambda: otbench.read("."), UsageError, "no records in"),
    "read no folder": (lambda: otbench.read([]), UsageError, "folders: must be a path or a list of paths"),
    "read a number": (lambda: otbench.read(3), UsageError, "folders: must be a path"),  # type: ignore[arg-type]
    "an unknown solver's parameters": (lambda: otbench.solvers("nfc"), UsageError, "'nfc'; did you mean 'ncf'?"),
    "a solver's parameters as a task's": (lambda: otbench.tasks("ncf"), UsageError, "unknown task 'ncf'"),
}


@pytest.mark.parametrize("name", [*FIT, *REST])
def test_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, kind, sentence = (FIT | REST)[name]
    with pytest.raises(OtbenchError) as caught:
        call()
    said = str(caught.value)
    assert type(caught.value) is kind, said
    assert sentence in said
    assert said.isprintable()
    assert len(said) < 1000
    assert not said.startswith("--")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None or caught.value.__cause__ is not None
