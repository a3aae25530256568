from __future__ import annotations

import pandas as pd
import pytest

from otbench.nets.dense_icnn import DenseICNN
from otbench.records.record import Record
from otbench.report.rows import published_table, sections

from ..helpers.report_records import record, spec

IDENTITY = {2: 5.15, 4: 4.65, 8: 5.08, 16: 8.48, 32: 9.26, 64: 7.94}
"""UVP of the identity map on the released pairs, in %."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return published_table("gaussian")


def test_columns_and_completeness(table: pd.DataFrame) -> None:
    assert list(table.columns) == ["method", "solver", "dim", "metric", "value", "unit", "source", "note"]
    assert set(table["metric"]) == {"uvp_fwd"}
    assert set(table["unit"]) == {"%"}
    assert (table["source"] != "").all()
    assert not table.duplicated(["method", "dim", "source"]).any()
    for _, group in table.groupby(["method", "source"]):
        assert list(group["dim"]) == list(IDENTITY)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("NCF", [0.010, 0.021, 0.086, 0.146, 0.436, 0.858]),
        ("ImplicitOT", [0.013, 0.016, 0.046, 0.053, 0.054, 0.0822]),
    ],
)
def test_headline_rows(table: pd.DataFrame, method: str, values: list[float]) -> None:
    assert list(table[table["method"] == method]["value"]) == values


def test_every_number_worse_than_identity_says_so(table: pd.DataFrame) -> None:
    for _, row in table.iterrows():
        worse = row["value"] > IDENTITY[row["dim"]]
        assert worse == ("worse than the identity map" in row["note"])
        assert (row["value"] > 100) == ("and the constant map" in row["note"])


def test_footnotes(table: pd.DataFrame) -> None:
    assert table[table["method"] == "NOT"]["note"].str.contains("flagged").all()
    assert table[table["method"] == "ImplicitOT"]["note"].str.contains("clamps the network").all()
    disputed = table[(table["method"] == "MM:R") & (table["dim"] == 8)]
    assert sorted(disputed["value"]) == [0.012, 0.117]
    assert disputed["note"].str.contains("disagree").all()
    assert not table["method"].str.contains("identity|constant|floor").any()  # those are ours, not published


def test_parameter_counts_of_the_uci_sets() -> None:
    counts = published_table("uci")
    assert list(counts.columns) == ["method", "solver", "set", "metric", "value", "unit", "source", "note"]
    assert set(counts["metric"]) == {"parameters"}
    assert (counts["source"] != "").all()
    for _, group in counts.groupby("method"):
        assert list(group["set"]) == ["power", "gas", "hepmass", "miniboone", "bsds300"]
        assert group["value"].min() > 1000
    assert list(counts[counts["method"] == "NCF"]["value"]) == [8250, 8900, 13060, 29840, 156000]


def test_the_count_that_does_not_follow_from_the_published_widths_says_so() -> None:
    counts = published_table("uci")
    for _, row in counts[counts["method"].isin(["NCF", "ImplicitOT"])].iterrows():
        dim = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}[row["set"]]
        widths = (max(2 * dim, 64), max(2 * dim, 64), max(dim, 32))
        expected = sum([parameter.numel() for parameter in DenseICNN(dim, widths=widths).parameters()])
        follows = abs(expected - row["value"]) < 10  # the paper prints two decimals of thousands
        assert follows == ("does not follow from the widths" not in row["note"])
        if not follows:
            assert f"{expected:,}".replace(",", " ") in row["note"]


def test_image_rows_are_of_known_metrics_and_name_their_space() -> None:
    table = published_table("mnist")
    assert set(table["metric"]) == {"accuracy", "accuracy_bwd", "fd_pixel", "fid_inception"}
    assert set(table["pair"]) == {"fmnist-mnist", "transfer", "shift"}
    for space, words in (("pixel", "codes"), ("latent", "pixel space")):
        assert not table[table["space"] == space]["note"].str.contains(words).any()
    assert set(table["space"]) == {"pixel", "latent"}
    assert (table["source"] != "").all()
    assert (table["note"] != "").all()
    assert not table.duplicated(["method", "pair", "metric", "source"]).any()
    headline = table[(table["pair"] == "fmnist-mnist") & (table["metric"] == "accuracy")].set_index("method")["value"]
    assert headline[["NCF", "ImplicitOT"]].tolist() == [83.42, 96.0]
    assert headline[["AugCycleGAN", "MUNIT", "OTDD"]].tolist() == [12.03, 8.93, 10.28]


def test_image_rows_on_which_the_papers_disagree_say_so() -> None:
    table = published_table("mnist")
    table = table[table["pair"] == "fmnist-mnist"]
    gnot = table[table["method"] == "GNOT with noise"]
    notebook = gnot["source"].str.contains("notebook")
    gnot, own = gnot[~notebook], gnot[notebook]
    assert sorted(gnot[gnot["metric"] == "accuracy"]["value"]) == [83.22, 83.72]
    assert gnot["note"].str.contains("disagree").all()
    assert set(gnot[gnot["metric"] == "fd_pixel"]["value"]) == {5.26}
    assert own["value"].tolist() == [83.82, 5.636]


def test_every_published_translator_and_flow_has_its_solver() -> None:
    table = published_table("mnist")
    solvers = table.set_index("method")["solver"]
    for method, solver in (("AugCycleGAN", "augcyclegan"), ("MUNIT", "munit"), ("OTDD", "otddflow")):
        assert set(solvers[[method]]) == {solver}


def test_every_image_row_is_one_row_of_its_method_and_source() -> None:
    """Rows are grouped by method and source; notes of a group are joined, so equal ones are said once."""
    for _, group in published_table("mnist").groupby(["method", "pair", "source"]):
        assert not group["metric"].duplicated().any()
        assert group["note"].nunique() == 1
        assert group["solver"].nunique() == 1


def test_rows_of_the_wasserstein_benchmark_say_how_the_iterate_was_chosen() -> None:
    table = published_table("w2bench")
    assert list(table.columns) == ["method", "solver", "dim", "metric", "value", "unit", "source", "note"]
    assert set(table["metric"]) == {"uvp_fwd", "cosine_fwd"}
    assert (table["source"] != "").all()
    assert (table["note"] != "").all()
    assert not table.duplicated(["method", "dim", "metric", "source"]).any()
    uvp = table[table["metric"] == "uvp_fwd"]
    assert not uvp["method"].str.contains("identity|constant|linear").any()  # those are ours, not published
    poster = uvp[uvp["source"].str.endswith("poster")]
    chosen = poster["note"].str.contains("checkpoint with the lowest UVP")
    assert set(poster[~chosen]["method"]) == {"MM-B", "LS", "WGAN-QC"}
    assert poster[~chosen]["note"].str.contains("last iterate").all()
    others = uvp[~uvp["source"].str.endswith("poster")]
    assert (others["note"].str.contains("second-hand") | (others["method"] == "OTP")).all()
    unstable = {(row["method"], row["dim"]) for _, row in uvp.iterrows() if "unstable" in row["note"]}
    assert unstable == {("MM", 128), ("MM", 256), ("MMv2", 64), ("MMv2", 128), ("MMv2", 256)}


def test_rows_of_the_wasserstein_benchmark_have_the_values_of_their_sources() -> None:
    table = published_table("w2bench")
    values = {method: list(group["value"]) for method, group in table.groupby("method")}
    assert values["MMv1"] == [0.2, 1.0, 1.8, 1.4, 6.9, 8.1, 2.2, 2.6]
    assert values["MM:R"] == [0.1, 0.3, 0.7, 1.9, 2.8, 4.5]  # it diverged at 128 and 256
    assert values["ENOT"] == [0.02, 0.03, 0.14, 0.24, 0.67, 0.56, 0.30, 0.51]
    poster = table[table["source"].str.endswith("poster")]
    assert list(poster.groupby("dim")["value"].min()) == [0.1, 0.3, 0.7, 1.4, 2.8, 3.2, 2.0, 2.6]


@pytest.mark.parametrize(("space", "shown"), [("latent", {"ImplicitOT", "NCF"}), ("pixel", {"NOT", "MUNIT"})])
def test_rows_of_images_stand_beside_their_own_space_alone(space: str, shown: set[str]) -> None:
    accuracy = {"name": "accuracy", "label": "accuracy", "unit": "%", "higher_is_better": True, "primary": True}
    one = record("ncf", 0, 0, 50.0, metrics={"accuracy": 50.0}, metric_info=[accuracy])
    one["spec"] = spec("ncf", 0, 0, task="mnist", task_config={"pair": "fmnist-mnist", "space": space})
    one["published"] = {"table": "mnist", "where": {"pair": "fmnist-mnist"}}
    (section,) = sections([Record.model_validate(one)])
    published = {row.label for row in section.rows if row.kind == "published"}
    assert shown <= published
    assert ("NCF" in published) != ("NOT" in published)
