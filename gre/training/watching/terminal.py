"""What a run shows on a terminal: a progress bar, and one readable line a log. All numbers are in metrics.jsonl."""
import time

from transformers.trainer_callback import ProgressCallback

PERCENT = ("truncated", "eval/truncated")
SHORT = {"grad_norm": "norm", "learning_rate": "lr"}


class StepLines(ProgressCallback):
    """Trainer's progress bar, with a line in place of its dict of forty numbers."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.logged_step, self.logged_at = state.global_step, time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if "train_runtime" not in logs and "loss" in logs:
            steps, now = max(1, state.global_step - self.logged_step), time.monotonic()
            logs = {**logs, "seconds": (now - self.logged_at) / steps}
            self.logged_step, self.logged_at = state.global_step, now
        self.training_bar.write(line(logs, state.global_step, state.max_steps))


def line(logs: dict[str, float], step: int, steps: int) -> str:
    """One line of a log: of a step of SFT or RL, of a validation, or of the whole training. seconds: a step took."""
    if "train_runtime" in logs:
        minutes, seconds = divmod(round(logs["train_runtime"]), 60)
        return f"trained {step} steps in {minutes}:{seconds:02d} min, mean loss {logs['train_loss']:.4g}"
    rewards = {name.removeprefix("reward/"): value for name, value in logs.items()
               if name.startswith("reward/") and not name.endswith("_std")}
    parts = [f"step {step}/{steps}"]
    if any(name.startswith("eval/") for name in logs):
        parts[0] += " validation"
    for name in ("reward", "loss", "kl", "length", "truncated", "grad_norm", "learning_rate", "eval/geoscore",
                 "eval/reward", "eval/truncated"):
        if name not in logs or name in ("loss", "grad_norm") and "reward" in logs:
            continue
        shown = f"{logs[name]:.0%}" if name in PERCENT else f"{logs[name]:.4g}"
        parts.append(f"{SHORT.get(name, name.removeprefix('eval/'))} {shown}")
        if name == "reward" and len(rewards) > 1:
            parts[-1] += " (" + ", ".join(f"{each} {value:.3g}" for each, value in rewards.items()) + ")"
    if "seconds" in logs:
        parts.append(f"{logs['seconds']:.3g} s")
    return "  ".join(parts)
