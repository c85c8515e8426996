"""gre.llm against a real local endpoint: each question once, bounded tries, no key anywhere, offline from the cache."""
import hashlib
import json
import time

import pytest
from PIL import Image

from gre.config import UserError
from gre.llm import Client, LLMConfig, Question, Reply, picture, read_json
from tests.helpers.llm_endpoint import Endpoint


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


def echo(body: dict) -> str:
    return json.dumps(body["messages"][-1]["content"])


def client(endpoint: Endpoint | None, cache, **keys) -> Client:
    return Client(LLMConfig(url=endpoint.url if endpoint else "", model="m", **keys), cache)


def question(text: str, read=read_json) -> Question:
    return Question(f"row {text}", [{"role": "user", "content": text}], read)


def test_each_question_is_asked_once_and_the_cache_alone_gives_the_same(tmp_path):
    cache, texts = tmp_path / "a" / "llm.jsonl", [f"q{number}" for number in range(20)]
    with Endpoint(echo) as endpoint:
        asking = client(endpoint, cache)
        assert asking.answers(map(question, texts), "t") == texts  # in order, though 16 are asked at once
        assert asking.answers(map(question, texts), "t") == texts
        assert asking.asked == len(endpoint.requests) == 20
        assert endpoint.requests[0][0] == "/v1/chat/completions"
        assert endpoint.requests[0][2] | {"messages": 0} == {"model": "m", "messages": 0, "temperature": 0,
                                                             "max_tokens": 4096}
    offline = client(None, cache)
    assert offline.answers(map(question, texts), "t") == texts and offline.asked == 0
    for other in (client(None, cache, decoding={"temperature": 1}), Client(LLMConfig(model="n"), cache)):
        with pytest.raises(UserError, match=r"row q0: .*llm.jsonl does not hold .*Set llm.url"):
            other.answer(question("q0"))
    with pytest.raises(UserError, match="llm.model is empty"):
        Client(LLMConfig(), cache)


def test_null_leaves_a_decoding_field_out(tmp_path):
    with Endpoint(echo) as endpoint:
        client(endpoint, tmp_path / "c.jsonl", decoding={"temperature": None, "top_p": 0.5}).answer(question("q"))
        assert set(endpoint.requests[0][2]) == {"model", "messages", "top_p"}


@pytest.mark.parametrize("body, said", [
    ('{"choices": [{"message": {"content": [{"type": "image_url"}]}}]}', "a part of its message is no text but {"),
    ('{"choices": [{"message": {"content": {"a": 1}}}]}', "its message is no text but a dict"),
    ("[" * 100_000, "no chat completion (RecursionError")])
def test_a_reply_that_is_no_text_is_an_answer_of_no_use(tmp_path, body, said):
    with Endpoint(echo) as endpoint:
        endpoint.faults = [(200, {}, body)]
        with pytest.raises(UserError) as raised:
            client(endpoint, tmp_path / "c.jsonl", tries=1).answer(question("q"))
        assert f"gave no answer in 1 tries (the last: an answer that cannot be read ({said}" in str(raised.value)


def test_a_reply_in_parts_is_one_text(tmp_path):
    with Endpoint(echo) as endpoint:
        endpoint.faults = [(200, {}, json.dumps({"choices": [{"message": {"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": '"a '},
            {"type": "text", "text": 'b"'}]}}]}))]
        assert client(endpoint, tmp_path / "c.jsonl").answer(question("q")) == "a b"


@pytest.mark.slow
def test_a_busy_endpoint_is_tried_again_and_a_dead_one_stops_the_run(tmp_path, capsys):
    with Endpoint(echo) as endpoint:
        endpoint.faults = [(503, {}, "loading"), (429, {"Retry-After": "1"}, "slow down"), (200, {}, '{"choices": []}')]
        start = time.monotonic()
        assert client(endpoint, tmp_path / "c.jsonl").answer(question("q")) == "q"
        assert len(endpoint.requests) == 4 and time.monotonic() - start >= 1  # as the server wants it
        told = capsys.readouterr().err
        assert "HTTP 503 loading; try 1 of 8" in told and "HTTP 429 (Retry-After 1) slow down; try 2 of 8" in told
        assert "an answer that cannot be read (no chat completion (IndexError" in told and "try 3 of 8" in told
        endpoint.faults = [(500, {}, "broken")] * 9
        with pytest.raises(UserError, match="row r: .* no answer in 2 tries .*HTTP 500 broken.*run the command again"):
            client(endpoint, tmp_path / "c.jsonl", tries=2).answer(question("r"))
        assert len(endpoint.requests) == 6
    with pytest.raises(UserError, match="gave no answer in 2 tries .*refused"):
        client(endpoint, tmp_path / "c.jsonl", tries=2).answer(question("r"))


def test_the_key_is_sent_and_never_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with Endpoint(echo) as endpoint:
        endpoint.faults = [(503, {}, "no room for sk-secret"), (401, {}, "wrong key sk-secret")]
        asking = client(endpoint, tmp_path / "c.jsonl", key_env="MY_KEY")
        with pytest.raises(UserError, match=r"refuses the request \(HTTP 401 wrong key \*\*\*\).*\$MY_KEY") as stopped:
            asking.answer(question("q"))
        assert asking.answer(question("q")) == "q"
        assert [headers["Authorization"] for _, headers, _ in endpoint.requests] == ["Bearer sk-secret"] * 3
        endpoint.faults = [(307, {"Location": "http://127.0.0.1:9/v1"}, "")]
        with pytest.raises(UserError, match="HTTP 307"):  # a redirect would carry the key elsewhere
            asking.answer(question("r"))
    seen = str(stopped.value) + "".join(capsys.readouterr()) + (tmp_path / "c.jsonl").read_text()
    assert "secret" not in seen


