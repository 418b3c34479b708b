"""What users are told who pass the wrong thing, and that the calls they are told of help."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sbd_utils import checks
from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics.codes import encode
from sbd_utils.models.vae import VAE

pytestmark = pytest.mark.usefixtures("unenforced_annotations")

SPRITES = make_sprites(32, (8,), 2)
IMAGES = SPRITES.images[:2]
MODEL = VAE("sbd", 3, image_size=32).eval()
NAN = float("nan")
LONG = "x" * 100


@pytest.mark.parametrize(
    "check, bad, says",
    [
        (checks.check_int, True, "a whole number, got True"),
        (checks.check_int, 2.0, "a whole number, got 2.0"),
        (checks.check_int, 0, "a whole number of at least 1, got 0"),
        (lambda n, v: checks.check_int(n, v, 2, 4), 5, "a whole number from 2 to 4, got 5"),
        (checks.check_float, "1", "a number, got '1'"),
        (checks.check_float, np.bool(1), "a number, got bool of bool, shape []"),
        (checks.check_float, NAN, "finite, got nan"),
        (lambda n, v: checks.check_float(n, v, 0, 1), 1.5, "a number in [0, 1], got 1.5"),
        (checks.check_positive, 0, "a number above 0, got 0"),
        (checks.check_positive, float("inf"), "finite, got inf"),
        (lambda n, v: checks.check_one_of(n, v, ("a", "b")), "c", "one of a, b, got 'c'"),
        (lambda n, v: checks.check_one_of(n, v, (True, False)), 1, "one of True, False, got 1"),
        (lambda n, v: checks.check_type(n, v, str), 1, "a text, got 1"),
        (lambda n, v: checks.check_type(n, v, int), LONG, "an int, got a str"),
        (lambda n, v: checks.mapping(n, v, "ab"), {"a": 1}, "a mapping of a, b, got ['a']"),
        (lambda n, v: checks.mapping(n, v), {}, "a mapping, not empty, got []"),
        (lambda n, v: checks.labels(n, v, 2), ["disc", NAN], "2 texts or numbers, got"),
        (lambda n, v: checks.labels(n, v, 2), ["disc", 1], "2 texts or numbers, got"),
        (lambda n, v: checks.labels(n, v, 2), [1, 2, 3], "2 texts or numbers, got"),
        (lambda n, v: checks.labels(n, v, 2), [[1, 2], [3]], "2 texts or numbers, got"),
        (lambda n, v: checks.labels(n, v, 2), [1, NAN], "finite, got a NaN or an infinity"),
        (lambda n, v: checks.check_array(n, v, 2), np.ones(3), "numbers of 2 dimensions, got"),
        (lambda n, v: checks.check_array(n, v, 1), [], "numbers of 1 dimension, got"),
        (lambda n, v: checks.check_array(n, v, 1), ["1"], "numbers of 1 dimension, got ['1']"),
        (lambda n, v: checks.check_array(n, v, 1), [[1, 2], [3]], "numbers of 1 dimension, got"),
        (lambda n, v: checks.check_array(n, v, 1), [1j], "numbers of 1 dimension, got [1j]"),
        (lambda n, v: checks.check_array(n, v, 1), [NAN], "finite, got a NaN or an infinity"),
        *(
            (check, np.ma.masked_equal([1.0, 9.0], 9), "")
            for check in (
                lambda n, v: checks.labels(n, v, 2),
                lambda n, v: checks.check_array(n, v, 1),
            )
        ),
    ],
)
def test_checks_say_what_they_want_and_what_came(check, bad, says):
    with pytest.raises(ValueError) as caught:
        check("x", bad)
    assert str(caught.value).startswith(f"x must be {says}")


def test_checks_return_what_is_right():
    assert type(checks.check_int("x", np.int64(3))) is int
    assert type(checks.check_positive("x", np.float32(3))) is float
    checks.check_one_of("x", np.str_("a"), ("a",)), checks.check_type("x", 1.0, (str, float))
    assert checks.labels("x", ["a", "b"], 2).dtype.kind == "U"
    half = torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True)
    assert checks.check_array("x", half, 2).dtype == np.float64


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, .* are deprecated:UserWarning")
@pytest.mark.parametrize(
    "word, odd",
    [
        ("sparse_coo", torch.Tensor.to_sparse),
        ("meta", lambda x: x.to("meta")),
        ("nested", lambda x: torch.nested.as_nested_tensor(list(x), layout=torch.jagged)),
        ("quantized", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
    ],
)
def test_tensors_whose_numbers_cannot_be_read_are_told(word, odd):
    z = odd(torch.zeros(2, 3))
    for door in (
        MODEL.decode,
        lambda z: checks.images("z", z),
        lambda z: checks.check_array("z", z, 2),
        lambda z: checks.labels("z", z, 2),
    ):
        with pytest.raises(ValueError, match=f"^z must be .*, got a {word} tensor$"):
            door(z)


@pytest.mark.parametrize(
    "bad, says",
    [
        (SPRITES, "got a Sprites; give its .images: NAME.images"),
        ("disc.png", "got 'disc.png'; PIL.Image.open says: [Errno 2] No such file"),
        (Path("disc.png"), "; PIL.Image.open says"),
        ([], "got []"),
        ([1, IMAGES], "got a list"),
        (
            [Image.new("RGB", (32, 32)), Image.new("I;16", (32, 32))],
            "; the range of pixels of mode",
        ),
        (list(IMAGES), "got a list; give torch.stack(NAME).float()"),
        (IMAGES.numpy(), "; give torch.from_numpy(NAME.astype('float32'))"),
        (IMAGES.permute(0, 2, 3, 1), "shape [2, 32, 32, 3]; give NAME.movedim(-1, 1)"),
        (IMAGES[0], "shape [3, 32, 32]; give NAME[None]"),
        ((255 * IMAGES).byte(), "; give NAME.float() / 255"),
        (IMAGES[:, :1], "; if it is gray, no palette's, give NAME.expand("),
        (IMAGES.double(), "got Tensor of torch.float64, shape [2, 3, 32, 32]; give NAME.float()"),
        (255 * IMAGES, "got values from 0 to 255; if it is 8 bits, give NAME / 255"),
        (256 * IMAGES, "got values from 0 to 256"),
        (IMAGES - 0.5, "got values from -0.5 to 0.5"),
        (IMAGES * NAN, "got values from nan to nan"),
        (IMAGES[:0], "got Tensor of torch.float32, shape [0, 3, 32, 32]"),
        (IMAGES[..., :16], "shape [2, 3, 32, 16]"),
        (IMAGES[:, :2], "shape [2, 2, 32, 32]"),
        (IMAGES[[0, 1, 0, 1], 0], "shape [4, 32, 32]"),  # four gray ones, or RGBA
        (IMAGES.to(torch.complex64), "got Tensor of torch.complex64, shape [2, 3, 32, 32]"),
        (np.ma.masked_less(IMAGES.numpy(), 0.5), "got MaskedArray of float32"),
    ],
)
def test_wrong_images_are_told_the_call_that_helps(bad, says):
    for name, size, door in (
        ("images", "size", lambda value: checks.images("images", value)),
        ("images", 32, lambda value: encode(MODEL, value)),
        ("x", 32, MODEL.encode),
        ("x", 32, MODEL.reconstruct),
    ):
        with pytest.raises(ValueError) as caught:
            door(bad)
        wanted = f"{name} must be a float32 tensor in [0, 1], [N, 3, {size}, {size}], got "
        assert str(caught.value).startswith(wanted)
        assert says.replace("NAME", name) in str(caught.value)
        assert "; " in says or "; " not in str(caught.value), "a call that does not help"


def followed(images):
    """The images after the calls of the messages, as they are written, until there is no more."""
    for _ in range(5):
        try:
            checks.images("images", images)
            return images
        except ValueError as error:
            says = str(error)
        names = {"images": images, "np": np, "torch": torch, "Image": Image, "ImageOps": ImageOps}
        images = eval(re.search(r"give (.*)$", says)[1], names)
    raise AssertionError(says)


RAMP = np.linspace(0, 255, 32 * 32 * 3).round().astype(np.uint8).reshape(32, 32, 3)[:, ::-1]
COLORS = Image.fromarray(RAMP)
ALPHA = COLORS.copy()
ALPHA.putalpha(Image.linear_gradient("L").resize((32, 32)))
ON_WHITE = Image.alpha_composite(Image.new("RGBA", (32, 32), "white"), ALPHA).convert("RGB")
TURNED = Image.Exif()
TURNED[0x0112] = 6  # turn it clockwise to see it


def shown(pixels):
    return torch.tensor(np.asarray(pixels, np.float32)).movedim(-1, 0)


# Pillow keeps a GIF open, for its next frame, until it is collected.
@pytest.mark.filterwarnings("ignore:unclosed file .*:ResourceWarning")
@pytest.mark.parametrize(
    "file, image, expected, options",
    [
        ("rgb.png", COLORS, RAMP, {}),
        ("gray.png", COLORS.convert("L"), COLORS.convert("L").convert("RGB"), {}),
        ("palette.gif", COLORS.convert("P"), COLORS.convert("P").convert("RGB"), {}),
        ("rgba.png", ALPHA, ON_WHITE, {}),
        ("alpha.tif", ALPHA, ON_WHITE, {}),
        ("cmyk.jpg", COLORS.convert("CMYK"), RAMP, dict(quality=100)),
        ("turned.jpg", COLORS, RAMP[::-1].transpose(1, 0, 2), dict(exif=TURNED, quality=100)),
    ],
)
def test_calls_for_files_show_what_the_file_shows(file, image, expected, options, tmp_path):
    path = tmp_path / file
    image.save(path, **options)
    with Image.open(path) as image:
        image.load()
    for images in (path, str(path), [path, path], image, (image, image)):
        found = 255 * followed(images)
        assert found.shape == (2 if isinstance(images, (list, tuple)) else 1, 3, 32, 32)
        loss = 20 if file.endswith("jpg") else 1  # of a pixel; the mean is kept
        for one in found:
            assert one.mean().item() == pytest.approx(shown(expected).mean().item(), abs=loss / 20)
            assert (one - shown(expected)).abs().max() <= loss


def test_a_list_of_files_that_differ_is_read_as_all_of_them_need(tmp_path):
    paths = [tmp_path / "rgb.png", tmp_path / "rgba.png"]
    for path, image in zip(paths, (COLORS, ALPHA), strict=True):
        image.save(path)
    for one, expected in zip(followed(paths), (COLORS, ON_WHITE), strict=True):
        assert (255 * one - shown(expected)).abs().max() <= 1


FOUR = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
GRAY = IMAGES.max(dim=1).values  # [2, 32, 32]
RGB = GRAY[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    "image, expected",
    [
        (np.stack([RAMP] * 2), shown(RAMP) / 255),
        (RAMP, shown(RAMP) / 255),
        (RAMP.astype(int), shown(RAMP) / 255),
        ([RAMP, RAMP], shown(RAMP) / 255),
        (RAMP.astype(">u2") * 257, shown(RAMP) / 255),
        (GRAY, RGB),
        (GRAY[:, None], RGB),
        (GRAY[0].numpy(), RGB[:1]),
        (255 * GRAY, RGB),
        ((255 * GRAY).byte(), (255 * RGB).byte() / 255),
        ([*GRAY, GRAY[1]], RGB[[0, 1, 1]]),  # three, but no RGB
        (FOUR, FOUR[:, :3] * FOUR[:, 3:] + 1 - FOUR[:, 3:]),
    ],
)
def test_calls_for_arrays_make_the_images_that_they_are(image, expected):
    found = followed(image)
    torch.testing.assert_close(found, expected.broadcast_to(found.shape))
