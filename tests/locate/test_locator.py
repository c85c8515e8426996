"""Locating photos from Python: files, lists, folders, bytes, pictures; what is refused; the answers of eval.predict."""
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from eval import predict
from gre import Locator
from gre.config import UserError
from gre.data.raw import DataError, RowError
from gre.locate.located import Located, Place
from tests.helpers.taught import write_taught

pytestmark = pytest.mark.slow
PARIS = "<think>A photo of paris.png.\nThe colour says it.</think><answer>48.86, 2.35</answer>"


@pytest.fixture(scope="module")
def locator(taught) -> Locator:
    return Locator(taught / "run/stage3", max_new_tokens=60, batch_size=2)


def test_a_photo_is_located(taught, locator):
    found = locator.locate(taught / "imgs/paris.png")
    assert (found.latitude, found.longitude) == (48.86, 2.35) and found.raw == PARIS and found.finished
    assert found.place == Place("Paris 04 Hôtel-de-Ville", "Île-de-France", "France", found.place.distance_km)
    assert found.place.distance_km == 0.1  # it is at 48.8601, 2.3507: 52 m
    assert found.reasoning == "A photo of paris.png.\nThe colour says it."
    assert found.radius_km is None and found.samples == ()


def test_lists_folders_bytes_and_pictures_are_one_photo_each(taught, locator):
    path = taught / "imgs/paris.png"
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # lies on its side; the colour is the same all over
    Image.open(path).save(turned, "PNG", exif=exif)
    found = locator.locate([path, str(taught / "imgs"), path.read_bytes(), Image.open(path), turned.getvalue(), path])
    answers = {Path(one.path).name: one.raw for one in found if one.path}
    assert [one.path and Path(one.path).name for one in found] == [
        "paris.png", "nowhere.png", "paris.png", "tokyo.png", None, None, None, "paris.png"]
    assert "139.69" in answers["tokyo.png"] and [one.raw for one in found[4:]] == [PARIS] * 4
    tokyo = str(taught / "imgs/tokyo.png")
    asked = [tokyo, str(path), tokyo]
    assert [(one.path, one.latitude) for one in locator.locate(asked)] == list(zip(asked, (35.68, 48.86, 35.68)))
    assert [photo for photo, _ in locator.each(asked)] == asked
    assert locator.locate([]) == []


def test_no_answer_is_none(taught, locator):
    found = locator.locate(str(taught / "imgs/nowhere.png"))
    assert (found.latitude, found.longitude, found.place, found.radius_km) == (None,) * 4
    assert found.raw.endswith("<answer>unknown</answer>") and found.reasoning.startswith("A photo of nowhere")


def test_text_is_streamed_as_it_is_written(taught, locator):
    pieces = []
    found = locator.locate(taught / "imgs/tokyo.png", on_text=pieces.append)
    assert "".join(pieces) == found.raw == locator.locate(taught / "imgs/tokyo.png").raw and len(pieces) > 5
    with pytest.raises(UserError, match="streamed for one photo, by engine"):
        locator.locate(taught / "imgs", on_text=pieces.append)


def test_a_photo_gets_what_eval_predict_gives_it(taught, locator, monkeypatch, tmp_path):
    monkeypatch.chdir(taught)
    Path("rows.jsonl").write_text("".join(json.dumps({
        "image": f"imgs/{name}.png", "instructions": "Where is this?", "gt_lat": 1.0, "gt_lon": 2.0}) + "\n"
        for name in ("nowhere", "paris", "tokyo")))
    rows = predict.run(predict.Config(model="run/stage3", data="rows.jsonl", out=str(tmp_path / "p.jsonl"),
                                      max_new_tokens=60))
    found = locator.locate("imgs")
    assert [(row.text, row.lat, row.lon) for row in rows] == [(one.raw, one.latitude, one.longitude) for one in found]


