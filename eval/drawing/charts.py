"""Small charts as inline SVG: no script, no network, colours from the page's style sheet."""
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 420, 226
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 36  # room for the axes
MOST_KM = 20_016.0  # half the globe
BAR_HEIGHT, LABEL_WIDTH = 30, 96


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover [low, high], about `count` of them."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over the `window` values that end at each one."""
    return [sum(values[max(0, i + 1 - window):i + 1]) / len(values[max(0, i + 1 - window):i + 1])
            for i in range(len(values))]


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str) -> str:
    """A line chart. series: name → (x, y) points; the thin line is what was measured, the thick one its mean over a
    tenth of the points."""
    points = [point for line in series.values() for point in line]
    x_ticks = ticks(0, max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    def path(line: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(place(x, y) for x, y in line)

    parts = [f'<path class="grid" d="M{place(x_ticks[0], y)}L{place(x_ticks[-1], y)}"/>' for y in y_ticks]
    parts += [_text(LEFT - 6, float(place(0, y).split(",")[1]) + 4, number(y), "end") for y in y_ticks]
    parts += [_text(float(place(x, 0).split(",")[0]), HEIGHT - 18, number(x), "middle") for x in x_ticks]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 4, x_label, "end"))
    for index, line in enumerate(series.values()):
        means = smooth([y for _, y in line], max(1, len(line) // 10))
        parts.append(f'<path class="thin s{index}" d="{path(line)}"/>')
        parts.append(f'<path class="line s{index}" d="{path(list(zip((x for x, _ in line), means)))}"/>')
    key = "".join(f'<span><i class="s{index}"></i>{escape(name)}</span>' for index, name in enumerate(series))
    return (f'<figure><figcaption>{escape(title)}<span class="key">{key}</span></figcaption>'
            f'{_svg(WIDTH, HEIGHT, title, parts)}</figure>')


def accuracy(title: str, errors_km: Mapping[str, Sequence[float | None]], thresholds_km: Sequence[float]) -> str:
    """Which share of photos lies within each distance: a step curve a model, over the logarithm of the distance, from
    0.1 km. None is an answer that cannot be read; the thresholds are drawn as lines."""
    first, last = -1.0, math.log10(MOST_KM)

    def place(km: float, share: float) -> str:
        across = LEFT + (math.log10(max(km, 10**first)) - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [f'<path class="grid" d="M{place(0, share)}L{place(MOST_KM, share)}"/>'
             for share in (0, 0.25, 0.5, 0.75, 1)]
    parts += [f'<path class="grid" d="M{place(km, 0)}L{place(km, 1)}"/>' for km in thresholds_km]
    parts += [_text(LEFT - 6, float(place(1, share).split(",")[1]) + 4, f"{share:.0%}", "end") for share in (0, 0.5, 1)]
    parts += [_text(float(place(km, 0).split(",")[0]), HEIGHT - 18, number(km), "middle") for km in thresholds_km]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 4, "within km", "end"))
    for index, errors in enumerate(errors_km.values()):
        known, path, share = sorted(error for error in errors if error is not None), f"M{place(0, 0)}", 0.0
        for at, error in enumerate(known, 1):
            if at == len(known) or known[at] > error:  # of equal errors the last
                path += f"L{place(error, share)}L{place(error, at / len(errors))}"
                share = at / len(errors)
        dashes = f' stroke-dasharray="{2 + 2 * (index // 3)} 3"' if index >= 3 else ""
        parts.append(f'<path class="line s{index % 3}"{dashes} d="{path}L{place(MOST_KM, share)}"/>')
    key = "".join(f'<span><i class="s{index % 3}"></i>{escape(name)}</span>' for index, name in enumerate(errors_km))
    return (f'<figure><figcaption>{escape(title)}<span class="key">{key}</span></figcaption>'
            f'{_svg(WIDTH, HEIGHT, title, parts)}</figure>')


def intervals(title: str, rows: Sequence[tuple[str, str, Mapping[str, float]]], maximum: float) -> str:
    """Horizontal bars from 0 to `maximum`. rows: (label, style class, {"mean", "low", "high"})."""
    height = BAR_HEIGHT * len(rows) + 24
    scale = (WIDTH - LABEL_WIDTH - 46) / maximum
    parts = []
    for tick in ticks(0, maximum):
        x = LABEL_WIDTH + tick * scale
        if tick <= maximum:
            parts.append(f'<path class="grid" d="M{x:.1f},4V{height - 20}"/>')
            parts.append(_text(x, height - 6, number(tick), "middle"))
    for index, (label, style, value) in enumerate(rows):
        middle = 4 + BAR_HEIGHT * (index + 0.5)
        mean, low, high = (LABEL_WIDTH + value[key] * scale for key in ("mean", "low", "high"))
        parts += [
            _text(LABEL_WIDTH - 8, middle + 4, label, "end", "label"),
            f'<rect class="bar {style}" x="{LABEL_WIDTH}" y="{middle - 9:.1f}" width="{mean - LABEL_WIDTH:.1f}" '
            'height="18" rx="3"/>',
            f'<path class="whisker" d="M{low:.1f},{middle:.1f}H{high:.1f}M{low:.1f},{middle - 4:.1f}v8'
            f'M{high:.1f},{middle - 4:.1f}v8"/>',
            _text(high + 6, middle + 4, f"{value['mean']:,.0f}", "start", "value")]
    return f'<figure><figcaption>{escape(title)}</figcaption>{_svg(WIDTH, height, title, parts)}</figure>'


def number(value: float) -> str:
    """A tick's label, without trailing zeros."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">' + "".join(parts) + "</svg>")
