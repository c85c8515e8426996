"""The web page's server: the answers of the locator, hostile files, two users at once, limits, corrections."""
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading

import httpx2
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from gre import Locator
from gre.config import UserError
from gre.data.records import DataConfig, read_seed
from gre.geo.point import LatLon
from gre.locate.page import app, asking, corrections
from gre.locate.page.__main__ import _names, main, parser, run
from gre.locate.page.corrections import Corrections
from tests.helpers import gps, hostile
from tests.helpers.paths import ROOT
from tests.helpers.taught import PLACES

pytestmark = pytest.mark.slow
SENT = {"content-type": "application/octet-stream"}
HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def locator(taught) -> Locator:
    return Locator(taught / "run/stage3", max_new_tokens=60)


@pytest.fixture
def page(locator, tmp_path) -> app.Page:
    return app.Page({"run/stage3": locator}, Corrections(tmp_path / "kept"), "")


def post(page: app.Page, path: str, content, host: str = HERE, **headers: str) -> httpx2.Response:
    """What the page answers to one request."""
    return asked(page, lambda client: client.post(path, content=content, headers={**SENT, **headers}), host)


def asked(page: app.Page, request, host: str = HERE):
    async def once():
        served = httpx2.ASGITransport(app.application(page, ["127.0.0.1"]))
        async with httpx2.AsyncClient(transport=served, base_url=host) as client:
            return await request(client)
    return asyncio.run(once())


def lines(answer: httpx2.Response) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("name", PLACES)
def test_a_photo_gets_the_answer_of_the_locator(taught, locator, page, name):
    said = lines(post(page, "/locate", (taught / "imgs" / name).read_bytes()))
    own = locator.locate(taught / "imgs" / name)
    assert {**said[-1]["answer"], "path": own.path} | own.record() == {**said[-1]["answer"], "path": own.path}
    assert "".join(line.get("text", "") for line in said) == own.raw and sum("text" in line for line in said) > 5
    assert said[0]["photo"].startswith("data:image/jpeg;base64,") and not any("exif" in line for line in said)


def test_hostile_files_get_an_answer_or_a_reason_the_same_from_python_the_shell_and_the_page(
        taught, locator, page, tmp_path):
    table = hostile.files(PLACES["paris.png"][0])
    for name, (content, _) in table.items():
        (tmp_path / name).write_bytes(content)
    python = dict(zip(table, (answer for _, answer in locator.each([str(tmp_path / name) for name in table]))))
    shell = subprocess.run([sys.executable, "-m", "gre.locate", *table, "--model", str(taught / "run/stage3"),
                            "--max-new-tokens", "60", "--json"], cwd=tmp_path, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT)})
    answers = {one["path"]: one for one in map(json.loads, shell.stdout.splitlines())}
    assert shell.returncode == 1 and "4 of 9 could not be read:" in shell.stderr and "Traceback" not in shell.stderr
    for name, (content, why) in table.items():
        last = lines(post(page, "/locate", content))[-1]
        if why:
            for said in (str(python[name]), shell.stderr, last["error"]):
                assert re.search(why, said), (name, said)
        else:
            assert last["answer"]["raw"] == python[name].raw == answers[name]["raw"]
    for name in ("moving.gif", "phone.heic", hostile.QUOTES):  # the colour is kept
        assert (answers[name]["latitude"], answers[name]["longitude"]) == (48.86, 2.35)


def test_several_samples_stream_the_first(taught):
    several = Locator(taught / "run/stage3", max_new_tokens=60, samples=4)
    photo = taught / "imgs/tokyo.png"
    pieces = []
    found = several.locate(photo, on_text=pieces.append)
    assert found == several.locate(photo) and len(found.samples) == 4  # streaming changes nothing
    alone = Locator(taught / "run/stage3", max_new_tokens=60, samples=2).locate(photo, on_text=(other := []).append)
    assert pieces == other and "".join(pieces).startswith("<think>") and len(alone.samples) == 2


