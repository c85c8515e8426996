"""Memory and work of a training before it runs: does CONFIG fit on these GPUs, and if not, what would?

    python -m gre.plan configs/gre7b/stage3.yaml gpus=8 gpu_gib=80 [key=value …] [--json]

CONFIG: a stage's config; key=value changes one of its keys (those of model, train, grpo, rollout, judge and policy).
Counted for the longest rows the config allows. Exit status: 0 it fits, 1 it does not, 2 it cannot be counted.
Nothing is fetched and no GPU is needed: published shapes are known, and a local model's config.json wins.
"""
import sys
from dataclasses import dataclass
from pathlib import Path

from gre.config import REQUIRED, ConfigError, config_files, load, option, usage
from gre.errors import one_message
from gre.training.inputs import STAGES, stage_of


@dataclass
class Config:
    """The planner's own keys."""

    gpus: int = option(REQUIRED, "GPUs, over all machines")
    gpu_gib: float = option(REQUIRED, "memory of one GPU in GiB")
    stage: str | None = option(None, f"{', '.join(STAGES)}; null: by CONFIG's name or first line")

    def __post_init__(self):
        if self.stage not in (None, *STAGES):
            raise ValueError(f"stage is {self.stage!r}: write one of {', '.join(STAGES)}")
        if self.gpus < 1 or self.gpu_gib <= 0:
            raise ValueError("gpus must be at least 1 and gpu_gib above 0")


def main(argv: list[str]) -> int:
    """The exit status."""
    if {"--help", "-h"} & set(argv):
        print(usage(Config, __doc__))
        return 0
    own = [text for text in argv if text.split("=")[0] in ("gpus", "gpu_gib", "stage")]
    rest = [text for text in argv if text not in own and text != "--json"]
    with one_message():
        config = load(Config, own)
        file = config_file(rest)
        stage = config.stage or stage_of(file)
        from gre.plan import report  # loads torch, which takes seconds

        return report.report(rest, stage, file, config.gpus, config.gpu_gib, as_json="--json" in argv)


def config_file(argv: list[str]) -> Path:
    """The one CONFIG among the arguments."""
    files = config_files(argv)
    if len(files) != 1:
        raise ConfigError(f"one CONFIG.yaml is needed, got {' and '.join(files) or 'none'}")
    return Path(files[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
