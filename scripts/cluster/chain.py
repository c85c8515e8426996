"""For submit.sh: refuse, before the first job of a chain is submitted, what would stop a later one in days.

    python scripts/cluster/chain.py CONFIG [key=value …] [CONFIG [key=value …] …]

The configs are those of the jobs, in their order; keys are those of the config before them. What a stage reads is
there, or is the folder of a stage before it, or of a config beside it that is no job here: that one may be queued. Each
stage has a folder of its own. Rows and photos are not looked at: python -m gre.check does that.
"""
import sys
from collections.abc import Sequence
from pathlib import Path

from gre.config import UserError, names_file, shipped
from gre.errors import one_message
from gre.models import hub
from gre.training.inputs import inputs, read_inputs, stage_folder


def check(jobs: Sequence[Sequence[str]]) -> None:
    """jobs: the arguments of each. Raises UserError naming all that is wrong."""
    configs = [(job[0], read_inputs(job)) for job in jobs]
    made = [stage_folder(config.output_dir) for _, config in configs]
    wrong = [f"{file}: output_dir={config.output_dir} is that of {configs[made.index(folder)][0]} too: each stage "
             "writes a folder of its own" for place, ((file, config), folder) in enumerate(zip(configs, made))
             if made.index(folder) < place]
    elsewhere = _beside({file for file, _ in configs}) - set(made)
    for place, (file, config) in enumerate(configs):
        for each in inputs(config):
            if _there(each) or stage_folder(each.path) in {*made[:place], *elsewhere}:
                continue
            if stage_folder(each.path) in made:
                maker = configs[made.index(stage_folder(each.path))][0]
                wrong.append(f"{file}: {each.key}={each.path} is made by {maker}, which comes after it: name the "
                             "stages in their order")
            else:
                wrong.append(f"{file}: {each.key}: there is no {each.path or 'value'}, and no stage before it writes "
                             f"it: {each.remedy}")
    if wrong:
        raise UserError("\n  ".join([f"{len(wrong)} inputs would be missing", *wrong]) if len(wrong) > 1 else wrong[0])


def _beside(files: set[str]) -> set[str]:
    """The folders that configs beside these write."""
    found = set()
    for path in {path for file in files for path in Path(file).parent.glob("*.yaml")} - set(map(Path, files)):
        try:
            found.add(stage_folder(read_inputs([str(path)]).output_dir))
        except UserError:  # not the config of a stage, or not to be read yet
            continue
    return found


def _there(each) -> bool:
    path = shipped(each.path) if each.key == "train.deepspeed" else Path(each.path)
    return bool(each.path) and (path.exists() or each.key.endswith("model_name_or_path") and hub.is_name(each.path)
                                and not Path(each.path).parent.exists())


def jobs_of(argv: Sequence[str]) -> list[list[str]]:
    """The arguments of each job: a file and the keys behind it."""
    jobs: list[list[str]] = []
    for text in argv:
        if names_file(text):
            jobs.append([text])
        else:
            jobs[-1].append(text)
    return jobs


if __name__ == "__main__":
    with one_message():
        check(jobs_of(sys.argv[1:]))
