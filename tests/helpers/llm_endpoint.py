"""An OpenAI-compatible endpoint on this machine: a real HTTP server whose answers come from a function."""
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Server(ThreadingHTTPServer):
    request_queue_size = 256  # of connections nobody has taken yet; beyond 5, a busy machine loses some


class Endpoint:
    """Serves `answer(body of the request) -> text`, or a dict that is the whole answer. requests: (path, headers, body)
    of all. faults: (status, headers, body) given instead of an answer, first come first served. port: 0: a free one."""

    def __init__(self, answer: Callable[[dict], str | dict], finish: str = "stop", port: int = 0):
        self.requests: list[tuple[str, Mapping, dict]] = []
        self.faults: list[tuple[int, dict, str]] = []
        lock = threading.Lock()
        outer = self

        def whole(said: str | dict) -> dict:
            return said if isinstance(said, dict) else {"choices": [
                {"message": {"role": "assistant", "content": said}, "finish_reason": finish}]}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append((self.path, self.headers, body))
                    fault = outer.faults.pop(0) if outer.faults else None
                status, headers, text = fault or (200, {}, json.dumps(whole(answer(body))))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(text.encode())}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
