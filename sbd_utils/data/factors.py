"""Sets of factor values that compose: what a world shows, and what it holds out.

Example::

    position = Continuous("x", 0.1, 0.9) * Continuous("y", 0.1, 0.9)
    corner = Continuous("x", 0.5, 0.9) * Continuous("y", 0.5, 0.9)
    (position - corner).sample(3, torch.Generator().manual_seed(0))  # {"x": [3], "y": [3]}

Modeled on Spriteworld's factor distributions (Watters et al. 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Num

from sbd_utils import checks

TRIES, RARE = 2**20, 2**14  # give up if of so many draws fewer than one in RARE is accepted

Columns = Mapping[str, Num[torch.Tensor, " N"]]  # one column of values for each factor


class FactorSet:
    """A set of values of named factors. `a * b` is a product, `a - b` a difference.

    Sets are values: those that are written alike are equal and have the same repr.

    Attributes:
        factors: the single factors, with their ranges.
    """

    factors: tuple["Continuous | Discrete", ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names."""
        return tuple(factor.name for factor in self.factors)

    @property
    def periods(self) -> dict[str, float]:
        """The period of each periodic factor, by name."""
        return {one.name: one.high - one.low for one in self.factors if one.periodic}

    def sample(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draw values, uniform on the set.

        Args:
            generator: of the CPU, so that every device sees the same draws.

        Returns:
            Each factor's values, [count], on the CPU.

        Raises:
            ValueError: the set is empty, or so small that rejection sampling does not find it.
        """
        raise NotImplementedError

    def contains(self, factors: Columns) -> Bool[torch.Tensor, " N"]:
        """Which rows are in the set; factors that are not the set's do not matter."""
        raise NotImplementedError

    def __mul__(self, other: "FactorSet") -> "Product":
        # (a * b) * c and a * (b * c) are one value.
        parts = [one.parts if isinstance(one, Product) else (one,) for one in (self, other)]
        return Product((*parts[0], *parts[1]))

    def __sub__(self, other: "FactorSet") -> "SetMinus":
        return SetMinus(self, other)


@dataclass(frozen=True)
class Continuous(FactorSet):
    """One factor, uniform from low to high; both ends of a periodic one are the same."""

    name: str
    low: float
    high: float
    periodic: bool = False

    def __post_init__(self):
        for end in ("low", "high"):  # 0, 0.0 and -0.0 are one value
            object.__setattr__(self, end, checks.check_float(end, getattr(self, end)) + 0.0)
        low, high = torch.tensor([self.low, self.high], dtype=torch.float32)
        if not 0 < high - low < torch.inf:
            raise checks.argument_error("high", f"above low = {self.low:g} in float32", self.high)

    @property
    def factors(self):
        return (self,)

    def sample(self, count, generator):
        drawn = self.low + (self.high - self.low) * torch.rand(count, generator=generator)
        return {self.name: drawn.clamp(self.low, self.high)}  # rounding may leave the interval

    def contains(self, factors):
        return (factors[self.name] >= self.low) & (factors[self.name] <= self.high)


@dataclass(frozen=True)
class Discrete(FactorSet):
    """One factor that takes any of some numbers: int64 if all are whole, else float32."""

    name: str
    values: tuple[float, ...]
    periodic = False

    def __post_init__(self):
        if not isinstance(self.values, tuple) or not self.values:
            raise checks.argument_error("values", "a tuple of numbers", self.values)
        values = [checks.check_float("values", value) for value in self.values]
        if len(set(map(np.float32, values))) < len(values):
            raise checks.argument_error("values", "different numbers", self.values)
        if all(value.is_integer() for value in values):
            values = map(int, values)
        object.__setattr__(self, "values", tuple(values))

    @property
    def factors(self):
        return (self,)

    def sample(self, count, generator):
        chosen = torch.randint(len(self.values), (count,), generator=generator)
        return {self.name: torch.tensor(self.values)[chosen]}

    def contains(self, factors):
        value = factors[self.name].float()
        return torch.isin(value, torch.tensor(self.values, dtype=value.dtype, device=value.device))


@dataclass(frozen=True)
class Product(FactorSet):
    """Parts that share no factor, each sampled independently: `a * b`."""

    parts: tuple[FactorSet, ...]

    def __post_init__(self):
        if len(set(self.names)) < len(self.names):
            raise checks.argument_error("parts", "sets of different factors", self.names)

    @property
    def factors(self):
        return tuple(factor for part in self.parts for factor in part.factors)

    def sample(self, count, generator):
        samples = [part.sample(count, generator) for part in self.parts]
        return {name: column for sample in samples for name, column in sample.items()}

    def contains(self, factors):
        return torch.stack([part.contains(factors) for part in self.parts]).all(dim=0)


class Subset(FactorSet):
    """Subset of `base`, sampled by rejection; subclasses say what it `contains`."""

    base: FactorSet

    @property
    def factors(self):
        return self.base.factors

    def sample(self, count, generator):
        found, tried, kept = [], 0, 0
        while kept < count:
            if tried >= TRIES and kept < tried / RARE:
                raise ValueError(
                    f"a set must not be empty, got {kept} of {tried} draws in "
                    f"{checks.describe(self)}"
                )
            drawn = self.base.sample(max(count, 1024), generator)
            inside = self.contains(drawn)
            found.append({name: column[inside] for name, column in drawn.items()})
            tried, kept = tried + len(inside), kept + int(inside.sum())
        return {name: torch.cat([some[name] for some in found])[:count] for name in self.names}


@dataclass(frozen=True)
class SetMinus(Subset):
    """What is in `base` and not in `hole`, a set of some of its factors: `a - b`."""

    base: FactorSet
    hole: FactorSet

    def __post_init__(self):
        if not set(self.hole.names) <= set(self.base.names):
            raise checks.argument_error(
                "hole", f"a set of factors among {', '.join(self.base.names)}", self.hole.names
            )
        whole = {factor.name: factor for factor in self.base.factors}
        for part in self.hole.factors:
            one = whole[part.name]
            ends = part.values if isinstance(part, Discrete) else (part.low, part.high)
            if one.periodic and not one.low <= min(ends) <= max(ends) <= one.high:
                raise checks.argument_error(
                    "hole", f"within the range of the periodic {part.name} (take out two)", part
                )

    def contains(self, factors):
        return self.base.contains(factors) & ~self.hole.contains(factors)
