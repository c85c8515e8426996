"""For stage2.sh: print the arguments of the judge to train first, one a line, when stage 2 wants one and has none.

    python scripts/train/judge_needed.py [CONFIG] [key=value …]
"""
import sys
from pathlib import Path

from gre.config import UserError, config_files
from gre.errors import one_message
from gre.training.inputs import check_inputs, read_inputs

ROOT = Path(__file__).resolve().parents[2]


def judge_arguments(argv: list[str]) -> list[str]:
    """The judge's config (judge.yaml beside CONFIG), its folder (next to stage 2's), and the policy to measure it on.

    Raises UserError when there is no such config, or a judge already lies in the folder: nothing is picked up unasked.
    """
    files = config_files(argv)
    file = Path(files[0]) if files else ROOT / "configs" / "gre7b" / "stage2.yaml"
    keys = [text for text in argv if text != "--dry-run"]
    settings = read_inputs(keys if files else [str(file), *keys])
    if settings.judge.model_name_or_path:
        return []
    if "--dry-run" not in argv:
        check_inputs(settings)  # what stage 2 itself reads: before days of training a judge, not after
    judge_file, folder = file.with_name("judge.yaml"), Path(settings.output_dir).parent / "judge"
    if not judge_file.exists():
        raise UserError(f"no judge is given and there is no {judge_file} to train one by: write "
                        "judge.model_name_or_path=FOLDER")
    if (folder / "manifest.json").exists():
        raise UserError(f"no judge is given, but {folder} holds one: write judge.model_name_or_path={folder}")
    return [str(judge_file), f"output_dir={folder}", f"policy.model_name_or_path={settings.model_name_or_path}"]


if __name__ == "__main__":
    with one_message():
        if not {"--help", "-h"} & set(sys.argv):
            print(*judge_arguments(sys.argv[1:]), sep="\n")