def test_a_useless_reply_is_sent_back_with_the_reason(tmp_path):
    def stubborn(body):
        return "I think so" if len(body["messages"]) < 5 else "```json\n[1]\n```"

    with Endpoint(stubborn) as endpoint:
        assert client(endpoint, tmp_path / "c.jsonl").answer(question("q")) == [1]
        last = endpoint.requests[-1][2]["messages"]
        assert [turn["role"] for turn in last] == ["user", "assistant", "user", "assistant", "user"]
        assert "cannot be used: Expecting value" in last[-1]["content"]
        with pytest.raises(UserError, match="row q: none of 2 replies of m can be used .*'I think so'.*llm.attempts"):
            client(endpoint, tmp_path / "c.jsonl", attempts=2).answer(question("q"))
        assert len(endpoint.requests) == 5  # what was said before is of no use to two attempts: they are made anew


def test_what_cannot_be_used_is_not_kept_and_a_healthy_server_is_asked_again(tmp_path):
    cache = tmp_path / "c.jsonl"
    with Endpoint(lambda body: "I think so") as endpoint, pytest.raises(UserError, match="none of 2 replies"):
        client(endpoint, cache, attempts=2).answer(question("q"))
    assert not cache.exists()
    with Endpoint(echo) as endpoint:
        assert client(endpoint, cache).answer(question("q")) == "q" and len(endpoint.requests) == 1
    assert client(None, cache).answer(question("q")) == "q"


def test_a_cache_of_before_that_holds_replies_of_no_use_is_mended(tmp_path):
    """Earlier versions kept every reply, under a hash that knew the limit of tokens."""
    cache, asked = tmp_path / "c.jsonl", {"model": "m", "messages": [{"role": "user", "content": "q"}],
                                          "decoding": {"temperature": 0, "max_tokens": 4096}}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    cache.write_text(json.dumps({"key": key, **asked, "reply": {"text": "[1, 2", "finish": "length"}}) + "\n")
    with pytest.raises(UserError, match="was cut off"):
        client(None, cache).answer(question("q"))
    with Endpoint(echo) as endpoint:
        assert client(endpoint, cache).answer(question("q")) == "q" and len(endpoint.requests) == 1
    assert client(None, cache).answer(question("q")) == "q"
    cache.write_text(json.dumps({"key": key, **asked, "reply": {"text": "[1, 2]", "finish": "stop"}}) + "\n")
    assert client(None, cache).answer(question("q")) == [1, 2]


def test_a_higher_limit_asks_only_what_was_cut_off(tmp_path):
    cache = tmp_path / "c.jsonl"
    with Endpoint(echo) as endpoint:
        client(endpoint, cache).answers([question("a"), question("b")], "t")
        cut = {"choices": [{"message": {"content": "["}, "finish_reason": "length"}]}
        endpoint.faults = [(200, {}, json.dumps(cut))]
        with pytest.raises(UserError, match="row c: m's reply was cut off"):
            client(endpoint, cache).answer(question("c"))
        raised = client(endpoint, cache, decoding={"temperature": 0, "max_tokens": 9000})
        assert raised.answers([question("a"), question("b"), question("c")], "t") == ["a", "b", "c"]
        assert raised.asked == 1 and endpoint.requests[-1][2]["max_tokens"] == 9000


def test_a_reply_cut_off_is_no_reply(tmp_path):
    with Endpoint(echo, finish="length") as endpoint, pytest.raises(UserError, match="llm.decoding.max_tokens"):
        client(endpoint, tmp_path / "c.jsonl").answer(question("q"))


def test_a_torn_last_line_is_dropped_and_a_broken_one_named(tmp_path):
    cache = tmp_path / "c.jsonl"
    with Endpoint(echo) as endpoint:
        asking = client(endpoint, cache)
        asking.answers([question("a"), question("b")], "t")
        cache.write_bytes(cache.read_bytes()[:-9])
        again = client(endpoint, cache)
        assert again.answers([question("a"), question("b")], "t") == ["a", "b"] and again.asked == 1
    cache.write_text("{}\n" + cache.read_text())
    with pytest.raises(UserError, match="c.jsonl, line 1: no cached reply"):
        client(None, cache)


def test_pictures_are_sent_whole_and_kept_as_a_hash(tmp_path):
    with Endpoint(lambda body: "1") as endpoint:
        asking = client(endpoint, tmp_path / "c.jsonl")
        for colour in ("red", "red", "blue"):
            content = [picture(Image.new("RGB", (8, 8), colour)), {"type": "text", "text": "?"}]
            asking.answer(Question("q", [{"role": "user", "content": content}], read_json))
        assert asking.asked == 2
        sent = endpoint.requests[0][2]["messages"][0]["content"][0]
        assert sent["image_url"]["url"].startswith("data:image/png;base64,")
    assert "base64" not in (tmp_path / "c.jsonl").read_text()


def test_a_reply_is_kept_whatever_it_says_with_its_tokens(tmp_path):
    """Half a character is no text that a file takes; it becomes a question mark."""
    asked = [{"role": "user", "content": "q"}]
    with Endpoint(echo) as endpoint:
        endpoint.faults = [(200, {}, '{"choices": [{"message": {"content": "a\\ud800b", "refusal": "no", "reasoning": '
                                     '"hm"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}')]
        asking = client(endpoint, tmp_path / "c.jsonl")
        assert not asking.knows(asked)
        first = asking.reply(asked, "row q")
        assert first == Reply("a?b", "stop", "hm", "no", 7, None)
        assert asking.knows(asked) and asking.reply(asked, "row q") == first and asking.asked == 1
    assert client(None, tmp_path / "c.jsonl").reply(asked, "row q") == first
