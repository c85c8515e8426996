"""Seeds by the command: every form of table and place is read, every row is accounted for, nothing depends on luck."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from data_prep.seeds import check, duplicates
from data_prep.seeds.__main__ import Config, run
from data_prep.seeds.sample import quotas
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError, load, main
from gre.data.records import DataConfig, read_seed
from gre.geo.point import LatLon
from tests.helpers import gps
from tests.helpers.paths import ROOT
from tests.helpers.photos import folder, jpeg, photo, split, table, tar, zipped

HERE = [(48.8584, 2.2945), (40.6892, -74.0445), (-33.8568, 151.2153), (35.6586, 139.7454), (51.5007, -0.1246),
        (-22.9519, -43.2105), (30.0444, 31.2357), (19.0760, 72.8777)]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seeds(**keys) -> list[tuple[str, LatLon]]:
    """(what the sidecar calls it, where) of what a run writes, read as stages read it."""
    keys.setdefault("out", "out")
    keys.setdefault("min_side", 100)
    run(Config(**keys))
    sidecar = lines("sidecar", keys["out"])
    if keys.get("pictures") == "unopened":
        rows = lines("seeds", keys["out"])
        return [(side["id"], LatLon(row["gt_lat"], row["gt_lon"])) for side, row in zip(sidecar, rows)]
    root = keys["images"][0] if keys.get("pictures") == "in_place" else ""
    rows = read_seed(DataConfig(path=f"{keys['out']}/seeds.jsonl", image_root=root))
    return [(side["id"], row.truth) for side, row in zip(sidecar, rows, strict=True)]


def lines(name: str, out: str = "out") -> list[dict]:
    return [json.loads(line) for line in Path(out, f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def faults(out: str = "out") -> dict[str, str]:
    return {line["id"]: line["fault"] for line in lines("dropped", out)}


@pytest.mark.slow
def test_plain_table_and_folder(here):
    folder(here / "imgs", {"a.jpg": jpeg(0), "sub/b.png": gps.saved(photo(1), "PNG")})
    table(here / "t.csv", ["image", "lat", "lon"], [["imgs/a.jpg", *HERE[0]], ["images/sub/b.png", *HERE[1]]])
    assert seeds(table="t.csv") == [("imgs/a.jpg", HERE[0]), ("images/sub/b.png", HERE[1])]
    for line in lines("seeds"):
        assert line["image"].startswith("images/") and line["instructions"].startswith("<image>\nWhere was this")
    assert not Path("out/work").exists() and "2 rows read, 2 taken" in Path("out/card.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
def test_mp16_pro_from_tars(here, parts):
    photos = {f"{n:02x}/a0/396321689{n}.jpg": jpeg(n) for n in range(4)}
    (here / "mp16").mkdir()
    whole = tar(here / "mp16" / "mp16.tar", photos)
    if parts > 1:
        split(whole, parts)
    header = ["IMG_ID", "LAT", "LON", "neighbourhood", "city", "county", "state", "region", "country", "continent"]
    table(here / "t.csv", header, [[name.replace("/", "_"), *HERE[n], "", "Paris", *[""] * 5] for n, name in enumerate(
        photos)] + [["00_a0_1234567890.jpg", 1, 2, *[""] * 7]])
    assert [place for _, place in seeds(table="t.csv", images=["mp16"])] == HERE[:4]
    assert faults() == {"00_a0_1234567890.jpg": "absent"}


@pytest.mark.parametrize("packed", [False, True])
def test_osv5m_from_zips(here, packed):
    (here / "train").mkdir()
    for number in range(2):
        zipped(here / "train" / f"0{number}.zip", {f"0{number}/{10**15 + n}.jpg": jpeg(n)
                                                   for n in range(number, 6, 2)}, packed)
    table(here / "train.csv", ["id", "latitude", "longitude", "country", "creator_username", "thumb_original_url"],
          [[10**15 + n, *HERE[n], "XX", f"user{n}", f"https://host/{n}"] for n in range(6)])
    assert [place for _, place in seeds(table="train.csv", images=["train"], licence="CC BY-SA 4.0")] == HERE[:6]
    side = lines("sidecar")[3]
    assert (side["author"], side["url"], side["licence"]) == ("user3", "https://host/3", "CC BY-SA 4.0")


@pytest.mark.slow
def test_geoclip_yfcc_parquet_and_gre30k_seed(here):
    folder(here / "imgs", {f"{9_000_000 + n}.jpg": jpeg(n) for n in range(8)})
    names = [f"{9_000_000 + n}" for n in range(8)]
    table(here / "geoclip.csv", ["IMG_FILE", "LAT", "LON"], [[f"{names[0]}.jpg", *HERE[0]]])
    Path("yfcc.tsv").write_text("".join("\t".join([
        name, "hash", "1@N02", *"nick 2008 2009 camera title text t m".split(), str(lon), str(lat), "16", "page",
        "file", "CC BY 2.0", "x"]) + "\n" for name, (lat, lon) in zip(names, HERE)))
    parquet.write_table(pyarrow.table({"image": [{"bytes": jpeg(n), "path": f"{n}.jpg"} for n in range(8)],
                                       "latitude": [lat for lat, _ in HERE], "longitude": [lon for _, lon in HERE]}),
                        "inside.parquet", row_group_size=3)
    Path("seed.jsonl").write_text("not json\n" + "".join(json.dumps({
        "image": f"images/{name}.jpg", "instructions": "<image>\nWhere?", "gt_lat": lat, "gt_lon": lon}) + "\n"
        for name, (lat, lon) in zip(names, HERE)))
    assert [place for _, place in seeds(table="geoclip.csv", images=["imgs"], out="a")] == HERE[:1]
    assert [place for _, place in seeds(table="yfcc.tsv", images=["imgs"], out="b", shard_rows=3)] == HERE
    assert {(line["licence"], line["url"], line["author"]) for line in lines("sidecar", "b")} == {
        ("CC BY 2.0", "page", "1@N02")}
    assert [place for _, place in seeds(table="inside.parquet", out="c", shard_rows=5)] == HERE
    assert [place for _, place in seeds(table="seed.jsonl", out="d", shard_rows=5)] == HERE
    assert [(line["where"], line["fault"]) for line in lines("dropped", "d")] == [("row 1", "broken row")]


def test_photos_of_one_s_own(here):
    exif = {n: gps.exif(gps.at(*place)) for n, place in enumerate(HERE)}
    folder(here / "own", {
        "a.jpg": gps.saved(photo(0), "JPEG", exif[0]), "sub/b.heic": gps.saved(photo(1), "HEIF", exif[1]),
        "c.webp": gps.saved(photo(2), "WEBP", exif[2]), "none.jpg": jpeg(3), "notes.txt": b"x",
        "void.jpg": gps.saved(photo(4), "JPEG", gps.exif(gps.dms([(0, 1)], [(0, 1)]))),
        "clip.jpg": b"\0\0\0\x14ftypisom"})
    assert seeds(photos="own") == [("a.jpg", pytest.approx(HERE[0])), ("c.webp", pytest.approx(HERE[2])),
                                   ("sub/b.heic", pytest.approx(HERE[1]))]
    assert faults() == {"none.jpg": "no EXIF data", "void.jpg": "receiver had no fix", "clip.jpg": "unreadable"}
    for path in Path("out/imgs").rglob("*.jpg"):
        with Image.open(path) as image:
            assert not image.getexif() and set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert "it is a video" in lines("dropped")[0]["why"]


def test_swapped_columns_are_named_and_exchanged_on_request(here):
    places = [(lat + shift, lon) for shift in (0.0, 0.1) for lat, lon in HERE]
    folder(here, {f"{n}.jpg": jpeg(n) for n in range(16)})
    table(here / "t.csv", ["image", "lat", "lon"], [[f"{n}.jpg", lon, lat] for n, (lat, lon) in enumerate(places)])
    with pytest.raises(UserError, match="t.csv: latitude and longitude stand under each other's .*swapped=exchange"):
        seeds(table="t.csv")
    assert [place for _, place in seeds(table="t.csv", swapped="exchange", out="b")] == places
    table(here / "u.csv", ["image", "lat", "lon"], [[f"{n}.jpg", *place] for n, place in enumerate(places)])
    with pytest.raises(UserError, match="are not swapped"):
        seeds(table="u.csv", swapped="exchange", out="c")


@pytest.mark.parametrize("at_once", [250_000, 3])
def test_duplicates_over_shards(here, monkeypatch, at_once):
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)  # of 3: several files of keys, and several blocks of hashes
    folder(here, {**{f"{n}.jpg": jpeg(n) for n in range(8)}, "again.jpg": jpeg(0), "elsewhere.jpg": jpeg(1),
                  "small.jpg": jpeg(2, 40, 0.6)})
    rows = [[f"{n}.jpg", *place] for n, place in enumerate(HERE)]
    table(here / "t.csv", ["image", "lat", "lon"], [*rows, ["again.jpg", *HERE[0]], ["elsewhere.jpg", *HERE[5]],
                                                    ["small.jpg", *HERE[2]]])
    assert [id for id, _ in seeds(table="t.csv", shard_rows=2)] == [f"{n}.jpg" for n in (0, 2, 3, 4, 5, 6, 7)]
    assert faults() == {"again.jpg": "duplicate", "1.jpg": "contradiction", "elsewhere.jpg": "contradiction",
                        "small.jpg": "near duplicate"}
    assert "their places are 7,761 km" in lines("dropped")[0]["why"] and lines("dropped")[1]["why"] == "of row 1"


def bench(here: Path) -> BenchmarkConfig:
    """Im2GPS3k's form: two rows, with photos."""
    ids = ["97344248_30a4521091_32_77325609@N00.jpg", "12345678_0123456789_1_55@N01.jpg"]
    folder(here / "bench" / "img", {ids[0]: jpeg(100), ids[1]: jpeg(101)})
    table(here / "bench" / "t.csv", ["IMG_ID", "AUTHOR", "LAT", "LON"], [
        [ids[0], "77325609@N00", *HERE[0]], [ids[1], "55@N01", *HERE[1]]])
    return BenchmarkConfig(name="Im2GPS3k", labels=str(here / "bench" / "t.csv"), images=str(here / "bench" / "img"),
                           rows=2)


