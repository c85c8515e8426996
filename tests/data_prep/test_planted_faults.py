"""Planted faults: every one is found and called by its name, and nothing is said of the rows beside them.

The tables below are what is planted. The rest of the collection is 77 good rows that look suspicious and are not.
"""
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from data_prep.seeds.__main__ import Config, run
from eval.benchmarks.reader import BenchmarkConfig
from gre.data import exif
from tests.helpers import gps
from tests.helpers.damaged import DAMAGED
from tests.helpers.gps import SIGNED, dms, rationals, text
from tests.helpers.photos import folder, jpeg, photo, table

PARIS = [(48, 1), (51, 1), (3024, 100)], [(2, 1), (17, 1), (402, 10)]
PLANTED = {  # what is planted: how often, what it must be called
    "latitude and longitude of a row exchanged": (15, "out of range"),
    "a latitude beyond 90 degrees": (10, "out of range"),
    "a longitude beyond 180 degrees": (5, "out of range"),
    "0, 0": (8, "0, 0"),
    "no number where a coordinate should be": (16, "no coordinates"),
    "another encoding in one row": (8, "broken row"),
    "a field too few or too many": (8, "broken row"),
    "a quote in the wrong place": (4, "broken row"),
    "no name of a photo": (2, "broken row"),
    "a photo that is not there": (12, "absent"),
    "a name that leads out of the folder": (8, "outside"),
    "a link that leads out of the folder": (3, "outside"),
    "a name that two photos have": (3, "ambiguous"),
    "a truncated photo": (9, "unreadable"),
    "something else called .jpg": (12, "unreadable"),
    "a thumbnail": (6, "tiny"),
    "a strip": (2, "tiny"),
    "a blank photo": (4, "blank"),
    "the same file again": (10, "duplicate"),
    "one photo with two places": (10, "contradiction"),
    "a resized copy": (7, "near duplicate"),
    "a recompressed copy": (7, "near duplicate"),
    "a resized and recompressed copy": (7, "near duplicate"),
    "a resized and recompressed copy of a benchmark's photo": (15, "leak"),
    "a photo by a benchmark's id": (6, "leak")}
POSITIONS = {  # what is planted in EXIF data: what it must be called
    "nothing": (b"", exif.NO_EXIF), "no GPS block": (gps.exif(None), exif.NO_GPS), "empty": (gps.exif({}), exif.EMPTY),
    "version alone": (gps.exif({0: (1, 4, b"\2\3\0\0")}), exif.EMPTY),
    "latitude alone": (gps.exif({1: text(b"N\0"), 2: rationals(*PARIS[0])}), exif.BROKEN),
    "0/0": (gps.exif(dms([(0, 0)] * 3, [(0, 0)] * 3)), exif.BROKEN),
    "48/0": (gps.exif(dms([(48, 0), (51, 1), (0, 1)], PARIS[1])), exif.BROKEN),
    "seconds 40/0": (gps.exif(dms(PARIS[0], [(2, 1), (17, 1), (40, 0)])), exif.BROKEN),
    "85 minutes": (gps.exif(dms([(48, 1), (85, 1), (0, 1)], PARIS[1])), exif.BROKEN),
    "text": (gps.exif({**dms(*PARIS), 2: text(b"48.8584\0")}), exif.BROKEN),
    "no N": (gps.exif(dms(*PARIS, None)), exif.NO_HEMISPHERE),
    "no E": (gps.exif(dms(*PARIS, b"N\0", None)), exif.NO_HEMISPHERE),
    "O for Ost": (gps.exif(dms(*PARIS, b"N\0", b"O\0")), exif.NO_HEMISPHERE),
    "-48 N": (gps.exif({**dms(*PARIS), 2: rationals((-485, 10), kind=SIGNED)}), exif.NO_HEMISPHERE),
    "0, 0": (gps.exif(dms([(0, 1)] * 3, [(0, 1)] * 3)), exif.NO_FIX),
    "void": (gps.exif(dms(*PARIS, x9=text(b"V\0"))), exif.NO_FIX),
    "91 N": (gps.exif(dms([(91, 1)], PARIS[1])), exif.NO_PLACE),
    "181 E": (gps.exif(dms(PARIS[0], [(181, 1)])), exif.NO_PLACE)}
