"""Sets of factor values by rules: held to what a rule says yes to, or with a factor it gives."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from sbd_utils import checks
from sbd_utils.data.factors import Columns, Continuous, FactorSet, Part


@dataclass(frozen=True)
class Rule:
    """A function of factors that is known by its text: rules of the same text count as equal.

    names: the factors that it takes, each float32 [N], in order. A run is named by the text, so
    change it with the function, or the old run is loaded. Another process must find the function,
    so give it a name of its own in a module.
    """

    text: str
    names: tuple[str, ...]
    function: Callable[..., torch.Tensor] = field(repr=False, compare=False)

    def __post_init__(self):
        checks.check_type("text", self.text, str)
        checks.check_type("function", self.function, Callable)
        if not isinstance(self.names, tuple) or not self.names:
            raise checks.argument_error("names", "a tuple of factors' names", self.names)
        for name in self.names:
            checks.check_type("names", name, str)

    def _check(self, whole: object) -> None:
        checks.check_type("whole", whole, FactorSet)
        if not set(self.names) <= set(whole.names):
            raise checks.argument_error(
                "rule", f"one of factors among {', '.join(whole.names)}", self
            )

    def _apply(self, given: Columns, bools: bool) -> torch.Tensor:
        like = given[self.names[0]]
        told = self.function(*(given[name].clone() for name in self.names))
        if (
            not isinstance(told, torch.Tensor)
            or told.shape != like.shape
            or ((told.dtype == torch.bool) != bools)
        ):
            kind = "bool" if bools else "numbers"
            raise checks.argument_error(f"what {self.text!r} gives", f"{kind} [{len(like)}]", told)
        return told if bools else told.float()


@dataclass(frozen=True)
class Where(Part):
    """What of `around` a rule, which gives bool [N], says yes to."""

    around: FactorSet
    rule: Rule

    def __post_init__(self):
        checks.check_type("rule", self.rule, Rule)
        self.rule._check(self.around)

    def _contains(self, given):
        return self.around._contains(given) & self.rule._apply(given, bools=True)


@dataclass(frozen=True)
class Dependent(FactorSet):
    """`whole`, and one more factor that a rule gives from the others, in its range or around it.

    It is uniform over what is free; a value counts as the rule's within 1e-5 of the range.
    """

    whole: FactorSet
    factor: Continuous
    rule: Rule

    def __post_init__(self):
        checks.check_type("rule", self.rule, Rule)
        self.rule._check(self.whole)
        checks.check_type("factor", self.factor, Continuous)
        if self.factor.name in self.whole.names:
            raise checks.argument_error("factor", "a new one", self.factor.name)

    @property
    def factors(self):
        return (*self.whole.factors, self.factor)

    @property
    def free(self):
        return self.whole.free

    @property
    def _rounding(self):
        return 1e-5 * (self.factor.high - self.factor.low)

    def _follow(self, given):
        low, high = self.factor.low, self.factor.high
        told = self.rule._apply(given, bools=False)
        if self.factor.periodic:
            told = low + (told - low) % (high - low)
        inside = told.clamp(low, high)  # rounding may leave the range
        if not ((told - inside).abs() <= self._rounding).all():  # also for NaN
            raise checks.argument_error(
                f"what {self.rule.text!r} gives", f"inside {self.factor}", told
            )
        return inside

    def _added(self, given):
        floats = {name: column.float() for name, column in given.items()}
        return given | {self.factor.name: self._follow(floats)}

    def _draw(self, count, generator):
        return self._added(self.whole._draw(count, generator))

    def _contains(self, given):
        inside, span = self.whole._contains(given), self.factor.high - self.factor.low
        told = self.rule._apply(given, bools=False)
        apart = (given[self.factor.name] - told).abs()
        if self.factor.periodic:
            apart = apart % span
            apart = torch.minimum(apart, span - apart)
        return inside & self.factor._contains(given) & (apart <= self._rounding)

    def _grid(self, steps):
        return self._added(self.whole._grid(steps))