def test_the_position_of_a_photo_is_told_only_where_that_is_asked(taught, page):
    photo = gps.saved(Image.open(taught / "imgs/paris.png"), "PNG", gps.exif(gps.at(48.86, 3.35)))
    silent, told = (lines(post(page, f"/locate?exif={asked}", photo)) for asked in (0, 1))
    (exif,) = [line["exif"] for line in told if "exif" in line]
    # One degree along the parallel of 48.86: 111.195 km x cos(48.86).
    assert (exif["latitude"], exif["longitude"]) == (48.86, 3.35)
    assert exif["distance_km"] == pytest.approx(73.16, abs=.05)
    assert not any("exif" in line for line in silent) and silent[-1] == told[-1]
    bare = lines(post(page, "/locate?exif=1", (taught / "imgs/paris.png").read_bytes()))
    assert bare[-2] == {"exif": {"none": "no EXIF data"}}


def test_two_users_at_once_get_their_own_answers(taught, page):
    sent = ["paris.png", "tokyo.png"] * 3

    async def all_at_once(client):
        return await asyncio.gather(*(client.post("/locate", content=(taught / "imgs" / name).read_bytes(),
                                                  headers=SENT) for name in sent))
    for name, answer in zip(sent, asked(page, all_at_once)):
        last = lines(answer)[-1]["answer"]
        assert f"{last['latitude']}, {last['longitude']}" == PLACES[name][1]


def test_a_full_queue_is_said_and_empties(taught, page, monkeypatch):
    monkeypatch.setattr(app, "MAX_WAITING", 1)
    photo = (taught / "imgs/paris.png").read_bytes()

    async def one_before_the_other(client):
        rest = asyncio.Event()

        async def slowly():
            yield photo[:20]
            await rest.wait()
            yield photo[20:]
        first = asyncio.create_task(client.post("/locate", content=slowly(), headers=SENT))
        await asyncio.sleep(0.1)
        refused = [await client.post(path, content=photo, headers=SENT) for path in ("/locate", "/keep?place=1,2")]
        assert (await client.get("/settings")).status_code == 200
        rest.set()
        return refused, await first, await client.post("/locate", content=photo, headers=SENT)
    refused, first, third = asked(page, one_before_the_other)
    for answer in refused:
        assert answer.status_code == 503 and "1 photos are waiting already" in answer.json()["error"]
    assert [lines(one)[-1]["answer"]["latitude"] for one in (first, third)] == [48.86, 48.86]


def test_whoever_leaves_stops_the_model(taught, locator, page):
    content, pieces, left = (taught / "imgs/paris.png").read_bytes(), [], threading.Event()

    class Watched:
        engine = "transformers"

        def locate(self, photo, on_text):
            def written(text):
                on_text(text)
                pieces.append(text)
                left.wait(60)
            return locator.locate(photo, on_text=written)

    async def leave():
        said = asking.answer(Watched(), content, False)
        async for line in said:
            if "text" in json.loads(line):
                break
        await said.aclose()
        left.set()
        await asyncio.wrap_future(asking.WORKER.submit(int))  # what came before has ended
    asyncio.run(leave())
    assert len(pieces) == 1
    assert lines(post(page, "/locate", content))[-1]["answer"]["latitude"] == 48.86  # and nothing is left of it


def test_a_bug_breaks_the_answer_off_and_is_not_swallowed(taught, page, monkeypatch):
    def not_finite(*_, **__):
        raise FloatingPointError("the logits are not finite")
    monkeypatch.setattr(Locator, "locate", not_finite)
    with pytest.raises(FloatingPointError, match="not finite"):
        post(page, "/locate", (taught / "imgs/paris.png").read_bytes())


