"""Draw docs/rewards.svg, the curves of docs/rewards.md, from the rewards' own code: python scripts/draw_rewards.py"""
import math
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from gre.rewards.gps import gps_reward
from stages.stage3 import GPSConfig

FILE = Path(__file__).resolve().parents[1] / "docs" / "rewards.svg"
WIDTH, HEIGHT, LEFT, TOP, PANEL = 860, 330, 44, 40, (520, 240)  # pixels; PANEL: of the distance curves
JUDGE_LEFT, JUDGE_WIDTH = 640, 200
THETAS_KM = (2500.0, 750.0, 200.0, 25.0, 1.0)
COLOURS = ("#3b4cc0", "#6f91e8", "#8a9a5b", "#e08a4f", "#b40426")  # coarse to fine
FARTHEST_KM = 20015
STYLE = ("text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.grid{stroke:#ddd}"
         ".curve{fill:none;stroke-width:2}.mean{stroke:#222;stroke-width:3;stroke-dasharray:7 4}")


def path(points: Iterable[tuple[float, float]], style: str, colour: str = "") -> str:
    line = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<path class="{style}" d="M{line}"' + (f' stroke="{colour}"' if colour else "") + "/>"


def text(x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def height(reward: float) -> float:
    return TOP + PANEL[1] * (1 - reward)


def distance_panel() -> list[str]:
    """The gps reward against the distance in km, logarithmic from 1 km to the antipode."""
    def across(km: float) -> float:
        return LEFT + PANEL[0] * math.log(km) / math.log(FARTHEST_KM)

    def curve(reward: Callable[[float], float], style: str, colour: str = "") -> str:
        distances_km = [FARTHEST_KM ** (i / 120) for i in range(121)]
        return path(((across(km), height(reward(km))) for km in distances_km), style, colour)

    parts = [text(LEFT, TOP - 16, "gps reward against the distance (km)", "start", "title")]
    for km in (1, 25, 200, 750, 2500, 20015):
        parts += [path([(across(km), TOP), (across(km), TOP + PANEL[1])], "grid"),
                  text(across(km), TOP + PANEL[1] + 18, f"{km:,}")]
    for number, (theta, colour) in enumerate(zip(THETAS_KM, COLOURS, strict=True)):
        parts.append(curve(lambda km, theta=theta: gps_reward(km, [theta]), "curve", colour))
        parts += [path([(LEFT + 92 * number, HEIGHT - 12), (LEFT + 20 + 92 * number, HEIGHT - 12)], "curve", colour),
                  text(LEFT + 25 + 92 * number, HEIGHT - 8, f"θ = {theta:g}", "start")]
    parts += [curve(lambda km: gps_reward(km, GPSConfig().thetas_km), "curve mean"),
              path([(LEFT + 460, HEIGHT - 12), (LEFT + 484, HEIGHT - 12)], "curve mean"),
              text(LEFT + 490, HEIGHT - 8, "mean of four", "start")]
    return parts


def judge_panel() -> list[str]:
    """P(True) against the judge's log-odds of True over False."""
    def across(odds: float) -> float:
        return JUDGE_LEFT + JUDGE_WIDTH * (odds + 6) / 12

    parts = [text(JUDGE_LEFT, TOP - 16, "judge: P(True) against log-odds", "start", "title")]
    for odds in (-6, -3, 0, 3, 6):
        parts += [path([(across(odds), TOP), (across(odds), TOP + PANEL[1])], "grid"),
                  text(across(odds), TOP + PANEL[1] + 18, f"{odds}")]
    points = [(i / 10, 1 / (1 + math.exp(-i / 10))) for i in range(-60, 61)]
    return [*parts, path(((across(odds), height(p)) for odds, p in points), "curve", COLOURS[0])]


def draw() -> str:
    """The whole picture as SVG."""
    parts = []
    for reward in (0, 0.25, 0.5, 0.75, 1):
        parts += [path([(left, height(reward)), (left + width, height(reward))], "grid")
                  for left, width in ((LEFT, PANEL[0]), (JUDGE_LEFT, JUDGE_WIDTH))]
        parts += [text(left - 6, height(reward) + 4, f"{reward:g}", "end") for left in (LEFT, JUDGE_LEFT)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="Curves of the rewards"><style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" '
            'fill="#fff"/>' + "\n".join([*parts, *distance_panel(), *judge_panel()]) + "</svg>\n")


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
    print(f"wrote {FILE}")
