"""Studies: one readable file a solver, whole or not at all, and never in another's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otbench.errors import StoreError
from otbench.records.record import Status
from otbench.records.study import (
    Pair,
    PairRun,
    Proposal,
    Protocol,
    Study,
    Trial,
    read_study,
    set_aside,
    study_path,
    write_study,
)


def study(code: str = "0123456789abcdef") -> Study:
    pair = Pair(task="convex", config={"family": "lse-mid", "dim": 8, "pair": 100}, seed=100)
    agreed = Protocol(preset="full", cpu_seconds=60, threads=1, pairs=[pair], score="UVP", sampler="random")
    runs = [PairRun(pair=pair.name, status=Status.OK, score=2.5, metrics={"uvp_fwd": 2.5}, steps=9, cpu_s=60.0)]
    trials = [Trial(number=n, values={"lr": 0.1, "width": None}, score=2.5 - n % 2, runs=runs) for n in range(4)]
    proposal = Proposal(trial=1, steps=90, seconds=600, preset={"steps": 90})
    return Study(solver="ls", protocol=agreed, code=code, space={"lr": [0.1, 1.0]}, trials=trials, proposal=proposal)


def test_a_study_comes_back_as_it_was_and_reads_as_json(tmp_path: Path) -> None:
    path = study_path(tmp_path, "ls")
    assert read_study(path) is None
    write_study(path, study())
    assert read_study(path) == study()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["protocol"]["pairs"][0]["seed"] == 100
    assert content["trials"][0]["runs"][0]["status"] == "ok"
    before = path.read_bytes()
    write_study(path, study())
    assert path.read_bytes() == before


def test_the_best_trial_is_the_earliest_of_equals() -> None:
    assert study().best == study().trials[1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"solver": "ls"}', b"\xff\xfe"])
def test_a_torn_or_foreign_file_is_named_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = study_path(tmp_path, "ls")
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"ls\.json.*move it away"):
        read_study(path)
    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    study_path(tmp_path, "ls").mkdir()
    with pytest.raises(StoreError, match=r"ls\.json.*not a regular file"):
        read_study(study_path(tmp_path, "ls"))


def test_a_study_that_is_set_aside_keeps_its_content_and_overwrites_nothing(tmp_path: Path) -> None:
    path = study_path(tmp_path, "ls")
    kept = []
    for _ in range(3):
        write_study(path, study())
        kept.append(set_aside(path, study()))
        assert not path.exists()
    assert len(set(kept)) == 3
    assert all(read_study(one) == study() for one in kept)
    assert all("01234567" in one.name for one in kept)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_study(tmp_path / "file" / "ls.json", study())
