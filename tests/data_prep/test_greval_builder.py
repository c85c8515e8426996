"""python -m data_prep.greval: each filter drops what it should, people's work is read back, and a rerun goes on."""
import base64
import hashlib
import io
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from data_prep.greval import __main__ as command
from data_prep.greval.faces import FaceDetector
from eval.chain import scoring
from gre.config import ConfigError, UserError, load
from gre.config import keys as keys_of
from gre.data.records import CoTRow, DataConfig, read_bench, write_cot
from gre.llm import LLMConfig
from gre.models.clip import Clip
from gre.text import chain_prompts
from gre.tiny.picture import draw, scene_of
from gre.tiny.places import TREES, places
from gre.tiny.teacher import answer, reasoning
from tests.helpers import face_net
from tests.helpers.llm_endpoint import Endpoint
from tests.helpers.paths import ROOT
from tests.helpers.planet_reader import things

KEPT = ("palms", "oaks", "pines")
DROPPED = {"bare": "indicators", "misread": "seen", "portrait": "faces", "anywhere": "reviewed"}


PROMPT = "A photo with {}."
SHIPPED = ROOT / "configs" / "greval" / "builder.yaml"


@dataclass(frozen=True)
class Album:
    """folder: with gre_cot.json. names: sha256 of a picture's pixels → its name. similarity: a threshold that only the
    tree in the chain about `misread` stays under."""

    folder: Path
    names: dict[str, str]
    similarity: float


@pytest.fixture(scope="module")
def album(tmp_path_factory, tiny_encoders):
    """Seven pictures. Each chain names the tree that CLIP finds the likeliest, that of `misread` the unlikeliest."""
    folder, rng, rows, names = tmp_path_factory.mktemp("album"), random.Random(2), [], {}
    (folder / "imgs").mkdir()
    clip, cosine = Clip(tiny_encoders / "clip"), {}
    trees = clip.texts([PROMPT.format(f"{tree}, {climate}") for climate, tree in TREES.items()])
    climates = {"palms": "tropical", "oaks": "temperate", "pines": "polar", "bare": "polar", "misread": "polar",
                "portrait": "temperate", "anywhere": "temperate"}
    for name, climate in climates.items():
        place = next(place for place in places() if place.climate == climate and place.name not in str(rows))
        drawn = [drawn_of(place, rng, trees, clip, portrait=name == "portrait") for _ in range(8)]  # take the clearest
        scene, image, fits = (min(drawn, key=lambda one: min(one[2])) if name == "misread"
                              else max(drawn, key=lambda one: max(one[2])))
        image.save(folder / "imgs" / f"{name}.png")
        names[fingerprint(image)] = name
        cosine[name] = min(fits) if name == "misread" else max(fits)
        chain = reasoning(replace(scene, climate=list(TREES)[fits.index(cosine[name])]), place)
        chain = "Nothing to be seen." if name == "bare" else chain
        rows.append(CoTRow("", folder / "imgs" / f"{name}.png", "Where?",
                           f"<think>{chain}</think><answer>{answer(place.centre)}</answer>", place.centre))
    write_cot(folder / "gre_cot.json", rows)
    face_net.write(folder / "faces.onnx")
    lowest = cosine.pop("misread")
    assert lowest < min(cosine.values())
    return Album(folder, names, (lowest + min(cosine.values())) / 2)


def drawn_of(place, rng: random.Random, trees, clip: Clip, portrait: bool) -> tuple:
    """A scene of a place, its picture, and the picture's cosine to each tree."""
    scene = scene_of(place, rng, 0.0)
    image = draw(scene, rng)
    if portrait:  # three quarters of it are face
        ImageDraw.Draw(image).rectangle([28, 0, 111, 111], fill=face_net.MAGENTA)
    return scene, image, (trees @ clip.pictures([image])[0]).tolist()