FINE = {  # suspicious, and right
    "n w": dms(*PARIS, b"n\0", b"w\0"), "North": dms(*PARIS, b"North\0", b"EAST\0"),
    "decimal": dms([(488584, 10000)], [(22945, 10000), (0, 0), (0, 0)]), "no seconds": dms(
        [(48, 1), (51504, 1000), (0, 0)], [(2, 1), (17670, 1000), (0, 0)]),
    "sign": {2: rationals((-335, 10), kind=SIGNED), 4: rationals((-705, 10), kind=SIGNED)},
    "pole": dms([(90, 1)], [(180, 1)], b"S\0", b"W\0"), "bad altitude": dms(*PARIS, x6=rationals((5, 0)))}


class Collection:
    """A table that is written row by row, and the photos beside it."""

    def __init__(self, here: Path):
        self.here, self.photos, self.lines = here, {}, []
        self.expected: dict[int, str] = {}
        self.planted: Counter[str] = Counter()
        self._next = 1000

    def good(self, name: str, content: bytes | None = None, lat: float = 48.0, lon: float = 2.0, note: str = "") -> str:
        """A row that must be taken; content: a photo of its own."""
        self.photos[name] = self.new() if content is None else content
        self.row(f'"{name}",{lat},{lon},"{note}"'.encode())
        return name

    def plant(self, what: str, line: bytes, photo: tuple[str, bytes] | None = None) -> None:
        if photo is not None:
            self.photos[photo[0]] = photo[1]
        self.row(line)
        self.expected[len(self.lines)] = PLANTED[what][1]
        self.planted[what] += 1

    def row(self, line: bytes) -> None:
        self.lines.append(line + (b"\r\n" if len(self.lines) % 2 else b"\n"))

    def new(self, **options) -> bytes:
        """Another photo than all before."""
        self._next += 1
        return jpeg(self._next, **options)

    def write(self) -> None:
        folder(self.here / "imgs", self.photos)
        (self.here / "t.csv").write_bytes(b"\xef\xbb\xbfimage,lat,lon,note\r\n" + b"".join(self.lines))


