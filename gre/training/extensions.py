"""torch's lock on a folder in which an extension is compiled, held by a living process.

torch's own is a file that is there: a start that is killed while DeepSpeed compiles leaves it, and every later start
waits for it for ever, without a word. Here the file is locked too, which ends with its process however that ends, on
other machines of the same file system as well.
"""
import fcntl
import os
import socket
import time
from pathlib import Path

import torch.utils.cpp_extension
from torch.utils.file_baton import FileBaton

from gre.config import UserError
from gre.training.waiting import told_when_late


def install() -> None:
    """Let torch compile under our lock. Call it before DeepSpeed starts."""
    torch.utils.cpp_extension.FileBaton = Baton


class Baton(FileBaton):
    """A FileBaton that a dead process does not keep. One whose file is empty belongs to a program that locks as torch
    does: whether it lives cannot be told, so it is waited for, and said so."""

    def try_acquire(self) -> bool:
        try:
            new = os.open(self.lock_file_path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            return not self._is_another_program_s() and self._take()
        self.fd = new
        try:
            fcntl.flock(new, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: it stays as empty as torch's own
            return True
        self._sign()
        return True

    def wait(self) -> None:
        with told_when_late(self._message()):
            while os.path.exists(self.lock_file_path):
                time.sleep(self.wait_seconds)
                if not self._is_another_program_s() and self._take():
                    self.release()
                    raise UserError(f"the process that compiled in {Path(self.lock_file_path).parent} ended before it "
                                    "was done: start again")

    def release(self) -> None:
        """Remove the file while it is still locked: nobody else takes it in between."""
        os.remove(self.lock_file_path)
        os.close(self.fd)
        self.fd = None

    def _take(self) -> bool:
        """Lock the file that is there. False: its process lives, or it is gone again."""
        try:
            held = os.open(self.lock_file_path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(held), os.stat(self.lock_file_path)):
                self.fd = held
                print(f"{self.lock_file_path} was left by {os.pread(held, 200, 0).decode()}, which has ended",
                      flush=True)
                self._sign()
                return True
        except (BlockingIOError, PermissionError, FileNotFoundError):
            pass
        os.close(held)
        return False

    def _sign(self) -> None:
        os.truncate(self.fd, 0)
        os.pwrite(self.fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def _is_another_program_s(self) -> bool:
        return os.path.exists(self.lock_file_path) and not os.path.getsize(self.lock_file_path)

    def _message(self) -> str:
        path = Path(self.lock_file_path)
        try:
            holder, since = path.read_text(), time.strftime("%d %B %H:%M", time.localtime(path.stat().st_mtime))
        except FileNotFoundError:
            return f"waiting for an extension to be compiled in {path.parent}"
        if holder:
            return f"waiting for {holder}, which compiles in {path.parent} since {since}"
        return (f"waiting for another program that compiles in {path.parent} since {since}. If there is none (one that "
                f"was killed leaves its lock), remove it: rm {path}")