def test_limits_and_requests_of_other_sites(taught, page, monkeypatch):
    photo = (taught / "imgs/paris.png").read_bytes()
    for path, status, why in (("/locate?model=1", 400, "1 models"), ("/locate?model=-1", 400, "1 models"),
                              ("/locate?model=9999999999999", 400, "1 models"),
                              ("/locate?model=00000000099", 400, "1 models")):
        answer = post(page, path, photo)
        assert answer.status_code == status and why in answer.json()["error"]
    simple = post(page, "/locate", photo, **{"content-type": "text/plain"})  # what any site may send
    assert simple.status_code == 415 and "access-control-allow-origin" not in simple.headers
    assert post(page, "/locate", photo, host="http://rebound.example").status_code == 400
    assert "default-src 'none'" in simple.headers["content-security-policy"]
    monkeypatch.setattr(asking, "MAX_PIXELS", 56 * 56 - 1)
    assert "56 x 56 pixels, and at most 3,135" in lines(post(page, "/locate", photo))[-1]["error"]
    monkeypatch.setattr(app, "MAX_BYTES", len(photo) - 1)
    assert post(page, "/locate", photo).status_code == 413
    monkeypatch.setattr(app, "UPLOAD_S", 0.05)

    async def never():
        yield photo[:9]
        await asyncio.sleep(5)
    assert post(page, "/locate", never()).status_code == 408


def test_a_correction_is_a_row_to_train_on(taught, page, locator, tmp_path):
    photo = gps.saved(Image.open(taught / "imgs/paris.png"), "PNG", gps.exif(gps.at(48.86, 3.35)))
    folder = tmp_path / "kept"
    wrong = post(page, "/keep?place=Paris", photo)
    assert wrong.status_code == 400 and "no one place" in wrong.json()["error"]
    assert post(page, "/keep?place=1,2", b"no photo").status_code == 400 and not (folder / "seed.jsonl").exists()
    kept = post(page, "/keep?place=48°51'30\"N 2°17'40\"E", photo).json()
    assert kept["rows"] == 1 and kept["near"].startswith("Paris") and kept["latitude"] == pytest.approx(48.858333)
    assert post(page, "/keep?place=35.68, 139.69", (taught / "imgs/tokyo.png").read_bytes()).json()["rows"] == 2
    again = app.Page(page.locators, Corrections(folder), "")  # the page is started again
    assert post(again, "/keep?place=48.5, 2.5", photo).json()["rows"] == 2
    rows = read_seed(DataConfig(str(folder / "seed.jsonl")))
    assert [(row.instruction, row.truth) for row in rows] == [("Where is this?", LatLon(48.5, 2.5)),
                                                              ("Where is this?", LatLon(35.68, 139.69))]
    with Image.open(rows[0].image) as copy:
        assert copy.size == (56, 56) and not copy.getexif() and locator.locate(rows[0].image).latitude == 48.86
    closed = post(app.Page(page.locators, None, ""), "/keep?place=1,2", photo)
    assert closed.status_code == 403 and "--keep" in closed.json()["error"]


def test_what_others_wrote_beside_corrections_stays_to_the_byte(taught, tmp_path):
    photo, other = ((taught / "imgs" / name).read_bytes() for name in ("paris.png", "tokyo.png"))
    file = tmp_path / "seed.jsonl"
    one = Corrections(tmp_path)
    one.keep(photo, "Q1", LatLon(1.0, 2.0))
    image = json.loads(file.read_text())["image"]
    first = (f'{{ "image":["{image}"], "instructions": "<image>\\nQ1", "gt_lat": 1,"gt_lon": 2.0, "id": 7, '
             '"author": "Å" }\r\n')
    second = f'{{"gt_lon": 2.0, "gt_lat": 1.0, "image": "{image}", "instructions": "Q2", "by": "\\ud800"}}'
    file.write_bytes((first + "\n" + second).encode())  # no end of line at the last
    one.keep(photo, "Q2", LatLon(1.0, 2.0))
    assert file.read_bytes() == (first + "\n" + second).encode()  # nothing is new
    two = Corrections(tmp_path)
    assert two.keep(other, "Q1", LatLon(3.0, 4.0)) == 3 and one.keep(other, "Q2", LatLon(3.0, 4.0)) == 4
    lines = file.read_bytes().decode().split("\n")
    assert lines[:3] == [*first.split("\n")[:1], "", second] and len(lines) == 6
    assert one.keep(photo, "Q3", LatLon(5.0, 6.0)) == 5  # in every row about the photo, and one with the new question
    rows = [json.loads(line) for line in file.read_bytes().splitlines() if line]
    assert [(row["instructions"], row["gt_lat"], row["gt_lon"]) for row in rows] == [
        ("<image>\nQ1", 5.0, 6.0), ("Q2", 5.0, 6.0), ("Q1", 3.0, 4.0), ("Q2", 3.0, 4.0), ("Q3", 5.0, 6.0)]
    assert (rows[0]["id"], rows[0]["author"], rows[1]["by"]) == (7, "Å", "\ud800")
    assert len(read_seed(DataConfig(str(file)))) == 5


