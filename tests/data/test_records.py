"""The published forms: what is read, what is refused and how it is said, and that written files read back."""
import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gre.data.raw import DataError
from gre.data.records import (
    BenchRow,
    CoTRow,
    DataConfig,
    JudgeRow,
    SeedRow,
    read_bench,
    read_cot,
    read_judge,
    read_seed,
    write_bench,
    write_cot,
    write_judge,
    write_seed,
)
from gre.geo.point import LatLon

SEED = {"image": "images/a.jpg", "instructions": "Where?", "gt_lat": 48.85, "gt_lon": 2.35}
COT = {"image": "images/a.jpg", "gt_lat": 48.85, "gt_lon": 2,
       "conversations": [{"from": "human", "value": "<image>\nWhere?"},
                         {"from": "gpt", "value": "<think>A café.</think><answer>48.85, 2.35</answer>"}]}
JUDGE = {**COT, "predicted_cot": "A café.", "predicted_answer": "48.85, 2.35",
         "conversations": [{"from": "human", "value": "<image>\nIs it right?"}, {"from": "gpt", "value": "True"}]}


@pytest.fixture
def folder(tmp_path):
    """The published layout: rows say images/, the folder is called imgs/."""
    (tmp_path / "imgs").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "imgs" / name).write_bytes(b"not opened by the reader")
    return tmp_path


def seed_file(folder, *rows, name="gre_seed.jsonl"):
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return DataConfig(path=str(path))


def array_file(folder, *rows):
    path = folder / "gre.json"
    path.write_text(json.dumps(rows, indent=2))
    return DataConfig(path=str(path))


def test_a_cot_row_as_published(folder):
    assert read_cot(array_file(folder, COT)) == [
        CoTRow("gre:1", folder / "imgs/a.jpg", "Where?", COT["conversations"][1]["value"], LatLon(48.85, 2.0))]


@pytest.mark.parametrize("word, label", [("True", True), ("False", False), ("Truth", True), (" true\n", True)])
def test_a_judge_row_as_published(folder, word, label):
    row = {**JUDGE, "conversations": [JUDGE["conversations"][0], {"from": "gpt", "value": word}]}
    assert read_judge(array_file(folder, row)) == [
        JudgeRow("gre:1", folder / "imgs/a.jpg", "Is it right?", "A café.", "48.85, 2.35", label, LatLon(48.85, 2))]


def test_seed_rows_as_lines_or_as_an_array_with_an_image_list_a_bom_and_empty_lines(folder):
    expected = [SeedRow("gre_seed:1", folder / "imgs/a.jpg", "Where?", LatLon(48.85, 2.35)),
                SeedRow("gre_seed:3", folder / "imgs/b.jpg", "Where?", LatLon(48.85, 2.35))]
    config = seed_file(folder, "\ufeff" + json.dumps(SEED), "", {**SEED, "image": ["images/b.jpg"]}, "")
    assert read_seed(config) == expected
    assert [row.image for row in read_seed(array_file(folder, SEED, SEED))] == [folder / "imgs/a.jpg"] * 2


def test_a_bench_row_as_published(folder):
    row = {"sample_id": 7, "image_path": "images/a.jpg", "gt_cot": "A café.", "gt_lat": 1, "gt_lon": 2}
    assert read_bench(array_file(folder, row)) == [BenchRow("7", folder / "imgs/a.jpg", "A café.", LatLon(1, 2))]


def test_the_mapping_of_images_to_imgs_is_said_once(folder, capsys):
    read_seed(seed_file(folder, SEED, SEED, {**SEED, "image": "imgs/b.jpg"}))
    assert capsys.readouterr().err.count("rows say images/, photos are read from") == 1


def test_a_real_images_folder_is_used_as_it_is(folder, capsys):
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").touch()
    assert read_seed(seed_file(folder, SEED))[0].image == folder / "images/a.jpg"
    assert capsys.readouterr().err == ""


