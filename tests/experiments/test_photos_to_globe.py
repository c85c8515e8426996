"""From photos to GLOBE: the teachers answer with names, and every command is taken."""
import io
import json
from importlib import import_module

import pytest
from PIL import Image

from data_prep import recipe as steps
from experiments import photos_to_globe as experiment
from experiments.camera import shots
from experiments.simulated_teacher import SimulatedTeacher
from gre.config import load
from gre.llm import picture
from gre.text.chains import chain_of
from gre.text.named import parse_localizability, parse_names
from gre.text.prompts import PLACE_TEACHER_INSTRUCTION

pytestmark = pytest.mark.slow


def test_the_teachers_answer_with_names_and_say_what_can_be_told():
    taken = list(shots(1, 0, fog_rate=0.5))
    with SimulatedTeacher(taken, 0) as served:
        def asked(image: Image.Image) -> str:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=95)
            return served.answer([{"role": "user", "content": [
                picture(Image.open(buffer), "JPEG"), {"type": "text", "text": PLACE_TEACHER_INSTRUCTION}]}])

        said = [asked(shot.image) for shot in taken]
    words = [parse_localizability(text) for text in said]
    assert words == ["high" if shot.scene.localizable else "negative" for shot in taken] and set(words) > {"high"}
    right = [parse_names(text) == (shot.place.country, shot.place.city) for text, shot in zip(said, taken)
             if shot.scene.localizable]
    assert 0.6 < sum(right) / len(right) < 1  # the teacher's errors are in
    assert all(f"So this is {names.city}, {names.country}." in chain_of(text) for text in said
               for names in [parse_names(text)])


def test_every_step_and_stage_takes_what_it_is_given(tmp_path):
    made = experiment.recipe(tmp_path, ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"])
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(made))
    steps.main([str(path), "--dry-run"])
    assert made["steps"] == ["seeds", "distil", "cot", "verify", "reason", "inspect"]
    for name, command in experiment.stage_commands(tmp_path, 3, 7).items():
        config = load(import_module(f"stages.{name}").Config, command[2:])
        assert config.seed == 3 and config.output_dir == str(tmp_path / name)
        assert str(tmp_path / "data") in config.data.path
    assert config.train.max_steps == 7 and config.judge.model_name_or_path == str(tmp_path / "localizability")
    assert config.judge.min_auc == 0.85  # the gate is not opened
