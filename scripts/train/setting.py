"""For shell scripts: print one setting of a stage, as the stage itself will read it.

    python scripts/train/setting.py KEY [CONFIG] [key=value …]

KEY: output_dir, or a key that names what the stage reads (gre.training.inputs.Inputs). Nothing is printed for null.
"""
import sys
from functools import reduce

from gre import config
from gre.config import ConfigError
from gre.errors import one_message
from gre.training.inputs import Inputs, read_inputs


def setting(key: str, argv: list[str]) -> str:
    """The value as text. Raises ConfigError."""
    known = config.keys(Inputs)
    if key not in known:
        raise ConfigError(f"{key!r} is no key that names a path; did you mean {config.nearest(key, known)!r}?")
    value = reduce(getattr, key.split("."), read_inputs(argv))
    return "" if value is None else str(value)


if __name__ == "__main__":
    with one_message():
        print(setting(sys.argv[1], sys.argv[2:]))
