"""CoordConv's toy world: pixels against coordinates, the splits, the scores and the study."""

import copy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sbd_utils.data import not_so_clevr
from sbd_utils.data.not_so_clevr import (
    TASKS,
    centers,
    coordinates,
    held_out,
    one_hot,
    pixel_numbers,
    squares,
)
from sbd_utils.experiments import coordconv
from sbd_utils.experiments.coordconv import CASES, NETWORKS, PILOT_SEED, RATES, Case, Fit, fit
from sbd_utils.metrics.cost import count_parameters
from sbd_utils.models.coordconv import BLIND, DECODERS, ENDS, distinct_pixels, new_network
from sbd_utils.models.layers import coordinate_grid
from sbd_utils.training.loop import TrainingDivergedError

ALL = DECODERS | BLIND


def test_every_center_at_which_the_square_fits_once():
    places = centers()
    assert len(places) == len(places.unique(dim=0)) == 56 * 56
    assert (int(places.min()), int(places.max())) == (4, 59)


def test_a_pixel_its_number_its_coordinates_and_its_square_are_at_the_same_place():
    places = torch.tensor([[4, 59], [20, 33]])  # x, y
    assert one_hot(places)[1, 0, 33, 20] == 1 and one_hot(places).sum() == 2
    assert pixel_numbers(places).tolist() == [59 * 64 + 4, 33 * 64 + 20]
    grid = coordinate_grid(64, 64)
    torch.testing.assert_close(coordinates(places)[1], grid[:, 33, 20])
    square = squares(places)[0, 0]
    assert square.sum() == 81 and square[55:, :9].all()


def test_the_splits():
    uniform, quadrant = held_out("uniform"), held_out("quadrant")
    assert uniform.sum() == 3136 // 5
    assert torch.equal(uniform, held_out("uniform"))
    assert not torch.equal(uniform, held_out("uniform", seed=1))
    assert quadrant.sum() == 28 * 28
    assert (centers()[quadrant] >= 32).all() and (centers()[~quadrant].min(dim=1)[0] < 32).all()


def test_scores_of_answers_known_to_be_right_and_wrong():
    places = torch.tensor([[10, 10], [30, 40]])
    score = {name: task.score for name, task in TASKS.items()}
    assert score["classification"](one_hot(places), pixel_numbers(places)).tolist() == [1, 1]
    assert score["classification"](one_hot(places), pixel_numbers(places + 1)).tolist() == [0, 0]
    close, far = (coordinates(places + torch.tensor([by, 0])) for by in (0.4, 0.6))
    assert score["regression"](close, coordinates(places)).tolist() == [1, 1]
    assert score["regression"](far, coordinates(places)).tolist() == [0, 0]
    drawn = (squares(places + torch.tensor([3, 0])) - 0.5) / 99  # logits; 6 of 9 columns overlap
    assert score["rendering"](drawn, squares(places)).tolist() == pytest.approx([6 / 12] * 2)


