"""What eval.score prints: every number with its interval, its denominator, and whoever named the places."""
from collections.abc import Callable, Mapping

from eval.benchmarks.reader import CSV, GREVAL
from eval.scoring.measures import FEW
from gre.geo import accuracy
from gre.text import instructions

SHOWN = {**{f"within_{km}_km": f"within {km} km" for km in accuracy.THRESHOLDS_KM}, "geoscore": "GeoScore",
         "median_km": "median km", "mean_km": "mean km"}
CHAIN_SHOWN = {"grounded": "grounded, ours (mean of five)", "quality": "quality, GRE's form (mean of three)",
               "background": "  background: recall of indicators",
               "background_precision": "  background: precision of statements",
               "caption": "  caption: RefCLIPScore", "inference": "  inference: BERTScore F1",
               "conclusion": "  conclusion: GeoScore of the answer / 5000",
               "judge_precision": "judge: precision of steps", "judge_recall": "judge: recall of steps",
               "judge_f1": "judge: F1 of steps",
               "step_count": "steps", "word_count": "words"}
CHAIN_LEFT_OUT = (
    "chain quality is left out: it needs a CLIP, a BERT and an LLM. scripts/eval_bench/eval_greval-bench.sh takes "
    "chain.clip=DIR chain.bert=DIR chain.bert_layer=N chain.llm.model=NAME, and chain.llm.url=URL or "
    "chain.cache=FILE with that LLM's replies; eval.score takes chain=FILE, as eval.chain writes it")
WHO_ASKED = {"manifest": "as in its manifest", "prompt=": "chosen by prompt=", "data=": "by the rows themselves"}
HOW = {"predictions": "answer", "other": "other_answer"}  # keys of the protocol
LISTED = 12  # labels of a field that are printed
SLICE_SHOWN = ("within_25_km", "within_750_km", "geoscore", "median_km")  # the file holds all


def show(scores: Mapping, paths: Mapping[str, str]) -> None:
    """Print the numbers. paths: `predictions`, and `other` where two files are compared → path."""
    clusters, whole = scores["clusters"], scores["all"]
    by = ", ".join(f"{count} rows by {kind}" for kind, count in clusters["by"].items())
    for name, path in paths.items():
        known = [asked(scores, name), decoding(scores, name) if scores["files"][name]["made_with"] else "",
                 incomplete(scores, name)]
        if named := scores["in_names"][name]:
            known.append(f"{named:,} unread answers name a place (answer=names min_population=15000 scores names)")
        print(f"{path}: n {scores['n']}, unparsed {unparsed(scores, name)}, counted as wrong"
              + "".join(f"; {said}" for said in known if said))
    print(f"intervals: 95 %, {scores['protocol']['draws']} draws of {clusters['count']} clusters ({by}; the largest "
          f"has {clusters['largest']})")
    for measure, title in SHOWN.items():
        print(f"  {title:16}", *(f"{shown(whole[name][measure], measure):34}" for name in paths),
              *([f"difference {shown(whole['difference'][measure], measure, '+')}"] if "other" in paths else []))
    show_samples(scores, paths)
    show_chain(scores)
    show_places(scores, paths)
    if "other" in paths:
        show_tests(scores["p"])
    for field, labels in scores["slices"].items():
        if len(labels) > LISTED:
            print(f"  {field}: {LISTED} of {len(labels)}, those with the most photos; out= and tables= hold all")
            labels = dict(sorted(labels.items(), key=lambda one: -one[1]["n"])[:LISTED])
        for label, block in labels.items():
            print(f"  {field} {label}: n {block['n']}, clusters {block['clusters']};", "; ".join(
                f"{SHOWN[measure]} " + " against ".join(shown(block[name][measure], measure) for name in paths)
                for measure in SLICE_SHOWN))


def show_samples(scores: Mapping, paths: Mapping[str, str]) -> None:
    """Print what several samples say, where there are several (eval/scoring/samples.py)."""
    def numbers(one: Mapping) -> str:
        return f"within 25 km {percent(one['within_25_km'])} %, within 750 km {percent(one['within_750_km'])} %, " \
               f"GeoScore {one['geoscore']:,.0f}, median {one['median_km']:,.1f} km"

    for name, block in scores["samples"].items():
        known = block["rank_correlation"]
        print(f"  {paths[name]}: {block['samples']} samples a photo; rank correlation of their spread and the error "
              + ("none: one of them does not vary" if known is None else f"{known:.2f}"))
        for one in block["risk"]:
            if one["covered"] in (0.2, 0.5, 0.8):
                print(f"    the surest {one['covered']:.0%} (n {one['n']}): {numbers(one)}")
        for one in block["best_of"]:
            print(f"    first {one['first']}: median {numbers(one['median'])}; oracle {numbers(one['oracle'])}")


