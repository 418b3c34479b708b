"""Sets of factor values by rules: restricted by a condition, or with a factor that depends."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Shaped

from sbd_utils import checks
from sbd_utils.data.factors import Columns, Continuous, FactorSet, Subset


@dataclass(frozen=True)
class Rule:
    """A function of factors; rules of the same text count as equal.

    Attributes:
        text: says what the function computes. It enters the id of a run, so change it with the
            function.
        names: the factors that the function takes, in order, each float32 [N].
        function: of a module, with a name of its own, so that other processes find it.
    """

    text: str
    names: tuple[str, ...]
    function: Callable[..., torch.Tensor] = field(repr=False, compare=False)

    def __call__(self, factors: Columns) -> Shaped[torch.Tensor, " N"]:
        """Apply the function to copies of its factors, so that it may work in place."""
        return self.function(*(factors[name].clone().float() for name in self.names))

    def check_names(self, base: FactorSet) -> None:
        """Raise ValueError unless `base` has the factors that the function takes."""
        if not set(self.names) <= set(base.names):
            raise checks.argument_error(
                "rule", f"one of factors among {', '.join(base.names)}", self
            )


@dataclass(frozen=True)
class Where(Subset):
    """The subset of `base` on which a rule, which gives bool [N], is true."""

    base: FactorSet
    rule: Rule

    def __post_init__(self):
        self.rule.check_names(self.base)

    def contains(self, factors):
        return self.base.contains(factors) & self.rule(factors)


@dataclass(frozen=True)
class Dependent(FactorSet):
    """`base`, and one more factor that a rule computes from the others.

    Sampling is uniform on `base`. A value is the rule's if it differs by at most 1e-5 of the
    factor's range.

    Attributes:
        factor: the dependent factor, with its range.
        rule: gives numbers [N] in that range; of a periodic factor, any numbers.
    """

    base: FactorSet
    factor: Continuous
    rule: Rule

    def __post_init__(self):
        self.rule.check_names(self.base)
        if self.factor.name in self.base.names:
            raise checks.argument_error("factor", "a new one", self.factor.name)

    @property
    def factors(self):
        return (*self.base.factors, self.factor)

    @property
    def _tolerance(self):
        return 1e-5 * (self.factor.high - self.factor.low)

    def sample(self, count, generator):
        low, high = self.factor.low, self.factor.high
        drawn = self.base.sample(count, generator)
        value = self.rule(drawn)
        if self.factor.periodic:
            value = low + (value - low) % (high - low)
        inside = value.clamp(low, high)  # rounding may leave the range
        if not ((value - inside).abs() <= self._tolerance).all():  # also for NaN
            raise checks.argument_error(f"the rule {self.rule.text!r}", f"in {self.factor}", value)
        return {**drawn, self.factor.name: inside}

    def contains(self, factors):
        span = self.factor.high - self.factor.low
        difference = (factors[self.factor.name] - self.rule(factors)).abs()
        if self.factor.periodic:
            difference = difference % span
            difference = torch.minimum(difference, span - difference)
        in_range = self.base.contains(factors) & self.factor.contains(factors)
        return in_range & (difference <= self._tolerance)
