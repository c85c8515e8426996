"""Geo-R beside GRE: the commands are ones its stages take, and a chain of region keeps photo, question and truth."""
import pytest

from experiments import geor
from gre.config import load
from gre.data.records import DataConfig, read_cot
from gre.text.answers import parse_answer
from gre.tiny import world
from stages import stage1, stage2, stage3
from tests.helpers.paths import ROOT


def test_it_samples_as_much_as_stages_2_and_3(tmp_path):
    made = geor.commands(tmp_path, 7)
    first, last = load(stage1.Config, made["stage1"][2:]), load(stage3.Config, made["stage3"][2:])
    assert last.model_name_or_path == first.output_dir == str(tmp_path / "geor" / "stage1")
    samples = [config.train.max_steps * config.train.per_device_batch_size * config.grpo.num_generations
               for config in (last, *(load(stage.Config, [f"{ROOT}/configs/tiny/{stage.__name__.split('.')[1]}.yaml"])
                                      for stage in (stage2, stage3)))]
    assert samples[0] == samples[1] + samples[2] and last.seed == 7


@pytest.mark.slow
def test_a_chain_of_region_keeps_photo_question_and_truth(tmp_path):
    world.run(world.Config(str(tmp_path), cot=1, judge=2, seed_photos=0, validation=0, test=0, test_new_places=0))
    cot, out = tmp_path / "gre_cot" / "gre_cot.json", geor.regions(tmp_path)
    geor.write_regions(cot, out)
    before, after = (read_cot(DataConfig(path=str(path))) for path in (cot, out))
    assert len(after) == 72
    for old, new in zip(before, after):
        assert (old.image, old.instruction, old.truth) == (new.image, new.instruction, new.truth)
        assert new.response.startswith("<think>Country: ")
        assert abs(parse_answer(new.response).lat_deg - old.truth.lat_deg) < 1e-4