def show_chain(scores: Mapping) -> None:
    """Print the quality of the chains, or that it was left out where the benchmark has annotated ones."""
    if scores["chain"]:
        chain = scores["chain"]
        print(f"  chains: {chain_headline(chain)}")
        for measure, title in CHAIN_SHOWN.items():
            if estimate := chain["all"].get(measure):
                print(f"  chain {title.strip()}: {chain_shown(estimate)}, n {estimate['n']}")
        print(f"  chains by {chain_made_with(chain)}; {chain['empty_chains']} empty chains count as 0")
    elif benchmark(scores) == GREVAL:
        print(f"  {CHAIN_LEFT_OUT}")


def benchmark(scores: Mapping) -> str | None:
    """The benchmark that the predictions are of; None where none is named."""
    return (scores["files"]["predictions"]["made_with"] or {}).get("benchmark", {}).get("name")


def asked(scores: Mapping, name: str = "predictions") -> str:
    """What the model was asked, who chose it, and what it was trained on where that is something else; empty where
    nothing is recorded."""
    question = (scores["files"][name]["made_with"] or {}).get("question")
    if question is None:
        return ""
    text = f"asked {instructions.shown(question)} ({WHO_ASKED[question['from']]})"
    other = question["untrained_rows"]  # how many rows ask what it was not trained on
    return text + (f", and trained on {instructions.shown(question['trained_on'])}" if other else "")


def unparsed(scores: Mapping, name: str = "predictions") -> str:
    """How many answers cannot be read, and what is known of why."""
    filtered = scores["filtered"][name]
    by_filter = f", {filtered} of them by the endpoint's filter" if filtered else ""
    return (f"{scores['unparsed'][name]:,} ({scores['refused'][name]:,} refused{by_filter}; "
            f"{scores['cut_off'][name]:,} cut off)")


def incomplete(scores: Mapping, name: str = "predictions") -> str:
    """That the rows are not the benchmark's, or may not be; empty where they are, and for own data."""
    made_with = (scores["files"][name]["made_with"] or {}).get("benchmark", {})
    if made_with.get("expected_rows") not in (None, scores["n"]):
        return f"{scores['n']:,} of {made_with['expected_rows']:,} rows: not comparable"
    if made_with.get("accepted_rows") is not None and "expected_rows" in made_with and benchmark(scores) != CSV:
        unknown = made_with["expected_rows"] is None
        return f"{scores['n']:,} rows, and how many the benchmark has is not known here" if unknown else ""
    return ""


def decoding(scores: Mapping, name: str = "predictions") -> str:
    """How answers were decoded, as it was sent: endpoint.fields has the last word, and what else it holds is said."""
    made_with = scores["files"][name]["made_with"] or {}
    if "decoding" not in made_with:
        return "decoding not recorded"
    samples, fields = made_with["decoding"]["samples"], dict(made_with.get("model", {}).get("fields", {}))
    temperature = fields.pop("temperature", made_with["decoding"]["temperature"])
    if temperature is None:
        said = f"{samples} sample{'s' * (samples > 1)} at the endpoint's own temperature"
    elif samples == 1 and temperature == 0:
        said = "greedy"
    else:
        said = f"{samples} sample{'s' * (samples > 1)} at temperature {temperature:g}"
    return "; ".join([said, *(["sent with " + ", ".join(f"{key}={value}" for key, value in fields.items())]
                              if fields else [])])


def chain_shown(estimate: Mapping) -> str:
    """A number of the chains with its interval."""
    return f"{estimate['mean']:.3f} [{between(estimate, '{:.3f}'.format)}]"


def chain_headline(chain: Mapping) -> str:
    """The chains in a line: our score and GRE's form, and what the latter does not know, precision and conclusion."""
    found = chain["all"]
    parts = [f"{title} {chain_shown(found[measure])}" for measure, title in (
        ("grounded", "grounded"), ("quality", "GRE's form"), ("background", "background recall"),
        ("background_precision", "precision"), ("conclusion", "conclusion")) if measure in found]
    return "; ".join(parts)


def chain_made_with(chain: Mapping) -> str:
    """The models that chains were scored with."""
    models = chain["models"]
    return (f"LLM {models['llm']['name']}, CLIP {models['clip']['name']}, BERT {models['bert']['name']} "
            f"{rescaled(models['bert'])}; weights of the parts: {chain['protocol']['weights']}")


def rescaled(bert: Mapping) -> str:
    """What BERTScore was rescaled with."""
    return f"rescaled with {bert['rescaled_with']}" if bert.get("rescaled_with") else "raw"


