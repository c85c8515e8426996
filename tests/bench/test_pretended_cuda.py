"""Every kind of pass, executed on a pretended GPU with two layers of the published widths."""
import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from bench.pretended import device
from tests.helpers.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason=device.NEEDS)]
TOWER = Counter({  # transformers' own, once for every pass of a vision tower
    "transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py get_image_features": 1,
    "transformers/utils/generic.py get_max_seqlen": 2,
    "transformers/vision_utils.py get_vision_position_ids": 2,
    "transformers/vision_utils.py get_vision_window_index": 1})
TEXT = Counter({"transformers/utils/import_utils.py torch_compilable_check": 1})  # photos' places are as many as tokens
PASS = TEXT + TOWER
SFT = Counter({"gre/training/sft.py compute_loss": 1})     # the loss is finite
GRPO = Counter({"gre/training/grpo.py _pass": 1,           # sampled log-probabilities are finite
                "gre/training/grpo.py compute_loss": 2,    # the step's tokens; loss and log-probabilities are finite
                "gre/training/watching/metrics.py add": 7,
                "gre/models/scoring.py score": 1})         # no banned token is scored
ASKED = Counter({"gre/models/scoring.py score": 1, "gre/training/grpo.py _pass": 1})  # reference, or old policy
READS = {
    "stage 1": SFT + PASS,
    "stage 1, A100": SFT + PASS,
    "stage 1, autocast, no checkpointing": SFT + PASS,
    # Without a kernel that knows windows, each block of the tower asks for their lengths, and again when recomputed.
    "stage 1, float32, T4": SFT + PASS + Counter({"gre/models/attention/shared_prefix.py vision_attention": 4}),
    "judge": SFT + PASS,
    "stage 2": GRPO + PASS + ASKED + PASS + PASS + Counter({"gre/judge/model.py p_true": 1}),
    "stage 3, two updates": GRPO + PASS + ASKED + PASS + ASKED + PASS,
    "stage 3, frozen tower": GRPO + TEXT + ASKED + TEXT,
    "stage 3, adapter": GRPO + TEXT + ASKED + TEXT,
    "stage 3, a second adapter": GRPO + TEXT + ASKED + TEXT,
    "verdict": GRPO + PASS + ASKED + PASS,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What tests.helpers.pretended found; a tensor left on the CPU would have ended it."""
    file = tmp_path_factory.mktemp("pretended") / "found.json"
    subprocess.run([sys.executable, "-m", "tests.helpers.pretended", str(file)], check=True, cwd=ROOT)
    return json.loads(file.read_text())


@pytest.mark.parametrize("case", READS)
def test_gradients_are_there_and_memory_is_as_planned(found, case):
    assert found[case]["without_gradient"] == 0
    assert found[case]["peak_gib"] == pytest.approx(found[case]["planned_gib"], rel=0.05)


@pytest.mark.parametrize("case", READS)
def test_python_waits_for_the_gpu_no_oftener_than_is_said(found, case):
    """On a GPU every read lets the whole queue of kernels run dry."""
    more = {place: times for place, times in found[case]["reads"].items() if times > READS[case][place]}
    assert more == {}


def test_a_tensor_that_is_left_on_the_cpu_is_an_error(found):
    assert found["forgotten"].startswith("aten::gather on cuda is given [(1048, 1, torch.int64)] on the CPU, at gre/")


def test_every_case_is_looked_at(found):
    assert found.keys() == READS.keys() | {"forgotten"}
