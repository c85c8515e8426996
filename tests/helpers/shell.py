"""What tests of shell scripts share: stubs, and processes that are waited for and never left behind."""
import os
import signal
import time
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a script, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def wait_for(path: str, seconds: float = 30) -> None:
    """Wait until a file has something in it."""
    end = time.monotonic() + seconds
    while not Path(path).exists() or not Path(path).read_text():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def end_left() -> None:
    """Kill what a failed test left running: the processes whose ids lie in `started` and `ready`."""
    for path in (Path("started"), Path("ready")):
        if path.exists():
            try:
                os.kill(int(path.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass
