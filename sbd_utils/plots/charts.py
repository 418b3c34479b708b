"""Curves, bars and dots: of one run, of many seeds, of a benchmark."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbd_utils import checks
from sbd_utils.metrics.intervals import mean
from sbd_utils.plots.style import DECODER_COLORS, FACTOR_COLORS, colors_and_labels, new_figure

STYLES = ("o-", "^--", "s:")  # of lines that share a color
# Of the networks of the study `coordconv`.
END_COLORS = {"plain": DECODER_COLORS["deconv"], "coordconv": DECODER_COLORS["sbd"]}
# How a decoder starts, in the color of the decoder that is known for it.
START_COLORS = {"linear": DECODER_COLORS["deconv"], "broadcast": DECODER_COLORS["sbd"]}

TERM_TITLES = {"reconstruction": "reconstruction term", "kl": "KL term"}
POST = 400  # where its values are drawn, beyond the epochs


def loss_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    published: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Both loss terms by epoch on a log axis, nats per image, the reconstruction term on another.

    histories: decoder to "reconstruction" and "kl", one value per epoch. published: decoder to the
    post's value after its last epoch, drawn in a strip of its own.
    """
    checks.mapping("histories", histories), checks.check_type("published", published, Mapping)
    for decoder in histories:
        checks.mapping(f"histories[{decoder!r}]", histories[decoder], TERM_TITLES)
        if decoder in published:
            checks.mapping(f"published[{decoder!r}]", published[decoder], TERM_TITLES)
    figure = new_figure(8, 3.6)
    panels = figure.subplots(1, 2)
    for axes, (term, title) in zip(panels, TERM_TITLES.items(), strict=True):
        for i, (decoder, (color, label)) in enumerate(
            colors_and_labels(histories).items(), start=1
        ):
            (curve,) = checks.arrays(**{f"{term} of {decoder}": (histories[decoder][term], "n")})
            axes.plot(np.arange(1, len(curve) + 1), curve, color=color, label=label)
            if decoder in published:
                last = checks.check_float(
                    f"published {term} of {decoder}", published[decoder][term]
                )
                axes.plot(
                    POST * 1.25 ** (i - (len(histories) + 1) / 2), last, "D", color=color, ms=5
                )  # side by side
        axes.plot([], [], "D", color="black", ms=5, label="the post's last epoch")
        axes.axvline(POST / 1.5, color="#999999", lw=0.8)
        axes.set(xscale="log", xlabel="epoch", ylabel="nats per image", title=title)
        axes.set_xticks((1, 2, 5, 10, 20, 50, 150, POST), (1, 2, 5, 10, 20, 50, 150, "post"))
        axes.minorticks_off()
    panels[0].set_yscale("log")
    panels[0].set_yticks((5, 10, 20, 50, 100, 200), (5, 10, 20, 50, 100, 200))
    panels[0].minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def responses(
    centroids: Mapping[str, np.ndarray],
    colors: Mapping[str, np.ndarray],
    starts: np.ndarray,
    image_size: int,
) -> Figure:
    """The way of the blob across the picture while a latent grows, a row per decoder.

    centroids: decoder to [codes, latent_dim, values, 2] in pixels, a way per code. colors: to
    [codes, latent_dim, values, 3], the dots'; NaN where nothing is seen. The dots shrink from the
    first value to the last. starts: where the blobs are before a latent is turned, [codes, 2], a
    black ring each. image_size: of the pictures, in pixels.
    """
    checks.check_int("image_size", image_size)
    checks.mapping("centroids", centroids), checks.mapping("colors", colors, centroids)
    found = {
        decoder: checks.arrays(
            **{
                f"centroids[{decoder!r}]": (ways, "?codes latents values 2"),
                f"colors[{decoder!r}]": (colors[decoder], "?codes latents values 3"),
                "starts": (starts, "codes 2"),
            }
        )
        for decoder, ways in centroids.items()
    }
    count = max(ways.shape[1] for ways, *_ in found.values())
    cell = np.clip(8 / count, 1.0, 1.6)
    figure = new_figure(count * cell + 0.5, len(found) * (cell + 0.45))
    parts = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for part, (decoder, (color, label)) in zip(
        parts, colors_and_labels(centroids).items(), strict=True
    ):
        grid, (centers, hues, rings) = part.subplots(1, count, squeeze=False)[0], found[decoder]
        for axes in grid[centers.shape[1] :]:
            axes.set_axis_off()
        for k, axes in enumerate(grid[: centers.shape[1]]):
            for way, shades in zip(centers[:, k], hues[:, k], strict=True):
                seen = np.isfinite(way).all(axis=1)
                sizes = np.linspace(45, 3, len(way))  # a disc that stays shows all its colors
                axes.plot(*way[seen].T, color="#999999", lw=0.6, zorder=1)
                axes.scatter(*way[seen].T, sizes[seen], np.clip(shades[seen], 0, 1), lw=0, zorder=2)
            axes.plot(*rings.T, "o", ms=10, mfc="none", mec="black", zorder=3)
            axes.set(
                xlim=(0, image_size), ylim=(image_size, 0), xticks=[], yticks=[], aspect="equal"
            )
            axes.set_title(f"latent {k + 1}", fontsize="medium")
        part.suptitle(label, color=color)
    return figure