def test_image_root_may_hold_the_pictures_themselves(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("photos")
    (elsewhere / "a.jpg").touch()
    config = replace(seed_file(folder, SEED), image_root=str(elsewhere))
    assert read_seed(config)[0].image == elsewhere / "a.jpg"


@pytest.mark.parametrize("mark", ["", "<image>", "<image>\n", "<image>\r\n", "<image> ", "<image>\n\n", " <image>\n",
                                  "\ufeff<image>\n", "\n<image>\n", "  "])
def test_what_stands_around_the_mark_is_no_part_of_the_question(folder, mark):
    """A blank more, and another prompt was trained than is asked later."""
    assert read_seed(seed_file(folder, {**SEED, "instructions": f"{mark}Where?"}))[0].instruction == "Where?"


BAD_SEED_ROWS = [
    ({**SEED, "gt_lat": 148.85}, r"fields 'gt_lat', 'gt_lon': latitude 148.85, longitude 2.35 is no place"),
    ({**SEED, "gt_lat": float("nan")}, "is no place"),
    ({**SEED, "gt_lon": "2.35"}, "field 'gt_lon': expected decimal degrees as a number, got \"2.35\""),
    ({**SEED, "gt_lon": True}, "field 'gt_lon': expected decimal degrees"),
    ({**SEED, "gt_lon": None}, "field 'gt_lon': expected decimal degrees"),
    ({key: SEED[key] for key in ("image", "instructions", "gt_lon")}, "field 'gt_lat' is missing"),
    ({**SEED, "instructions": "  "}, "field 'instructions': expected text"),
    ({**SEED, "instructions": "Where? <image> Say."}, "at most one <image>"),
    ({**SEED, "image": "images/missing.jpg"}, "field 'image': no file .*missing.jpg"),
    ({**SEED, "image": "images"}, "no file"),
    ({**SEED, "image": "https://x.org/a.jpg"}, "is an address: download the photo, and write its path"),
    ({**SEED, "image": "data:image/png;base64,iVBOR"}, "is an address"),
    ({**SEED, "image": "images/" + "x" * 5000}, "no file"),
    ({**SEED, "image": "images/\0.jpg"}, "no file"),
    ({**SEED, "image": "images/\ud800.jpg"}, "no file"),
    ({**SEED, "image": "images/../../a.jpg"}, "leaves the data folder"),
    ({**SEED, "image": "/etc/hostname"}, "leaves the data folder"),
    ({**SEED, "image": ["images/a.jpg", "images/b.jpg"]}, "expected a path or a list of one path"),
    ({**SEED, "image": None}, "expected a path or a list of one path"),
    ('{"image": ', "not JSON"),
    ("[" * 100_000, "broken|not JSON"),
    ("1" * 5000, "not JSON"),
    ("7", "expected a JSON object, got 7"),
]


@pytest.mark.parametrize("bad, message", BAD_SEED_ROWS)
def test_a_bad_row_stops_with_file_row_field_and_remedy(folder, bad, message):
    with pytest.raises(DataError, match=message) as raised:
        read_seed(seed_file(folder, SEED, bad))
    assert str(raised.value).startswith(f"{folder / 'gre_seed.jsonl'}, row 2: ")
    assert "data.on_bad_row=drop" in str(raised.value)


def test_a_link_out_of_the_data_folder_is_refused(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    secret.touch()
    (folder / "imgs" / "link.jpg").symlink_to(secret)
    with pytest.raises(DataError, match="row 1: field 'image': .* is a link that leaves the data folder"):
        read_seed(seed_file(folder, {**SEED, "image": "images/link.jpg"}))


@pytest.mark.parametrize("turns, message", [
    ([], "one human turn and one gpt turn"),
    ("hello", "one human turn and one gpt turn"),
    (list(reversed(COT["conversations"])), "one human turn and one gpt turn"),
    ([COT["conversations"][0], {"from": "gpt"}], "the gpt value must be text, got null"),
    ([COT["conversations"][0], {"from": "gpt", "value": ""}], "the gpt value must be text"),
])
def test_bad_conversations(folder, turns, message):
    with pytest.raises(DataError, match=f"row 1: field 'conversations': .*{message}"):
        read_cot(array_file(folder, {**COT, "conversations": turns}))


def test_a_judge_label_is_true_or_false(folder):
    row = {**JUDGE, "conversations": [JUDGE["conversations"][0], {"from": "gpt", "value": "banana"}]}
    with pytest.raises(DataError, match="row 1: .*must be True or False, got \"banana\""):
        read_judge(array_file(folder, row))


def test_drop_mode_counts_and_lists_what_it_leaves_out(folder, capsys):
    config = replace(seed_file(folder, SEED, {**SEED, "gt_lat": 91}, "{", SEED), on_bad_row="drop",
                     dropped_list=str(folder / "runs" / "dropped.txt"))
    assert [row.id for row in read_seed(config)] == ["gre_seed:1", "gre_seed:4"]
    said = capsys.readouterr().err
    assert "dropped 2 bad rows, kept 2" in said
    assert "row 2: fields 'gt_lat'" in said and "row 3: not JSON" in said
    listed = (folder / "runs" / "dropped.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in listed] == [f"{config.path}, row 2", f"{config.path}, row 3"]


def test_a_file_with_no_good_row_is_an_error_even_when_dropping(folder):
    with pytest.raises(DataError, match="no usable row among 1"):
        read_seed(replace(seed_file(folder, "{"), on_bad_row="drop"))


@pytest.mark.parametrize("change, message", [
    ({"path": "nowhere.json"}, "data.path=nowhere.json: no such file"),
    ({"path": ""}, "data.path=: no such file"),
    ({"image_root": "nowhere"}, "data.image_root=nowhere: no such folder"),
    ({"on_bad_row": "ignore"}, "data.on_bad_row is 'ignore': write stop or drop"),
])
def test_a_wrong_setting_is_named(folder, change, message):
    with pytest.raises(DataError, match=message):
        read_seed(replace(seed_file(folder, SEED), **change))


def test_a_broken_array_and_a_wrong_encoding_are_named(folder):
    (folder / "gre.json").write_text('[{"image": "images/a.jpg"},\n {"image" 7}]')
    with pytest.raises(DataError, match="gre.json: the JSON array is broken .*line 2"):
        read_seed(DataConfig(path=str(folder / "gre.json")))
    (folder / "gre.json").write_bytes(b"[\xff")
    with pytest.raises(DataError, match="not UTF-8 .*Save the file as UTF-8"):
        read_seed(DataConfig(path=str(folder / "gre.json")))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() and "<image>" not in text and not re.match(r"[\ufeff\s]", text))
TRUTH = st.builds(LatLon, st.floats(-90, 90), st.floats(-180, 180)).filter(any)  # (0, 0) is no place of a photo
FORMS = [(write_cot, read_cot, st.builds(CoTRow, st.just(""), st.just("a.jpg"), TEXT, TEXT, TRUTH)),
         (write_judge, read_judge,
          st.builds(JudgeRow, st.just(""), st.just("a.jpg"), TEXT, TEXT, TEXT, st.booleans(), TRUTH)),
         (write_seed, read_seed, st.builds(SeedRow, st.just(""), st.just("a.jpg"), TEXT, TRUTH)),
         (write_bench, read_bench, st.builds(BenchRow, TEXT, st.just("a.jpg"), TEXT, TRUTH))]


@pytest.mark.parametrize("write, read, row", FORMS, ids=["cot", "judge", "seed", "bench"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_reads_back(folder, write, read, row, data):
    rows = [replace(one, image=folder / "imgs" / one.image) for one in data.draw(st.lists(row, min_size=1, max_size=3))]
    write(folder / "rows.json", rows)
    again = read(DataConfig(path=str(folder / "rows.json")))
    if write is not write_bench:
        assert [one.id for one in again] == [f"rows:{number}" for number in range(1, len(rows) + 1)]
        again = [replace(one, id="") for one in again]
    assert again == rows


def test_written_rows_say_images_as_the_published_ones_do(folder):
    write_seed(folder / "gre_seed.jsonl", [SeedRow("", folder / "imgs" / "a.jpg", "Où?", LatLon(48.85, 2.35))])
    assert (folder / "gre_seed.jsonl").read_text() == (
        '{"image": "images/a.jpg", "instructions": "Où?", "gt_lat": 48.85, "gt_lon": 2.35}\n')


def test_a_picture_elsewhere_is_not_written(folder):
    with pytest.raises(DataError, match="passwd: not under .*Move the photos there, into imgs/"):
        write_seed(folder / "x.jsonl", [SeedRow("", folder.parent / "passwd", "Where?", LatLon(1, 2))])
