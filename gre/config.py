"""Settings of a command: dataclass < YAML < key=value, checked before anything runs.

    @dataclass
    class Config:
        output_dir: str = option(REQUIRED, "where the run is written")
        train: TrainConfig = option(TrainConfig(learning_rate=1e-6), "the optimiser")

    if __name__ == "__main__":
        main(run, Config, __doc__, plan)

A command then takes `[CONFIG.yaml] [key=value …] [--help] [--dry-run]`. Relative paths mean the caller's folder, and a
text that begins with `~/` or `~name/` a path in that home folder: here, once, for every key of every command. Variables
of the environment are written ${oc.env:NAME} in a file.
"""
import copy
import dataclasses
import difflib
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gre.errors import CHECKOUT, UserError, one_message

if typing.TYPE_CHECKING:
    from omegaconf import DictConfig  # loaded where settings are read: much that imports this module reads none

REQUIRED: Any = "???"  # the default of a key the user must give: omegaconf's MISSING
Plan = Callable[[Any], dict[str, list[str]]]


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


def check_least(section: str, config: Any, least: Mapping[str, float]) -> None:
    """Raise ValueError, as a dataclass's __post_init__ does, for a number of a section that is below its least value,
    infinite or not a number. None is no number."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and not bound <= value < math.inf:
            raise ValueError(f"{section}{name} is {value}: it must be at least {bound}" + (
                " and finite" if value == math.inf else ""))


def shipped(name: str) -> Path:
    """A file that a config names: the caller's own, or else the one in this checkout, whose configs name it so."""
    return Path(name) if Path(name).exists() else CHECKOUT / name if (CHECKOUT / name).exists() else Path(name)


def expanded(text: str) -> str:
    """A path as it was meant: with the home folder for `~` or `~name` at its beginning. Other text as it is.

    Raises ConfigError for `~name/…` of nobody, and for a shell's `$NAME/…`: a folder of that name would be made.
    """
    path = os.path.expanduser(text)
    if variable := re.match(r"\$(\w+)(?=/|\Z)", text):
        raise ConfigError(f"{text}: variables of the environment are written ${{oc.env:NAME}} here: "
                          f"${{oc.env:{variable[1]}}}{text[variable.end():]}")
    if path == text and re.match(r"~[\w.-]*/", text):
        raise ConfigError(f"{text}: there is no user {text[1:text.index('/')]!r} with a home folder; a folder of that "
                          f"name is written ./{text}")
    return path


def names_file(text: str) -> bool:
    """Whether an argument is a config file: what is neither an option nor key=value, or is but exists."""
    return not text.startswith("-") and ("=" not in text or Path(os.path.expanduser(text)).is_file())


def config_files(argv: Sequence[str]) -> list[str]:
    """The config files among a command's arguments, home folders written out."""
    return [expanded(text) for text in argv if names_file(text)]


def options(config_class: type) -> list[Option]:
    """Every leaf of `config_class`, nested dataclasses opened, in the order they are written."""
    return list(_walk(config_class, None, ""))


def keys(config_class: type) -> list[str]:
    """The dotted keys of `config_class`, such as `train.learning_rate`."""
    return [leaf.key for leaf in options(config_class)]


def nearest(key: str, known: Sequence[str]) -> str:
    """The known key most like `key`. One that ends in it wins (`train.seed` for `seed`, `model.lora.r` for
    `train.lora_r`), then one that it abbreviates, by initials (`train.learning_rate` for `train.lr`) or by some of its
    words or their beginnings (`batch_size`)."""
    name = key.split(".")[-1].lower()
    if meant := [other for other in known if other.replace(".", "_").endswith("_" + name) and "." in other]:
        return min(meant, key=len)
    for likely in (str.__eq__, _is_initials, _is_words):
        if meant := [other for other in known if likely(name, other.split(".")[-1].lower())]:
            return difflib.get_close_matches(key, meant, n=1, cutoff=0.0)[0]
    return difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]


def load(config_class: type, argv: Sequence[str], *, description: str = "", plan: Plan | None = None,
         partial: Sequence[str] = ()) -> Any:
    """The `config_class` instance that `argv` describes. Raises ConfigError; `--help` and `--dry-run` exit with 0.

    partial: sections ("" is the top level) of which `config_class` knows a part: what else is set there is left out
    rather than refused, since it is checked by the command it is for. Keys may refer to it all the same.
    """
    from omegaconf import OmegaConf

    leaves = options(config_class)
    if "--help" in argv or "-h" in argv:
        print(usage(config_class, description))
        raise SystemExit(0)
    flags = [arg for arg in argv if arg.startswith("-")]
    if unknown := [flag for flag in flags if flag != "--dry-run"]:
        raise ConfigError(f"{unknown[0]} is not an option here: write key=value, --help or --dry-run")
    files = config_files(argv)
    if len(files) > 1:
        raise ConfigError(f"one config file at most, got {' and '.join(files)} (a value is written key=value)")
    layers = [(_read(path), path) for path in files]
    layers += [(_assignment(text, leaves), "command line") for text in argv
               if text not in flags and not names_file(text)]
    config = OmegaConf.structured(config_class)
    for layer, source in layers:
        config = _merge(config, _checked(layer, leaves, source, partial), source)
    if partial:
        _resolve_in(config, leaves, [layer for layer, _ in layers])
    resolved = _object(config)
    if "--dry-run" in flags:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        for verb, paths in (plan(resolved) if plan else {}).items():
            print(f"# {verb}:", *(f"\n#   {path}" for path in paths), sep="")
        raise SystemExit(0)
    return resolved


