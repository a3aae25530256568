"""A commit of this checkout in a folder of its own, whose code does not change while it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from otbench._links import checkout_root
from otbench.errors import UsageError
from otbench.files import shown
from otbench.names import plain

GIT_SECONDS = 600


def commit_of(revision: str) -> str:
    """Return the full hash of the commit that `revision` names in this checkout.

    Raises:
        UsageError: this is no clone, or has no such commit.
    """
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", fails=True)
    if not found:
        raise UsageError(f"commit {plain(revision, 60)!r} is not in this clone; fetch it, or check its name")
    return found


def worktree(commit: str) -> Path:
    """Return a folder with the files of `commit`, made in the cache where it is not there yet.

    Args:
        commit: full hash.

    Raises:
        UsageError: git cannot make it, or its files were changed.
    """
    from otbench.data.remote import cache_folder

    folder = cache_folder() / "worktrees" / commit[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)  # --force: known, but gone
    if _git("rev-parse", "HEAD", at=folder, fails=True) != commit or _git("status", "--porcelain", at=folder):
        raise UsageError(
            f"{shown(folder)} is not commit {commit[:8]} as it was committed; remove it with:"
            f" git worktree remove --force {shown(folder)}"
        )
    return folder


def _git(*words: str, at: Path | None = None, fails: bool = False) -> str:
    """Return what git says; "" where it fails and `fails` allows that."""
    root = at or checkout_root()
    if root is None or not (root / ".git").exists():
        raise UsageError("a campaign runs a commit of a clone, and this is none; --here runs the code that is here")
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"git {words[0]}: {error}; --here runs the code that is here, without git") from None
    if done.returncode and not fails:
        raise UsageError(f"git {' '.join(words[:2])}: {plain(done.stderr)}")
    return "" if done.returncode else done.stdout.strip()
