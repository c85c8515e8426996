"""Predictions per second: vLLM in the process against 16 threads that ask the same model, served by vLLM.

    python -m bench.evaluate model=runs/NAME/stage1 data=runs/NAME/data/test/test.jsonl [rows=200] [repeats=3]

GLOBE's evaluation starts a server and asks it with 16 threads, one photo a request; eval.predict with engine=vllm
hands all photos over at once. Both answer the same photos greedily, one after the other, again and again; what
starting takes is left out, medians count, and the answers must be the same. Writes and prints
docs/results/evaluate_speed.md.
"""
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eval.answering.endpoint import EndpointConfig, by_endpoint
from gre import manifest, provenance
from gre.answering import engines
from gre.answering.engines import Answer, Decoding
from gre.answering.vllm_offline import by_vllm
from gre.config import REQUIRED, main, option
from gre.data.images import load_image
from gre.data.records import DataConfig, read_seed
from gre.models import vlm
from gre.rollout.vllm.start import LEAST_BATCHED_TOKENS

ROOT = Path(__file__).resolve().parents[1]
THREADS = 16  # GLOBE's
BAN = -100.0  # added to a logit: the least vLLM takes
UP_WITHIN_S = 600


@dataclass
class Config:
    model: str = option(REQUIRED, "a stage's folder, or a plain model folder")
    data: str = option(REQUIRED, "rows to answer, in the form of GRE30K-Seed")
    rows: int = option(200, "photos, the first of the data")
    repeats: int = option(3, "times each way answers them")
    max_new_tokens: int = option(128, "tokens of an answer")
    dtype: str = option("float32", "weights: float32 or bfloat16")
    out: str = option(str(ROOT / "docs" / "results" / "evaluate_speed.md"), "Markdown file for the table")


def run(config: Config) -> None:
    """Measure, print and write the table. Raises RuntimeError when the server does not come up."""
    parent = manifest.verify_parent(config.model, ("base", "stage1", "stage2", "stage3"))
    rows = read_seed(DataConfig(path=config.data))[:config.rows]
    asked = [row.instruction for row in rows], [load_image(row.image) for row in rows], list(range(len(rows)))
    decoding = Decoding(config.max_new_tokens, 1, 0.0, 0)
    processor = vlm.load_processor(parent.model_dir)
    banned = vlm.banned_tokens(processor.tokenizer, len(processor.tokenizer)).nonzero()[:, 0].tolist()
    fields = {"logit_bias": {str(token): BAN for token in banned}}
    with server(parent.model_dir, config.dtype) as url:
        ways: dict[str, Answer] = {
            "16 threads and a server": by_endpoint(
                EndpointConfig(url, fields=fields, concurrency=THREADS), "served", parent.pixel_budget.max_pixels,
                decoding),
            "vLLM in the process": by_vllm(parent.model_dir, parent.pixel_budget, decoding, config.dtype,
                                           set(asked[0]))}
        for answer in ways.values():  # warm
            answer(*(part[:THREADS] for part in asked))
        rates, texts = {name: [] for name in ways}, {}
        for _ in range(config.repeats):
            for name, answer in ways.items():
                start = time.perf_counter()
                texts[name] = [said.text for (said,) in answer(*asked)]
                rates[name].append(len(rows) / (time.perf_counter() - start))
                print(f"{name}: {rates[name][-1]:.2f} photos a second", flush=True)
    text = table(config, len(rows), rates, texts)
    print(text, end="")
    provenance.write_atomically(Path(config.out), text)


def table(config: Config, rows: int, rates: dict[str, list[float]], texts: dict[str, list[str]]) -> str:
    """The result as Markdown. rates: way → photos a second of each repeat, the server's first."""
    served, own = (statistics.median(found) for found in rates.values())
    same = sum(a == b for a, b in zip(*texts.values()))
    lines = [f"| {name} | {statistics.median(found):.2f} | {', '.join(f'{rate:.2f}' for rate in found)} |"
             for name, found in rates.items()]
    return "\n".join([
        "# Predictions per second", "",
        f"`{shlex.join(['python', '-m', 'bench.evaluate', *sys.argv[1:]])}`, commit {provenance.commit()}, "
        f"{engines.record('vllm')['version']} of vLLM, {os.cpu_count()} cores: {rows} photos, greedy, up to "
        f"{config.max_new_tokens} tokens, {config.dtype}, {config.repeats} times in turn.", "",
        "| way | median, photos a second | each time |", "|---|---|---|", *lines, "",
        f"{own / served:.2f} times as fast; {same} of {rows} answers are the same text.", ""])


@contextmanager
def server(folder: Path, dtype: str) -> Iterator[str]:
    """vLLM serving the model on this machine, as long as the block runs: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", dtype,
               "--served-model-name", "served", "--host", "127.0.0.1", "--port", str(port), "--generation-config",
               "vllm", "--limit-mm-per-prompt", '{"image": 1, "video": 0}', "--enforce-eager",
               "--max-num-batched-tokens", str(LEAST_BATCHED_TOKENS), "--max-model-len", "4096"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
                   "VLLM_LOGGING_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait(process, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def wait(process: subprocess.Popen, url: str) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"no server at {url} within {UP_WITHIN_S} s")


if __name__ == "__main__":
    main(run, Config, __doc__, lambda config: {"reads": [config.model, config.data], "writes": [config.out]})