def test_what_a_benchmark_shares_is_counted_and_left_out_on_request(here):
    folder(here / "imgs", {"4f_a0_97344248.jpg": jpeg(0), "copy.jpg": jpeg(101, 50, 0.7), "IMG_0001.jpg": jpeg(2),
                           "3.jpg": jpeg(3), "9_0123456789_1_55@N01.jpg": jpeg(4)})
    table(here / "t.csv", ["image", "lat", "lon"], [
        ["4f_a0_97344248.jpg", 10, 20], ["copy.jpg", *HERE[1]], ["IMG_0001.jpg", 48.85, 2.29], ["3.jpg", 5, 6],
        ["9_0123456789_1_55@N01.jpg", 7, 8]])
    keys = {"table": "t.csv", "images": ["imgs"], "against": [bench(here)], "leak_km": 2.0}
    assert len(seeds(**keys, out="all")) == 5
    assert [line["leaks"] for line in lines("sidecar", "all")] == [
        ["id Im2GPS3k 97344248_30a4521091_32_77325609@N00.jpg"],
        ["picture Im2GPS3k 12345678_0123456789_1_55@N01.jpg", "place Im2GPS3k 12345678_0123456789_1_55@N01.jpg"],
        ["place Im2GPS3k 97344248_30a4521091_32_77325609@N00.jpg"], [],
        ["author Im2GPS3k 12345678_0123456789_1_55@N01.jpg"]]
    assert [id for id, _ in seeds(**keys, drop=["id", "picture"], out="some")] == [
        "IMG_0001.jpg", "3.jpg", "9_0123456789_1_55@N01.jpg"]
    assert set(faults("some").values()) == {"leak"}
    assert "picture of Im2GPS3k      1      0" in Path("some/card.txt").read_text()


