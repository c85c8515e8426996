"""What evaluates a run of the quickstart, from its checkpoints to results.json and report.html."""
import time

STARTED = time.monotonic()  # process start: a package is imported before its modules load anything slow
