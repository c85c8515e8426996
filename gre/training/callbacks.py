"""What Trainer tells the outside: one JSON line per log, and a stop at the first number that is not finite."""
import json
import math
from pathlib import Path

from transformers import TrainerCallback

from gre.config import UserError
from gre.training.resume import cut_back, file_state


class MetricsFile(TrainerCallback):
    """Writes every log to `path` as {"step": …, "loss": …}. A run that starts anew starts the file anew, a resumed one
    goes on after the checkpoint's last line.

    Raises UserError on a value that is NaN or infinite, after writing the line (with the value as text).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and state.global_step == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("")

    def state_dict(self) -> dict:
        return file_state(self.path)

    def load_state_dict(self, state: dict) -> None:
        cut_back(self.path, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        broken = {name: str(value) for name, value in logs.items()
                  if isinstance(value, float) and not math.isfinite(value)}
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": state.global_step, **logs, **broken}) + "\n")
        if broken:
            raise UserError(f"step {state.global_step}: {broken}: lower train.learning_rate, or look into the rows of "
                            "this step")
