"""Asyrp: its tables of texts, of coefficients and of measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..asyrp.loss import similarity
from ..asyrp.prompts import TABLE_3
from ..drawing import Line, line_plot
from ..evaluation.statistics import rank_correlation
from ..intervals import PUBLISHED
from ..progress import Job
from .bench import Bench
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid

# Bounds, in the order of the claims below.
ORDERED = 0.9  # rank correlation of what one formula gives
TEXTS_IN_ORDER = 0.5  # rank correlation of our t_edit and the paper's over its texts
S_DIR, CONSISTENT = 0.8, 0.857  # of Table 4: 0.8 is below the lowest of in-domain edits there, 0.857 is the lowest


def texts(bench: Bench) -> Job[Drawn]:
    rows: list[Row] = []
    image_text = bench.gauges.image_text
    source = bench.model.card.known_or_typical()
    for data_set, table in PUBLISHED.items():
        for (before, after), (printed, t_edit) in zip(table.texts, table.knots, strict=True):
            row: Row = {"data set": data_set, "source": before, "target": after}
            row |= {"similarity": printed, "t_edit": t_edit}
            if image_text is not None:
                own = similarity(image_text, before.lower(), after.lower())
                row |= {"our similarity": own, "our t_edit": source.t_edit(own)}
            rows.append(row)
        yield from ()
    faces = [row for row in rows if row["data set"] == "CelebA-HQ"]
    theirs = np.array([[float(row["t_edit"]) for row in faces]])
    ours = [float(row.get("our t_edit", float("nan"))) for row in faces]
    agreed = float(rank_correlation(ours, theirs)[0])
    points = sorted((float(row["our similarity"]), float(row["our t_edit"])) for row in rows if "our t_edit" in row)
    rises = (
        float(rank_correlation([a for a, _ in points], np.array([[b for _, b in points]]))[0])
        if points
        else float("nan")
    )
    checks = [
        Check("rank correlation of our t_edit and the paper's over its texts of faces:", agreed, TEXTS_IN_ORDER),
        Check("rank correlation of our t_edit and our similarity over all texts:", rises, ORDERED),
    ]
    lines = [
        Line("the paper, CelebA-HQ", *_sorted(faces, "similarity", "t_edit")),
        Line("here", *_sorted(faces, "our similarity", "our t_edit")),
    ]
    plot = line_plot(
        "t_edit by the similarity of the texts", lines, "similarity of the two texts", "t_edit", alone=True
    )
    says = (
        f"The {len(rows)} pairs of texts of the paper with the similarity that our image-text model sees and the "
        f"t_edit that this model's curves give. It was trained on drawn portraits and knows few of the paper's words."
    )
    return Drawn(plot, rows, checks, says)


def _sorted(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    points = sorted((float(row[x]), float(row[y])) for row in rows if x in row)
    return [a for a, _ in points], [b for _, b in points]


RULE = 0.999  # share of Table 3's rows that follow its rule


def coefficients_table(bench: Bench) -> Job[Drawn]:
    yield from ()
    printed = {
        (a.lower(), b.lower()): s
        for table in PUBLISHED.values()
        for (a, b), (s, _) in zip(table.texts, table.knots, strict=True)
    }
    rows: list[Row] = []
    for (source, target), known in TABLE_3.items():
        rule = 3 * printed[source, target] if (source, target) in printed else float("nan")
        assert known.l_recon is not None  # of the table
        rows.append(
            {
                "source": source,
                "target": target,
                "l_clip": known.l_clip,
                "l_recon": known.l_recon,
                "3 x similarity of Table 2": rule,
                "from random noise": "yes" if known.from_random else "no",
            }
        )
    known_rows = [row for row in rows if np.isfinite(float(row["3 x similarity of Table 2"]))]
    follow = [abs(float(row["l_recon"]) - float(row["3 x similarity of Table 2"])) < 1e-6 for row in known_rows]
    check = Check(
        f"share of the {len(known_rows)} rows that are in both tables whose l_recon is 3 x the similarity:",
        float(np.mean(follow)),
        RULE,
    )
    points = sorted((float(row["3 x similarity of Table 2"]) / 3, float(row["l_recon"])) for row in known_rows)
    lines = [Line("l_recon of Table 3", [a for a, _ in points], [b for _, b in points])]
    plot = line_plot("l_recon by the similarity", lines, "similarity of the two texts", "l_recon", alone=True)
    says = "The coefficients that the app trains with by default, against the rule of the table's caption."
    return Drawn(plot, rows, [check], says)


IN_DOMAIN = ("smiling", "sad", "tanned")


def consistency_of_parts(bench: Bench) -> Job[Drawn]:
    n = bench.count(20)
    names = IN_DOMAIN[: bench.count(3, 1)]
    pixels = yield from bench.portraits(n)
    parts = bench.gauges.parts
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    for name in names:
        subject = bench.subject(name)
        edited = yield from bench.edited(subject, pixels)
        table = bench.measured(subject, pixels, edited)
        found = {key: float(np.nanmean(table[key][:, -1])) for key in ("s_dir", "parts_kept", "parts_iou")}
        rows.append({"attribute": name, "portraits": n, **found})
        maps: list[Cell] = [] if parts is None else [_coloured(m) for m in parts.label_maps(edited[0, [0, -1]])]
        cells.append([edited[0, 0], *maps[:1], edited[0, -1], *maps[1:]])
    checks = []
    for row in rows:
        checks.append(Check(f"S_dir, {row['attribute']}:", float(row["s_dir"]), S_DIR))
        checks.append(Check(f"segmentation consistency, {row['attribute']}:", float(row["parts_kept"]), CONSISTENT))
    says = (
        f"Three in-domain edits at strength 1 on {n} held-out portraits; S_dir by our own image-text model, parts by "
        "the network that knows those of drawn faces."
    )
    return Drawn(grid(cells, ("before", "its parts", "after", "its parts"), names), rows, checks, says)


_COLOURS = np.array(
    [
        (250, 250, 250), (240, 200, 170), (120, 80, 50), (60, 120, 200), (200, 50, 60), (90, 60, 140),
        (40, 160, 120), (230, 170, 40), (150, 150, 150), (20, 20, 20), (210, 110, 180), (130, 200, 230),
    ],
    dtype=np.uint8,
)  # fmt: skip


def _coloured(labels: np.ndarray) -> Cell:
    return Image.fromarray(_COLOURS[labels % len(_COLOURS)])


FIGURES = (
    Figure(
        "asyrp-table2",
        "Table 2: texts, similarities, editing intervals",
        "33 pairs of texts with the similarity of their CLIP embeddings, t_edit and t_boost.",
        "The less alike two texts are, the longer is the editing interval.",
        (("core/intervals.py", "PublishedTable"), ("core/asyrp/prompts.py", "TABLE_2")),
        texts,
    ),
    Figure(
        "asyrp-table3",
        "Table 3: coefficients of the loss",
        "The coefficients of the two terms of the loss for 30 pairs of texts, and which are trained from noise.",
        "The coefficient of reconstruction is three times the similarity of the texts.",
        (("core/asyrp/prompts.py", "coefficients"),),
        coefficients_table,
    ),
    Figure(
        "asyrp-table4",
        "Tables 4 and 5, figure 28: S_dir and segmentation consistency",
        "S_dir of 0.92 to 0.99 and 86 to 89% of consistent segmentation for smiling, sad and tanned; maps of parts.",
        "Edits go along the texts and keep most parts where they are.",
        (("core/asyrp/segmentation.py", "segmentation_consistency"), ("core/asyrp/loss.py", "s_dir")),
        consistency_of_parts,
    ),
)