def fill(all: Collection) -> None:
    """The good rows, and between them all that is planted."""
    rotated = gps.exif(None)
    notes = ("two\nlines", 'a ""quote""', "", "Zürich")
    for n in range(60):
        all.good(f"a/{n}.jpg", lat=-60 + 2 * n, lon=-170 + 5 * n, note=notes[n % 4])
    for name, kind, options in (("phone.heic", "HEIF", {}), ("b.WEBP", "WEBP", {}), ("c.png", "PNG", {}),
                                ("d.JPEG", "JPEG", {}), ("e.avif", "AVIF", {"quality": 90})):
        all.good(name, gps.saved(photo(2000 + len(all.lines)), kind, rotated, **options))
    all.good("cmyk.jpg", gps.saved(photo(3001).convert("CMYK"), "JPEG"))
    all.good("grey.png", gps.saved(photo(3002).convert("L"), "PNG"))
    all.good("dark.jpg", gps.saved(photo(3003).point(lambda value: value // 8), "JPEG", quality=95))
    all.good("IMG_0001.jpg")  # the benchmark has one called so
    all.good("with blanks and, comma.jpg"), all.good("Köln.jpg")
    all.good("pole.jpg", lat=-90, lon=180), all.good("line.jpg", lat=0, lon=-180), all.good("equator.jpg", lat=0, lon=9)
    all.photos["noending.jpg"], all.photos["sub/dir/deep.jpg"] = all.new(), all.new()
    all.row(b"noending,5,6,"), all.row(b"dir/deep.jpg,5,7,"), all.row(b"./a2.jpg, 5 ,\t8,")
    all.photos["a2.jpg"] = all.new()

    for n in range(15):
        all.plant("latitude and longitude of a row exchanged", b"x%d.jpg,%d,35," % (n, 139 - n),
                  (f"x{n}.jpg", all.new()))
    for n in range(10):
        all.plant("a latitude beyond 90 degrees", b"y%d.jpg,%f,20," % (n, -90.1 - n), (f"y{n}.jpg", all.new()))
    for n in range(5):
        all.plant("a longitude beyond 180 degrees", b"z%d.jpg,10,%d," % (n, 181 + n), (f"z{n}.jpg", all.new()))
    for value in (b"0,0", b"0.0,0.0", b"-0,0", b"0,-0.000", b"0e5,0", b"+0,0", b"00,0", b"0., .0"):
        all.plant("0, 0", b"zero.jpg," + value + b",", ("zero.jpg", jpeg(3100)))
    for value in (b",", b"48.8,", b",2.3", b"nan,2", b"48,nan", b"inf,2", b"48,-inf", b"N48.8,E2.3", b"48d51m,2",
                  b"None,None", b"null,2", b"N/A,N/A", b'"48,8","2,3"', b"forty,two", b"0x30,2", b"48 8,2"):
        all.plant("no number where a coordinate should be", b"nowhere.jpg," + value + b",", ("nowhere.jpg", jpeg(3101)))
    for n in range(8):
        all.plant("another encoding in one row", b"a/%d.jpg,1,2,M\xfcnchen" % n)
    for line in (b"a/1.jpg,1,2", b"a/1.jpg,1", b"a/1.jpg", b"a/1.jpg,1,2,note,more", b"a/1.jpg,1,2,,,,",
                 b"a/1.jpg;1;2;x", b"a/1.jpg 1 2 x", b"1,2,3"):
        all.plant("a field too few or too many", line)
    for line in (b'"a/1.jpg"x,1,2,', b'a/1.jpg,"1"2,2,', b'a/1.jpg,1,2,"a"b', b'"a"/1.jpg,1,2,'):
        all.plant("a quote in the wrong place", line)
    all.plant("no name of a photo", b",1,2,"), all.plant("no name of a photo", b'" ",1,2,')
    for n in range(12):
        all.plant("a photo that is not there", (b"gone%d.jpg", b"b/%d.jpg", b"a/%d0.jpg.jpg")[n % 3] % n + b",1,2,")
    for name in ("../a/1.jpg", "a/../../x.jpg", "..\\a\\1.jpg", "C:/a/1.jpg", "/../a/1.jpg", "a/..", "../..",
                 "..//1.jpg"):
        all.plant("a name that leads out of the folder", name.encode() + b",1,2,")
    for n in range(3):
        all.plant("a link that leads out of the folder", b"link%d.jpg,1,2," % n)
        all.photos |= {f"p/{n}/twice.jpg": all.new(), f"q/{n}/twice.jpg": all.new()}
        all.plant("a name that two photos have", b"%d/twice.jpg,1,2," % n)
    for n in range(9):
        whole = all.new()
        all.plant("a truncated photo", b"cut%d.jpg,1,2," % n, (f"cut{n}.jpg", whole[:len(whole) * (n + 1) // 12]))
    others = [content for name, (content, _) in DAMAGED.items() if name not in ("strip.png", "truncated.jpg")]
    others += [b"%PDF-1.7", b"\0" * 5000, b"GIF89a", b"\x1a\x45\xdf\xa3webm"]
    for n, content in enumerate(others[:12]):
        all.plant("something else called .jpg", b"no%d.jpg,1,2," % n, (f"no{n}.jpg", content))
    for n in range(6):
        all.plant("a thumbnail", b"thumb%d.jpg,1,2," % n, (f"thumb{n}.jpg", all.new(scale=0.3)))
    for n, size in enumerate(((4000, 12), (11, 3000))):
        all.plant("a strip", b"strip%d.png,1,2," % n, (f"strip{n}.png", gps.saved(photo(1).resize(size), "PNG")))
    for n, colour in enumerate(("black", "white", (90, 120, 200), (7, 7, 9))):
        blank = Image.new("RGB", (300 + n, 200), colour)
        all.plant("a blank photo", b"blank%d.jpg,1,2," % n, (f"blank{n}.jpg", gps.saved(blank, "JPEG")))
    for n in range(10):
        all.plant("the same file again", b"again%d.jpg,%d,%d," % (n, -60 + 2 * n, -170 + 5 * n),
                  (f"again{n}.jpg", all.photos[f"a/{n}.jpg"]))
    for n in range(5):
        all.photos[f"two{n}.jpg"] = all.new()
        for lat in (10, 20 + n):
            all.plant("one photo with two places", b"two%d.jpg,%d,2," % (n, lat))
    for n in range(7):
        for what, quality, scale in (("a resized copy", 95, 0.6 + n / 20), ("a recompressed copy", 35 + 5 * n, 1.0),
                                     ("a resized and recompressed copy", 50 + 5 * n, 0.7)):
            name = f"near{len(all.lines)}.jpg"
            all.plant(what, b"%s,1,2," % name.encode(), (name, jpeg(1001 + 20 + n, quality, scale)))
    for n in range(15):
        all.plant("a resized and recompressed copy of a benchmark's photo", b"bench%d.jpg,1,2," % n,
                  (f"bench{n}.jpg", jpeg(4000 + n, 40 + 3 * n, 0.6 + n / 40)))
    for n in range(6):
        name = (f"4f_a0_{97344200 + n}.jpg", f"{97344200 + n}.jpg")[n % 2]
        all.plant("a photo by a benchmark's id", name.encode() + b",1,2,", (name, all.new()))


@pytest.mark.slow
def test_all_planted_faults_are_found_and_none_is_invented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    all = Collection(tmp_path)
    fill(all)
    all.write()
    (tmp_path / "outside.jpg").write_bytes(jpeg(5000))
    for n in range(3):
        (tmp_path / "imgs" / f"link{n}.jpg").symlink_to(tmp_path / "outside.jpg")
    names = [f"{97344200 + n}_30a4521091_32_{n}@N00.jpg" for n in range(14)] + ["IMG_0001.jpg"]
    folder(tmp_path / "bench", {f"img/{name}": jpeg(4000 + n) for n, name in enumerate(names)})
    table(tmp_path / "bench" / "t.csv", ["IMG_ID", "LAT", "LON"], [[name, 48, 2] for name in names])
    benchmark = BenchmarkConfig(name="csv", labels="bench/t.csv", images="bench/img")
    assert all.planted == {what: count for what, (count, _) in PLANTED.items()}

    run(Config(table="t.csv", images=["imgs"], out="out", against=[benchmark], drop=["id", "picture"], min_side=100,
               shard_rows=50))
    found = {line["row"]: line["fault"] for line in map(json.loads, Path("out/dropped.jsonl").read_text().splitlines())}
    assert found == all.expected
    counts = json.loads(Path("out/card.json").read_text())["counts"]
    assert counts["faults"] == dict(sorted(Counter(all.expected.values()).items()))
    assert counts["rows"] == {"read": len(all.lines), "taken": len(all.lines) - len(all.expected)}
    assert counts["rows"]["taken"] == 77

    names = {name: f"{name.replace('/', ' by ')}.jpg" for name in POSITIONS}
    folder(tmp_path / "own", {names[name]: gps.saved(photo(6000 + n), "JPEG", block)
                              for n, (name, (block, _)) in enumerate(POSITIONS.items())})
    folder(tmp_path / "own", {f"fine {name}.jpg": gps.saved(photo(6200 + n), "JPEG", gps.exif(block))
                              for n, (name, block) in enumerate(FINE.items())})
    run(Config(photos="own", out="own_out", min_side=100))
    found = {line["id"]: line["fault"] for line in map(
        json.loads, Path("own_out/dropped.jsonl").read_text().splitlines())}
    assert found == {names[name]: kind for name, (_, kind) in POSITIONS.items()}
    ids = {json.loads(line)["id"] for line in Path("own_out/sidecar.jsonl").read_text().splitlines()}
    assert ids == {f"fine {name}.jpg" for name in FINE}
    assert sum(all.planted.values()) + len(POSITIONS) >= 200
