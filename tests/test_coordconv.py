"""CoordConv's toy world: pixels against coordinates, the splits, the scores and the study."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

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
from sbd_utils.experiments.coordconv import CASES, PILOT_SEED, RATES, Fit, fit
from sbd_utils.metrics.cost import count_parameters
from sbd_utils.models.coordconv import BLIND, DECODERS, ENDS, distinct_pixels, new_network
from sbd_utils.models.decoders import DecoderConfig
from sbd_utils.models.layers import coordinate_grid
from sbd_utils.training.loop import TrainingDivergedError


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
    with pytest.raises(ValueError, match="^split must be one of uniform, quadrant, got 'half'"):
        held_out("half")


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
def small(monkeypatch):
    """Both ends, with few channels."""
    for end in ENDS:
        monkeypatch.setitem(DECODERS, end, replace(DECODERS[end], width=8))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("network", ENDS)
def test_a_training_is_repeatable_learns_and_never_sees_the_test(task, network, small, monkeypatch):
    losses, seen = [], []

    def loss(told, wanted):
        value = TASKS[task].loss(told, wanted)
        if value.requires_grad:
            losses.append(value.item())
            seen.append(wanted)
        return value

    monkeypatch.setitem(TASKS, "watched", replace(TASKS[task], loss=loss))
    torch.manual_seed(0)
    model = new_network(task, network)
    monkeypatch.setattr(coordconv, "new_network", lambda *args: copy.deepcopy(model))
    first, second = (fit("watched", network, "quadrant", 80, 5e-3, first_look=40) for _ in range(2))
    assert torch.equal(first.scores, second.scores) and first.scores.shape == (3136,)
    assert losses[:80] == losses[80:] and sum(losses[60:80]) < sum(losses[:20])
    test = held_out("quadrant")
    hidden = {tuple(answer.flatten().tolist()) for answer in TASKS[task].wanted(centers()[test])}
    assert not any(tuple(answer.flatten().tolist()) in hidden for answer in torch.cat(seen))
    assert first.steps == [40, 48, 58, 70, 80]  # a fifth later each time, and the last
    assert first.seconds[0] > 0 and first.seconds == sorted(first.seconds)
    assert first.train == pytest.approx(first.scores[~test].mean().item())
    assert first.test[-1] == pytest.approx(first.scores[test].mean().item())
    assert len(first.test) == len(first.seconds) == 5
    shown = centers()[~test]
    with torch.inference_mode():
        told = first.network(TASKS[task].given(shown))
        assert TASKS[task].loss(told, TASKS[task].wanted(shown)) == pytest.approx(first.train_loss)


def test_the_seed_reaches_the_network(monkeypatch):
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
    with pytest.raises(ValueError, match="^task must be one of classification, regression, render"):
        new_network("segmentation", "plain")
    with pytest.raises(ValueError, match="^network for regression must be one of plain, coordconv"):
        new_network("regression", "plain-width16")


def test_decoders_differ_from_an_end_in_what_their_name_says():
    changed = {}
    for name, recipe in (DECODERS | BLIND).items():
        end = DECODERS[name.partition("-")[0]]
        changed[name] = {
            field
            for field in DecoderConfig.__dataclass_fields__
            if getattr(recipe, field) != getattr(end, field)
        }
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
    assert all(distinct_pixels(recipe) == 3136 for recipe in DECODERS.values())
    assert distinct_pixels(BLIND["coordconv-no-xy"]) == 1  # every pixel is computed alike
    assert distinct_pixels(BLIND["coordconv-kernel3-no-xy"]) == 3**2  # 4, 59, and all between
    # A kernel of 1 writes to every other pixel. Over five doublings the code reaches one center,
    # at (32, 32); the others see the bias of the last layer that writes to them.
    assert distinct_pixels(BLIND["plain-kernel1"]) == 1 + 5


def test_a_fit_says_when_it_first_reached_a_share():
    done = Fit(None, [2, 4, 6], [0.1, 0.2, 0.3], [0.5, 0.96, 0.9], 1, 0, None)
    assert done.until(0.95) == (4, 0.2) and np.isnan(done.until(0.97)).all()


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"steps": 0}, "steps"),
        ({"first_look": 0}, "first_look"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"split": "half"}, "split"),
        ({"task": "drawing"}, "task"),
    ],
)
def test_a_fit_names_what_is_wrong(changes, named):
    right = {
        "task": "regression",
        "network": "coordconv",
        "split": "uniform",
        "steps": 1,
        "learning_rate": 1e-3,
    }
    with pytest.raises(ValueError, match=f"^{named} must"):
        fit(**right | changes)


def test_a_fit_that_diverges_has_no_score():
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
    case = {
        "task": "rendering",
        "split": "quadrant",
        "network": "coordconv",
        "seed": 0,
        "rate": 5e-3,
    }
    rows = [coordconv.train_and_score(**case) for _ in range(2)]
    np.testing.assert_equal(*rows)
    assert trained == [("rendering", "coordconv", "quadrant", 2000, 5e-3, 0, 25)]  # once
    with monkeypatch.context() as patch:  # other code trains anew
        patch.setattr(coordconv, "CODE", "new")
        coordconv.train_and_score(**case)
    assert trained.pop() == trained[0]
    assert case.items() <= rows[0].items()
    assert (rows[0]["steps"], rows[0]["seconds"], rows[0]["test"]) == (30, 2.0, 0.97)
    assert rows[0]["steps_to_95"] == 30 and np.isnan(rows[0]["steps_to_100"])
    untimed = coordconv.train_and_score(**case | {"seed": 1})
    assert np.isnan(untimed["steps_to_95"]) and trained[-1][-1] == 2000  # one look, at the end

    other = {**case, "network": "coordconv-kernel3"}
    coordconv.train_and_score(**other)
    cases = [case, {**case, "seed": 1}, other]  # only seed 0 is shown
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
    settings = ["task", "split", "network", "seed", "rate"]
    assert rows[settings].to_dict("records") == CASES
    assert (rows.steps == rows.task.map(coordconv.STEPS)).all()
    pilots = rows[rows.seed == PILOT_SEED]
    best = pilots.loc[pilots.groupby(["task", "network"]).train_loss.idxmin()]
    assert {(row.task, row.network): row.rate for row in best.itertuples()} == {
        (task, end): rate for task, rates in RATES.items() for end, rate in rates.items()
    }
    assert (pilots.split == "uniform").all()
