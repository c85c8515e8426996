"""From photos to stage 3: photos alone say where they are, the teacher knows each, and every command is taken."""
import io
import json
import re
from importlib import import_module

import pytest
from PIL import Image

from data_prep import recipe as steps
from experiments import photos_to_stage3 as experiment
from experiments.camera import develop, shots
from experiments.simulated_teacher import SimulatedTeacher, named, spoken, things
from gre.config import UserError, load
from gre.data import exif
from gre.data.images import load_image
from gre.geo.point import distance_km
from gre.llm import picture
from gre.text.answers import parse_answer
from gre.text.chain_prompts import REVIEW, SEEN
from gre.tiny import teacher
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def developed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camera") / "photos"
    develop(folder, 1, 0)
    return folder


def test_a_photo_says_where_it_was_taken_and_nothing_else_does(developed):
    files, taken = sorted(developed.iterdir(), key=lambda path: path.stem), list(shots(1, 0))
    assert len(files) == len(taken) == 72
    assert {path.suffix for path in files} == {".JPG", ".HEIC"}
    for path, shot in zip(files[:6], taken):
        with Image.open(path) as image:
            assert distance_km(exif.fix(exif.exif_of(image)).place, shot.truth) < 0.001
    assert files[3].read_bytes()[4:12] == b"ftypheic" and files[0].read_bytes()[:2] == b"\xff\xd8"


def test_the_teacher_knows_every_photo_and_the_looker_what_is_drawn(developed):
    taken = list(shots(1, 0))
    with SimulatedTeacher(taken, 0) as served:
        def asked(number: int, text: str = "", system: str = "") -> str:
            path = developed / f"IMG_{number + 1:04d}.{'JPG' if (number + 1) % 4 else 'HEIC'}"
            buffer = io.BytesIO()
            load_image(path).save(buffer, "JPEG", quality=95)  # as a seeds folder holds it
            content = [picture(Image.open(buffer), "JPEG"), {"type": "text", "text": text}]
            return served.answer([*([{"role": "system", "content": system}] if system else []),
                                  {"role": "user", "content": content}])

        assert [served.number(picture(shot.image, "JPEG")["image_url"]["url"]) for shot in taken] == list(range(72))
        for number, shot in enumerate(taken[:8]):
            said = asked(number)
            assert said == asked(number) and parse_answer(said) is not None
            assert json.loads(asked(number, system=REVIEW))["told"] is shot.scene.localizable
        at, shot = next((number, shot) for number, shot in enumerate(taken) if shot.scene.localizable)
        honest = spoken(teacher.reasoning(shot.scene, shot.place))
        assert json.loads(asked(at, honest, SEEN)) == {"seen": named(honest), "unseen": []} and len(named(honest)) == 4
        other = next(one for one in taken if one.scene.landmark != shot.scene.landmark and one.scene.localizable)
        assert not set(named(spoken(teacher.reasoning(other.scene, other.place)))[:1]) & things(shot.scene)


def test_every_step_and_stage_takes_what_it_is_given(tmp_path):
    made = experiment.recipe(tmp_path, "http://127.0.0.1:1/v1")
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(made))
    steps.main([str(path), "--dry-run"])
    assert made["steps"] == ["seeds", "split", "distil", "judge", "cot", "verify", "inspect"]
    for name, command in experiment.stage_commands(tmp_path, 3, 0.1).items():
        config = load(import_module(f"stages.{name}").Config, command[2:])
        assert config.seed == 3 and config.output_dir == str(tmp_path / name)
        assert config.train.max_steps == experiment.steps_of(name, 0.1) >= 1


def test_another_run_of_the_same_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "p").mkdir(parents=True)
    (tmp_path / "runs" / "p" / "asked.json").write_text('{"seed": 1, "photos": 60, "steps": 0.25}')
    with pytest.raises(UserError, match="was begun with .*name another run="):
        experiment.run(experiment.Config(run="p"))
    script = (ROOT / "experiments" / "photos_to_stage3.sh").read_text()
    assert re.search(r"photos_to_stage3.sh \[run=photos\]", script)
