"""Settings of a command: dataclass < YAML < key=value, checked before anything runs.

    @dataclass
    class Config:
        output_dir: str = option(REQUIRED, "where the run is written")
        train: TrainConfig = option(TrainConfig(learning_rate=1e-6), "the optimiser")

    if __name__ == "__main__":
        main(run, Config, __doc__, plan)

A command then takes `[CONFIG.yaml] [key=value …] [--help] [--dry-run]`. Relative paths mean the caller's folder.
"""
import copy
import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

if typing.TYPE_CHECKING:
    from omegaconf import DictConfig  # loaded where settings are read: much that imports this module reads none

REQUIRED: Any = "???"  # the default of a key the user must give: omegaconf's MISSING
Plan = Callable[[Any], dict[str, list[str]]]


CHECKOUT = Path(__file__).resolve().parents[1]


class UserError(Exception):
    """Something the user can repair. The message says what, where and how; `main` prints it without a traceback."""


class ConfigError(UserError):
    """A key or a value that the command does not take."""


class Option(NamedTuple):
    """One leaf of a config: dotted key, annotated type, default, and what it means."""

    key: str
    type: Any
    default: Any
    help: str


def option(default: Any, help: str) -> Any:
    """A dataclass field with its meaning. `default` may be a list, a dict, a dataclass or an instance of one."""
    metadata = {"help": help}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def shipped(name: str) -> Path:
    """A file that a config names: the caller's own, or else the one in this checkout, whose configs name it so."""
    return Path(name) if Path(name).exists() else CHECKOUT / name if (CHECKOUT / name).exists() else Path(name)


def options(config_class: type) -> list[Option]:
    """Every leaf of `config_class`, nested dataclasses opened, in the order they are written."""
    return list(_walk(config_class, None, ""))


def keys(config_class: type) -> list[str]:
    """The dotted keys of `config_class`, such as `train.learning_rate`."""
    return [leaf.key for leaf in options(config_class)]


def nearest(key: str, known: Sequence[str]) -> str:
    """The known key most like `key`; one that ends in it wins (`seed` for `train.seed`)."""
    same_end = [other for other in known if other.split(".")[-1] == key.split(".")[-1]]
    return difflib.get_close_matches(key, same_end or known, n=1, cutoff=0.0)[0]


def load(config_class: type, argv: Sequence[str], *, description: str = "", plan: Plan | None = None,
         partial: Sequence[str] = ()) -> Any:
    """The `config_class` instance that `argv` describes. Raises ConfigError; `--help` and `--dry-run` exit with 0.

    partial: sections ("" is the top level) of which `config_class` knows a part: what else a file sets there is left
    out rather than refused, since it is checked by the command the file is for.
    """
    from omegaconf import OmegaConf

    leaves = options(config_class)
    if "--help" in argv or "-h" in argv:
        print(usage(config_class, description))
        raise SystemExit(0)
    flags = [arg for arg in argv if arg.startswith("-")]
    if unknown := [flag for flag in flags if flag != "--dry-run"]:
        raise ConfigError(f"{unknown[0]} is not an option here: write key=value, --help or --dry-run")
    given = [arg for arg in argv if arg not in flags]
    files = [arg for arg in given if "=" not in arg or Path(arg).is_file()]
    if len(files) > 1:
        raise ConfigError(f"one config file at most, got {' and '.join(files)} (a value is written key=value)")
    config = OmegaConf.structured(config_class)
    for path in files:
        config = _merge(config, _read(path, leaves, partial), path)
    for text in given:
        if text not in files:
            config = _merge(config, _assignment(text, leaves), "command line")
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"no value for {', '.join(missing)}: write {missing[0]}=… or set it in the config file")
    resolved = _object(config)
    if "--dry-run" in flags:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        for verb, paths in (plan(resolved) if plan else {}).items():
            print(f"# {verb}:", *(f"\n#   {path}" for path in paths), sep="")
        raise SystemExit(0)
    return resolved


def usage(config_class: type, description: str = "") -> str:
    """The text of --help: every key with its type, default and meaning."""
    lines = [description.strip(), "", "arguments: [CONFIG.yaml] [key=value …] [--help] [--dry-run]", "", "keys:"]
    for key, kind, default, meaning in options(config_class):
        shown = "required" if default == REQUIRED else f"default {default!r}"
        lines += [f"  {key} ({_name(kind)}, {shown})"] + ([f"      {meaning}"] if meaning else [])
    return "\n".join(lines)


