"""gre.http against real local servers: whose key is sent, which way requests go, by how many connections."""
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gre.config import UserError
from gre.http import TRIES, Connection
from tests.helpers.llm_endpoint import Endpoint


def connection(url: str, key: str = "") -> Connection:
    return Connection(url, key, if_refused="Look again.", if_away="Come again.")


def ask(server: Connection, body: dict | None = None, tries: int = 1) -> str:
    return server.post("/chat/completions", body or {}, read, where="here", timeout_s=30.0, tries=tries)


def read(content: bytes) -> str:
    return json.loads(content)["choices"][0]["message"]["content"]


def test_no_key_means_none_whatever_the_environment_holds(monkeypatch):
    """openai would send these by itself."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-other")
    with Endpoint(lambda body: "yes") as endpoint:
        assert ask(connection(endpoint.url)) == ask(connection(endpoint.url, "sk-mine")) == "yes"
        assert [headers["Authorization"] for _, headers, _ in endpoint.requests] == [None, "Bearer sk-mine"]


def test_a_key_is_hidden_where_a_message_is_cut(capsys):
    with Endpoint(lambda body: "yes") as endpoint:
        endpoint.faults = [(503, {}, "x" * 485 + "sk-secret")] * 2
        with pytest.raises(UserError) as stopped:
            ask(connection(endpoint.url, "sk-secret"), tries=2)
    assert "sk-" not in str(stopped.value) + capsys.readouterr().err


def test_who_wants_to_be_left_alone_is():
    """openai retries neither: a pause of more than two minutes, and a server that says that another try is in vain."""
    with Endpoint(lambda body: "yes") as endpoint:
        endpoint.faults = [(429, {"Retry-After": "3600"}, "tomorrow"), (429, {"x-should-retry": "false"}, "no money")]
        with pytest.raises(UserError, match=r"gave no answer in 1 tries .*\(Retry-After 3600\) tomorrow\). Come again"):
            ask(connection(endpoint.url), tries=TRIES)
        with pytest.raises(UserError, match="gave no answer in 1 tries .*no money"):
            ask(connection(endpoint.url), tries=TRIES)


PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that answers with a fault of its own, named by the environment with a password."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with Endpoint(lambda body: "yes") as server:
        address = server.url.removeprefix("http://").removesuffix("/v1")
        monkeypatch.setenv("http_proxy", f"http://me:secret@{address}")
        server.address = address
        yield server


@pytest.mark.parametrize("fault, said", [(403, "refuses the request"), (503, "gave no answer in 1 tries")])
def test_a_proxy_that_may_be_in_the_way_is_named(proxy, fault, said):
    proxy.faults = [(fault, {}, "blocked")]
    with pytest.raises(UserError, match=f"{said}.*went through the proxy {proxy.address}, as HTTP_PROXY or ALL_PROXY "
                                        "says: .* add 192.0.2.1 to NO_PROXY") as stopped:
        ask(connection("http://192.0.2.1:8000/v1"))
    assert "secret" not in str(stopped.value) and len(proxy.requests) == 1


def test_a_proxy_that_was_not_asked_is_not_named(proxy, monkeypatch):
    with Endpoint(lambda body: "yes") as endpoint:
        endpoint.faults = [(403, {}, "no")]
        with pytest.raises(UserError, match="refuses the request") as stopped:
            ask(connection(endpoint.url))
    monkeypatch.setenv("no_proxy", "192.0.2.1")
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    with pytest.raises(UserError, match="gave no answer") as away:
        connection("http://192.0.2.1:1/v1").post("/x", {}, read, where="here", timeout_s=0.2, tries=1)
    assert "proxy" not in str(stopped.value) + str(away.value) and proxy.requests == []


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Endpoint(lambda body: "yes") as endpoint:
        assert ask(connection(endpoint.url)) == "yes"
        assert ask(connection(endpoint.url.replace("127.0.0.1", "localhost"))) == "yes"
    with pytest.raises(UserError, match="Connection refused"):  # by the proxy: there is no such host
        ask(connection("http://host.invalid/v1"))
    monkeypatch.setenv("all_proxy", "gopher://127.0.0.1:9")
    with pytest.raises(UserError, match="host.invalid/v1 cannot be asked .*ALL_PROXY"):
        connection("http://host.invalid/v1")


def test_a_hundred_and_fifty_at_once():
    """More than httpx2 opens unless told to: nobody waits for another's connection."""
    gate = threading.Barrier(150, timeout=150)  # a machine under load is slow, not wrong

    def when_all_have_come(body: dict) -> str:
        gate.wait()
        return str(body["n"])

    with Endpoint(when_all_have_come) as endpoint, ThreadPoolExecutor(150) as pool:
        server = connection(endpoint.url)
        assert list(pool.map(lambda n: ask(server, {"n": n}), range(150))) == [str(n) for n in range(150)]


def test_a_connection_that_the_server_closes_unannounced_is_not_used_again():
    """As vLLM's does after an error. Each request is sent once."""
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            content = b'{"choices": [{"message": {"content": "yes"}}]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        server = connection(f"http://127.0.0.1:{served.server_port}/v1")
        assert [ask(server, tries=1) for _ in range(100)] == ["yes"] * 100
        served.shutdown()
