"""What others published, to stand beside a number of ours with its source and protocol: published.yaml."""
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from omegaconf import OmegaConf

from gre.config import UserError
from gre.geo.accuracy import THRESHOLDS_KM


@dataclass(frozen=True)
class Published:
    """One published row. Percent within each of accuracy.THRESHOLDS_KM; None where the source gives no number."""

    benchmark: str  # a name of benchmarks.yaml
    system: str
    within_percent: tuple[float | None, ...]
    mean_km: float | None
    cot_score: float | None  # chain quality as its paper defines it
    protocol: str  # in words
    paper: str  # the system's own
    reported_by: str  # short name of the source
    source: str  # where to look it up
    table: str  # which one there
    comparable: bool
    note: str


def read(benchmark: str | None = None, path: Path | None = None) -> list[Published]:
    """The published rows, all or those of one benchmark, in the order of the file. UserError for a malformed row."""
    file = path or resources.files("eval.benchmarks").joinpath("published.yaml")
    content = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")))
    rows = [_row(row, content, f"{file}, row {number}") for number, row in enumerate(content["rows"], 1)]
    return [row for row in rows if benchmark in (None, row.benchmark)]


def _row(row: dict, content: dict, where: str) -> Published:
    fields = {"within_percent": [None] * len(THRESHOLDS_KM), "mean_km": None, "cot_score": None, "comparable": True,
              "note": "", **row}
    try:
        fields |= {"source": content["sources"][row["reported_by"]], "protocol": content["protocols"][row["protocol"]]}
        fields["within_percent"] = tuple(None if share is None else float(share) for share in fields["within_percent"])
        published = Published(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} is no published row ({type(error).__name__}: {error})") from None
    shares = [share for share in published.within_percent if share is not None]
    if len(published.within_percent) != len(THRESHOLDS_KM) or shares != sorted(shares) or not all(
            0 <= share <= 100 for share in shares):
        raise UserError(f"{where}: within_percent is {published.within_percent}; it has one percentage for each of "
                        f"{', '.join(map(str, THRESHOLDS_KM))} km, none below the one before")
    return published