def fingerprint(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def helper(names: dict[str, str]):
    """An LLM that reads plants, knows which picture is `anywhere`, and drafts three steps. The reviewer C says no to
    `oaks` too."""
    def answer(body: dict) -> str:
        instruction, content = (message["content"] for message in body["messages"])
        if instruction == chain_prompts.INDICATORS_OF:
            trees = [name for cue, name in sorted(things(json.loads(content)["reasoning"])) if cue == "tree"]
            return json.dumps({"indicators": [{"kind": "climate", "text": tree} for tree in trees],
                               "scene": "natural"})
        url = content[0]["image_url"]["url"].removeprefix("data:image/png;base64,")
        name = names[fingerprint(Image.open(io.BytesIO(base64.b64decode(url))))]
        if instruction == chain_prompts.REVIEW:
            told = name != "anywhere" and (name, body["model"]) != ("oaks", "C")
            return json.dumps({"told": told, "why": "because"})
        assert instruction == chain_prompts.KEY_STEPS
        material = json.loads(content[1]["text"])
        assert set(material) == {"latitude", "longitude", "draft", "indicators"}
        return json.dumps({"scene": "road traffic", "steps": [
            {"kind": "background", "text": f"The trees are {material['indicators'][0]['text']}."},
            {"kind": "caption", "text": "Something drives by."}, {"kind": "inference", "text": "So it is there."}]})
    return answer


def config(album, encoders, out, url: str = "", **keys) -> command.Config:
    """The shipped config, with this album and three LLMs as reviewers."""
    shipped = load(command.Config, [str(SHIPPED), f"clip={encoders / 'clip'}", f"similarity={album.similarity}",
                                    f"faces={album.folder / 'faces.onnx'}"])
    return replace(shipped, **{
        "data": DataConfig(str(album.folder / "gre_cot.json")), "out": str(out), "prompt": PROMPT,
        "llm": replace(shipped.llm, url=url, model="A"), "reviews": "", "reviewers": ["A", "B", "C"],
        **keys})


def test_the_shipped_config_documents_every_key():
    """It says what must be said, changes no default but the places of things, and every line has its comment."""
    with pytest.raises(ConfigError, match="no value for clip, faces, similarity"):
        load(command.Config, [str(SHIPPED)])
    given = ["clip=CLIP", "similarity=0.2", "faces=F.onnx"]
    made = load(command.Config, [str(SHIPPED), *given])
    assert made == load(command.Config, [*given, "data.path=dataset/gre_cot/gre_cot.json", "out=benchmark/built",
                                         "reviews=reviews.csv"])
    content = OmegaConf.to_container(OmegaConf.load(SHIPPED))
    written = {f"{key}.{inner}" if isinstance(value, dict) else key for key, value in content.items()
               for inner in (value if isinstance(value, dict) else [None])}
    assert written == set(keys_of(command.Config))
    lines = [line for line in SHIPPED.read_text().splitlines()[3:] if line != "data:"]
    assert all(" # " in line for line in lines)


def correct(out, name: str = "Ann", **fields) -> None:
    """What people do with the drafts."""
    rows = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    rows = [row | {"corrected_by": name} | fields for row in rows]
    (out / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_the_whole_way_with_people_in_between(album, tiny_encoders, tmp_path, capsys):
    out = tmp_path / "bench"
    people = tmp_path / "reviews.csv"
    with Endpoint(helper(album.names)) as endpoint:
        keys = {"url": endpoint.url, "reviews": str(people), "reviewers": []}
        counts = command.run(config(album, tiny_encoders, out, **keys))
        assert counts == [{"filter": "indicators", "before": 7, "after": 6},
                          {"filter": "seen", "before": 6, "after": 5}, {"filter": "faces", "before": 5, "after": 4}]
        assert "waiting for reviewers: 4 photos" in capsys.readouterr().out
        waiting = (out / "to_review.csv").read_text().splitlines()
        assert waiting[0] == "sample_id,answers_missing,image" and waiting[1].startswith("palms,3,")

        told = [f"{id},{who},{'no' if id == 'anywhere' and who != 'Cem' or (id, who) == ('oaks', 'Ann') else 'Yes'}"
                for id in (*KEPT, "anywhere") for who in ("Ann", "Bea", "Cem")]
        people.write_text("sample_id,reviewer,told\n" + "\n".join(told[:-1]) + "\n")
        command.run(config(album, tiny_encoders, out, **keys))
        assert "waiting for reviewers: 1 photos" in capsys.readouterr().out
        people.write_text("sample_id,reviewer,told\n" + "\n".join(told) + "\n")
        counts = command.run(config(album, tiny_encoders, out, **keys))
        assert counts[-1] == {"filter": "reviewed", "before": 4, "after": 3}  # one no does not drop `oaks`
        assert "waiting for corrections: 3 of 3" in capsys.readouterr().out
        assert not (out / "GREval-Bench.json").exists()
        asked = len(endpoint.requests)
        assert asked == 7 + 3
    correct(out)
    command.run(config(album, tiny_encoders, out, reviews=str(people), reviewers=[]))  # offline: all is in the cache
    assert "3 rows; road traffic 3" in capsys.readouterr().out

    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert {line["sample_id"]: line["filter"] for line in dropped} == DROPPED
    why = {line["sample_id"]: line["why"] for line in dropped}
    assert why["anywhere"] == "cannot be told, say Ann, Bea" and why["portrait"].startswith("faces cover 7")
    assert json.loads((out / "counts.json").read_text())[-1]["after"] == 3
    rows = read_bench(DataConfig(str(out / "GREval-Bench.json")))
    assert [row.id for row in rows] == list(KEPT)
    read = scoring.read(str(out / "GREval-Bench.json"), "")  # the scorer takes the fields and derives nothing
    (tree,) = read[0].indicators
    assert rows[0].chain == f"The trees are {tree.text}.\nSomething drives by.\nSo it is there."
    assert rows[0].image.read_bytes() == (album.folder / "imgs" / "palms.png").read_bytes()
    published = json.loads((out / "GREval-Bench.json").read_text())[0]
    assert list(published)[:5] == ["sample_id", "image_path", "gt_cot", "gt_lat", "gt_lon"]
    assert published["image_path"] == "images/palms.png"
    assert published["scene"] == "road traffic" and published["indoor"] == "outdoor"
    assert [step.kind for step in read[0].steps] == ["background", "caption", "inference"] and tree.kind == "climate"


@pytest.mark.slow
def test_three_llms_may_review_and_an_interrupted_run_measures_no_picture_twice(album, tiny_encoders, tmp_path):
    out = tmp_path / "bench"
    with Endpoint(helper(album.names)) as endpoint:
        counts = command.run(config(album, tiny_encoders, out, endpoint.url))
        assert counts[-1] == {"filter": "reviewed", "before": 4, "after": 3}
        file = out / "measured.jsonl"
        lines = file.read_bytes()
        file.write_bytes(lines[:-20])  # as if stopped in the last line
        before = len(endpoint.requests)
        command.run(config(album, tiny_encoders, out, endpoint.url))
        assert file.read_bytes() == lines and len(endpoint.requests) == before
        with pytest.raises(UserError, match="measured.jsonl was made with another CLIP, prompt or face detector"):
            command.run(config(album, tiny_encoders, out, endpoint.url, prompt="{}"))


@pytest.mark.parametrize("fields, fault", [
    ({"steps": [{"kind": "guess", "text": "x"}]}, "row 1: field 'steps': kind is one of background, caption"),
    ({"steps": []}, "row 1: field 'steps': expected at least one step"),
    ({"scene": "beach"}, "row 1: field 'scene': expected one of natural"),
    ({"steps": [{"kind": "inference", "text": "So 48.85, 2.35."}]}, "row 1: .* gives coordinates"),
    ({"sample_id": "palms"}, "row 2: sample palms comes twice"),
    ({"sample_id": "nowhere"}, "comes twice|there is no sample 'nowhere'")])
def test_faults_in_peoples_corrections_are_named(album, tiny_encoders, corrected, fields, fault):
    correct(corrected, **fields)
    with pytest.raises(UserError, match=f"steps.jsonl.*{fault}.*(Correct the row|remove the line)"):
        command.run(config(album, tiny_encoders, corrected))


@pytest.fixture
def corrected(album, tiny_encoders, drafted, tmp_path):
    """A folder with drafts, to be spoiled."""
    for name in ("steps.jsonl", "llm.jsonl", "measured.jsonl", "measured.settings.json"):
        (tmp_path / name).write_bytes((drafted / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def drafted(album, tiny_encoders, tmp_path_factory):
    out = tmp_path_factory.mktemp("drafted")
    with Endpoint(helper(album.names)) as endpoint:
        command.run(config(album, tiny_encoders, out, endpoint.url))
    return out


@pytest.mark.parametrize("lines, fault", [
    ("who,told\n", "no column sample_id, reviewer"),
    ("sample_id,reviewer,told\npalm,Ann,yes\n", "line 2: there is no sample 'palm'"),
    ("sample_id,reviewer,told\npalms,Ann,maybe\n", "line 2: needs a reviewer's name and yes or no"),
    ("sample_id,reviewer,told\npalms,Ann,yes\npalms,Ann,no\n", "line 3: sample palms has answers of Ann already")])
def test_faults_in_peoples_reviews_are_named(tmp_path, lines, fault):
    path = tmp_path / "reviews.csv"
    path.write_text(lines)
    with pytest.raises(UserError, match=f"reviews.csv.*{fault}"):
        command.reviews.read(path, ["palms"])


def test_settings_that_cannot_be(album, tiny_encoders, tmp_path):
    with pytest.raises(UserError, match="who reviews"):
        command.run(config(album, tiny_encoders, tmp_path, reviewers=[]))
    with pytest.raises(UserError, match="write {} where the indicator goes"):
        command.run(config(album, tiny_encoders, tmp_path, prompt="a photo"))
    with pytest.raises(UserError, match="name 3 different LLMs"):
        command.reviews.ask({}, ["A", "A", "B"], LLMConfig(model="A"), tmp_path / "c.jsonl", 100)
    with pytest.raises(UserError, match="faces=.*: no such file. Name a YuNet file"):
        FaceDetector(str(tmp_path / "none.onnx"), 0.9)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="bad.onnx is no YuNet file"):
        FaceDetector(str(tmp_path / "bad.onnx"), 0.9)


def test_faces_are_measured_by_area(tmp_path):
    detector = FaceDetector(face_net.write(tmp_path / "faces.onnx"), 0.9)
    half = Image.new("RGB", (640, 320))
    half.paste(face_net.MAGENTA, (0, 0, 320, 320))
    assert detector.share(half) == pytest.approx(0.5, abs=0.02)
    assert detector.share(Image.new("RGB", (300, 500))) == 0
    assert detector.share(half.resize((1280, 640))) == pytest.approx(0.5, abs=0.02)
