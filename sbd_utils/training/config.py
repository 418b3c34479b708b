"""The settings of a run."""

from dataclasses import dataclass

from sbd_utils import checks
from sbd_utils.models.decoders import DECODERS
from sbd_utils.settings import TRAINING

PRECISIONS = ("bfloat16", "float32")


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; the defaults are the post's, except that the post has no seed.

    Attributes:
        decoder: a name in `DECODERS`. To train a decoder of your own, give it a name there:
            `DECODERS["mine"] = Mine`, a class or function of latent_dim and image_size.
        beta: the weight of the KL term (Higgins et al. 2017, beta-VAE).
        gradient_accumulation_steps: in how many pieces a batch is computed, to need less memory.
        precision: "bfloat16" (autocast), "float32", or "auto": what this machine is faster at.
        compiled: whether torch.compile builds the loss; "auto" tries, and trains eagerly, with one
            line of log, where it fails.
    """

    decoder: str = "sbd"
    seed: int = 0
    epochs: int = TRAINING["blog"]["epochs"]
    batch_size: int = 16
    learning_rate: float = TRAINING["blog"]["learning_rate"]
    latent_dim: int = 5
    decoder_variance: float = 0.3
    beta: float = 1.0
    gradient_accumulation_steps: int = 1
    precision: str = "auto"
    compiled: bool | str = "auto"

    def __post_init__(self):
        checks.check_one_of("decoder", self.decoder, DECODERS)
        checks.check_one_of("precision", self.precision, (*PRECISIONS, "auto"))
        checks.check_one_of("compiled", self.compiled, (True, False, "auto"))
        for name, least in (
            ("seed", 0),
            ("epochs", 1),
            ("batch_size", 1),
            ("latent_dim", 1),
            ("gradient_accumulation_steps", 1),
        ):
            # NumPy's numbers become Python's, which go into JSON.
            object.__setattr__(self, name, checks.check_int(name, getattr(self, name), least))
        if self.batch_size % self.gradient_accumulation_steps:
            raise checks.argument_error(
                "gradient_accumulation_steps",
                f"a divisor of batch_size = {self.batch_size}",
                self.gradient_accumulation_steps,
            )
        for name in ("learning_rate", "decoder_variance", "beta"):
            object.__setattr__(self, name, checks.check_positive(name, getattr(self, name)))
