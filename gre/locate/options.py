"""Messages in the spelling of a command: what is `prompt=…` to Python is `--prompt …` to a shell."""
import re
from collections.abc import Iterable


def as_options(message: str, names: Iterable[str]) -> str:
    """`message` with what it says of arguments written as options. names: of the arguments there are options for. Of
    those of one word, which may be any word, only `word=` is one."""
    names = sorted(names, key=len, reverse=True)
    long = "|".join(name for name in names if "_" in name)
    pattern = rf"(?<![\w./-])(?:model\.)?(?:({'|'.join(names)})(=)|({long})\b)"
    return re.sub(pattern, lambda found: "--" + (found[1] or found[3]).replace("_", "-") + (" " if found[2] else ""),
                  message)