def test_pages_that_keep_into_one_folder_at_once_lose_no_row(tmp_path):
    program = ("import io, sys; from PIL import Image; from gre.geo.point import LatLon\n"
               "from gre.locate.page.corrections import Corrections\n"
               "page = Corrections(__import__('pathlib').Path(sys.argv[1])); print('ready', flush=True); input()\n"
               "for at in range(60):\n"
               "    Image.new('RGB', (8, 8), (int(sys.argv[2]), at, 0)).save(it := io.BytesIO(), 'PNG')\n"
               "    page.keep(it.getvalue(), 'Where?', LatLon(at, 9))\n")
    pages = [subprocess.Popen([sys.executable, "-c", program, tmp_path, str(number)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
             for number in range(2)]
    for page in pages:
        assert page.stdout.readline() == b"ready\n"
    for page in pages:
        page.stdin.write(b"\n")
        page.stdin.flush()
    assert [page.communicate(timeout=120) and page.returncode for page in pages] == [0, 0]
    rows = read_seed(DataConfig(str(tmp_path / "seed.jsonl")))
    assert len({row.image for row in rows}) == len(rows) == 120


@pytest.mark.parametrize("content", [
    '[{"image": "imgs/a.jpg", "instructions": "Q", "gt_lat": 1, "gt_lon": 2}]',
    '{"image": "imgs/a.jpg",\n"instructions": "Q", "gt_lat": 1, "gt_lon": 2}'])
def test_a_file_that_no_line_can_be_added_to_is_refused(tmp_path, content):
    (tmp_path / "imgs").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "imgs/a.jpg")
    (tmp_path / "seed.jsonl").write_text(content)
    with pytest.raises(UserError, match="not JSON lines, one row a line"):
        Corrections(tmp_path)
    assert (tmp_path / "seed.jsonl").read_text() == content


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(taught, page, tmp_path):
    photo, photos = (taught / "imgs/paris.png").read_bytes(), tmp_path / "kept/imgs"
    photos.rename(tmp_path / "away")
    answer = post(page, "/keep?place=1,2", photo)
    assert answer.status_code == 507 and answer.json()["error"] == (
        f"{tmp_path}/kept cannot be written (No such file or directory): make room there, or put back what was moved "
        "away, and keep it again")
    (tmp_path / "away").rename(photos)
    assert post(page, "/keep?place=1,2", photo).json()["rows"] == 1


def test_photos_are_decoded_one_after_another_to_be_kept(page, monkeypatch):
    inside, most, real = [], [], corrections.opened

    def watched(content):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()
        return real(content)
    monkeypatch.setattr(corrections, "opened", watched)

    async def all_at_once(client):
        photos = [gps.saved(Image.new("RGB", (8, 8), (0, 0, at)), "PNG") for at in range(4)]
        return await asyncio.gather(*(client.post("/keep?place=1,2", content=photo, headers=SENT) for photo in photos))
    assert [answer.json()["rows"] for answer in asked(page, all_at_once)] == [1, 2, 3, 4] and most == [1, 1, 1, 1]


def commanded(monkeypatch, locator, *arguments: str) -> tuple[Starlette, list[str]]:
    """What the command would serve, and the engines it asks for."""
    served, engines = [], []
    monkeypatch.setattr("gre.locate.locator.Locator", lambda *_, engine, **__: engines.append(engine) or locator)

    def serve(self, sockets):
        served.append(self.config.app)
        sockets[0].close()
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    run(parser().parse_args(["--port", "0", *arguments]))
    return served[0], engines


@pytest.mark.parametrize("listens, known", [
    ("127.0.0.1", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"]),
    ("::1", ["[::1]:7860", "localhost:7860", "127.0.0.1"]),
    ("0.0.0.0", ["127.0.0.1", "192.0.2.7:7860", "[2001:db8::7]:7860", "LOCALHOST", socket.gethostname()]),
    ("::", ["[::1]:7860", "192.0.2.7:7860", socket.gethostname()])])
def test_the_command_answers_to_addresses_and_its_own_names_alone(monkeypatch, locator, listens, known):
    try:
        socket.create_server((listens, 0), family=socket.AF_INET6 if ":" in listens else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"{listens} cannot be listened on here")
    served, _ = commanded(monkeypatch, locator, "--model", "a", "--host", listens)

    async def each(client):
        return {host: (await client.get("/settings", headers={"host": host})).status_code
                for host in [*known, "rebound.example", "127.0.0.1.rebound.example:7860", "[::1", ""]}

    async def once():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(served), base_url=HERE) as client:
            return await each(client)
    said = asyncio.run(once())
    assert {host for host, status in said.items() if status == 200} == set(known), said
    assert set(said.values()) == {200, 400}


def test_two_models_share_a_gpu_by_transformers(monkeypatch, locator):
    assert commanded(monkeypatch, locator, "--model", "a", "--model", "b")[1] == ["transformers"] * 2
    assert commanded(monkeypatch, locator, "--model", "a")[1] == ["auto"]
    assert commanded(monkeypatch, locator, "--model", "a", "--model", "b", "--engine", "vllm")[1] == ["vllm"] * 2


def test_the_policy_names_the_tile_server(monkeypatch, locator):
    served, _ = commanded(monkeypatch, locator, "--model", "a", "--tiles", "https://a.tile.example:8443/m/{z}/{x}/{y}{r}.png")

    async def once():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(served), base_url=HERE) as client:
            return (await client.get("/")).headers["content-security-policy"]
    assert "img-src data: https://a.tile.example:8443;" in asyncio.run(once())


