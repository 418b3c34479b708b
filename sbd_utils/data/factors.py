"""Sets of factor values that compose: what a world shows, and what it holds out.

    place = Continuous("x", 0.1, 0.9) * Continuous("y", 0.1, 0.9)
    corner = Continuous("x", 0.5, 0.9) * Continuous("y", 0.5, 0.9)
    (place - corner).sample(3, torch.Generator().manual_seed(0))  # {"x": [3], "y": [3]}

The operations are those of Spriteworld's factor distributions (Watters et al. 2019), as sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sbd_utils import checks

TRIES, RARE = 2**20, 2**14  # a set is refused if so many draws hit it less often than one in RARE

Columns = dict[str, torch.Tensor]


class FactorSet:
    """Values of named factors: `*` product, `|` union, `-` difference, `&` intersection.

    A set is a value: sets that are written alike are equal, and the repr says all of a set.
    Subclasses have `factors` and say how to draw, test and enumerate.
    """

    factors: tuple[
        "Continuous | Discrete", ...
    ]  # names and ranges; which are periodic, which discrete

    @property
    def free(self) -> tuple["Continuous | Discrete", ...]:
        """The factors but for those that the others give."""
        return self.factors

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names."""
        return tuple(factor.name for factor in self.factors)

    @property
    def periods(self) -> dict[str, float]:
        """The periodic factors with their periods, as the measures take them."""
        return {one.name: one.high - one.low for one in self.factors if one.periodic}

    def sample(self, count: int, generator: torch.Generator) -> Columns:
        """So many draws, uniform on the set, each factor [count] on the CPU.

        The generator is the CPU's, so that every device sees the same draws. ValueError for a set
        that is empty, or nearly (by 2**20 draws).
        """
        checks.check_int("count", count)
        checks.check_type("generator", generator, torch.Generator)
        if generator.device.type != "cpu":
            raise checks.argument_error("generator", "one of the CPU", generator.device.type)
        return self._draw(count, generator)

    def contains(self, factors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Which rows of factors [N] are in the set, bool [N]; other factors do not matter."""
        return self._contains(checks.columns("factors", factors, self.names))

    def grid(self, steps: int | Mapping[str, int]) -> Columns:
        """Every combination on a grid that the set contains, the first factor outermost.

        steps: how many values, ends included, an interval takes (of a periodic one the end is its
        start, so only that), one number for all or each by name. A choice takes all its values.
        ValueError where nothing of the grid is in the set.
        """
        intervals = [factor.name for factor in self.free if isinstance(factor, Continuous)]
        if isinstance(steps, Mapping):
            if set(steps) != set(intervals):
                raise checks.argument_error(
                    "steps", f"a mapping of {', '.join(intervals)}", list(steps)
                )
        else:
            steps = dict.fromkeys(intervals, checks.check_int("steps", steps))
        found = self._grid(
            {name: checks.check_int("steps", count) for name, count in steps.items()}
        )
        if not len(found[self.names[0]]):
            raise checks.argument_error("steps", "fine enough for the grid to meet the set", steps)
        return found

    def __mul__(self, other: "FactorSet") -> "Product":
        return Product((*_parts(self, Product), *_parts(other, Product)))

    def __or__(self, other: "FactorSet") -> "Union":
        return Union((*_parts(self, Union), *_parts(other, Union)))

    def __sub__(self, other: "FactorSet") -> "SetMinus":
        return SetMinus(self, other)

    def __and__(self, other: "FactorSet") -> "SetMinus":
        return self - (self - other)


def _parts(factors: FactorSet, kind: type) -> tuple[FactorSet, ...]:
    """So that (a * b) * c and a * (b * c) are one value."""
    return factors.parts if isinstance(factors, kind) else (factors,)


def _check_parts(parts: object) -> None:
    if not isinstance(parts, tuple) or not parts:
        raise checks.argument_error("parts", "a tuple of FactorSets", parts)
    for part in parts:
        checks.check_type("parts", part, FactorSet)


@dataclass(frozen=True)
class Continuous(FactorSet):
    """One factor, a number from low to high; of a periodic one, both ends are the same."""

    name: str
    low: float
    high: float
    periodic: bool = False

    def __post_init__(self):
        checks.check_type("name", self.name, str)
        checks.check_type("periodic", self.periodic, bool)
        for end in ("low", "high"):  # 0, 0.0 and -0.0 are one value
            object.__setattr__(self, end, checks.check_float(end, getattr(self, end)) + 0.0)
        if not self.low < self.high:
            raise checks.argument_error("high", f"above low = {self.low:g}", self.high)
        low, high = torch.tensor([self.low, self.high], dtype=torch.float32)
        if not 0 < high - low < torch.inf:
            raise checks.argument_error(
                "high", f"as far above low = {self.low:g} as float32 can tell", self.high
            )

    @property
    def factors(self):
        return (self,)

    def _draw(self, count, generator):
        drawn = self.low + (self.high - self.low) * torch.rand(count, generator=generator)
        return {self.name: drawn.clamp(self.low, self.high)}  # rounding may leave the interval

    def _contains(self, given):
        return (given[self.name] >= self.low) & (given[self.name] <= self.high)

    def _grid(self, steps):
        count = steps[self.name]
        line = torch.linspace(self.low, self.high, count + self.periodic, dtype=torch.float64)
        return {self.name: line[:count].float()}


@dataclass(frozen=True)
class Discrete(FactorSet):
    """One factor, any of some numbers: whole ones (int64) are labels, others (float32) sizes."""

    name: str
    values: tuple[float, ...]
    periodic = False  # of all choices

    def __post_init__(self):
        checks.check_type("name", self.name, str)
        if not isinstance(self.values, tuple) or not self.values:
            raise checks.argument_error("values", "a tuple of numbers", self.values)
        # float32, in which a set compares, has every whole number up to 2**24.
        values = [checks.check_float("values", value, -(2**24), 2**24) for value in self.values]
        if len(set(map(np.float32, values))) < len(values):
            raise checks.argument_error("values", "different numbers", self.values)
        if all(value.is_integer() for value in values):
            values = map(int, values)
        object.__setattr__(self, "values", tuple(values))

    @property
    def factors(self):
        return (self,)

    def _draw(self, count, generator):
        chosen = torch.randint(len(self.values), (count,), generator=generator)
        return {self.name: torch.tensor(self.values)[chosen]}

    def _contains(self, given):
        value = given[self.name]
        return torch.isin(value, torch.tensor(self.values, dtype=value.dtype, device=value.device))

    def _grid(self, steps):
        return {self.name: torch.tensor(self.values)}


@dataclass(frozen=True)
class Product(FactorSet):
    """Each of the parts, which share no factor, drawn on its own: written a * b."""

    parts: tuple[FactorSet, ...]

    def __post_init__(self):
        _check_parts(self.parts)
        if len(set(self.names)) < len(self.names):
            raise checks.argument_error("parts", "sets of different factors", self.names)

    @property
    def factors(self):
        return tuple(factor for part in self.parts for factor in part.factors)

    @property
    def free(self):
        return tuple(factor for part in self.parts for factor in part.free)

    def _draw(self, count, generator):
        return {
            name: column
            for part in self.parts
            for name, column in part._draw(count, generator).items()
        }

    def _contains(self, given):
        return torch.stack([part._contains(given) for part in self.parts]).all(dim=0)

    def _grid(self, steps):
        grids = [part._grid(steps) for part in self.parts]
        rows = [torch.arange(len(next(iter(grid.values())))) for grid in grids]
        picks = torch.stack(torch.meshgrid(*rows, indexing="ij")).flatten(1)  # [parts, N]
        return {
            name: column[pick]
            for grid, pick in zip(grids, picks, strict=True)
            for name, column in grid.items()
        }


class Part(FactorSet):
    """A part of the set `around`: of what is drawn there, that which the part contains.

    Of their own, parts have `_contains`, which asks `around`, too.
    """

    around: FactorSet

    @property
    def factors(self):
        return self.around.factors

    @property
    def free(self):
        return self.around.free

    def _draw(self, count, generator):
        found, tried, kept, box = [], 0, 0, self.around
        while isinstance(box, Part):  # whose draws would be tried, too, again and again
            box = box.around
        while kept < count:
            if tried >= TRIES and kept < tried / RARE:
                raise ValueError(
                    f"a set must have something in it, got {kept} of {tried} draws "
                    f"inside {checks.describe(self)}"
                )
            drawn = box._draw(max(count, 1024), generator)
            inside = self._contains({name: column.float() for name, column in drawn.items()})
            found.append({name: column[inside] for name, column in drawn.items()})
            tried, kept = tried + len(inside), kept + int(inside.sum())
        return {name: torch.cat([part[name] for part in found])[:count] for name in self.names}

    def _grid(self, steps):
        found = self.around._grid(steps)
        inside = self._contains({name: column.float() for name, column in found.items()})
        return {name: column[inside] for name, column in found.items()}


@dataclass(frozen=True)
class Union(Part):
    """What any of the parts contains, all of the same factors: written a | b.

    Drawn from the smallest box around all parts, so that where they overlap counts once. A
    dependent factor fills no part of a box: join the sets that it depends on instead.
    """

    parts: tuple[FactorSet, ...]

    def __post_init__(self):
        _check_parts(self.parts)
        if any(set(part.names) != set(self.parts[0].names) for part in self.parts):
            raise checks.argument_error(
                "parts", "sets of the same factors", tuple(part.names for part in self.parts)
            )
        if any(part.free != part.factors for part in self.parts):
            raise checks.argument_error("parts", "sets without a dependent factor", self.parts)
        for same in self._alike():
            if len({(type(one), one.periodic and (one.low, one.high)) for one in same}) > 1:
                raise checks.argument_error("parts", "sets of factors of the same kind", same)

    def _alike(self):
        """For every factor, what it is in each of the parts."""
        found = [{factor.name: factor for factor in part.factors} for part in self.parts]
        return [[part[name] for part in found] for name in found[0]]

    @property
    def around(self):
        box = []
        for same in self._alike():
            if isinstance(same[0], Discrete):
                values = {np.float32(value): value for one in same for value in one.values}
                box.append(Discrete(same[0].name, tuple(values.values())))
            else:
                box.append(
                    Continuous(
                        same[0].name,
                        min(one.low for one in same),
                        max(one.high for one in same),
                        same[0].periodic,
                    )
                )
        return Product(tuple(box))

    def _contains(self, given):
        return torch.stack([part._contains(given) for part in self.parts]).any(dim=0)


@dataclass(frozen=True)
class SetMinus(Part):
    """What is in `around` and not in the hole, which has some of its factors: written a - b."""

    around: FactorSet
    hole: FactorSet

    def __post_init__(self):
        checks.check_type("around", self.around, FactorSet)
        checks.check_type("hole", self.hole, FactorSet)
        if not set(self.hole.names) <= set(self.around.names):
            raise checks.argument_error(
                "hole", f"a set of factors among {', '.join(self.around.names)}", self.hole.names
            )
        whole = {factor.name: factor for factor in self.around.factors}
        for part in self.hole.factors:
            ends = part.values if isinstance(part, Discrete) else (part.low, part.high)
            if whole[part.name].periodic and not (
                whole[part.name].low <= min(ends) and max(ends) <= whole[part.name].high
            ):
                raise checks.argument_error(
                    "hole",
                    f"within the range of {part.name}, which goes around: a part across "
                    "its ends is a union of two that do not",
                    part,
                )

    def _contains(self, given):
        return self.around._contains(given) & ~self.hole._contains(given)
