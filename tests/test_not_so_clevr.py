"""CoordConv's toy world: pixels against coordinates, the splits, the scores and the trainings."""

import copy
from dataclasses import replace

import pytest
import torch

from sbd_utils import not_so_clevr
from sbd_utils.cost import count_parameters
from sbd_utils.models import coordinate_grid
from sbd_utils.not_so_clevr import (
    TASKS,
    Fit,
    centers,
    coordinates,
    fit,
    held_out,
    new_network,
    one_hot,
    pixel_numbers,
    squares,
)


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
    drawn = squares(places + torch.tensor([3, 0])) - 0.5  # logits; 6 of 9 columns overlap
    assert score["rendering"](drawn, squares(places)).tolist() == pytest.approx([6 / 12] * 2)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("coordconv", [False, True])
def test_a_training_is_repeatable_learns_and_never_sees_the_test(task, coordconv, monkeypatch):
    losses, seen = [], []

    def loss(told, wanted):
        value = TASKS[task].loss(told, wanted)
        losses.append(value.item())
        seen.append(wanted)
        return value

    monkeypatch.setitem(not_so_clevr.TASKS, "watched", replace(TASKS[task], loss=loss))
    torch.manual_seed(0)
    network = new_network(task, coordconv, 8)
    monkeypatch.setattr(not_so_clevr, "new_network", lambda *args: copy.deepcopy(network))
    first, second = (fit("watched", coordconv, "quadrant", 80, 5e-3, first_look=40)
                     for _ in range(2))
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


def test_width_and_seed_reach_the_network(monkeypatch):
    task = replace(TASKS["regression"], score=lambda told, wanted: told[:, 0])
    monkeypatch.setitem(TASKS, "regression", task)
    fits = [fit("regression", True, "quadrant", 1, 1e-3, width, seed)
            for width, seed in ((8, 0), (8, 1), (16, 0))]
    assert [done.parameters for done in fits] == [50, 50, 98]
    assert not torch.equal(fits[0].scores, fits[1].scores)


def test_parameters_by_hand():
    assert count_parameters(new_network("classification", True)) == 5 * 32 + 3 * 33 * 32 + 33
    assert count_parameters(new_network("classification", True, 8)) == 5 * 8 + 3 * 9 * 8 + 9
    assert count_parameters(new_network("regression", True)) == 4 * 16 + 17 * 2
    assert count_parameters(new_network("regression", False, 2)) == 34 + 3 * 66 + 33 * 2
    with pytest.raises(ValueError, match="^task must be one of classification, regression, render"):
        new_network("segmentation", True)


def test_a_fit_says_when_it_first_reached_a_share():
    done = Fit(1, [2, 4, 6], [0.1, 0.2, 0.3], [0.5, 0.96, 0.9], 1, None)
    assert done.until(0.95) == (4, 0.2) and done.until(0.97) is None


def test_a_fit_needs_a_step_and_a_look():
    with pytest.raises(ValueError, match="^need at least 1 step and look, got steps=0"):
        fit("regression", True, "uniform", 0, 1e-3)
    with pytest.raises(ValueError, match="first_look=0$"):
        fit("regression", True, "uniform", 1, 1e-3, first_look=0)
