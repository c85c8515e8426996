"""Published rows: their shape, and the rows one would look up first."""
import pytest

from eval.benchmarks import published, reader
from gre.config import UserError

ROWS = published.read()


def test_every_row_has_a_source_a_protocol_and_a_number():
    assert len(ROWS) >= 30
    for row in ROWS:
        assert row.benchmark in reader.known() and row.system and row.protocol and row.source
        assert row.paper.startswith(("arXiv ", "ECCV 2018")) and row.table
        assert any(share is not None for share in row.within_percent) or row.cot_score is not None


def test_no_row_stands_there_twice():
    keys = [(row.benchmark, row.system, row.reported_by, row.cot_score is None) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_rows_looked_up_by_hand():
    def row(benchmark, system, reported_by):
        found = [row for row in published.read(benchmark) if (row.system, row.reported_by) == (system, reported_by)]
        return found[0]

    assert row("Im2GPS3k", "GRE-7B", "GRE").within_percent == (11.3, 35.3, 51.7, 69.3, 85.7)
    assert row("Im2GPS3k", "GeoCLIP", "GRE").within_percent[0] == 10.8  # retrained by GRE
    assert row("Im2GPS3k", "GeoCLIP", "GeoCLIP").within_percent[0] == 14.1
    assert row("Im2GPS3k", "GLOBE-7B", "GeoBridge").within_percent == (None, 37.0, 52.0, 69.9, 84.0)
    assert "Azure Maps" in row("MP16-Reason-Test", "GLOBE-7B", "GLOBE").protocol
    assert row("OSV-5M", "GRE-7B", "GRE").mean_km == 1192
    assert row("YFCC4k", "PIGEOTTO", "survey").within_percent == (10.4, 23.7, 40.6, 62.2, 77.7)
    assert row("YFCC4k", "PIGEOTTO", "survey").paper == "arXiv 2307.05845"
    systems = {found.system for found in published.read("YFCC4k")}
    assert {"ISNs", "PIGEOTTO", "G3", "Img2Loc", "Geo-ADAPT-8B"} < systems
    assert row("Im2GPS3k", "GeoAgent-7B", "survey").within_percent == (None, 40.8, 58.6, 76.2, 89.9)
    assert row("Im2GPS3k", "ISNs (M, f*, S3)", "GeoEstimation").within_percent == (10.5, 28.0, 36.6, 49.7, 66.0)


def test_the_chain_score_and_the_unknown_set_are_marked_not_comparable():
    assert {row.cot_score for row in ROWS if row.cot_score is not None} == {59.5, 50.4}
    assert all(not row.comparable for row in ROWS if row.cot_score is not None or row.benchmark == "Google_StreetView")
    assert all(row.comparable for row in published.read("Im2GPS3k"))


@pytest.mark.parametrize("row, message", [
    ("{benchmark: Im2GPS3k, system: A, within_percent: [1, 2, 3], protocol: p, reported_by: s}", "one percentage"),
    ("{benchmark: Im2GPS3k, system: A, within_percent: [2, 1, 3, 4, 5], protocol: p, reported_by: s}", "none below"),
    ("{benchmark: Im2GPS3k, system: A, within_percent: [1, 2, 3, 4, 500], protocol: p, reported_by: s}", "one percent"),
    ("{benchmark: Im2GPS3k, system: A, protocol: p, reported_by: nobody}", "no published row.*nobody"),
    ("{benchmark: Im2GPS3k, system: A, protocol: unknown, reported_by: s}", "no published row.*unknown"),
    ("{benchmark: Im2GPS3k, system: A, protocol: p, reported_by: s, wihtin: 1}", "no published row.*wihtin")])
def test_a_malformed_row_is_refused(tmp_path, row, message):
    path = tmp_path / "published.yaml"
    path.write_text(f"protocols: {{p: in words}}\nsources: {{s: a paper}}\nrows:\n- {row[:-1]}, paper: q, table: t}}\n")
    with pytest.raises(UserError, match=message):
        published.read(path=path)
