"""An evaluation as one page of pictures and plots that opens offline: no other file, no request, all text escaped."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..drawing import STYLE, Line, line_plot
from .measures import MEASURES
from .results import Evaluation, Found

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
MAX_OTHERS = 4  # attributes in the plot of side effects
MAX_LISTED = 40  # files that were left out, by name
IMAGE_QUALITY = 80

# The columns of the first table: key of a row -> what stands above it.
COLUMNS = {
    "own": "own change",
    "other": "largest other",
    "identity": "identity",
    "s_dir": "S_dir",
    "distance": "distance",
    "roir": "ROIR",
    "mse_inside": "MSE inside",
    "mse_outside": "MSE outside",
    "parts_kept": "parts kept",
    "frechet": "Frechet distance",
    "rank_correlation": "rank correlation",
}
FURTHER_TERMS = {
    "largest other": "The attribute that changes most besides the direction's own and those that its words imply, by "
    "the probe, in standard deviations: the side effect.",
    "Frechet distance": "Between the features of the edited pictures and of the originals, as normal distributions "
    "(Heusel et al. 2017, Eq. 6). With fewer pictures than features it says little by itself; compare it between "
    "directions and strengths on the same pictures.",
    "rank correlation": "Spearman's, of strength and own change, for each picture, then the mean: 1 if more strength "
    "always does more.",
    "± ": "Standard error of the mean over the pictures.",
}


def page(evaluation: Evaluation) -> str:
    """The whole document."""
    script = f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script}'"
    title = _title(evaluation)
    body = [
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(_lead(evaluation))}</p>{_facts(evaluation)}</header>',
        "<main>",
        _table(evaluation),
        *(_direction(evaluation, found, f"direction-{n}") for n, found in enumerate(evaluation.found)),
        _terms(evaluation),
        _left_out(evaluation),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="generator" content="h-space studio">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{CSS}\n{STYLE}</style></head><body>'
        + "\n".join(part for part in body if part)
        + f"<script>{SCRIPT}</script></body></html>\n"
    )


def _title(evaluation: Evaluation) -> str:
    names = [found.name for found in evaluation.found]
    what = f"“{names[0]}”" if len(names) == 1 else f"{len(names)} directions"
    return f"What {what} {'does' if len(names) == 1 else 'do'} to {_counted(evaluation.count, 'picture')}"


def _lead(evaluation: Evaluation) -> str:
    processes = {
        "anchored": f"in {evaluation.steps} anchored steps, so that strength 0 is the picture itself",
        "paper": f"as in the Asyrp paper, {evaluation.steps} steps of inversion and {evaluation.steps} back",
    }
    return (
        f"Every picture was edited at several strengths {processes[evaluation.process]}, and compared with what the "
        "same process makes of it at strength 0."
    )


def _facts(evaluation: Evaluation) -> str:
    left_out = f", and {_counted(len(evaluation.left_out), 'file')} left out" if evaluation.left_out else ""
    facts = {
        "Model": f"{evaluation.title} ({evaluation.model}), weights {evaluation.fingerprint}",
        "Pictures": f"{evaluation.count} from {evaluation.source}{left_out}; squares of {evaluation.resolution} pixels",
        "Process": f"{evaluation.process}, {evaluation.steps} steps, seed {evaluation.seed}",
        "Measured by": "; ".join(f"{what}: {by}" for what, by in evaluation.names.items()),
        "Not measured": " ".join(evaluation.missing),
        "Made": f"{evaluation.created[:16].replace('T', ', ')} UTC, by h-space studio",
    }
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value)
    return f'<dl class="facts">{rows}</dl>'


# ------------------------------------------------------------------------------------------------------------ the table


def _table(evaluation: Evaluation) -> str:
    rows = [found.main_row() for found in evaluation.found]
    columns = [key for key in COLUMNS if any(row[key] is not None for row in rows)]
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in ("direction", "strength"))
    head += "".join(f'<th scope="col"><span>{escape(COLUMNS[key])}</span></th>' for key in columns)
    body = ""
    for n, (found, row) in enumerate(zip(evaluation.found, rows, strict=True)):
        link = f'<a href="#direction-{n}">{escape(found.name)}</a>'
        body += f'<tr><th scope="row" data-value="{escape(found.name)}">{link}</th>'
        body += f'<td data-value="{row["strength"]:.6g}">{_signed(row["strength"])}</td>'
        body += "".join(_cell(row, key) for key in columns) + "</tr>"
    return (
        '<h2 id="summary">At a glance</h2><p class="quiet">Means over the pictures, with standard errors, at the '
        "strength that each direction suggests. Press a heading to sort; what the columns mean stands "
        '<a href="#terms">at the end</a>.</p><div class="scroll" tabindex="0" role="region" aria-labelledby="summary">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(row: dict[str, Any], key: str) -> str:
    if row[key] is None:
        return '<td data-value=""><span class="quiet" title="no number">–</span></td>'
    under = ""
    if key == "other":
        under = f'<span class="which">{escape(_words(row["other_attribute"]))}</span>'
    elif row.get(f"{key}_se") is not None:
        under = f'<span class="se">± {_short(row[f"{key}_se"], 2)}</span>'
    return f'<td data-value="{row[key]:.6g}">{shown(row, key)}{under}</td>'


def shown(row: dict[str, Any], key: str) -> str:
    """A number of a row as tables show it; a dash where there is none."""
    value = row[key]
    if value is None:
        return "–"
    return _signed(value) if key in SIGNED else _short(value)


SIGNED = {"own", "clip", "s_dir", "rank_correlation"}


# --------------------------------------------------------------------------------------------------------- a direction


def _direction(evaluation: Evaluation, found: Found, anchor: str) -> str:
    preset = found.subject.preset
    said = []
    if preset.source_text and preset.target_text:
        said.append(f"From “{preset.source_text}” to “{preset.target_text}”.")
    if found.subject.attribute:
        way = "more" if found.subject.sign > 0 else "less"
        said.append(f"Its own change is {way} of “{_words(found.subject.attribute)}”, by the probe.")
    elif "own" in found.means:
        said.append("Its own change is that by CLIP, between its two texts.")
    if found.subject.part:
        said.append(f"Inside means {found.subject.part.lower()}, as each picture shows it.")
    elif preset.region:
        said.append("Inside means the region that it was found for.")
    if found.subject.lacking:
        said.append(
            f"Measured on {_counted(found.count, 'picture')} that {'lacks' if found.count == 1 else 'lack'} it."
        )
    t_edit, t_boost = found.intervals
    boosted = f", boosted below t = {t_boost}" if t_boost > 0 else ", no boosting"
    said.append(f"Edited down to t = {t_edit}{boosted}, {preset.injection} injection.")
    return (
        f'<section class="direction" aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(found.name)}</h2>'
        f"<p>{escape(' '.join(said))}</p>"
        + "".join(f'<p class="quiet">{escape(remark)}</p>' for remark in found.remarks)
        + _strip(found)
        + f'<div class="plots">{_plots(found)}</div>'
        + _details(found)
        + "</section>"
    )


def _strip(found: Found) -> str:
    if not found.shown:
        return ""
    strengths = found.subject.strengths
    widest = max(one.pictures.shape[2] for one in found.shown)
    cells = ""
    for k, c in enumerate(strengths):
        kind = "at main" if k == found.subject.main else "at"
        cells += f'<span class="{kind}">{_signed(c)}</span>'
    for one in found.shown:
        for k, c in enumerate(strengths):
            words = escape(f"{one.name}, {found.name} at strength {_signed(c)}")
            cells += f'<img src="{_data_uri(one.pictures[k])}" alt="{words}" title="{words}" decoding="async">'
    layout = f"grid-template-columns: repeat({len(strengths)}, minmax(0, {widest}px))"
    return (
        f'<figure><div class="strip" style="{layout}">{cells}</div><figcaption>The first '
        f"{_counted(len(found.shown), 'picture')} at each strength; the one that is suggested is in colour."
        "</figcaption></figure>"
    )


def _data_uri(picture: np.ndarray) -> str:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "WEBP", quality=IMAGE_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def _plots(found: Found) -> str:
    x, subject = found.subject.strengths, found.subject
    drawn = []
    if "own" in found.means:
        unit = "standard deviations" if subject.attribute else "by CLIP"
        line = Line("own change", x, found.means["own"], found.errors["own"])
        drawn.append(("Own change", [line], unit))
    if found.attributes:
        largest = sorted(
            (name for name in found.attributes if name not in (subject.attribute, *subject.also)),
            key=lambda name: -float(np.abs(found.attributes[name]).max()),
        )
        others = [Line(_words(name), x, found.attributes[name]) for name in largest[:MAX_OTHERS]]
        if subject.attribute:
            own = Line(f"{_words(subject.attribute)} (own)", x, found.attributes[subject.attribute])
            others = [own, *others]
        drawn.append(("Side effects", others, "standard deviations"))
    kept = [
        Line(name, x, found.means[key], found.errors[key])
        for key, name in (("identity", "identity"), ("parts_kept", "parts kept"), ("s_dir", "S_dir"))
        if key in found.means
    ]
    if kept:
        drawn.append(("Identity, parts and S_dir", kept, ""))
    if "distance" in found.means:
        line = Line("perceptual distance", x, found.means["distance"], found.errors["distance"])
        drawn.append(("Perceptual distance", [line], ""))
    if "roir" in found.means and np.isfinite(found.means["roir"]).any():
        drawn.append(
            ("ROIR: change outside per change inside", [Line("ROIR", x, found.means["roir"], found.errors["roir"])], "")
        )
    if found.frechet is not None and np.isfinite(found.frechet).any():
        drawn.append(("Frechet distance to the originals", [Line("Frechet distance", x, found.frechet)], ""))
    made = ""
    for title, lines, label in drawn:
        if max(np.isfinite(line.y).sum() for line in lines) < 2:  # one strength alone is told by the table
            continue
        svg = line_plot(f"{found.name}: {title.lower()}", lines, "strength", label, include=(0.0,))
        made += f"<figure><h3>{escape(title)}</h3>{svg}</figure>" if svg else ""
    return made


def _details(found: Found) -> str:
    rows = found.rows()
    keys = [key for key in (*MEASURES, "other", "frechet") if any(row[key] is not None for row in rows)]
    names = {**{key: name for key, (name, _) in MEASURES.items()}, **COLUMNS}
    head = '<th scope="col"><span>strength</span></th>'
    head += "".join(f'<th scope="col"><span>{escape(names[key])}</span></th>' for key in keys)
    body = ""
    for row in rows:
        body += f'<tr><th scope="row">{_signed(row["strength"])}</th>{"".join(_cell(row, key) for key in keys)}</tr>'
    words = escape(f"{found.name}: all measures")
    return (
        f'<details><summary>All measures at all strengths</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{words}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


# -------------------------------------------------------------------------------------------------------------- the end


def _terms(evaluation: Evaluation) -> str:
    measured = {key for found in evaluation.found for key in found.means}
    terms = {name: what for key, (name, what) in MEASURES.items() if key in measured} | FURTHER_TERMS
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in terms.items())
    return f'<h2 id="terms">What the measures mean</h2><dl class="terms">{rows}</dl>'


def _left_out(evaluation: Evaluation) -> str:
    if not evaluation.left_out:
        return ""
    listed = evaluation.left_out[:MAX_LISTED]
    items = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in listed)
    more = len(evaluation.left_out) - len(listed)
    items += f"<li>and {more} more, which evaluation.json names</li>" if more else ""
    return (
        f'<h2 id="left-out">Left out</h2><p>These files were in the folder and could not be used.</p><ul>{items}</ul>'
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _words(attribute: str) -> str:
    return attribute.replace("_", " ")


def _signed(value: float) -> str:
    """+0.52, −1; 0 has no sign."""
    text = _short(abs(value))
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def _short(value: float, most: int = 3) -> str:
    """Three digits, or so many, and never an exponent: 12.3, 0.52, 0.0041, 0."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    digits = max(0, min(6, most - 1 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
