"""The rule by which a seed is typical."""

import pandas as pd
import pytest

from sbd_utils.studies import tables
from sbd_utils.studies.publish import typical


def rows(**deconv_kl):
    """Seeds that differ in DeConv's KL term and, by a little, in SB's."""
    return pd.DataFrame([
        dict.fromkeys(tables.SCORES, 1.0)
        | {"cpu": "a", "decoder": decoder, "seed": int(seed[1:]), "kl": kl}
        for seed, value in deconv_kl.items()
        for decoder, kl in (("deconv", value), ("sbd", 10 + value / 100), ("sbd-width22", 99.0))
    ])


def test_the_typical_seed_is_the_one_nearest_to_all_others():
    assert typical(rows(s0=1.0, s3=2.0, s5=9.0)) == 3
    assert typical(rows(s0=8.0, s3=2.0, s5=9.0)) == 0


def test_every_score_weighs_the_same_whatever_its_unit():
    table = rows(s0=1.0, s1=2.0, s2=3.0)
    table["folded"] = 1e6 * (table.seed == 1)  # far out in one score, in the middle of another
    table["mixing"] = 1e-6 * (table.seed == 1)
    assert typical(table) == 0
    assert typical(rows(s0=0.01, s3=0.02, s5=0.09), ["kl"]) == 3


def test_of_the_seeds_whose_weights_were_kept_the_one_nearest_to_all():
    table = rows(s0=1.0, s3=2.0, s5=9.0)
    lost = rows(s0=8.0, s1=8.5, s2=9.0).assign(cpu="b", readout=float("nan"))
    assert typical(pd.concat([table, lost])) == 5


@pytest.mark.parametrize("drop", [lambda t: t[t.seed < 2], lambda t: t[t.decoder == "sbd"],
                                  lambda t: t.assign(readout=float("nan"))])
def test_too_few_seeds_or_scores_are_refused(drop):
    with pytest.raises(ValueError, match="^rows must have all scores of both decoders"):
        typical(drop(rows(s0=1.0, s1=2.0, s2=3.0)))


def test_a_seed_is_typical_by_the_scores_that_are_asked_for():
    table = rows(s0=1.0, s3=2.0, s5=9.0)
    table["readout"] = table.seed.map({0: 1.0, 3: 9.0, 5: 2.0})
    assert typical(table, ["kl"]) == 3 and typical(table, ["readout"]) == 5