def moves(tables: Mapping[str, pd.DataFrame], threshold: float) -> Figure:
    """How far a sweep of each latent moves each factor, one panel per decoder.

    tables: decoder to one row per latent, with the columns x, y and color, as shares.
    """
    checks.mapping("tables", tables), checks.check_positive("threshold", threshold)
    for decoder, rows in tables.items():
        checks.table(f"tables[{decoder!r}]", rows, (), FACTOR_COLORS)
    figure = new_figure(8, 3)
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (decoder, (color, label)) in zip(
        panels, colors_and_labels(tables).items(), strict=True
    ):
        latents = np.arange(1, len(tables[decoder]) + 1)
        for i, (factor, shade) in enumerate(FACTOR_COLORS.items()):
            axes.bar(
                latents + 0.27 * (i - 1), tables[decoder][factor], 0.25, color=shade, label=factor
            )
        axes.axhline(threshold, color="black", lw=0.8, ls=":")
        axes.set(xlabel="latent", xticks=latents)
        axes.set_title(label, color=color)
    panels[0].set(ylabel="share of the full range", ylim=(0, 1.2))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", title="factor")
    return figure


def seed_spread(
    rows: pd.DataFrame,
    panels: Mapping[str, str],
    bounds: Mapping[str, float] | None = None,
    most: Mapping[str, float] | None = None,
) -> Figure:
    """One panel per score, one dot per run, the decoders apart.

    Beside the dots a thin line spans their range, and a thick one the interval of their mean, in
    which a seed counts once, by the mean of its runs. rows: scores as `studies.tables.read` gives
    them. panels: score to its axis label. bounds: score to the threshold that its claim has, drawn
    as a dotted line. most: to the highest that it can be, where a reader might not know, drawn as a
    dashed line.
    """
    checks.mapping("panels", panels, of=str)
    checks.table("rows", rows, ["decoder", "seed"], panels)
    bounds, most = ({} if lines is None else lines for lines in (bounds, most))
    for name, lines in (("bounds", bounds), ("most", most)):
        checks.check_type(name, lines, Mapping)
        for score in lines:
            checks.check_one_of(f"score of {name}", score, panels)
    figure = new_figure(8, 3)
    names = colors_and_labels(rows.decoder.unique())
    places = range(len(names))
    for axes, (score, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for place, (decoder, (color, _)) in zip(places, names.items(), strict=True):
            runs = rows[rows.decoder == decoder].dropna(subset=score)
            values = runs[score]
            if values.empty:
                continue
            offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else 0
            axes.plot(place - 0.1 + offsets, values, "o", ms=5, alpha=0.8, color=color, mew=0)
            axes.vlines(place + 0.28, values.min(), values.max(), color=color, lw=1)
            if runs.seed.nunique() > 1:
                spread = mean(runs.groupby("seed")[score].mean())
                axes.vlines(place + 0.28, spread.low, spread.high, color=color, lw=4)
                axes.plot(place + 0.28, spread.value, "o", ms=5, color="white", mec=color)
        if score in bounds:
            bound = checks.check_float(f"bounds[{score!r}]", bounds[score])
            axes.axhline(bound, color="black", lw=0.8, ls=":")
        if score in most:
            top = checks.check_float(f"most[{score!r}]", most[score])
            axes.axhline(top, color="#777777", lw=0.8, ls="--")
            axes.annotate(
                f"at most {top:g}",
                (len(names) - 0.55, top),
                (0, -3),
                ha="right",
                va="top",
                textcoords="offset points",
                fontsize="small",
                color="#555555",
            )
        axes.set_xticks(places, [name.replace(" ", "\n") for _, name in names.values()])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_title(label, fontsize="medium")
    return figure


LOOPS = {"plain": ", plain loop", "ours": ", our loop", "": ""}


def growth(
    rows: pd.DataFrame, labels: Mapping[str, tuple[str, str]], names: Mapping[str, str]
) -> Figure:
    """One log-log panel per quantity, one line per decoder and loop.

    rows: with the columns panel, value (what grows), cost, decoder and loop, one of LOOPS; the
    plain loop's line is dashed. labels: panel to its axes' labels. names: of the decoders.
    """
    checks.table("rows", rows, ("panel", "decoder", "loop"), ("value", "cost"))
    checks.mapping("labels", labels), checks.mapping("names", names, rows.decoder.unique(), str)
    _for_log_axes(rows, ("value", "cost"))
    for panel, pair in labels.items():
        checks.check_one_of("panel of labels", panel, rows.panel.unique().tolist())
        checks.labels(f"labels[{panel!r}]", pair, 2)
    for loop in rows.loop.unique().tolist():
        checks.check_one_of("loop", loop, LOOPS)
    figure = new_figure(8, 3.4)
    same = len({y_label for _, y_label in labels.values()}) == 1
    panels = figure.subplots(1, len(labels), sharey=same, squeeze=False)[0]
    styles = colors_and_labels(rows.decoder.unique())
    for axes, (panel, (x_label, y_label)) in zip(panels, labels.items(), strict=True):
        shown = rows[rows.panel == panel]
        lines = shown.groupby(["decoder", "loop"], sort=False)
        for over, ((decoder, loop), line) in enumerate(lines):
            axes.plot(
                line.value,
                line.cost,
                marker="o",
                ms=4,
                color=styles[decoder][0],
                ls="--" if loop == "plain" else "-",
                label=names[decoder] + LOOPS[loop],
                mfc="white" if loop == "plain" else None,
                zorder=3 if loop == "plain" else 2,
                lw=1.5 if loop else 4 / (1 + over),
            )  # thinner, so that none hides another
        axes.set(xscale="log", yscale="log", xlabel=x_label)
        if axes is panels[0] or not same:
            axes.set_ylabel(y_label)
        axes.set_xticks(shown.value.unique(), shown.value.unique())
        axes.minorticks_off()
        axes.margins(y=0)
    for axes in panels[:1] if same else panels:  # whole decades, so that each has ticks to read
        low, high = np.log10(axes.get_ylim())
        axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    legend_below(figure, panels, ncols=4, fontsize="small")
    return figure


def pieces(rows: pd.DataFrame) -> Figure:
    """How much slower a step is without each piece of the loop, one panel per decoder.

    rows: with the columns decoder, piece, ratio, and its quartiles low and high.
    """
    checks.table("rows", rows, ("decoder", "piece"), ("ratio", "low", "high"))
    figure = new_figure(8, 2.9)
    styles = colors_and_labels(rows.decoder.unique())
    panels = figure.subplots(1, len(styles), sharex=True, squeeze=False)[0]
    for axes, (decoder, (color, name)) in zip(panels, styles.items(), strict=True):
        shown = rows[rows.decoder == decoder].sort_values("ratio")
        spans = [(shown.ratio - shown.low).abs(), (shown.high - shown.ratio).abs()]
        axes.errorbar(
            shown.ratio, range(len(shown)), xerr=spans, fmt="o", ms=5, capsize=2, color=color
        )
        axes.axvline(1, color="black", lw=0.8, ls=":")
        axes.set(yticks=range(len(shown)), yticklabels=shown.piece)
        axes.set_title(name, color=color)
    figure.supxlabel("time of a step without the piece, over a step with it", fontsize="medium")
    return figure


def learning(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Score against steps, one line per network, in the color of the end that it belongs to.

    panels: split to network, such as "plain" or "coordconv-width8", to (steps, scores).
    """
    checks.mapping("panels", panels)
    for title, lines in panels.items():
        checks.mapping(f"panels[{title!r}]", lines)
    ends = colors_and_labels(
        (_end(name) for lines in panels.values() for name in lines), END_COLORS
    )
    figure = new_figure(8, 3.8)
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        counts = Counter()
        for network, curve in lines.items():
            ((steps, scores),) = checks.arrays(**{f"curve of {network}": (curve, "2 n")})
            end = _end(network)
            axes.plot(
                steps,
                scores,
                STYLES[counts[end] % len(STYLES)],
                ms=4,
                lw=1,
                color=ends[end][0],
                label=network,
            )
            counts[end] += 1
        axes.set(title=title, xscale="log", xlabel="steps of training")
        axes.xaxis.set_major_formatter("{x:g}")
    grid[0].set_ylabel("share right in the test")
    legend_below(figure, grid, ncols=3)
    return figure


def _end(network: str) -> str:
    """The network that this one is, or differs from."""
    return str(network).partition("-")[0]


def legend_below(figure: Figure, panels: Iterable[Axes], **look: object) -> None:
    """One legend below for all panels, with each label once."""
    found = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside lower center", **look)


def _for_log_axes(rows: pd.DataFrame, columns: Iterable[str]) -> None:
    """ValueError unless what a log axis shows is above 0: else it would be left out."""
    for column in columns:
        if not (rows[column].dropna() > 0).all():
            raise checks.argument_error(
                f"{column} of rows", "above 0, on a log axis", rows[column].min()
            )


def dissociation(rows: pd.DataFrame, bound: float) -> Figure:
    """How bent a plane is against the checkerboard that a decoder leaves, one dot per run.

    rows: of `studies.tables.read`, with `start` (the recipe's, which colors a dot), `up` (how it
    comes to full size, in words, a marker each), `bent` (1 - affine R²) and `folds` (folded cells);
    hollow where there are any. bound: of `bent`, a dotted line.
    """
    checks.table("rows", rows, ("start", "up"), ("folds", "pattern", "bent"))
    _for_log_axes(rows, ("pattern", "bent")), checks.check_positive("bound", bound)
    starts = colors_and_labels(rows.start.unique(), START_COLORS)
    markers = dict(zip(rows.up.unique(), cycle("osDX"), strict=False))
    figure = new_figure(8, 4.4)
    axes = figure.subplots()
    for (start, up), runs in rows.groupby(["start", "up"], sort=False):
        color, marker = starts[start][0], markers[up]
        for folded, some in runs.groupby(runs.folds > 0):
            axes.plot(
                some.pattern,
                some.bent,
                marker,
                ms=8,
                color=color,
                mew=0.8,
                mec=color if folded else "white",
                mfc="white" if folded else color,
                zorder=2 + 1 / len(runs),
            )  # the few above the many, that none is hidden
    for color, label in starts.values():
        axes.plot([], [], "o", color=color, label=label)
    for up, marker in markers.items():
        axes.plot([], [], marker, color="black", label=up)
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: with folded cells")
    axes.axhline(bound, color="black", lw=0.8, ls=":")
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(5e-4, 3),
        xlabel="checkerboard: share of the residual's variance",
        ylabel="bent: 1 - affine R², worst color",
    )
    axes.set_yticks((0.001, 0.01, 0.1, 1), ("0.001", "0.01", "0.1", "1"))
    for x, side, pattern in ((0.01, "left", "without"), (0.99, "right", "with")):
        for y, vertical, shape in ((0.02, "bottom", "straight"), (0.98, "top", "bent")):
            axes.text(
                x,
                y,
                f"{shape}, {pattern} pattern",
                ha=side,
                va=vertical,
                style="italic",
                transform=axes.transAxes,
            )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def dots(
    rows: pd.DataFrame,
    line: str,
    group: str,
    panels: Mapping[str, str],
    hollow: str = "",
    ticks: Mapping[str, Sequence[float]] | None = None,
    bound: float | None = None,
) -> Figure:
    """One line per kind of run, one panel per score, one dot per run.

    rows: one per run. line, group: the columns that say on which line a dot lies, and with whom it
    shares its color. panels: score to its title. hollow: what it means that a dot is; rows has
    `hollow` then, which says which are. ticks: score to those of its axis, a log axis unless 0 is
    one. bound: of the first score, a dotted line.
    """
    ticks = {} if ticks is None else ticks
    checks.mapping("panels", panels, of=str), checks.check_type("ticks", ticks, Mapping)
    for name, value in (("line", line), ("group", group), ("hollow", hollow)):
        checks.check_type(name, value, str)
    checks.table("rows", rows, (line, group), (*panels, *(["hollow"] if hollow else [])))
    for score in set(ticks) & set(panels):
        checks.arrays(**{f"ticks[{score!r}]": (ticks[score], "ticks")})
        if 0 not in ticks[score]:
            _for_log_axes(rows, [score])
    styles = colors_and_labels(rows[group].unique(), DECODER_COLORS | START_COLORS | END_COLORS)
    names, order = list(rows[line].unique()), rows[group].map([*styles].index)
    rows = rows.assign(hollow=rows.hollow if hollow else False)
    rows = rows.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    runs = rows.groupby(line)
    share = runs.cumcount() / (runs[line].transform("size") - 1).clip(lower=1)
    places = rows[line].map(names.index) + 0.5 * (share - 0.5)  # so that equal dots stay apart
    figure = new_figure(8, 0.24 * len(names) + 1.4)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (score, label) in zip(grid, panels.items(), strict=True):
        for (name, empty), some in rows.groupby([group, "hollow"]):
            color = styles[name][0]
            axes.plot(
                some[score],
                places[some.index],
                "o",
                ms=4,
                alpha=0.8,
                color=color,
                mfc="white" if empty else color,
            )
        axes.set_title(label, fontsize="small")
        axes.tick_params(left=False)
        if score in ticks:  # all in view, with the dots
            axes.update_datalim([(tick, 0) for tick in ticks[score]])
            axes.set_xscale("linear" if 0 in ticks[score] else "log")
            axes.autoscale_view()
            axes.set_xticks(ticks[score], [f"{tick:g}" for tick in ticks[score]])
            axes.minorticks_off()
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="y", lw=0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    if bound is not None:
        grid[0].axvline(checks.check_float("bound", bound), color="black", lw=0.8, ls=":")
    for color, label in styles.values():
        axes.plot([], [], "o", ms=4, color=color, label=label)
    if hollow:
        axes.plot([], [], "o", ms=4, color="black", mfc="white", label=f"hollow: {hollow}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def rate_distortion(rows: pd.DataFrame) -> Figure:
    """Squared error against KL term, one dot per run; a line joins the means over the seeds.

    rows: of `studies.tables.read`; one line per decoder and number of epochs.
    """
    checks.table("rows", rows, ["decoder"], ("epochs", "beta", "kl", "error", "weight"))
    _for_log_axes(rows, ["error"])
    styles = colors_and_labels(sorted(rows.decoder.unique()))
    figure = new_figure(8, 4)
    axes = figure.subplots()
    markers = dict(zip(sorted(rows.epochs.unique()), cycle("o*sDX"), strict=False))
    for (epochs, decoder), runs in rows.groupby(["epochs", "decoder"]):
        (color, name), marker = styles[decoder], markers[epochs]
        for other, some in runs.groupby(runs.beta != 1):
            axes.plot(
                some.kl,
                some.error,
                marker,
                ms=8 if marker == "*" else 5,
                color=color,
                alpha=0.7,
                mfc="white" if other else color,
            )
        line = runs.groupby("weight")[["kl", "error"]].mean()
        axes.plot(line.kl, line.error, color=color, lw=1)
        axes.plot([], [], marker, color=color, label=f"{name}, {epochs} epochs")
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: β other than 1")
    post = rows[np.isclose(rows.weight, 0.3)].groupby("epochs")[["kl", "error"]].mean()
    if len(post) > 1:  # between the shorter trainings above and the longer ones below
        axes.text(
            post.kl.mean(),
            np.sqrt(post.error.min() * post.error.max()),
            "the post's setting",
            ha="center",
            va="center",
            style="italic",
        )
    axes.set(
        yscale="log",
        xlabel="rate: KL term, nats per image",
        ylabel="distortion: squared error per image",
    )
    axes.set_yticks((3, 10, 30, 100), ("3", "10", "30", "100"))
    axes.minorticks_off()
    axes.legend()
    return figure
