"""What the site's pages show of the results and the published runs."""

import base64
import io
import json
from html import escape

import nbformat
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from sbd_utils import claims
from sbd_utils.data.circles import COLORS, draw_sprite, make_sprites
from sbd_utils.metrics.codes import encode
from sbd_utils.metrics.geometry import compare, informative_latents, lattice_places, principal_plane
from sbd_utils.metrics.posterior_axes import posterior_precision, principal_axes
from sbd_utils.models.decoders import PAIR
from sbd_utils.plots.style import DECODER_COLORS
from sbd_utils.settings import RESULTS
from sbd_utils.training.records import load_run
from tools.notebooks import NOTEBOOKS, claim_rows

PLACES = lattice_places(np.linspace(0.2, 0.8, 11))  # [11, 11, 2], as in the published files
EPOCHS = (*range(1, 21), *range(22, 41, 2), *range(45, 101, 5), *range(110, 151, 10))
# Real images to start from: column and row of 35, and color. The first one is the page's first.
IMAGES = (
    (17, 17, "red"),
    (9, 10, "green"),
    (25, 9, "blue"),
    (8, 26, "red"),
    (26, 25, "green"),
    (17, 5, "blue"),
)
NINTHS = (("upper", "middle", "lower"), ("left", "center", "right"))


def rows() -> list[dict]:
    """The claims, each with the notebook that judges it."""
    judges = {
        row["claim"]: path.stem
        for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
        for row in claim_rows(nbformat.read(path, as_version=4))
    }
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))
    return [row | {"notebook": judges[row["claim"]]} for row in facts["claims"]]


def claims_table() -> str:
    """The claims as a table whose columns a script sorts; a key where the text is not the order."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Claim", "Result", "Verdict", "Threshold", "Who says so", "Judged in")
    )
    body = []
    for number, row in enumerate(rows()):
        verdict, page = row["verdict"], row["notebook"]
        cells = (
            (number, f"{escape(row['says'])}<small>{escape(row['measure'])}</small>"),
            (row["value"], escape(claims.measured(row, unit=True))),
            (
                claims.VERDICTS.index(verdict),
                f'<span class="verdict v{claims.VERDICTS.index(verdict)}">{verdict}</span>',
            ),
            (row["threshold"], escape(row["threshold"])),
            (row["source"], escape(row["source"])),
            (page, f'<a href="notebooks/{page}.html">{page[:2]}</a>'),
        )
        body.append(
            f'<tr id="{row["claim"]}">'
            + "".join(f'<td data-key="{escape(str(key))}">{cell}</td>' for key, cell in cells)
            + "</tr>"
        )
    return (
        '<div class="claims" tabindex="0" role="region" aria-label="All claims"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def tally() -> str:
    """One square per claim, in the color of its verdict, and how many there are of each."""
    found = sorted(rows(), key=lambda row: claims.VERDICTS.index(row["verdict"]))
    verdicts = [row["verdict"] for row in found]
    squares = "".join(
        f'<a class="v{claims.VERDICTS.index(row["verdict"])}" href="claims.html#{row["claim"]}" '
        f'title="{escape(row["says"])}: {row["verdict"]}"><span>{escape(row["says"])}: '
        f"{row['verdict']}</span></a>"
        for row in found
    )
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}" for verdict in claims.VERDICTS if verdict in verdicts
    )
    return f'<p>Of {len(found)} claims: {counts}.</p><p class="tally">{squares}</p>'


def geometry() -> dict:
    """The true lattice, and where each decoder's code puts it after some of the epochs."""
    found = {"epochs": EPOCHS, "truth": _rounded(PLACES), "decoders": {}}
    for name in PAIR:
        lattices = load_run(name).history.codes.double().numpy()
        planes = [
            compare(principal_plane(lattices[epoch - 1], PLACES), PLACES)
            for epoch in EPOCHS
            if epoch <= len(lattices)
        ]
        found["decoders"][name] = {
            "planes": [_rounded(plane.points) for plane in planes],
            "captions": [
                f"affine R² {plane.fit.r2:.3f}, {plane.folded} of 25 cells folded"
                for plane in planes
            ],
        }
    return found


def play() -> dict:
    """The three decoders with their weights, axes and lattices, and real images to start from."""
    sprites = make_sprites()
    lattice = {
        color: torch.stack(
            [draw_sprite(x, y, color=color) for x, y in PLACES.reshape(-1, 2).tolist()]
        )
        for color in COLORS
    }
    chosen = [(35 * x + y) * 3 + COLORS.index(color) for x, y, color in IMAGES]
    images = [
        {
            "label": _label(*image),
            "picture": _png(sprites.images[i]),
            "color": image[2],
            "codes": {},
        }
        for i, image in zip(chosen, IMAGES, strict=True)
    ]
    models = {}
    for name in (*PAIR, "sbd-mixing"):
        vae = load_run(name).vae
        mu, log_var = encode(vae, sprites.images)
        some = slice(None, None, 125)  # as in notebook 10
        parameters = [p.detach().cpu() for p in vae.decoder.parameters()]
        weights = b"".join(p.half().numpy().tobytes() for p in parameters)
        models[name] = {
            "shapes": [list(p.shape) for p in parameters],
            "weights": base64.b64encode(weights).decode(),
            "informative": informative_latents(log_var).tolist(),
            "axes": _rounded(principal_axes(posterior_precision(vae, mu[some], log_var[some])), 5),
            "lattices": {
                color: _rounded(encode(vae, drawn)[0].reshape(11, 11, -1))
                for color, drawn in lattice.items()
            },
        }
        for i, image in zip(chosen, images, strict=True):
            image["codes"][name] = _rounded(mu[i], 4)
    return {"models": models, "images": images}


def card() -> Figure:
    """The picture that a chat shows beside a link, 1200 × 630 pixels: the two grids."""
    figure = Figure(figsize=(12, 6.3), facecolor="#14181e")
    figure.text(
        0.05, 0.87, "The Spatial Broadcast decoder", color="white", fontsize=38, weight="bold"
    )
    figure.text(
        0.05,
        0.79,
        "reproduced, measured, and running in your browser",
        color="#c9d1d9",
        fontsize=23,
    )
    for i, (name, label) in enumerate((("deconv", "DeConv decoder"), ("sbd", "SB decoder"))):
        plane = principal_plane(load_run(name).history.codes[-1].double().numpy(), PLACES)
        axes = figure.add_axes((0.06 + 0.46 * i, 0.12, 0.42, 0.6))
        for k in range(0, 11, 2):
            for line in (plane[:, k], plane[k]):
                axes.plot(*line.T, color=DECODER_COLORS[name], lw=3)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_axis_off()
        figure.text(0.27 + 0.46 * i, 0.05, label, color="white", fontsize=24, ha="center")
    return figure


def _rounded(values: np.ndarray, digits: int = 3) -> list:
    return np.round(values, digits).tolist()


def _png(image: torch.Tensor) -> str:
    """An image [3, height, width] as an address that needs no file."""
    pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _label(x: int, y: int, color: str) -> str:
    row, column = NINTHS[0][3 * y // 35], NINTHS[1][3 * x // 35]
    place = "in the center" if (row, column) == ("middle", "center") else f"at the {row} {column}"
    return f"a {color} disc {place}"
