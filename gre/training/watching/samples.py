"""One group of every step, as text: what a person reads to see what is being learned."""
import json
from dataclasses import dataclass
from pathlib import Path

from gre.training.groups import Rolled
from gre.training.trainer.checkpoints import cut_back, file_state


@dataclass(frozen=True)
class Samples:
    """The file OUTPUT/samples.jsonl. A resumed run neither loses a line nor repeats one."""

    path: Path

    def write(self, step: int, rolled: Rolled) -> None:
        """Append a group's completions, one a line; the first step starts the file anew. For the main process alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "w" if step == 1 else "a", encoding="utf-8") as file:
            for i, (text, one) in enumerate(zip(rolled.texts, rolled.completions, strict=True)):
                file.write(json.dumps({
                    "step": step, "id": rolled.row.id, "text": text, "finished": one.finished,
                    "rewards": {name: round(values[i].item(), 4) for name, values in rolled.rewards.items()},
                    "advantage": round(rolled.advantages[i].item(), 4)}, ensure_ascii=False) + "\n")

    def state_dict(self) -> dict:
        return file_state(self.path)

    def load_state_dict(self, state: dict) -> None:
        cut_back(self.path, state)
