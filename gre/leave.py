"""The end of a process that has done its work."""
import atexit
import os
import sys


def leave(status: int = 0) -> None:
    """End this process with this status at once; what is registered to run at the end runs. Of processes that train
    together, each calls it.

    The interpreter's own end is left out: threads of collectives, and vLLM's graphs and memory pools on a GPU, outlive
    it, and may abort when everything is written: a chain of jobs would stop there. Nor may one process go while another
    still talks to it.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
