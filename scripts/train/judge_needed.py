"""For stage2.sh and globe.sh: print the arguments of the judge, or GLOBE's reward model, to train first, one a line,
when that stage wants one and has none.

    python scripts/train/judge_needed.py stage2|globe [CONFIG] [key=value …]
"""
import sys
from pathlib import Path

from gre.config import ConfigError, UserError, config_files
from gre.errors import one_message
from gre.training.inputs import Inputs, check_inputs, read_inputs

ROOT = Path(__file__).resolve().parents[2]
SHARED = {"seed": "seed", "accept_parent": "accept_parent"}  # what is given for the stage holds for its judge too
# Keys of stage 2 that its judge's measure must share, or stage 2 would refuse the judge when it has been trained.
MEASURED = {"rollout.temperature": "policy.temperature", "rollout.max_new_tokens": "policy.max_new_tokens"}
DEFAULT = {"stage2": "gre7b/stage2.yaml", "globe": "globe7b/globe.yaml"}


def judge_arguments(argv: list[str]) -> list[str]:
    """The judge's config (judge.yaml beside CONFIG), its folder (next to stage 2's), the policy to measure it on, and
    what both share. A judge that starts from the policy CONFIG names starts from the one that is trained instead.

    Raises UserError when there is no such config, or a judge already lies in the folder that no stage can compare with
    this one: nothing is picked up unasked. One that was trained by this very command is found finished by its stage.
    """
    file, settings = read_stage("stage2", argv)
    if settings.judge.model_name_or_path:
        return []
    measured = f"policy.model_name_or_path={settings.model_name_or_path}"
    return to_train("judge", file, settings, argv, MEASURED | SHARED, measured)


def reward_model_arguments(argv: list[str]) -> list[str]:
    """The reward model's config (localizability.yaml beside CONFIG), its folder (next to GLOBE's) and what both share,
    as `judge_arguments`; none where localizability weighs nothing."""
    file, settings = read_stage("globe", argv)
    if settings.judge.model_name_or_path or not settings.weights.localizability:
        return []
    return to_train("localizability", file, settings, argv, SHARED)


def read_stage(stage: str, argv: list[str]) -> tuple[Path, Inputs]:
    """(CONFIG, what it says is read)."""
    files = config_files(argv)
    file = Path(files[0]) if files else ROOT / "configs" / DEFAULT[stage]
    keys = [text for text in argv if text != "--dry-run"]
    return file, read_inputs(keys if files else [str(file), *keys])


def to_train(judge: str, file: Path, settings: Inputs, argv: list[str], shared: dict[str, str],
             *more: str) -> list[str]:
    """The arguments of the judge to train: the config beside `file`, its folder, `more`, its parent where that is
    another than its config's, and what is given of `shared`, keys of the stage -> the judge's. Raises UserError."""
    if "--dry-run" not in argv:
        check_inputs(settings)  # what the stage itself reads: before days of training a judge, not after
    judge_file, folder = file.with_name(f"{judge}.yaml"), Path(settings.output_dir).parent / judge
    if not judge_file.exists():
        raise UserError(f"no judge is given and there is no {judge_file} to train one by: write "
                        "judge.model_name_or_path=FOLDER")
    if (folder / "manifest.json").exists() and not comparable(folder):
        raise UserError(f"no judge is given, but {folder} holds one: write judge.model_name_or_path={folder}")
    arguments = [str(judge_file), f"output_dir={folder}", *more]
    if read_inputs(arguments[:2]).model_name_or_path == named_by(file):
        arguments.append(f"model_name_or_path={settings.model_name_or_path}")
    given = dict(text.partition("=")[::2] for text in argv if "=" in text)
    arguments += [f"{own}={given[key]}" for key, own in shared.items() if key in given]
    if "--dry-run" not in argv:
        try:
            check_inputs(read_inputs(arguments))
        except UserError as error:
            raise UserError(f"no judge is given, and the one to be trained first cannot be: {error}\ndata.path here is "
                            f"the stage's own. Train that one by itself: bash scripts/train/{judge}.sh "
                            f"{' '.join(arguments)} data.path=FILE, then write judge.model_name_or_path={folder}"
                            ) from None
    return arguments


def named_by(file: Path) -> str | None:
    """The policy that a stage's config names by itself."""
    try:
        return read_inputs([str(file)]).model_name_or_path
    except ConfigError:  # it names none
        return None


def comparable(folder: Path) -> bool:
    """Whether a finished stage says what it is made of: its own command leaves it alone then, another is refused."""
    from gre.manifest import read_manifest  # loads torch, which takes seconds

    return "made_of" in read_manifest(folder)


if __name__ == "__main__":
    with one_message():
        if not {"--help", "-h"} & set(sys.argv):
            needed = {"stage2": judge_arguments, "globe": reward_model_arguments}[sys.argv[1]]
            print(*needed(sys.argv[2:]), sep="\n")
