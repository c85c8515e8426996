"""Draw docs/rewards.svg, the curves of docs/rewards.md, from the rewards' own code: python scripts/draw_rewards.py"""
import math
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from gre.rewards.gps import SHAPES, DistanceConfig, distance_reward, gps_reward

FILE = Path(__file__).resolve().parents[1] / "docs" / "rewards.svg"
WIDTH, HEIGHT, LEFT, TOP, PANEL = 860, 330, 44, 40, (520, 240)  # pixels of a row; PANEL: of the distance curves
JUDGE_LEFT, JUDGE_WIDTH = 640, 200
THETAS_KM = (2500.0, 750.0, 200.0, 25.0, 1.0)
COLOURS = ("#3b4cc0", "#6f91e8", "#8a9a5b", "#e08a4f", "#b40426")  # coarse to fine
FARTHEST_KM = 20015
GRID = (0, 0.25, 0.5, 0.75, 1)
STYLE = ("text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.grid{stroke:#ddd}"
         ".curve{fill:none;stroke-width:2}.mean{stroke:#222;stroke-width:3;stroke-dasharray:7 4}")


def path(points: Iterable[tuple[float, float]], style: str, colour: str = "") -> str:
    line = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<path class="{style}" d="M{line}"' + (f' stroke="{colour}"' if colour else "") + "/>"


def text(x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def height(reward: float) -> float:
    return TOP + PANEL[1] * (1 - reward)


def across(km: float) -> float:
    """Logarithmic from 1 km to the antipode."""
    return LEFT + PANEL[0] * math.log(km) / math.log(FARTHEST_KM)


def curve(reward: Callable[[float], float], style: str, colour: str = "") -> str:
    distances_km = [FARTHEST_KM ** (i / 120) for i in range(121)]
    return path(((across(km), height(reward(km))) for km in distances_km), style, colour)


def axes(title: str) -> list[str]:
    """Title and grid of a panel of distances."""
    parts = [text(LEFT, TOP - 16, title, "start", "title")]
    for reward in GRID:
        parts += [path([(LEFT, height(reward)), (LEFT + PANEL[0], height(reward))], "grid"),
                  text(LEFT - 6, height(reward) + 4, f"{reward:g}", "end")]
    for km in (1, 25, 200, 750, 2500, 20015):
        parts += [path([(across(km), TOP), (across(km), TOP + PANEL[1])], "grid"),
                  text(across(km), TOP + PANEL[1] + 18, f"{km:,}")]
    return parts


def key(x: float, words: str, style: str, colour: str = "") -> list[str]:
    """A line of the legend."""
    return [path([(x, HEIGHT - 12), (x + 20, HEIGHT - 12)], style, colour), text(x + 25, HEIGHT - 8, words, "start")]


def distance_panel() -> list[str]:
    """GRE's gps reward against the distance in km."""
    parts = axes("gps reward, logistic, against the distance (km)")
    for number, (theta, colour) in enumerate(zip(THETAS_KM, COLOURS, strict=True)):
        parts.append(curve(lambda km, theta=theta: gps_reward(km, [theta]), "curve", colour))
        parts += key(LEFT + 92 * number, f"θ = {theta:g}", "curve", colour)
    return [*parts, curve(lambda km: gps_reward(km, DistanceConfig().thetas_km), "curve mean"),
            *key(LEFT + 460, "mean of four", "curve mean")]


def shapes_panel() -> list[str]:
    """The four shapes against the distance in km."""
    parts = axes("gps reward by shape, against the distance (km)")
    for number, shape in enumerate(SHAPES):
        style, colour = ("curve", COLOURS[2 * number - 2]) if number else ("curve mean", "")
        config = DistanceConfig(shape=shape)
        parts.append(curve(lambda km, config=config: distance_reward(km, config), style, colour))
        parts += key(LEFT + 130 * number, shape, style, colour)
    return parts


def judge_panel() -> list[str]:
    """P(True) against the judge's log-odds of True over False."""
    def at(odds: float) -> float:
        return JUDGE_LEFT + JUDGE_WIDTH * (odds + 6) / 12

    parts = [text(JUDGE_LEFT, TOP - 16, "judge: P(True) against log-odds", "start", "title")]
    for reward in GRID:
        parts += [path([(JUDGE_LEFT, height(reward)), (JUDGE_LEFT + JUDGE_WIDTH, height(reward))], "grid"),
                  text(JUDGE_LEFT - 6, height(reward) + 4, f"{reward:g}", "end")]
    for odds in (-6, -3, 0, 3, 6):
        parts += [path([(at(odds), TOP), (at(odds), TOP + PANEL[1])], "grid"),
                  text(at(odds), TOP + PANEL[1] + 18, f"{odds}")]
    points = [(i / 10, 1 / (1 + math.exp(-i / 10))) for i in range(-60, 61)]
    return [*parts, path(((at(odds), height(p)) for odds, p in points), "curve", COLOURS[0])]


def draw() -> str:
    """The whole picture as SVG: two rows of panels."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT}" role="img" '
            f'aria-label="Curves of the rewards"><style>{STYLE}</style><rect width="{WIDTH}" height="{2 * HEIGHT}" '
            'fill="#fff"/>' + "\n".join([*distance_panel(), *judge_panel(), f'<g transform="translate(0 {HEIGHT})">',
                                         *shapes_panel(), "</g>"]) + "</svg>\n")


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
    print(f"wrote {FILE}")
