"""Predicting through an OpenAI-compatible endpoint: a real HTTP server on this machine answers, fails and refuses."""
import base64
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from eval import predict, score
from eval.answering.endpoint import EndpointConfig
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError
from gre.geo.median import geometric_median
from gre.geo.point import LatLon
from tests.helpers.damaged import DAMAGED

KEY = "sk-very-secret"
ROWS = 5


@pytest.fixture
def bench(tmp_path) -> Path:
    """Five photos that tell themselves apart by their colour, with authors."""
    folder = tmp_path / "bench"
    (folder / "img").mkdir(parents=True)
    for number in range(ROWS):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "img" / f"{number}.png")
    (folder / "list.csv").write_text("id,latitude,longitude,author\n" + "".join(
        f"{number}.png,{10 + number},20,ann\n" for number in range(ROWS)))
    return folder


class Server:
    """reply: what is answered to the nth request (from 0) with this body: (status, JSON), or a text to be said."""

    def __init__(self, reply: Callable[[int, dict], tuple[int, dict] | str]):
        self.bodies, self.keys, lock = [], [], threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.bodies.append(body)
                    self.keys.append(handler.headers["Authorization"])
                    said = reply(len(self.bodies) - 1, body)
                status, content = said if isinstance(said, tuple) else (200, completion(said))
                handler.send_response(status)
                handler.end_headers()
                handler.wfile.write(json.dumps(content).encode())

            def log_message(handler, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def completion(text: str | list | None, finish: str | None = "stop", **message) -> dict:
    return {"choices": [{"message": {"content": text, **message}, "finish_reason": finish}]}


def colour(body: dict) -> int:
    """Which of the five photos a request shows."""
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))).getpixel((0, 0))[0]