def test_models_are_shown_without_the_folders_above(taught):
    assert _names([str(taught / "run/stage3"), "runs/a/stage3"]) == ["run/stage3", "runs/a/stage3"]
    assert _names(["/a/run/stage3", "/b/run/stage3"]) == ["/a/run/stage3", "/b/run/stage3"]


def test_the_command_refuses_what_it_cannot_use(taught, capsys):
    model, other = str(taught / "run/stage3"), socket.create_server(("127.0.0.1", 0))
    taken = other.getsockname()[1]
    for arguments, why in ((["--model", "run/stage9", "--port", "0"], "run/stage9"),
                           (["--model", model, "--model", model], "twice"),
                           (["--model", model, "--tiles", "http://a.b/tiles"], "--tiles http://a.b/tiles: write"),
                           (["--model", model, "--tiles", "https://{s}.b/{z}/{x}/{y}.png"], "not {s}.tile.example"),
                           (["--model", model, "--tiles", "https://a.b/{z}/{x}/{y}.png?key={key}"], "write an address"),
                           (["--model", model, "--tiles", "http://[::1/{z}/{x}/{y}.png"], "write an address"),
                           (["--model", model, "--port", str(taken)], f"--port {taken}: cannot be listened on")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and why in capsys.readouterr().err
    other.close()


def test_a_plain_model_is_told_how_it_is_asked_by_options(capsys):
    base = ["--model", str(ROOT / "gre/tiny/base"), "--port", "0"]
    with pytest.raises(SystemExit) as stop:
        main(base)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "write --prompt … --min-pixels … --max-pixels …" in said
    assert all(word in parser().format_help() for word in re.findall("--[a-z-]+", said))