def test_an_answer_by_name_gets_the_coordinates_of_its_city(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_taught({"paris.png": ((200, 30, 30), "country: France\ncity: Paris"),
                  "two.png": ((30, 200, 30), "country: France\ncity: Paris or Lyon")}, "globe")
    globe = Locator("run/globe", max_new_tokens=60)
    paris, two = globe.locate("imgs")
    assert (paris.latitude, paris.longitude, paris.place.country) == (48.85341, 2.3488, "France")  # GeoNames' 2988507
    assert paris.place.distance_km == 0.0 and paris.raw.endswith("<answer>country: France\ncity: Paris</answer>")
    assert (two.latitude, two.place) == (None, None) and "Paris or Lyon" in two.raw
    Path("rows.jsonl").write_text(json.dumps({"image": "imgs/paris.png", "instructions": "Where is this?",
                                              "gt_lat": 48.86, "gt_lon": 2.35}) + "\n")
    (row,) = predict.run(predict.Config(model="run/globe", data="rows.jsonl", out="p.jsonl", max_new_tokens=60))
    assert (row.text, row.lat, row.lon) == (paris.raw, None, None)  # names are looked up by eval.score answer=names


def test_samples_say_how_far_they_scatter(taught):
    several = Locator(taught / "run/stage3", max_new_tokens=60, samples=4)
    found = several.locate([taught / "imgs/tokyo.png", taught / "imgs/paris.png"])[1]
    assert len(found.samples) == 4 and found == several.locate(taught / "imgs/paris.png")  # whatever else is asked
    assert found.radius_km is not None and found.place.country == "France"
    assert Located.of(json.loads(json.dumps(found.record()))) == found


def test_what_cannot_be_read_is_named(taught, locator, tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "half.png").write_bytes((taught / "imgs/paris.png").read_bytes()[:80])
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.new("RGB", (300, 1)).save(tmp_path / "strip.png")
    gone = tmp_path / "gone.png"
    for path, said in ((tmp_path / "text.jpg", "no known kind"), (tmp_path / "half.png", "cannot be read as a photo"),
                       (tmp_path / "drawing.svg", "SVG"), (tmp_path / "strip.png", "300 x 1"), (gone, "no such file")):
        with pytest.raises(DataError, match=said) as error:
            locator.locate(path)
        assert str(path) in str(error.value)
    with pytest.raises(RowError, match="photo 2: cannot be read"):
        locator.locate([(taught / "imgs/paris.png").read_bytes(), b"nothing"])
    each = list(locator.each([tmp_path / "text.jpg", taught / "imgs/paris.png", gone]))
    assert [isinstance(answer, DataError) for _, answer in each] == [True, False, True] and each[1][1].raw == PARIS
    long, looped = "a" * 300, tmp_path / "loop.png"  # names at which the file system itself fails
    looped.symlink_to(looped)
    for path, said in ((long, "File name too long"), (looped, "Too many levels of symbolic"), ("a\0b", "no such")):
        (_, error), (_, found) = locator.each([path, taught / "imgs/paris.png"])
        assert isinstance(error, DataError) and re.search(said, str(error)) and found.raw == PARIS
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no photos"):
        locator.locate(tmp_path / "empty")


def test_an_address_is_fetched_only_where_that_is_asked(taught, locator, monkeypatch):
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    served = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            served.append(self.path)

        def do_GET(self):
            if self.path != "/moved.png":
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", "http://a..b/x.png")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(taught / "imgs")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(RowError, match="nothing is fetched unless asked for"):
            locator.locate(f"{address}/paris.png")
        assert not served
        monkeypatch.setattr(locator, "urls", True)
        assert locator.locate(f"{address}/paris.png").raw == PARIS
        with pytest.raises(DataError, match="404"):
            locator.locate(f"{address}/gone.png")
        for no_host in ("http://a..b/x", f"http://{'a' * 64}.com/x", f"{address}/\udcff.png", f"{address}/moved.png"):
            (_, error), (_, found) = locator.each([no_host, f"{address}/paris.png"])
            assert isinstance(error, DataError) and "cannot be fetched (Unicode" in str(error) and found.raw == PARIS
    finally:
        server.shutdown()
        server.server_close()


def test_a_plain_model_must_be_told_what_it_is_asked(taught):
    with pytest.raises(UserError, match="no manifest that says what it is asked"):
        Locator(taught / "base")
    with pytest.raises(UserError, match="write one of auto, transformers, vllm"):
        Locator(taught / "run/stage3", engine="endpoint")


def test_importing_the_package_loads_no_torch():
    code = "import sys, gre; assert 'torch' not in sys.modules; gre.Locator; assert 'torch' in sys.modules; gre.Lost"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stderr.strip().endswith("AttributeError: module 'gre' has no attribute 'Lost'")