@pytest.mark.slow
def test_a_sample_is_spread_over_countries(here):
    rows = [["a", 48.85, 2.35]] * 6 + [["b", 35.68, 139.69]] * 3 + [["c", -33.86, 151.2]]  # France, Japan, Australia
    table(here / "t.csv", ["id", "lat", "lon"], [[f"{id}{n}", lat, lon] for n, (id, lat, lon) in enumerate(rows)])
    found = seeds(table="t.csv", pictures="unopened", rows=6, shard_rows=3)
    assert [id[0] for id, _ in found] == list("aaabbc")
    assert seeds(table="t.csv", pictures="unopened", rows=6, shard_rows=7, out="b") == found  # whatever the shards
    assert seeds(table="t.csv", pictures="unopened", rows=6, seed=1, out="c") != found
    assert len(seeds(table="t.csv", pictures="unopened", rows=6, balance="none", out="d")) == 6


@pytest.mark.parametrize("sizes, rows, expected", [
    ({"a": 6, "b": 3, "c": 1}, 6, {"a": 3, "b": 2, "c": 1}), ({"a": 6, "b": 3, "c": 1}, 7, {"a": 3, "b": 3, "c": 1}),
    ({"a": 6, "b": 3, "c": 1}, 99, {"a": 6, "b": 3, "c": 1}), ({"a": 6, "b": 6}, 1, {"a": 1, "b": 0}), ({}, 5, {})])
def test_quotas_by_hand(sizes, rows, expected):
    assert quotas(sizes, rows) == expected


@pytest.mark.slow
def test_in_place_rows_name_the_photos_where_they_are(here):
    folder(here / "imgs", {"sub/a.jpg": jpeg(0)})
    table(here / "t.csv", ["image", "lat", "lon"], [["sub/a.jpg", *HERE[0]]])
    assert seeds(table="t.csv", images=["imgs"], pictures="in_place") == [("sub/a.jpg", HERE[0])]
    assert not Path("out/imgs").exists() and json.loads(Path("out/card.json").read_text())["image_root"] == "imgs"


