"""p-values of a paired comparison, worked by hand and held against each other."""
import math

import numpy as np
import pytest

from eval.scoring.paired import holm, mcnemar, sign_flip


def test_sign_flips_by_hand():
    # Cluster sums 3, 2, -1: the eight totals are +-6, +-4, +-2, +-0 with signs (3+2+1, 3+2-1, 3-2+1, 3-2-1 and their
    # negatives). Seen: 4. As far from zero: 6, 4, -4, -6, so p = 4/8.
    assert sign_flip(np.array([[3.0], [2.0], [-1.0]]), draws=100, seed=0).tolist() == [0.5]


def test_measures_are_flipped_together_and_clusters_without_a_difference_do_not_count():
    sums = np.array([[3.0, 1.0], [0.0, 0.0], [2.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])
    # All three to one side: only +++ and --- are as far, p = 2/8.
    assert sign_flip(sums, draws=8, seed=0).tolist() == [0.5, 0.25]
    assert sign_flip(np.zeros((4, 2)), draws=100, seed=0).tolist() == [1.0, 1.0]


def test_drawn_flips_come_near_the_exact_p_and_are_never_zero():
    generator = np.random.default_rng(3)
    sums = generator.normal(0.4, 1.0, size=(13, 3))
    exact = sign_flip(sums, draws=2**13, seed=0)
    assert sign_flip(sums, draws=2**13 - 1, seed=0) == pytest.approx(exact, abs=0.02)
    assert sign_flip(np.ones((50, 1)), draws=999, seed=0).tolist() == [1 / 1000]
    assert (sign_flip(sums, draws=500, seed=4) == sign_flip(sums, draws=500, seed=4)).all()


def test_rounding_does_not_break_a_tie():
    # In tenths, 1 + 2 + 3 - 3 = 3 is seen. 1 and 2 make 3, 1, -1, -3; 3 and 3 make 6, 0, 0, -6: of the 16 totals the
    # four at 6 are all as far, so are the four at -6, and four of the eight at 0. In floats some threes fall short.
    assert sign_flip(np.array([[0.1], [0.2], [0.3], [-0.3]]), draws=16, seed=0).tolist() == [12 / 16]


def test_a_flip_keeps_a_cluster_whole():
    # Ten rows better by 1, all of one author, and one author worse by 1: flipping rows would find 2 * 12 / 2^11.
    assert sign_flip(np.array([[10.0], [-1.0]]), draws=100, seed=0).tolist() == [1.0]


def test_p_is_rarely_small_where_nothing_differs():
    generator = np.random.default_rng(0)
    found = [sign_flip(generator.normal(size=(12, 1)) * generator.lognormal(size=(12, 1)), 2**12, 0)[0]
             for _ in range(200)]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08


def test_holm_by_hand():
    # In order .01, .02, .03, .04, .5: times 5, 4, 3, 2, 1 are .05, .08, .09, .08, .5; none may fall below the last.
    assert holm([0.03, 0.01, 0.5, 0.02, 0.04]) == pytest.approx([0.09, 0.05, 0.5, 0.08, 0.09])
    assert holm([0.4, 0.9]) == [0.8, 0.9] and holm([0.7, 0.6]) == [1.0, 1.0]


@pytest.mark.parametrize("only_a, only_b, p", [
    (5, 0, 2 / 32),                              # both tails of five heads in five throws
    (7, 2, 2 * (1 + 9 + 36) / 512),              # C(9,0) + C(9,1) + C(9,2)
    (3, 3, 1.0), (0, 0, 1.0), (1, 0, 1.0)])
def test_mcnemar_by_hand(only_a, only_b, p):
    a = np.array([1] * only_a + [0] * only_b + [1, 1, 0])
    b = np.array([0] * only_a + [1] * only_b + [1, 1, 0])
    assert mcnemar(a, b) == pytest.approx(p) and mcnemar(b, a) == pytest.approx(p)


def test_mcnemar_is_the_sign_flip_test_of_single_rows():
    generator = np.random.default_rng(7)
    for _ in range(20):
        a, b = generator.integers(0, 2, (2, 11))
        assert mcnemar(a, b) == pytest.approx(sign_flip((a - b)[:, None].astype(float), 2**11, 0)[0])


def test_mcnemar_of_many_rows_does_not_overflow():
    n = 20_000
    p = mcnemar(np.arange(2 * n) < n + 200, np.arange(2 * n) >= n + 200)
    normal = math.erfc((400 - 1) / math.sqrt(2 * n) / math.sqrt(2))  # with the continuity correction
    assert p == pytest.approx(normal, rel=0.02)
