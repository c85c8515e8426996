"""The page of a row as HTML, whole, so that it needs a script for keys and for saving alone. All text of models is
escaped. No torch."""
from collections.abc import Sequence
from html import escape

from data_prep.review.decisions import Decision
from data_prep.review.rows import Item
from eval.drawing import worldmap
from gre.geo import land
from gre.geo.places import gazetteer
from gre.geo.point import LatLon

CUT = 15000  # people; of the cities whose nearest says where a point is
SAID = {"accept": "accepted", "edit": "edited", "reject": "rejected"}


def row(items: Sequence[Item], at: int, said: Decision | None, decided: int, name: str) -> str:
    """The page of items[at]. said: what this annotator, `name`, decided about it; decided: rows he decided about."""
    item = items[at]
    shown = item if said is None or said.decision != "edit" else item.edited(said.fields)
    before = f"<p class='notice'>You {SAID[said.decision]} this row. Deciding again replaces that.</p>" if said else ""
    question = (f"<details><summary>Question</summary><p class='text'>{escape(shown.question)}</p></details>"
                if shown.question else "")
    reasoning = (f"<section class='reading' aria-label='reasoning'><h2>Reasoning</h2><div class='text'>"
                 f"{escape(shown.reasoning)}</div></section>" if shown.reasoning else "")
    return _document(f"Row {item.number}", f"""
<header>
  <h1>Row {item.number}</h1>
  <nav aria-label="rows">{_link(items, at - 1, "←", "previous row")}{_link(items, at + 1, "→", "next row")}</nav>
  <progress value="{decided}" max="{len(items)}" aria-label="rows decided"></progress>
  <p class="soft">{decided:,} of {len(items):,} decided · {escape(name)}</p>
</header>
<main>
  <div class="seen">
    <a href="/photos/{at + 1}" target="_blank" rel="noopener" aria-label="the photo alone, in a new tab"><img id="photo"
      alt="photo of row {item.number}" src="/photos/{at + 1}"></a>
    {_map(shown)}
  </div>
  <div class="said">
    {before}{_facts(shown)}
    <form id="edit" class="editing" aria-label="edit">{"".join(_area(*one) for one in shown.fields.items())}</form>
    {reasoning}{question}
  </div>
</main>
<footer>
  <p id="status" role="status"></p>
  <label class="why">Why <input id="why" maxlength="500" value="{escape(said.why if said else "")}"
    placeholder="optional; kept with the decision" autocomplete="off"><kbd>W</kbd></label>
  <div class="buttons reading" role="group" aria-label="decide">
    <button type="button" id="accept" aria-keyshortcuts="a" class="keep">Accept <kbd>A</kbd></button>
    {'<button type="button" id="open" aria-keyshortcuts="e" >Edit <kbd>E</kbd></button>'
     if item.fields else ""}
    <button type="button" id="reject" aria-keyshortcuts="r" class="drop">Reject <kbd>R</kbd></button>
  </div>
  <div class="buttons editing" role="group" aria-label="end editing">
    <button type="submit" form="edit" class="keep">Save edit <kbd>Ctrl ↵</kbd></button>
    <button type="button" id="cancel">Cancel <kbd>Esc</kbd></button>
  </div>
</footer>""", f"data-row='{item.sha256}' data-number='{item.number}'")


def done(items: Sequence[Item], name: str, counts: dict[str, int], file: str) -> str:
    """What is shown when no row is left."""
    rows = "".join(f"<tr><th scope='row'>{SAID[what]}</th><td>{count:,}</td></tr>" for what, count in counts.items())
    return _document("All rows are decided", f"""
<main class="done"><div class="said"><h1>All {len(items):,} rows are decided</h1>
<p>{escape(name)}, every decision is saved. Any row may be <a href="/rows/{len(items)}">decided again</a>.</p>
<table><tbody>{rows}</tbody></table>
<p>End the command with Ctrl-C; then, for the rows that are kept, the agreement and the card:</p>
<p class="text"><code>python -m data_prep.review {escape(file)} out=FILE</code></p></div></main>""")


def _document(title: str, body: str, about: str = "") -> str:
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(title)}</title><link rel='icon' href='data:,'>"
            "<link rel='stylesheet' href='/static/report.css'>"
            "<link rel='stylesheet' href='/static/page.css'><script src='/static/page.js' defer></script></head>"
            f"<body {about}>{land.symbol()}{body}</body></html>\n")


def _link(items: Sequence[Item], at: int, arrow: str, label: str) -> str:
    return (f"<a href='/rows/{at + 1}' aria-label='{label}' rel='{'next' if arrow == '→' else 'prev'}'>{arrow}</a>"
            if 0 <= at < len(items) else "")


def _map(item: Item) -> str:
    if item.row.truth is None and item.answer is None:
        return ""
    return (f"<figure>{worldmap.pair(item.row.truth, item.answer, item.error_km)}<figcaption class='key'>"
            "<span>○ truth</span><span>● answer</span></figcaption></figure>")


def _facts(item: Item) -> str:
    facts = []
    if item.answered:
        facts.append(("Answer", f"{escape(item.answered)}{_near(item.answer)}"))
    if item.row.truth is not None:
        facts.append(("Truth", f"{item.row.truth.lat_deg:.4f}, {item.row.truth.lon_deg:.4f}{_near(item.row.truth)}"))
    if item.error_km is not None:
        facts.append(("Apart", f"<b class='{worldmap.band(item.error_km)}'>{item.error_km:,.1f} km</b>"))
    elif item.kind in ("cot", "judge"):
        facts.append(("Apart", "<b class='far'>no one place can be read in the answer</b>"))
    if item.label:
        facts.append(("Label", f"<b>{item.label}</b>"))
    shown = "".join(f"<div><dt>{name}</dt><dd>{what}</dd></div>" for name, what in facts)
    return f"<dl>{shown}</dl>" if shown else ""


def _near(point: LatLon | None) -> str:
    if point is None:
        return ""
    (near,) = gazetteer(CUT).nearest([point])
    return (f"<br><span class='soft'>{escape(near.city.name)}, {escape(near.country.name)}, "
            f"{near.distance_km:,.0f} km away</span>")


def _area(name: str, text: str) -> str:
    lines = min(24, max(2, sum(1 + len(line) // 60 for line in text.split("\n"))))
    # A browser drops the newline that opens a textarea.
    return f"<label>{name}<textarea name='{name}' rows='{lines}' spellcheck='true'>\n{escape(text)}</textarea></label>"
