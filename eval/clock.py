"""When this process began, as good as: imported before anything slow."""
import time

STARTED = time.monotonic()
