"""Asking a `vllm serve` in tokens, against a local HTTP server that says what vLLM would: what is checked, tried again
and refused. tests/rollout/test_vllm_served.py asks the real one."""
import base64
import io
import json
import socket
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gre.config import UserError
from gre.judge.model import ServedJudge
from gre.models.vlm import encode_prompt
from gre.models.weights import full_weights
from gre.rollout.vllm import served, transfer
from gre.rollout.vllm.client import Asked, Server, together
from tests.helpers.llm_endpoint import Endpoint

SETTINGS = {"vllm": "0.32.0", "dtype": "float32", "max_model_len": 256, "additional_config": {"banned": [1, 2]}}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


@pytest.fixture
def endpoint():
    with Endpoint(lambda body: "not asked") as endpoint:
        yield endpoint


def server_at(endpoint: Endpoint, timeout_s: float = 10.0) -> Server:
    return Server(endpoint.url.removesuffix("/v1"), timeout_s)


def says(*answers) -> list[tuple]:
    return [(200, {}, json.dumps(answer) if answer is not None else "") for answer in answers]


def answer(prompt, version: str = "v1", token_ids=(9, 8), log_probs=(-0.5, -0.25), **one) -> dict:
    content = [{"token_id": token, "logprob": log_prob, **one} for token, log_prob in zip(token_ids, log_probs)]
    choice = {"index": 0, "token_ids": list(token_ids), "finish_reason": "stop", "logprobs": {"content": content},
              "weight_versions": [{"version": version, "start": 0, "end": len(token_ids)}]}
    return {"prompt_token_ids": prompt.input_ids.tolist(), "choices": [choice]}


@pytest.fixture
def prompt(tiny_vlm):
    return encode_prompt(tiny_vlm[1], "Where is this?", Image.new("RGB", (56, 56), (9, 8, 7)))


def test_a_server_that_is_loading_is_waited_for_and_another_one_refused(endpoint, capsys):
    endpoint.faults = [(503, {}, "loading")] * 6 + says({"results": [SETTINGS]}, {"results": [SETTINGS]})
    assert server_at(endpoint).check({"dtype": "float32", "block_size": 32}) == "0.32.0"
    assert "HTTP 503 loading; try 6 of 90" in capsys.readouterr().err
    assert endpoint.requests[0][0] == "/collective_rpc" and endpoint.requests[0][2]["method"] == "gre_settings"
    with pytest.raises(UserError, match="another server than this run needs: additional_config is {'banned': .1, 2.} "
                                        "there and {'banned': .1.} here; dtype is float32 there and bfloat16 here"):
        server_at(endpoint).check({**SETTINGS, "dtype": "bfloat16", "additional_config": {"banned": [1]}})
    endpoint.faults = [(404, {}, '{"detail":"Not Found"}')]
    with pytest.raises(UserError, match="refuses .*HTTP 404.*scripts/serve.sh"):
        server_at(endpoint).check({})


def test_weights_are_loaded_then_all_three_caches_reset_then_they_get_their_name(endpoint):
    endpoint.faults = says({"results": [None]}, {"success": True}, None, None, {"success": True})
    server_at(endpoint).load("/weights")
    server_at(endpoint).renew("v7")
    assert [path for path, _, _ in endpoint.requests] == [
        "/collective_rpc", "/reset_prefix_cache", "/reset_encoder_cache", "/reset_mm_cache", "/update_weight_version"]
    assert endpoint.requests[0][2] == {"method": "gre_load", "args": ["/weights"]}
    assert endpoint.requests[-1][2] == {"new_version": "v7"}
    endpoint.faults = [(500, {}, "not sent all of its weights: qkv_proj")]
    with pytest.raises(UserError, match="HTTP 500 not sent all of its weights: qkv_proj"):
        server_at(endpoint).load("/weights")
    assert len(endpoint.requests) == 6  # what the worker says would be the same the next time
    endpoint.faults = says({"success": False})
    with pytest.raises(UserError, match="keeps what it computed with old weights"):
        server_at(endpoint).renew("v8")


def test_a_server_that_is_lost_while_weights_are_sent_says_why(endpoint, monkeypatch):
    """What the server says of it comes before what the channel notices."""
    weights, broadcast = [("a", torch.ones(2))], transfer.ByBroadcast(torch.device("cpu"))

    def no_channel(server, port):
        assert port == 1234
        raise RuntimeError("Connection reset\nframe #0")

    monkeypatch.setattr(broadcast, "_open", no_channel)
    endpoint.faults = [*says({"results": ["1234"]}), (500, {}, "this server has several workers")]
    with pytest.raises(UserError, match="HTTP 500 this server has several workers"):
        broadcast.send(server_at(endpoint), weights)
    endpoint.faults = [*says({"results": ["1234"]}), (503, {}, "away")]
    with pytest.raises(UserError, match="gave no answer in 1 tries"):
        broadcast.send(server_at(endpoint), weights)
    endpoint.faults = says({"results": ["1234"]}, {"results": [None]})
    with pytest.raises(UserError, match="was lost while they were sent .RuntimeError: Connection reset.*=FOLDER"):
        broadcast.send(server_at(endpoint), weights)
    assert [body["method"] for _, _, body in endpoint.requests] == ["gre_listen", "gre_receive"] * 3