def check_keys(config_class: type, argv: Sequence[str]) -> None:
    """Raise ConfigError for a key=value whose key `config_class` lacks, for a command that reads files in part."""
    for text in argv:
        if "=" in text and not names_file(text):
            _check(text.partition("=")[0], options(config_class), "command line")


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
    with one_message():
        run(load(config_class, sys.argv[1:] if argv is None else argv, description=description or "", plan=plan))


def _is_initials(name: str, other: str) -> bool:
    return len(name) > 1 and name in "".join(word[0] for word in other.split("_") if word)


def _is_words(name: str, other: str) -> bool:
    """Whether every word of `name` begins a word of `other`, in their order."""
    words = iter(other.split("_"))
    return all(any(word.startswith(part) for word in words) for part in name.split("_"))


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


def _read(path: str) -> "DictConfig":
    """A YAML file as a mapping."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}") from None
    except OmegaConfBaseException as error:  # a reference that is not closed, say
        raise ConfigError(f"{path}: {_error(error)}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path} is not a mapping of keys to values")
    return content


def _checked(layer: "DictConfig", leaves: list[Option], source: str, partial: Sequence[str]) -> "DictConfig":
    """A layer without the unknown keys of `partial` sections. Raises ConfigError for unknown ones elsewhere."""
    from omegaconf import DictConfig

    known = copy.deepcopy(layer)
    for section in partial:
        node = known._get_node(section) if section else known
        for name in list(node) if isinstance(node, DictConfig) and not node._is_interpolation() else []:
            if not _known(f"{section}.{name}".lstrip("."), leaves):
                del node[name]
    for key in _leaf_keys(known, ""):
        _check(key, leaves, source)
    return known


def _resolve_in(config: "DictConfig", leaves: list[Option], layers: list["DictConfig"]) -> None:
    """Give keys of `config` that refer to others (${seed}) their values; the others may be keys it does not know."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    whole = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(config)), *layers)
    for key in (leaf.key for leaf in leaves):
        section, _, name = key.rpartition(".")
        if OmegaConf.is_interpolation(OmegaConf.select(config, section) if section else config, name):
            try:
                OmegaConf.update(config, key, OmegaConf.select(whole, key))
            except OmegaConfBaseException as error:
                raise _error(error) from None


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
    from omegaconf.errors import OmegaConfBaseException

    key, _, value = text.partition("=")
    kind = next((leaf.type for leaf in leaves if leaf.key == key), None)
    if typing.get_origin(kind) is list and value and value[0] not in "[$":
        raise ConfigError(f"command line: {key} takes a list: write '{key}=[{value}]'")
    inside = [leaf.key for leaf in leaves if leaf.key.startswith(key + ".")]
    if key and inside and value[:1] not in ("{", "$"):
        raise ConfigError(f"command line: {key} is a section, with keys such as {inside[0]}"
                          + (f"; did you mean {longer[0]}?" if (longer := [leaf.key for leaf in leaves if
                                                                           leaf.key.startswith(key + "_")]) else ""))
    try:
        if kind is str or (type(None) in typing.get_args(kind) and str in typing.get_args(kind) and value != "null"):
            return OmegaConf.create(_nest(key, value))
        return OmegaConf.from_dotlist([text])
    except OmegaConfBaseException as error:
        raise ConfigError(f"command line: {key}: {str(error).splitlines()[0]}") from None
    except yaml.YAMLError:
        if kind is None and not any(leaf.key.startswith(key + ".") for leaf in leaves):  # text, for all that is known
            return OmegaConf.create(_nest(key, value))
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
    """The instance, its references resolved and its home folders written out. Raises ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise ConfigError(f"no value for {', '.join(missing)}: write {missing[0]}=… or set it in the config file")
        OmegaConf.resolve(config)
        _expand(config)
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise _error(error) from None
    except ValueError as error:  # a dataclass's own __post_init__
        raise ConfigError(str(error).splitlines()[0]) from None


def _expand(node: Any) -> None:
    """Write home folders out in every text below a node."""
    from omegaconf import DictConfig

    for name in list(node) if isinstance(node, DictConfig) else range(len(node)):
        value = node[name]
        if isinstance(value, str):
            node[name] = expanded(value)
        elif hasattr(value, "_get_node"):
            _expand(value)


def _error(error: Exception) -> ConfigError:
    """What OmegaConf found wrong, with its key."""
    first = str(error).splitlines()[0].removeprefix("KeyError raised while resolving interpolation: ")
    if (name := re.fullmatch(r"Interpolation key '(\w+)' not found", first)) and name[1] in os.environ:
        first += f": the variable of the environment is written ${{oc.env:{name[1]}}}"
    return ConfigError(f"{error.full_key}: {first}" if error.full_key else first)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