def show_places(scores: Mapping, paths: Mapping[str, str]) -> None:
    """Print what concerns names and areas, each figure with its denominator and its gazetteer."""
    places = scores["places"]
    if named_block := places.get("by_name"):
        for name, counts in named_block["outcomes"].items():
            print(f"  {paths[name]}: answers are {scores['protocol'][HOW[name]]}; {outcomes(counts, scores['n'])}")
        ceiling = named_block["ceiling"]
        print(f"  ceiling, the true names through the same geocoder ({ceiling['names']['benchmark']} of the benchmark, "
              f"{ceiling['names']['nearest']} of the nearest city; {outcomes(ceiling['outcomes'], scores['n'])}):",
              "; ".join(f"{SHOWN[name]} {shown(ceiling['estimates'][name], name)}" for name in SHOWN))
    ways = {"exact": "exact match", "globe": "texts compared as GLOBE's eval.py does"}
    if block := places.get("gazetteer"):
        cut = f"GeoNames from {block['min_population']} people, {block['gazetteer'].split()[-1]} {block['version']}"
        ways |= {"gazetteer": f"nearest city, {cut}", "by_name": f"names compared as the place reward does, {cut}"}
    if block := places.get("osv5m"):
        ways["osv5m"] = f"as OSV-5M's code does, {block['geocoder']}"
    for way, levels in scores["names"].items():
        for level, block in levels.items():
            figure = f"n {block['n']}, {ways[way]}"
            if beside := places.get(way, {}).get("truth", {}).get(level):
                figure += f"; truth by the benchmark's names {beside['benchmark']}, by nearest city {beside['nearest']}"
                figure += f"; ceiling {percent(beside['ceiling'])} %" if "ceiling" in beside else ""
            print(f"  {level + ' right':16}", *(f"{shown(block[name][f'{level}_right'], 'within'):34}"
                                                for name in paths), figure)


def outcomes(counts: Mapping[str, int], n: int) -> str:
    """How the geocoder fared, unmatched answers as a share too."""
    return (f"unmatched {percent((n - counts['matched']) / n)} %, counted as wrong ({counts['no name']} without a "
            f"city's name, {counts['miss']} not found, {counts['tie']} in several places, {counts['conflict']} in "
            f"other countries than they name, {counts['two places']} of two places)")


def show_tests(p: Mapping) -> None:
    """Print the p-values of a comparison."""
    print("  p, sign flips over clusters:", ", ".join(f"{SHOWN[name]} {p['sign_flip'][name]:.4f}"
                                                      for name in p["sign_flip"]))
    print("  p, the five thresholds after Holm:", ", ".join(f"{SHOWN[name]} {value:.4f}"
                                                            for name, value in p["holm"].items()))
    if p["mcnemar"] is None:
        print("  no McNemar test: it takes rows as independent, and here a cluster has several")
    else:
        print("  p, exact McNemar:", ", ".join(f"{SHOWN[name]} {value:.4f}" for name, value in p["mcnemar"].items()))


def show_several(tests: Mapping) -> None:
    """Print the pairs that were tested, and the seeds."""
    for one in tests.get("pairs", []):
        print(f"{one['a']} minus {one['b']}, {SHOWN[one['measure']]}: {shown(one, one['measure'], '+')}, p "
              f"{one['p']:.4f}, after Holm over {len(tests['pairs'])} {one['holm']:.4f}")
    for measure, one in tests.get("seeds", {}).items():
        estimate, spread = {**one, "value": one["mean"]}, {**one, "value": one["spread"]}
        print(f"{one['seeds']} seeds, {SHOWN[measure]}: {shown(estimate, measure)}, spread "
              f"{shown(spread, measure).split(' [')[0]}")


def shown(estimate: Mapping, measure: str, sign: str = "") -> str:
    """A number with its interval, shares in percent."""
    if measure.startswith("within"):
        def form(value: float) -> str:
            return percent(value, sign)
        unit = " %"
    else:
        def form(value: float) -> str:
            return format(value, f"{sign},.{0 if measure == 'geoscore' else 1}f")
        unit = ""
    return f"{form(estimate['value'])}{unit} [{between(estimate, form)}]"


def between(estimate: Mapping, form: Callable[[float], str]) -> str:
    """The interval in words: that it is withheld, and that it is of few clusters, where it is."""
    clusters = f"{estimate['effective_clusters']:.1f} effective clusters"
    if estimate["low"] is None:
        return f"no interval: {clusters}"
    few = f", few: {clusters}" if estimate["effective_clusters"] < FEW else ""
    return f"{form(estimate['low'])} to {form(estimate['high'])}{few}"


def percent(share: float, sign: str = "") -> str:
    """In percent with a decimal, and with as many as tell it from 0 and from 100: 0.04, 28.0, 99.96."""
    value = 100 * share
    decimals = 1
    while decimals < 4 and 0 < abs(value) < 100 and round(abs(value), decimals) in (0, 100):
        decimals += 1
    return format(value, f"{sign}.{decimals}f")