@pytest.fixture
def few(monkeypatch):
    """Every third center of every third row, for all there are."""
    few = centers().view(56, 56, 2)[::3, ::3].reshape(-1, 2)
    for module in (coordconv, not_so_clevr):
        monkeypatch.setattr(module, "centers", lambda: few)
    return few


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("network", ENDS)
def test_a_training_is_repeatable_learns_and_never_sees_the_test(task, network, few, monkeypatch):
    losses, seen = [], []

    def loss(output, wanted):
        value = TASKS[task].loss(output, wanted)
        if value.requires_grad:
            losses.append(value.item())
            seen.append(wanted)
        return value

    monkeypatch.setitem(TASKS, "watched", replace(TASKS[task], loss=loss))
    monkeypatch.setitem(DECODERS, network, replace(DECODERS[network], channels=4))
    torch.manual_seed(0)
    model = new_network(task, network)
    monkeypatch.setattr(coordconv, "new_network", lambda *args: copy.deepcopy(model))
    first, second = (
        fit("watched", network, "quadrant", 40, 1e-2, batch_size=8, first_look=20) for _ in range(2)
    )
    assert torch.equal(first.scores, second.scores) and first.scores.shape == (len(few),)
    assert losses[:40] == losses[40:] and sum(losses[30:40]) < sum(losses[:10])
    test = held_out("quadrant")
    assert test.any() and not test.all()
    hidden = {tuple(answer.flatten().tolist()) for answer in TASKS[task].wanted(few[test])}
    assert not any(tuple(answer.flatten().tolist()) in hidden for answer in torch.cat(seen))
    assert first.steps == [20, 24, 29, 35, 40]  # a fifth later each time, and the last
    assert first.seconds[0] > 0 and first.seconds == sorted(first.seconds)
    assert first.train == pytest.approx(first.scores[~test].mean().item())
    assert first.test[-1] == pytest.approx(first.scores[test].mean().item())
    assert len(first.test) == len(first.seconds) == 5
    shown = few[~test]
    with torch.inference_mode():
        output = first.network(TASKS[task].given(shown))
        assert TASKS[task].loss(output, TASKS[task].wanted(shown)) == (
            pytest.approx(first.train_loss)
        )


def test_the_seed_reaches_the_network(few, monkeypatch):
    task = replace(TASKS["regression"], score=lambda told, wanted: told[:, 0])
    monkeypatch.setitem(TASKS, "regression", task)
    first, second = (fit("regression", "coordconv", "quadrant", 1, 1e-3, seed) for seed in (0, 1))
    assert not torch.equal(first.scores, second.scores)


def test_parameters_by_hand():
    def count(task, network):
        return count_parameters(new_network(task, network))

    assert count("classification", "coordconv") == 5 * 16 + 3 * 17 * 16 + 17
    assert count("rendering", "coordconv-width8") == 5 * 8 + 3 * 9 * 8 + 9
    assert count("rendering", "coordconv-depth6") - count("rendering", "coordconv") == 17 * 16
    assert count("regression", "coordconv") == 4 * 16 + 17 * 2


def test_decoders_differ_from_an_end_in_what_their_name_says():
    changed = {}
    for name in (*NETWORKS, *BLIND):
        config, end = ALL[name], DECODERS[name.partition("-")[0]]
        changed[name] = {one for one in asdict(config) if asdict(config)[one] != asdict(end)[one]}
    more = {
        "plain-broadcast-xy-every": {"start", "coordinates"},
        "plain-side8-xy-first": {"base_size", "coordinates"},
        "plain-side8-broadcast": {"base_size", "start"},
        "plain-side8-broadcast-xy-first": {"base_size", "start", "coordinates"},
        "coordconv-kernel3-no-xy": {"kernel", "coordinates"},
    }
    assert {name: changed.pop(name) for name in more} == more
    assert not changed.pop("plain") and not changed.pop("coordconv")
    assert all(len(fields) == 1 for fields in changed.values())


def test_how_many_pixels_a_decoder_can_tell_apart():
    assert all(distinct_pixels(DECODERS[name]) == 3136 for name in NETWORKS)
    assert distinct_pixels(BLIND["coordconv-no-xy"]) == 1  # every pixel is computed alike
    assert distinct_pixels(BLIND["coordconv-kernel3-no-xy"]) == 3**2  # 4, 59, and all between
    # A kernel of 1 writes to every other pixel. Over five doublings the code reaches one center,
    # at (32, 32); the others see the bias of the last layer that writes to them.
    assert distinct_pixels(BLIND["plain-kernel1"]) == 1 + 5


def test_a_fit_says_when_it_first_reached_a_score():
    network, scores = new_network("regression", "coordconv"), torch.zeros(3136)
    done = Fit(network, [2, 4, 6], [0.1, 0.2, 0.3], [0.5, 0.96, 0.9], 1, 0, scores)
    assert done.first_reached(0.95) == (4, 0.2) and np.isnan(done.first_reached(0.97)).all()