def test_a_prompt_goes_out_with_one_picture_and_comes_back_whole(endpoint, prompt, capsys):
    endpoint.faults = [(503, {}, "busy"), *says(answer(prompt))]
    ((choice,),) = server_at(endpoint).answers([Asked(prompt, {"n": 1}, "row 3")], 4, "v1")
    assert choice["token_ids"] == [9, 8] and "row 3: http://127.0.0.1" in capsys.readouterr().err
    path, _, body = endpoint.requests[-1]
    assert path == "/inference/v1/generate" and body["sampling_params"] == {"n": 1} and body["return_token_ids"]
    visual = (prompt.mm_token_type_ids != 0).sum().item()
    assert visual == 4 and len(body["token_ids"]) == len(prompt.input_ids) - 3
    (part,) = body["content_parts"]
    sent = Image.open(io.BytesIO(base64.b64decode(part["url"].removeprefix("data:image/png;base64,"))))
    assert sent.tobytes() == prompt.image.tobytes()


def test_another_prompt_other_weights_and_no_answer_stop(endpoint, prompt):
    asked, server = [Asked(prompt, {}, "row 3")], server_at(endpoint)
    endpoint.faults = says({**answer(prompt), "prompt_token_ids": prompt.input_ids.tolist()[:-1]})
    with pytest.raises(RuntimeError, match="reads a prompt of .* tokens as another one"):
        server.answers(asked, 1, "v1")
    endpoint.faults = says(answer(prompt, "default"))
    with pytest.raises(UserError, match="row 3: .*does not have the weights it was sent: it was started anew"):
        server.answers(asked, 1, "v1")
    endpoint.faults = [(500, {}, "the engine is dead")] * 8
    with pytest.raises(UserError, match="row 3: .*no answer in 8 tries .*the engine is dead.* run the same command"):
        server.answers(asked, 1, "v1")
    assert not endpoint.faults


def test_a_silent_server_stops_the_run_too(prompt, capsys):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = Server(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.05)
        with pytest.raises(UserError, match="row 3: .*gave no answer in 8 tries .*timed out.*run the same command"):
            server.answers([Asked(prompt, {}, "row 3")], 1)
    assert "try 7 of 8" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1", "http://127.0.0.1:8000/v1", ""])
def test_an_address_is_a_host_and_a_port(url):
    with pytest.raises(UserError, match="looks like http://127.0.0.1:8000"):
        Server(url, 1.0)


def test_a_rollout_by_hand(endpoint, tiny_vlm, prompt, tmp_path, monkeypatch):
    """The weights are on disk when the server is told to load them, and gone afterwards."""
    monkeypatch.setattr(served, "uuid4", lambda: SimpleNamespace(hex="v1"))
    monkeypatch.setattr(transfer, "SHARD_BYTES", 10_000)
    server, loaded = server_at(endpoint), {}
    monkeypatch.setattr(server, "load", lambda folder: loaded.update(
        {name: tensor for file in sorted((tmp_path / "w").iterdir()) for name, tensor in load_file(file).items()},
        files=len(list((tmp_path / "w").iterdir()))))
    monkeypatch.setattr(server, "renew", lambda version: loaded.update(renewed=version))
    rollout = served.ServedRollout(server, "0.32.0", transfer.ByFolder(tmp_path / "w"), torch.float32, 8,
                                   torch.zeros(400, dtype=bool), 5)
    endpoint.faults = says(answer(prompt))
    ((one,),) = rollout.generate(tiny_vlm[0], [prompt], 1, [6], seed=0, step=0)
    assert one.token_ids.tolist() == [9, 8] and one.finished and one.log_probs.tolist() == [-0.5, -0.25]
    assert loaded.pop("renewed") == "v1" and loaded.pop("files") > 2 and not (tmp_path / "w").exists()
    expected = dict(full_weights(tiny_vlm[0], torch.float32))
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[name], expected[name]) for name in loaded)
    endpoint.faults = says(answer(prompt, log_probs=(-0.5, -9999.0)))  # what a server says for NaN
    with pytest.raises(FloatingPointError, match="of 1 completions are not finite"):
        rollout.generate(tiny_vlm[0], [prompt], 1, [6], seed=0, step=0)


def test_weights_that_cannot_be_written_stop_the_run(endpoint, tiny_vlm, prompt, tmp_path):
    (tmp_path / "file").write_text("")
    rollout = served.ServedRollout(server_at(endpoint), "", transfer.ByFolder(tmp_path / "file/w"), torch.float32, 8,
                                   torch.zeros(400), 5)
    with pytest.raises(UserError, match="cannot be written to .*rollout.weights_dir"):
        rollout.generate(tiny_vlm[0], [prompt], 1, [6], seed=0, step=0)


def test_a_served_verdict_by_hand(endpoint, prompt):
    """0.3 + 0.15 for True, 0.15 for False: 0.75, and 0.4 for anything else."""
    judge = ServedJudge.__new__(ServedJudge)
    judge.server, judge.words = server_at(endpoint), {True: [11, 12], False: [13]}
    asked = []
    judge.server.answers = lambda each, at_once: asked.extend(each) or [[{"logprobs": {"content": [{"top_logprobs": [
        {"token_id": token, "logprob": torch.tensor(p).log().item()}
        for token, p in ((13, 0.15), (11, 0.3), (12, 0.15))]}]}}] for _ in each]
    judge.processor = None
    verdicts = judge.read([prompt, prompt])
    assert verdicts.p_true.tolist() == pytest.approx([0.75, 0.75])
    assert verdicts.outside.tolist() == pytest.approx([0.4, 0.4])
    assert asked[0].params["logprob_token_ids"] == asked[0].params["allowed_token_ids"] == [11, 12, 13]
    assert len(judge.read([]).p_true) == 0


def test_together_gives_the_value_or_stops():
    assert together(lambda a, b: a + b, 1, 2) == 3

    def refuse():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        together(refuse)
