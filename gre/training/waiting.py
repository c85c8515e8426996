"""Nothing waits in silence: what takes longer than it should says what it waits for, and what to do."""
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 30.0


@contextmanager
def told_when_late(message: str) -> Iterator[None]:
    """Print `message` once when the block takes more than half a minute."""
    timer = threading.Timer(SECONDS, print, [message], {"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