@pytest.fixture
def serve():
    servers = []

    def start(reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def config(server: Server, bench: Path, out: Path, **keys) -> predict.Config:
    keys = {"prompt": "Where is this?", "max_pixels": 10_000, "batch_size": 2, **keys}
    endpoint = EndpointConfig(server.url, **keys.pop("endpoint", {}))
    return predict.Config(model="some-model", endpoint=endpoint, out=str(out), max_new_tokens=9,
                          benchmark=BenchmarkConfig("csv", str(bench / "list.csv"), str(bench / "img")), **keys)


def right(_: int, body: dict) -> str:
    return f"<think>x</think><answer>{10 + colour(body)}.0, 20.0</answer>"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_endpoint_answers_and_its_key_is_written_nowhere(serve, bench, tmp_path, capfd):
    server, out = serve(right), tmp_path / "p.jsonl"
    rows = predict.run(config(server, bench, out))
    assert [row.error_km for row in rows] == [0.0] * ROWS
    assert [line["author"] for line in lines(out)] == ["ann"] * ROWS
    assert set(server.keys) == {f"Bearer {KEY}"} and len(server.bodies) == ROWS
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some-model", 0.0, 9) and "seed" not in body
    assert body["messages"][0]["content"][1] == {"type": "text", "text": "Where is this?"}
    recorded = json.loads(out.with_suffix(".json").read_text())
    assert recorded["model"] == {"name": "some-model", "fields": {}} and recorded["endpoints"] == [server.url]
    assert recorded["engine"] == {"name": "endpoint", "version": None}
    assert recorded["decoding"] == {"max_new_tokens": 9, "samples": 1, "temperature": 0.0, "seed": 0}
    assert KEY not in out.read_text() + out.with_suffix(".json").read_text() + "".join(capfd.readouterr())


@pytest.mark.parametrize("body, said", [
    (completion([{"type": "audio"}]), 'a part of its message is no text but {"type": "audio"}'),
    (completion(None), "its message holds no content"), (completion(None, "eos"), "its message holds no content"),
    (completion(None, tool_calls=[{}]), "its message holds no content"),
    (completion(None, reasoning_content="Hm."), "its message holds no content, only reasoning: is the server's "
     "reasoning parser made for this model?"),
    (completion("<answer>1, 2</answer>", "abort"), "finish_reason is 'abort'"),
    (completion("", refusal={"reason": "x"}), "its message is no text but a dict"),
    (completion(5), "its message is no text but a int")])
def test_a_message_that_is_no_text_ends_the_evaluation_in_one_message(serve, bench, tmp_path, body, said):
    server = serve(lambda number, asked: (200, body))
    with pytest.raises(UserError, match="row 1: .* gave no answer in 2 tries") as raised:
        predict.run(config(server, bench, tmp_path / "p.jsonl", endpoint={"concurrency": 1, "tries": 2}))
    assert f"an answer that cannot be read ({said})" in str(raised.value)


def test_a_busy_endpoint_is_asked_again_with_a_line(serve, bench, tmp_path, capfd):
    server = serve(lambda number, body: (503, {"error": f"busy, {KEY}"}) if number < 3 else right(number, body))
    rows = predict.run(config(server, bench, tmp_path / "p.jsonl", endpoint={"concurrency": 1}))
    assert [row.error_km for row in rows] == [0.0] * ROWS and len(server.bodies) == ROWS + 3
    said = capfd.readouterr().err
    assert said.count("HTTP 503") == 3 and "try 3 of 8" in said and KEY not in said


def test_a_dead_endpoint_stops_the_run_which_then_goes_on_byte_for_byte(serve, bench, tmp_path, capfd):
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    predict.run(config(serve(right), bench, whole))
    server = serve(lambda number, body: right(number, body) if colour(body) < 3 or server.well else (500, {}))
    server.well = False
    with pytest.raises(UserError, match=r"row 4: .* gave no answer in 2 tries .*HTTP 500.*run the same command"):
        predict.run(config(server, bench, broken, endpoint={"tries": 2}))
    assert len(lines(broken)) == 3  # the first batch, and what of the second was answered
    server.well = True
    predict.run(config(server, bench, broken, endpoint={"tries": 2}))
    assert broken.read_bytes() == whole.read_bytes()


def test_a_failing_request_throws_no_answer_away(serve, bench, tmp_path):
    """All five in one batch; the second fails while the others are answered, and it alone is asked again."""
    out, whole = tmp_path / "p.jsonl", tmp_path / "whole.jsonl"
    server = serve(lambda number, body: (500, {}) if colour(body) == 1 and not server.well else right(number, body))
    server.well = False
    with pytest.raises(UserError, match="row 2: .* gave no answer in 1 tries"):
        predict.run(config(server, bench, out, batch_size=64, endpoint={"tries": 1, "concurrency": ROWS}))
    kept = {line["id"] for line in lines(out)}
    assert "1.png" not in kept and len(kept) >= 1
    server.well, before = True, len(server.bodies)
    rows = predict.run(config(server, bench, out, batch_size=64))
    assert len(server.bodies) - before == ROWS - len(kept) and [row.error_km for row in rows] == [0.0] * ROWS
    predict.run(config(serve(right), bench, whole))
    assert out.read_bytes() == whole.read_bytes()  # in the order of the data, though row 2 was answered last


def test_another_port_goes_on_and_shards_of_two_servers_are_joined(serve, bench, tmp_path):
    one, two, whole = serve(right), serve(right), tmp_path / "whole.jsonl"
    predict.run(config(one, bench, whole))
    out = tmp_path / "moved.jsonl"
    out.write_text("".join(line + "\n" for line in whole.read_text().splitlines()[:2]))
    out.with_suffix(".json").write_text(whole.with_suffix(".json").read_text())
    predict.run(config(two, bench, out))
    assert len(two.bodies) == ROWS - 2 and out.read_bytes() == whole.read_bytes()
    assert json.loads(out.with_suffix(".json").read_text())["endpoints"] == [one.url, two.url]
    shared = tmp_path / "shared.jsonl"
    for mine, server in enumerate((one, two)):
        predict.run(config(server, bench, shared, shard=f"{mine}/2"))
    predict.run(config(two, bench, shared))
    assert shared.read_bytes() == whole.read_bytes()
    assert json.loads(shared.with_suffix(".json").read_text())["endpoints"] == [one.url, two.url]


def test_a_file_of_before_whose_model_names_its_endpoint_goes_on(serve, bench, tmp_path):
    server, out = serve(right), tmp_path / "p.jsonl"
    predict.run(config(server, bench, out))
    before = json.loads(out.with_suffix(".json").read_text())
    before["model"]["endpoint"] = before.pop("endpoints")[0]
    out.with_suffix(".json").write_text(json.dumps(before))
    predict.run(config(server, bench, out))
    assert len(server.bodies) == ROWS


AZURE = {"error": {"code": "content_filter", "message": "The prompt triggered Azure's content management policy."}}


@pytest.mark.parametrize("reply, keys", [
    ((400, AZURE), {}), ((400, {"error": "Your request was rejected as a result of our safety system."}), {}),
    ((400, {"code": "data_inspection_failed"}), {}), ((403, {"error": "flagged by moderation"}), {}),
    ((400, {"error": "no reason"}), {"accept_status": [400]})])
def test_a_photo_that_a_filter_refuses_is_counted_kept_and_shown(serve, bench, tmp_path, capfd, reply, keys):
    server, out = serve(lambda number, body: reply if colour(body) == 1 else right(number, body)), tmp_path / "p.jsonl"
    rows = predict.run(config(server, bench, out, endpoint=keys))
    assert [row.error_km for row in rows] == [0.0, None, 0.0, 0.0, 0.0] and len(server.bodies) == ROWS
    assert lines(out)[1]["refused"] is True and lines(out)[1]["filtered"].startswith(f"HTTP {reply[0]} ")
    assert f"row 2: HTTP {reply[0]} counts as a refusal: " in capfd.readouterr().err
    made = score.run(score.Config(str(out), draws=10))
    assert made["unparsed"] == {"predictions": 1} and made["refused"] == {"predictions": 1}
    assert "1 (1 refused, 1 of them by the endpoint's filter; 0 cut off)" in capfd.readouterr().out


@pytest.mark.parametrize("reply, keys", [
    ((400, {"error": "max_tokens is too large"}), {}), ((401, AZURE), {}), ((404, AZURE), {}),
    ((400, {"error": "unknown field safety_settings"}), {}), ((400, {"error": "names are case sensitive"}), {}),
    ((400, {"error": "no reason"}), {"accept_status": [403]})])
def test_what_is_no_filter_stops_the_run(serve, bench, tmp_path, reply, keys):
    with pytest.raises(UserError, match=f"refuses the request .HTTP {reply[0]}"):
        predict.run(config(serve(lambda *_: reply), bench, tmp_path / "p.jsonl", endpoint=keys))


def test_a_system_prompt_and_another_limit_are_sent_and_recorded(serve, bench, tmp_path):
    server, out = serve(right), tmp_path / "p.jsonl"
    fields = {"max_tokens": None, "max_completion_tokens": 99}
    predict.run(config(server, bench, out, endpoint={"system": "You are a guide.", "fields": fields}))
    body = server.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "You are a guide."}
    assert body["max_completion_tokens"] == 99 and "max_tokens" not in body
    assert json.loads(out.with_suffix(".json").read_text())["model"]["system"] == "You are a guide."


def test_shards_are_joined_with_their_labels_byte_for_byte(serve, bench, tmp_path):
    whole, shared = tmp_path / "whole.jsonl", tmp_path / "shared.jsonl"
    server = serve(right)
    predict.run(config(server, bench, whole))
    for mine in range(2):
        predict.run(config(server, bench, shared, shard=f"{mine}/2"))
    predict.run(config(server, bench, shared))
    assert shared.read_bytes() == whole.read_bytes() and len(server.bodies) == 2 * ROWS


@pytest.mark.parametrize("reply, message", [
    ((401, {"error": f"bad key {KEY}"}), r"refuses the request \(HTTP 401 .*bad key \*\*\*.*\$OPENAI_API_KEY"),
    ((302, {}), "HTTP 302"), ((200, {"choices": []}), "no chat completion"), ((200, []), "no chat completion")])
def test_what_cannot_be_used_stops_the_run(serve, bench, tmp_path, reply, message):
    with pytest.raises(UserError, match=message) as error:
        predict.run(config(serve(lambda *_: reply), bench, tmp_path / "p.jsonl", endpoint={"tries": 1}))
    assert KEY not in str(error.value)


def test_refusals_and_cuts_are_recorded(serve, bench, tmp_path):
    replies = [completion(None, refusal="I will not."), completion("", "content_filter"),
               completion("<think>1, 2", "length"), completion("<answer>12, 20</answer>", "length"),
               completion("no idea")]
    out = tmp_path / "p.jsonl"
    rows = predict.run(config(serve(lambda _, body: (200, replies[colour(body)])), bench, out))
    assert [row.finished for row in rows] == [True, False, False, False, True]
    assert [line.get("refused") for line in lines(out)] == [True, True, None, None, None]
    made = score.run(score.Config(str(out), draws=10))
    assert made["unparsed"] == {"predictions": 4} and made["refused"] == {"predictions": 2}


CHAIN = "<think>A café.</think><answer>12, 20</answer>"


@pytest.mark.parametrize("reply, text, finished", [
    (completion("<answer>12, 20</answer>", reasoning_content="A café."), CHAIN, True),
    (completion("12, 20", reasoning="A café."), CHAIN, True),
    (completion("12, 20", reasoning="<think>A café.</think>"), CHAIN, True),
    (completion(CHAIN, reasoning_content="A café."), CHAIN, True),
    (completion([{"type": "thinking", "thinking": [{"type": "text", "text": "A café."}]},
                 {"type": "text", "text": "12, 20"}]), CHAIN, True),
    (completion(None, "length", reasoning_content="A café, but"), "<think>A café, but", False),
    (completion("", "length", reasoning="A café, but"), "<think>A café, but", False),
    (completion([{"type": "text", "text": "<think>A café.</think>"}, "<answer>12, 20</answer>"]), CHAIN, True),
    (completion(CHAIN, None), CHAIN, True), (completion(CHAIN, "eos_token"), CHAIN, True),
    (completion(CHAIN, "STOP"), CHAIN, True), (completion(CHAIN, "max_tokens"), CHAIN, False),
    ({**completion(CHAIN, None), "usage": {"completion_tokens": 9}}, CHAIN, False),  # the limit here
    ({**completion(CHAIN, None), "usage": {"completion_tokens": 8}}, CHAIN, True),
    (completion(None, "length"), "", False), (completion("", "stop"), "", True)])