def test_a_fit_that_diverges_has_no_score(few):
    with pytest.raises(TrainingDivergedError, match="lower learning_rate than 1e.30"):
        fit("regression", "coordconv", "uniform", 5, 1e30)


def test_a_training_of_the_study_is_kept_with_its_row(tmp_path, monkeypatch):
    done = Fit(
        new_network("rendering", "coordconv"),
        [25, 30],
        [1.0, 2.0],
        [0.5, 0.97],
        0.9,
        0.1,
        torch.linspace(0, 1, 3136),
    )
    trained = []

    def fake(*settings, first_look):
        trained.append((*settings, first_look))
        return replace(done, scores=1 - done.scores) if settings[-1] else done

    monkeypatch.setattr(coordconv, "fit", fake)
    monkeypatch.setattr(coordconv, "RUNS", tmp_path)
    case = Case("rendering", "quadrant", "coordconv", 0, 5e-3)
    rows = [coordconv.train_and_score(case) for _ in range(2)]
    np.testing.assert_equal(*rows)
    assert trained == [("rendering", "coordconv", "quadrant", 2000, 5e-3, 0, 25)]  # once
    with monkeypatch.context() as patch:  # other code trains anew
        patch.setattr(coordconv, "VERSION", -1)
        coordconv.train_and_score(case)
    assert trained.pop() == trained[0]
    assert asdict(case).items() <= rows[0].items()
    assert (rows[0]["steps"], rows[0]["seconds"], rows[0]["test"]) == (30, 2.0, 0.97)
    assert rows[0]["steps_to_95"] == 30 and np.isnan(rows[0]["steps_to_100"])
    untimed = coordconv.train_and_score(replace(case, seed=1))
    assert np.isnan(untimed["steps_to_95"]) and trained[-1][-1] == 2000  # one look, at the end

    other = replace(case, network="coordconv-kernel3")
    coordconv.train_and_score(other)
    cases = [case, replace(case, seed=1), other]  # only seed 0 is shown
    monkeypatch.setattr(coordconv, "CASES", cases)
    monkeypatch.setattr(coordconv, "MAPS", tmp_path / "maps.safetensors")
    coordconv.write_maps()
    maps = coordconv.read_maps()
    assert set(maps) == {
        f"rendering/quadrant/{network}/{what}"
        for what in ("scores", "drawn")
        for network in ("coordconv", "coordconv-kernel3")
    }
    np.testing.assert_allclose(
        maps["rendering/quadrant/coordconv/scores"].ravel(), done.scores, atol=1 / 255
    )
    with torch.inference_mode():
        drawn = done.network(coordinates(torch.tensor(coordconv.DRAWN))).sigmoid()
    np.testing.assert_allclose(
        maps["rendering/quadrant/coordconv/drawn"], drawn[:, 0], atol=0.51 / 255
    )


def test_the_committed_pictures_are_of_the_centers_that_the_study_draws():
    drawn = coordconv.read_maps()["rendering/quadrant/coordconv/drawn"]  # [center, row, column]
    for picture, center in zip(drawn, coordconv.DRAWN, strict=True):
        row, column = np.argwhere(picture > 0.5).mean(axis=0)
        assert (column, row) == pytest.approx(center, abs=0.5)


def test_the_committed_table_is_of_the_cases_and_its_pilots_chose_the_rates():
    rows = coordconv.read_rows()
    assert [Case(*row) for row in rows[list(asdict(CASES[0]))].itertuples(index=False)] == CASES
    assert (rows.steps == rows.task.map(coordconv.STEPS)).all()
    pilots = rows[rows.seed == PILOT_SEED]
    best = pilots.loc[pilots.groupby(["task", "network"]).train_loss.idxmin()]
    assert {(row.task, row.network): row.rate for row in best.itertuples()} == {
        (task, end): rate for task, rates in RATES.items() for end, rate in rates.items()
    }
    assert (pilots.split == "uniform").all()
