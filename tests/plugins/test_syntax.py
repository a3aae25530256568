"""The digest of a module's code: what it sees, what it leaves alone, and that all versions of Python agree on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otbench.plugins.syntax import code_digest, imported

SAMPLE = Path(__file__).parents[1] / "helpers" / "every_construct.txt"
GOLDEN = "32dd39811f24d165"
OTHERS = [version for version in ("python3.12", "python3.13", "python3.14") if not sys.executable.endswith(version)]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from otbench.plugins.syntax import code_digest
print(*(code_digest(open(path, "rb").read()) for path in sys.argv[2:]))
"""


def interpreter(name: str) -> str | None:
    """Return a Python of this version: on the path, or among those that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{name[6:]}.*/bin/{name}")
    for program in (shutil.which(name), *map(str, kept)):
        # pyenv puts a stand-in on the path that fails unless the version was chosen
        if program is not None and not subprocess.run([program, "-V"], capture_output=True, check=False).returncode:
            return program
    return None


def of(text: str) -> str:
    return code_digest(text.encode())


def test_the_digest_of_all_of_the_language_is_what_it_always_was() -> None:
    assert code_digest(SAMPLE.read_bytes()) == GOLDEN


@pytest.mark.parametrize("python", OTHERS)
def test_another_python_finds_the_same_digests(root: Path, python: str) -> None:
    program = interpreter(python)
    if program is None:
        pytest.skip(f"no {python} on this machine")
    folders = ("otbench", "solvers", "baselines", "datasets")
    files = [SAMPLE, *sorted(path for folder in folders for path in (root / folder).rglob("*.py"))]
    done = subprocess.run([program, "-c", PROGRAM, root, *files], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [code_digest(path.read_bytes()) for path in files]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x  =  (1)  # a comment"),
        ("f(a, b)", "f(\n    a,\n    b,\n)\n\n\n"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = u'a'", "x = 'a'"),
        ("x = 255; y = 0.001", "x = 0xFF; y = 1e-3"),
        ("x = f'a{y}' 'b'", "x = f'a{y}b'"),
        ("x = 1", '"""About x."""\nx = 1\n"""What it is."""'),
        ("def f():\n    return 1", 'def f():\n    """Say one."""\n    return 1'),
        ("def f():\n    '''One.'''", "def f():\n    '''Two.'''"),
        ("import a", "import a\nif TYPE_CHECKING:\n    import b"),
        ("import a", "import a\nif typing.TYPE_CHECKING:\n    import b"),
        ("__version__ = '1'", "__version__ = '2'"),
    ],
)
def test_layout_comments_and_docstrings_do_not_count(one: str, other: str) -> None:
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 0.0", "x = -0.0"),
        ("x = 'a'", "x = b'a'"),
        ("x = None", "x = 'None'"),
        ("x = ...", "x = Ellipsis"),
        ("x = ()", "x = []"),
        ("x = (1,)", "x = 1"),
        ("x: int = 1", "x: float = 1"),
        ("x = f'a{y}'", "x = 'a' + f'{y}'"),
        ("x = f'{y}'", "x = f'{y!r}'"),
        ("x = f'{y:}'", "x = f'{y:a}'"),
        ("x = {**a, 'b': 1}", "x = {'b': 1, **a}"),
        ("def f(*, a, b=1): ...", "def f(*, a=1, b): ..."),
        ("def f(a, /): ...", "def f(a): ..."),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("match x:\n    case None: a", "match x:\n    case True: a"),
        ("def f():\n    '''One.'''", "def f():\n    pass"),
        ("if not TYPE_CHECKING:\n    import a", "pass"),
        ("if TYPE_CHECKING:\n    a\nelse:\n    b", "pass"),
    ],
)
def test_what_the_code_does_counts(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_a_file_that_is_no_python_counts_as_it_is() -> None:
    assert of("x = (") == of("x = (") != of("x = ( ")
    assert imported(b"x = (", "a", package=False) == frozenset()


def test_imports_are_found_wherever_they_stand() -> None:
    source = b"""
import a.b as c, d
from e.f import g as h
from . import sibling
from .near import thing
from ..up import other
from ....beyond import never
if TYPE_CHECKING:
    import types_only
else:
    import otherwise
def f():
    import lazily
"""
    shared = {"a.b", "d", "e.f", "e.f.g", "otherwise", "lazily"}
    assert imported(source, "p.q.m", package=False) == shared | {
        *("p.q", "p.q.sibling", "p.q.near", "p.q.near.thing", "p.up", "p.up.other")
    }
    assert "p.q.m.sibling" in imported(source, "p.q.m", package=True)