def test_what_servers_say_is_read_as_what_the_model_said(serve, bench, tmp_path, reply, text, finished):
    out = tmp_path / "p.jsonl"
    rows = predict.run(config(serve(lambda *_: (200, reply)), bench, out))
    assert {(row.text, row.finished) for row in rows} == {(text, finished)}
    assert {row.lat for row in rows} == {12.0 if "answer" in text else None}


@pytest.mark.parametrize("name", ["page.jpg", "strip.png", "empty.jpg"])
def test_a_photo_that_cannot_be_shown_is_named_before_any_is(serve, bench, tmp_path, name):
    (bench / "img" / "4.png").write_bytes(DAMAGED[name][0])
    server = serve(right)
    with pytest.raises(UserError, match=f"4.png.*{DAMAGED[name][1]}"):
        predict.run(config(server, bench, tmp_path / "p.jsonl"))
    assert server.bodies == []


def test_pictures_are_made_smaller_before_they_are_sent(serve, bench, tmp_path):
    sizes = []

    def reply(_, body):
        url = body["messages"][0]["content"][0]["image_url"]["url"]
        sizes.append(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size)
        return "x"

    predict.run(config(serve(reply), bench, tmp_path / "p.jsonl", max_pixels=300))
    assert set(sizes) == {(20, 15)}


def test_several_samples_answer_with_their_median_and_are_all_kept(serve, bench, tmp_path):
    said = [f"<answer>{answer}</answer>" for answer in ("10, 20", "unknown", "10, 21", "-40, 100")]

    def reply(_, body):
        before = [seed for shown, seed in seeds if shown == colour(body)]
        return said[seeds.setdefault((colour(body), body["seed"]), len(before))]

    seeds: dict[tuple, int] = {}
    out = tmp_path / "p.jsonl"
    (first, *_) = predict.run(config(serve(reply), bench, out, samples=4, temperature=1.0, seed=3,
                                     endpoint={"concurrency": 1}))
    assert len(seeds) == 4 * ROWS  # every sample of every picture has a seed of its own
    median = geometric_median([LatLon(10, 20), LatLon(10, 21), LatLon(-40, 100)])
    assert (first.lat, first.lon) == median and first.text == said[2]  # the sample nearest to the median
    assert [(sample["text"], sample["lat"]) for sample in lines(out)[0]["samples"]] == [
        (said[0], 10.0), (said[1], None), (said[2], 10.0), (said[3], -40.0)]
    assert score.run(score.Config(str(out), draws=10))["n"] == ROWS


@pytest.mark.parametrize("keys, message", [
    ({"samples": 3}, "samples=3 with temperature 0: greedy samples are all the same"),
    ({"samples": 0}, "at least 1, 0 and 1"), ({"temperature": -1.0}, "at least 1, 0 and 1"),
    ({"max_pixels": None}, "Write max_pixels="), ({"prompt": ""}, "write prompt="),
    ({"engine": "vllm"}, "name one of the two"), ({"engine": "tgi"}, "auto, transformers, vllm, endpoint"),
    ({"endpoint": {"concurrency": 0}}, "at least 1")])
def test_settings_that_do_not_go_together(serve, bench, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        predict.run(config(serve(right), bench, tmp_path / "p.jsonl", **keys))


@pytest.mark.parametrize("url", ["http://me:sk-1@host/v1", "https://host/v1?key=sk-1", "host/v1"])
def test_an_address_holds_no_secret(bench, tmp_path, url):
    where = BenchmarkConfig("csv", str(bench / "list.csv"), str(bench))
    with pytest.raises(UserError, match="without a key or a password") as error:
        predict.run(predict.Config(model="m", endpoint=EndpointConfig(url), out=str(tmp_path / "p.jsonl"), max_pixels=9,
                                   prompt="Where?", benchmark=where))
    assert "sk-1" not in str(error.value)


def test_an_endpoint_is_named_for_the_endpoint_engine(bench, tmp_path):
    with pytest.raises(UserError, match="engine=endpoint needs endpoint.url"):
        predict.run(predict.Config(model="m", engine="endpoint", out=str(tmp_path / "p.jsonl")))
