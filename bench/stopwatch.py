"""Seconds of a step by part."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PARTS = ("preparation", "rollout", "sync", "rewards", "passes", "update")


class Stopwatch:
    """Seconds by part; a part inside another is not counted to that."""

    def __init__(self, now: Callable[[], float]):
        self.now, self.seconds, self._open, self._since = now, dict.fromkeys(PARTS, 0.0), [], 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block belongs to this part."""
        self._switch()
        self._open.append(name)
        yield
        self._switch()
        self._open.pop()

    def _switch(self) -> None:
        now = self.now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds so far, and start anew."""
        seconds, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def watch(self, thing: Any, method: str, name: Callable[[], str] | str) -> None:
        """Let a method of an object be a part."""
        own = getattr(thing, method)

        def watched(*args, **kwargs):
            with self.part(name if isinstance(name, str) else name()):
                return own(*args, **kwargs)

        setattr(thing, method, watched)
