"""The forms of a data file on disk, read to the same rows; and files that are none, named as what they are."""
import bz2
import gzip
import json
import lzma
import os
import pickle

import pytest

from gre.data.raw import DataError
from gre.data.records import DataConfig, read_cot, read_judge, read_reason, read_seed, read_taught
from tests.data.test_records import COT, JUDGE, SEED
from tests.helpers.photos import jpeg

BOTH = [SEED, {**SEED, "gt_lat": 1.5, "image": "images/b.jpg"}]


def pretty(rows) -> str:
    return "\n".join(json.dumps(row, indent=2) for row in rows) + "\n"


def broken_between(rows) -> str:
    """The second of three objects over several lines lacks its end."""
    return pretty(rows[:1]) + '{\n  "image": "images/a.jpg",\n  "gt_lat"\n' + pretty(rows[1:])


FORMS = {
    "an array": json.dumps(BOTH), "lines": "".join(json.dumps(row) + "\n" for row in BOTH),
    "lines of Windows": "".join(json.dumps(row) + "\r\n" for row in BOTH),
    "several lines": pretty(BOTH), "one object over several lines": None,
    "wrapped": json.dumps({"data": BOTH}), "wrapped with more": json.dumps({"version": 1, "rows": BOTH}, indent=1),
    "one after another": json.dumps(BOTH[0]) + json.dumps(BOTH[1]),
    "two files in one": json.dumps(BOTH[:1]) + "\n" + json.dumps(BOTH[1:]), "an array a line": "".join(
        json.dumps([row]) + "\n" for row in BOTH),
    "commas between": ",\n".join(json.dumps(row, indent=1) for row in BOTH),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "imgs").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "imgs" / name).touch()
    return tmp_path


def read(folder, content: str | bytes, reader=read_seed, **config):
    path = folder / "rows.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return reader(DataConfig(str(path), **config))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_all_forms_are_the_same_rows(folder, form, packed):
    rows = BOTH if FORMS[form] else BOTH[:1]
    content = (FORMS[form] or pretty(rows)).encode()
    found = read(folder, gzip.compress(content) if packed else content)
    assert [(row.id, row.image.name, row.truth.lat_deg) for row in found] == [
        (f"rows:{number}", row["image"].removeprefix("images/"), row["gt_lat"]) for number, row in enumerate(rows, 1)]


def test_parquet(folder):
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(BOTH), folder / "rows.parquet")
    found = read_seed(DataConfig(str(folder / "rows.parquet")))
    assert [(row.id, row.truth.lat_deg) for row in found] == [("rows:1", 48.85), ("rows:2", 1.5)]
    parquet.write_table(Table.from_pylist([COT]), folder / "cot.parquet")
    assert read_cot(DataConfig(str(folder / "cot.parquet")))[0].response == COT["conversations"][1]["value"]
    parquet.write_table(Table.from_pylist([{**SEED, "image": {"bytes": None, "path": "a.jpg"}}]), folder / "p.parquet")
    assert read_seed(DataConfig(str(folder / "p.parquet"), image_root=str(folder / "imgs")))[0].image.name == "a.jpg"
    (folder / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="the Parquet file is broken .*Get the file again"):
        read_seed(DataConfig(str(folder / "rows.parquet")))