def save(config: Any, path: str | Path) -> None:
    """Write the resolved config as YAML; folders are made."""
    from omegaconf import OmegaConf

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True), encoding="utf-8")


def main(run: Callable[[Any], Any], config_class: type, description: str = "", plan: Plan | None = None,
         argv: Sequence[str] | None = None) -> None:
    """Run a command. What the user can repair is one message on stderr and exit status 2; a bug keeps its traceback."""
    try:
        run(load(config_class, sys.argv[1:] if argv is None else argv, description=description or "", plan=plan))
    except UserError as error:
        _stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop("interrupted", 130)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _stop(f"error: out of memory ({str(error).splitlines()[0] if str(error) else type(error).__name__}): lower "
              "the batch size or the photo's pixel budget, see --help", 2)


def _stop(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(status)


def _out_of_memory(error: Exception) -> bool:
    """MemoryError, or torch's (a RuntimeError on CPU, a class of its own on CUDA), told apart without importing it."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or "can't allocate memory" in str(error))


def _walk(config_class: type, instance: Any, prefix: str) -> Iterator[Option]:
    types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if instance is not None:
            default = getattr(instance, field.name)
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = REQUIRED if field.default is dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(types[field.name]):
            yield from _walk(types[field.name], None if default == REQUIRED else default, f"{prefix}{field.name}.")
        else:
            yield Option(prefix + field.name, types[field.name], default, field.metadata.get("help", ""))


def _read(path: str, leaves: list[Option], partial: Sequence[str]) -> "DictConfig":
    """A YAML file as a checked mapping, without the unknown keys of `partial` sections."""
    from omegaconf import DictConfig, OmegaConf

    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path} is not a mapping of keys to values")
    for section in partial:
        node = OmegaConf.select(content, section) if section else content
        for name in list(node) if isinstance(node, DictConfig) else []:
            if not _known(f"{section}.{name}".lstrip("."), leaves):
                del node[name]
    for key in _leaf_keys(content, ""):
        _check(key, leaves, path)
    return content


def _leaf_keys(node: "DictConfig", prefix: str) -> Iterator[str]:
    for name in node:
        child = node._get_node(name)
        if isinstance(child, type(node)) and len(child):
            yield from _leaf_keys(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _assignment(text: str, leaves: list[Option]) -> "DictConfig":
    """`key=value` as a mapping. The value of a text key is taken as written: `run=007` stays 007."""
    from omegaconf import OmegaConf

    key, _, value = text.partition("=")
    _check(key, leaves, "command line")
    kind = next((leaf.type for leaf in leaves if leaf.key == key), None)
    if kind is str or (type(None) in typing.get_args(kind) and str in typing.get_args(kind) and value != "null"):
        return OmegaConf.create(_nest(key, value))
    try:
        return OmegaConf.from_dotlist([text])
    except yaml.YAMLError:
        raise ConfigError(f"command line: {value!r} is not a value for {key} ({_name(kind)})") from None


def _nest(key: str, value: Any) -> dict:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _check(key: str, leaves: list[Option], source: str) -> None:
    """Refuse a key that no leaf has."""
    if _known(key, leaves):
        return
    raise ConfigError(f"{source}: unknown key {key!r}; did you mean {nearest(key, [leaf.key for leaf in leaves])!r}? "
                      "(--help lists all)")


def _known(key: str, leaves: list[Option]) -> bool:
    """Whether a key names a leaf. Sections may be named whole; below a dict every key is the user's own."""
    return any(key == leaf.key or leaf.key.startswith(key + ".")
               or typing.get_origin(leaf.type) is dict and key.startswith(leaf.key + ".") for leaf in leaves)


def _merge(config: "DictConfig", layer: "DictConfig", source: str) -> "DictConfig":
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.merge(config, layer)
    except OmegaConfBaseException as error:
        where = error.full_key or ", ".join(map(str, layer))
        raise ConfigError(f"{source}: {where}: {str(error).splitlines()[0]}") from None


def _object(config: "DictConfig") -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(config)
    except (OmegaConfBaseException, ValueError) as error:  # ValueError: a dataclass's own __post_init__
        raise ConfigError(str(error).splitlines()[0]) from None


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
