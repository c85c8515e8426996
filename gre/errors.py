"""What the user can repair, told in one message; what is a bug of ours keeps its traceback.

    with one_message():
        run()

A repairable error of our own is a UserError. Those of Python and other libraries are told apart in `message_of`, and
nowhere else: by what they mean, never by a broad class such as ValueError, which a bug raises too. No torch.
"""
import csv
import errno
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parents[1]

_FULL = "free some of that disk or write elsewhere; what was finished before is whole, and the same command resumes"
_ACCESS = "change its permissions, or name another place"
# errno of what a user's files and folders bring about, with the remedy. Others (a closed descriptor, say) are bugs.
REMEDIES = {
    errno.ENOENT: "make it, or name another", errno.ENOTDIR: "a part of that path is a file: name another",
    errno.EISDIR: "name a file", errno.EEXIST: "a file is where a folder should be: move it, or name another place",
    errno.EACCES: _ACCESS, errno.EPERM: _ACCESS, errno.EROFS: "it is mounted to be read only: name another place",
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: "raise `ulimit -f`, or use another file system",
    errno.EMFILE: "raise `ulimit -n`", errno.ENAMETOOLONG: "name a shorter one", errno.ELOOP: "its links form a circle",
    errno.EBUSY: "let go of it and try again", errno.ENOTEMPTY: "let go of what is in it and try again",
    errno.EIO: "the disk or the network it lies on fails", errno.ESTALE: "its network file system lost it: try again",
}


class UserError(Exception):
    """Something the user can repair. The message says what, where and how; it is printed without a traceback."""


@contextmanager
def one_message() -> Iterator[None]:
    """What the user can repair ends the process with one message on stderr and status 2, Ctrl-C with 130, a reader that
    wants no more (`| head`) with 141."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail at exit
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


def message_of(error: Exception) -> str | None:
    """What to tell the user; None where the error is a bug."""
    if isinstance(error, UserError):
        return str(error)
    if out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"out of memory ({first}): lower the batch size or the photo's pixel budget, see --help"
    if isinstance(error, UnicodeDecodeError):
        file = _file(error)
        return file and f"{file} is not {error.encoding} text ({error.reason} at byte {error.start}): save it as UTF-8"
    if isinstance(error, csv.Error):
        return f"{_file(error) or 'a table'} cannot be read as CSV: {error}{_line(error)}"
    if type(error).__name__ == "SafetensorError":  # not imported: it comes with packages that take seconds
        return (f"{_file(error) or 'safetensors'}: weights cannot be read or written ({error}){_line(error)}: an "
                "interrupted copy is too short, and a full disk ends a file early")
    if type(error) is OSError and error.errno is None:  # how transformers speaks to its users
        return f"{error}{_line(error)}"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        file = error.filename if isinstance(error.filename, (str, os.PathLike)) else _file(error)
        return f"{file or 'a file'}: {os.strerror(error.errno)}{_line(error)}: {REMEDIES[error.errno]}"
    return None


def out_of_memory(error: Exception) -> bool:
    """MemoryError, or torch's (a RuntimeError on CPU, a class of its own on CUDA), told apart without importing it."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _frames(error: Exception) -> list[FrameType]:
    """Where it was raised, innermost first, up to the first code of ours."""
    frames: list[FrameType] = []
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        frames.append(frame)
        if _ours(frame):
            break
    return frames


def _ours(frame: FrameType) -> bool:
    file = Path(frame.f_code.co_filename)
    return file.is_relative_to(CHECKOUT) and "site-packages" not in file.parts


def _file(error: Exception) -> str | None:
    """The file that was read or written when an error was raised that does not name it: the one that is open there, or
    the path that the reading function was given."""
    frames = _frames(error)
    for frame in frames:
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                return value.name
            if isinstance(value, Path) and (_ours(frame) or frame.f_globals.get("__name__", "").startswith("pathlib")):
                return str(value)
    given = [frame.f_locals.get(name) for frame in frames if _ours(frame) for name in ("path", "file", "folder")]
    return next((value for value in given if isinstance(value, str)), None)


def _line(error: Exception) -> str:
    """Where in our code, for whoever has to find out more."""
    frame = _frames(error)[-1] if error.__traceback__ else None
    if frame is None or not _ours(frame):
        return ""
    return f" ({Path(frame.f_code.co_filename).relative_to(CHECKOUT)}, line {frame.f_lineno})"