def test_photos_that_stand_in_the_table_are_written_beside_it(tmp_path):
    """MP16-Reason as `datasets` writes it: the same bytes twice are one file, and reading again writes nothing."""
    from pyarrow import Table, parquet

    red, blue = jpeg(0), jpeg(1)
    row = {"response": "Red.", "__#solution": "<country>Peru</country><city>Lima</city>",
           "entities": [{"text": "sign"}]}
    parquet.write_table(Table.from_pylist([
        {**row, "images": [{"bytes": red, "path": "a.JPEG"}]}, {**row, "images": [{"bytes": blue, "path": None}]},
        {**row, "images": [{"bytes": red, "path": "b.jpeg"}]}]), tmp_path / "train.parquet")
    rows = read_reason(DataConfig(str(tmp_path / "train.parquet")))
    assert [one.image.read_bytes() for one in rows] == [red, blue, red] and rows[0].image == rows[2].image
    assert rows[0].image.suffix == ".jpeg" and rows[1].image.suffix == ".jpg" and rows[0].entities == ("sign",)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "imgs").rglob("*.jp*g")}
    assert len(written) == 2
    assert read_taught(DataConfig(str(tmp_path / "train.parquet")))[0].response.endswith("city: Lima</answer>")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "imgs").rglob("*.*")} == written
    parquet.write_table(Table.from_pylist([{**SEED, "image": red}]), tmp_path / "seed.parquet")
    assert read_seed(DataConfig(str(tmp_path / "seed.parquet")))[0].image == rows[0].image.with_suffix(".jpg")
    parquet.write_table(Table.from_pylist([{**SEED, "image": {"url": "x"}}]), tmp_path / "seed.parquet")
    with pytest.raises(DataError, match="row 1: field 'image': expected a path or a list of one path"):
        read_seed(DataConfig(str(tmp_path / "seed.parquet")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "imgs").write_text("")
    (tmp_path / "train.parquet").rename(tmp_path / "full" / "train.parquet")
    with pytest.raises(DataError, match="a photo of the table cannot be written there.*Copy the table into a folder"):
        read_reason(DataConfig(str(tmp_path / "full" / "train.parquet")))



def test_one_row_of_conversations_is_a_row(folder):
    """It holds one list of objects, as a wrapped array would."""
    assert [row.id for row in read(folder, json.dumps(COT), read_cot)] == ["rows:1"]


def test_a_broken_object_over_several_lines_is_one_bad_row(folder, capsys):
    with pytest.raises(DataError, match="rows.json, row 2: not JSON .*on_bad_row=drop"):
        read(folder, broken_between(BOTH))
    assert [row.id for row in read(folder, broken_between(BOTH), on_bad_row="drop")] == ["rows:1", "rows:3"]


@pytest.mark.parametrize("content, said", [
    (b"PK\x03\x04...", "rows.json is a zip archive: unpack it"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not the file: .*git lfs pull"),
    (b"<!DOCTYPE html>\n<html>", "is a web page, which a server sent instead of the file"),
    (gzip.compress(b"[]" * 99, mtime=0)[:-9], "cannot be unpacked .*Get the file again"),
    (json.dumps([SEED]).encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
    (json.dumps([{**SEED, "instructions": "Où?"}], ensure_ascii=False).encode("latin-1"), "not UTF-8 .*Save the file"),
    (b"\x28\xb5\x2f\xfd12", "is packed by zstd: unpack it"), (bz2.compress(b"[]"), "is packed by bzip2"),
    (lzma.compress(b"[]"), "is packed by xz"), (pickle.dumps(BOTH), "is a pickle, which runs code"),
    (b"a.json" + bytes(251) + b"ustar" + bytes(500), "is a tar archive: unpack it"),
    (b"image,gt_lat,gt_lon\na.jpg,1,2\n", "is neither JSON nor Parquet: it begins with 'image,gt_lat,gt_lon"),
    (b"- image: a.jpg\n  gt_lat: 1\n", "is neither JSON nor Parquet: it begins with '- image"),
    (json.dumps({"0": SEED, "1": SEED}).encode(), r"holds 2 rows or columns by name, in one object: .*to_json\(orient"),
    (json.dumps({"train": BOTH, "test": BOTH}).encode(), r"holds several arrays of rows \(train, test\): write each"),
    (json.dumps({name: [SEED[name]] * 2 for name in SEED}).encode(), r"holds a table by columns \(image, "),
    (b"[]", "no usable row among 0. Name a file with rows: data.path=FILE"),
])
def test_what_is_none_of_the_forms_is_named(folder, content, said):
    with pytest.raises(DataError, match=said):
        read(folder, content, on_bad_row="drop")


def test_a_path_of_windows_is_read(folder):
    assert read(folder, json.dumps([{**SEED, "image": "images\\a.jpg"}]))[0].image == folder / "imgs/a.jpg"


@pytest.mark.parametrize("reader, rows, said", [
    (read_cot, [JUDGE] * 3, r"is a GRE30K-Judge file \(3 of 3 rows\), and GRE30K-CoT rows are wanted .*data.path="),
    (read_cot, BOTH, "is a GRE30K-Seed file"),
    (read_judge, BOTH, "is a GRE30K-Seed file"), (read_judge, [COT] * 2, "is a GRE30K-CoT file"),
    (read_seed, [COT] * 2 + BOTH[:1], r"is a GRE30K-CoT file \(2 of 3 rows\)"),
    (read_seed, [{"sample_id": 1, "image_path": "a.jpg", "gt_cot": "x", "gt_lat": 1, "gt_lon": 2}], "GREval"),
])
def test_a_file_of_another_kind_is_named_as_what_it_is(folder, reader, rows, said):
    for on_bad_row in ("stop", "drop"):
        with pytest.raises(DataError, match=said):
            read(folder, json.dumps(rows), reader, on_bad_row=on_bad_row)


def test_one_row_of_another_kind_is_a_bad_row(folder):
    with pytest.raises(DataError, match="row 3: field 'instructions' is missing"):
        read(folder, json.dumps([*BOTH, COT]))


@pytest.fixture
def snapshot(tmp_path):
    """The cache that `hf download` fills: every file of a snapshot is a link to a blob."""
    cache = tmp_path / "hub" / "datasets--gre--seed"
    folder = cache / "snapshots" / "0a1b"
    (folder / "imgs").mkdir(parents=True)
    (cache / "blobs").mkdir()
    for name, content in (("seed.jsonl", json.dumps(SEED).encode()), ("imgs/a.jpg", b"a photo")):
        blob = cache / "blobs" / name.replace("/", "-")
        blob.write_bytes(content)
        (folder / name).symlink_to(os.path.relpath(blob, (folder / name).parent))
    return folder


def test_the_hubs_cache_is_read_as_it_is(snapshot):
    for image_root in ("", str(snapshot), str(snapshot / "imgs")):
        (row,) = read_seed(DataConfig(str(snapshot / "seed.jsonl"), image_root=image_root))
        assert row.image == snapshot / "imgs" / "a.jpg" and row.image.read_bytes() == b"a photo"


def test_other_links_out_of_a_snapshot_stay_refused(snapshot, tmp_path):
    (tmp_path / "secret.jpg").touch()
    (snapshot / "imgs" / "a.jpg").unlink()
    (snapshot / "imgs" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="is a link that leaves the data folder .*put the photo itself there .cp -L"):
        read_seed(DataConfig(str(snapshot / "seed.jsonl")))


def test_the_remedy_for_a_folder_that_is_a_link_helps(folder, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (folder / "imgs").rename(disk / "photos")
    (folder / "imgs").symlink_to(disk / "photos")
    with pytest.raises(DataError, match=f"name the folder .* really in: data.image_root={disk / 'photos'}"):
        read(folder, json.dumps([SEED]))
    (row,) = read(folder, json.dumps([SEED]), image_root=str(disk / "photos"))
    assert row.image == disk / "photos" / "a.jpg"


def test_the_remedy_for_an_absolute_path_helps(folder, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (disk / "a.jpg").touch()
    rows = json.dumps([{**SEED, "image": str(disk / "a.jpg")}])
    with pytest.raises(DataError, match=f"leaves the data folder .*; write the path .*, or .*image_root={disk}"):
        read(folder, rows)
    assert read(folder, rows, image_root=str(disk))[0].image == disk / "a.jpg"


def test_the_list_of_dropped_rows_takes_any_name(folder):
    read(folder, json.dumps([SEED, {**SEED, "image": "images/\ud800.jpg"}]), on_bad_row="drop",
         dropped_list=str(folder / "dropped.txt"))
    assert "row 2: field 'image': no file" in (folder / "dropped.txt").read_text()
