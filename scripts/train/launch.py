"""For stage.sh: torchrun that ends as the training does: with its status, and without a traceback of its own.

    python scripts/train/launch.py TORCHRUN-ARGUMENT …

A signal is handed on, and the processes have --shutdown-timeout seconds to write a checkpoint; a second Ctrl-C kills
them at once. Other signals that come again count once. In a Slurm step on several machines a training that breaks on
one ends the step on all: the others would wait in a kernel for what never comes.
"""
import signal

IGNORED = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # a script's background job
if not IGNORED:  # until torchrun listens: torch is loaded and machines are waited for, deaf to Python's own handler
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# ruff: noqa: E402
import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from types import FrameType

import psutil
from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from gre.training.trainer.stopping import INTERRUPTED, STATUS

TOLD = (2, INTERRUPTED, STATUS)  # statuses of a process that has said why it ended


told: list[signal.Signals] = []


def stop(number: int, frame: FrameType | None) -> None:
    """End the wait for the processes; torchrun hands the signal on to them, and waits again."""
    told.append(signal.Signals(number))
    if len(told) == 1:
        raise api.SignalException("told to stop", sigval=told[0])
    if number == signal.SIGINT:  # torchrun would begin its waiting anew
        for process in psutil.Process().children():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each leads a group, with what it started


def failed(error: ChildFailedError) -> int:
    """The status of the process that ended first, and a line where it could not say itself why."""
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        print(f"error: process {rank} was ended by {signal.Signals(-failure.exitcode).name}, and the others with it; "
              "the same command resumes from the last checkpoint", file=sys.stderr)
        return 128 - failure.exitcode
    if failure.exitcode not in TOLD:
        print(f"error: process {rank} ended with status {failure.exitcode}, see above, and the others with it",
              file=sys.stderr)
    return failure.exitcode


def end_step() -> None:
    """End this Slurm step on all its machines, this process too, where it runs on several."""
    if int(os.environ.get("SLURM_STEP_NUM_NODES", 1)) > 1 and shutil.which("scancel"):
        sys.stderr.flush()
        step = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        subprocess.run(["scancel", "--signal=KILL", step])


def main(argv: list[str]) -> int:
    logging.disable(logging.CRITICAL)  # torchrun tells every signal and every end at length
    api._terminate_process_handler = stop
    arguments = run.parse_args(argv)
    if IGNORED:
        arguments.signals_to_handle = arguments.signals_to_handle.replace("SIGINT,", "")
    try:
        run.run(arguments)
    except api.SignalException:
        return INTERRUPTED if told[-1] == signal.SIGINT else STATUS
    except ChildFailedError as error:
        status = failed(error)
        if status not in (INTERRUPTED, STATUS):  # then all write a checkpoint, and end
            end_step()
        return status
    except DistError as error:
        print(f"error: the machines did not meet ({str(error).splitlines()[0]}): start the same command on each, with "
              "NODE_RANK counted from 0, a MASTER_ADDR that all know machine 0 by, and a MASTER_PORT free there",
              file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