def test_other_settings_do_not_mix_with_what_is_there(here):
    folder(here, {"a.jpg": jpeg(0)})
    table(here / "t.csv", ["image", "lat", "lon"], [["a.jpg", *HERE[0]]])
    seeds(table="t.csv")
    seeds(table="t.csv")  # finished: nothing is done again
    with pytest.raises(UserError, match="made otherwise .another seed.*out="):
        seeds(table="t.csv", seed=1)


@pytest.mark.parametrize("argument, said", [
    ("drop=[photo]", "drop names 'photo'"), ("balance=even", "balance is 'even'"), ("photos=x", "either photos="),
    ("table=gone.csv", "table=gone.csv: not there"), ("images=[gone]", "images=gone: not there"),
    ("images=[a.tar.gz]", "a packed tar cannot be read in place"), ("images=[parts]", "parts of x.tar are missing"),
    ("images=[cut]", "the tar ends within")])
def test_what_is_refused(here, argument, said, capsys):
    folder(here, {"a.jpg": jpeg(0), "a.tar.gz": b"x", "parts/x.tar.aa": b"", "parts/x.tar.ac": b"", "cut/none": b""})
    split(tar(here / "cut" / "x.tar", {"a.jpg": jpeg(0)}), 3)[2].unlink()
    table(here / "t.csv", ["image", "lat", "lon"], [["a.jpg", *HERE[0]]])
    with pytest.raises(SystemExit) as ended:
        main(run, Config, argv=["table=t.csv", "out=out", argument])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def collection(here: Path, count: int) -> list[str]:
    """Arguments of a run over `count` photos with some of every fault."""
    photos = {f"{n}.jpg": jpeg(n % 40 if n % 9 == 8 else n) for n in range(count)}
    folder(here / "imgs", photos | {"3.jpg": b"\xff\xd8"})
    table(here / "t.csv", ["image", "lat", "lon"], [[f"{n}.jpg", *(
        (95, 1) if n % 11 == 10 else HERE[n % 8])] for n in range(count + 3)])
    return ["table=t.csv", "images=[imgs]", "min_side=100", "shard_rows=7", "rows=40", "threads=2"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}


def started(module: str, arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", f"data_prep.{module}", *arguments], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
@pytest.mark.parametrize("module", ["seeds", "contamination", "inspect"])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(here, module):
    arguments = collection(here, 80)
    if module != "seeds":
        run(load(Config, [*arguments, "out=made"]))
        bench(here)
        arguments = ["made/seeds.jsonl", *(["against=[{name: csv, labels: bench/t.csv, images: bench/img}]"]
                                           if module == "contamination" else [])]
    began = time.monotonic()
    assert started(module, [*arguments, "out=a/out"]).wait() == 0
    whole_s, rng, killed = time.monotonic() - began, random.Random(0), 0
    while killed < 3:
        process = started(module, [*arguments, "out=b/out"])
        time.sleep(rng.uniform(0.3, 0.95) * whole_s)
        if process.poll() is None:
            killed += 1
        else:  # it was quicker than before: once more from the start, and killed earlier
            shutil.rmtree(here / "b")
            whole_s, killed = 0.7 * whole_s, 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(module, [*arguments, "out=b/out"]).wait() == 0
    assert contents(here / "a/out") == contents(here / "b/out")


@pytest.mark.slow
def test_several_processes_write_what_one_writes(here):
    arguments = collection(here, 40)
    assert started("seeds", [*arguments, "out=a/out"]).wait() == 0
    for _ in range(2):
        both = [started("seeds", [*arguments, "out=b/out", f"shard={shard}/2"]) for shard in range(2)]
        assert [process.wait() for process in both] == [0, 0], [process.stderr.read() for process in both]
    assert started("seeds", [*arguments, "out=b/out"]).wait() == 0
    assert contents(here / "a/out") == contents(here / "b/out")


def test_formats_and_data_md_say_what_a_seeds_folder_holds(here):
    folder(here / "imgs", {"a.jpg": jpeg(0)})
    table(here / "t.csv", ["image", "lat", "lon"], [["a.jpg", *HERE[0]], ["gone.jpg", *HERE[1]]])
    seeds(table="t.csv", images=["imgs"])
    formats, data = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("formats.md", "data.md"))
    part = formats.split("## A seeds folder")[1].split("\n## ")[0]
    example = json.loads(part.split("```json\n")[1].split("```")[0])
    assert example.keys() == lines("sidecar")[0].keys() and all(f"`{name}`" in part for name in example)
    assert all(f"`{name}`" in part for name in lines("dropped")[0])
    for path in Path("out").iterdir():
        assert path.name in part.split("```")[1]
    assert all(f"`{fault}`" in data for fault in check.FAULTS)
