"""What the panel shows, as HTML: the pair, what was learned, the generated pictures. Every text is escaped here."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .pair import Pair

if TYPE_CHECKING:
    from .studio import Learned

__all__ = ["PICTURE", "compare_status", "learned", "message", "note", "stage", "waiting"]

PICTURE = "palate/pictures/"  # a picture of the store, by id; relative, so that it works behind a prefix
CURVE_FROM = 8  # predictions


def stage(pair: Pair, upcoming: Pair | None = None) -> str:
    """Return the pair as two large buttons; `upcoming` is loaded by the browser in advance."""
    ahead = "".join(f'<img src="{PICTURE}{escape(side)}" alt="">' for side in _sides(upcoming))
    prompt = f'<p class="pl-prompt">{escape(pair.prompt)}</p>' if pair.prompt else '<p class="pl-prompt">&nbsp;</p>'
    return (
        f'<section class="pl-stage" data-ticket="{escape(pair.ticket)}" data-view="{uuid.uuid4().hex}">'
        f'<h2 class="pl-question">Which do you prefer?</h2>{prompt}'
        f'<div class="pl-pair">{_card(pair.left, "left")}{_card(pair.right, "right")}</div>'
        f'<div class="pl-ahead" aria-hidden="true">{ahead}</div></section>'
    )


def waiting(text: str) -> str:
    """Return the stage while no pair is ready."""
    blank = '<div class="pl-card pl-blank"></div>'
    return (
        '<section class="pl-stage pl-waiting" aria-busy="true"><h2 class="pl-question">Which do you prefer?</h2>'
        f'<p class="pl-prompt" role="status">{escape(text)}</p><div class="pl-pair">{blank}{blank}</div></section>'
    )


def message(title: str, text: str) -> str:
    """Return a plain, friendly page instead of results."""
    return f'<section class="pl-message" role="status"><h3>{escape(title)}</h3><p>{escape(text)}</p></section>'


def note(text: str) -> str:
    """Return one quiet line."""
    return f'<p class="pl-status" role="status">{escape(text)}</p>'


def compare_status(answers: int, broken: int = 0) -> str:
    """Return the line under the buttons: how many answers there are, and files that were skipped."""
    parts = [f"{_count(answers, 'answer')} so far"]
    if broken:
        parts.append(f"skipped {_count(broken, 'file')} that can't be read")
    return f'<p class="pl-status" role="status" data-answers="{answers}">{" · ".join(parts)}</p>'


def learned(data: Learned) -> str:
    """Return what was learned: how well it predicts, and the pictures at both ends."""
    report = data.report
    low, high = report.interval
    if report.accuracy is None:
        head = "<p>A few more answers, and you will see here how well your taste is known.</p>"
    else:
        sure = "" if report.better_than_coin else "<br>not yet surely better than a coin: more answers will help"
        head = (
            f'<p class="pl-figure"><strong data-accuracy="{report.accuracy:.3f}">{_percent(report.accuracy)}</strong>'
            f"<span>of your answers were predicted before they were learned from<br>"
            f"<small>95\u00a0% interval {_percent(low)} to {_percent(high)}; "
            f"tossing a coin gets {_percent(report.coin_accuracy)}{sure}</small></span></p>"
            f"{_gauge(report.accuracy, low, high)}{_curve(report.hits)}"
        )
    answers = _count(data.answers, "answer")
    unsure = "" if report.better_than_coin else " pl-unsure"
    return (
        f'<section class="pl-learned{unsure}"><header><h2>What Palate knows about {escape(data.person)}</h2>'
        f'<p class="pl-status">from {answers}</p></header>{head}'
        f"{_row('Most to your taste', data.best)}{_row('Least to your taste', data.worst)}</section>"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def _sides(pair: Pair | None) -> tuple[str, ...]:
    return (pair.left, pair.right) if pair else ()


def _card(image: str, side: str) -> str:
    return (
        f'<button type="button" class="pl-card" data-choose="{side}" aria-label="Prefer the {side} picture">'
        f'<img src="{PICTURE}{escape(image)}" alt="the {side} picture" draggable="false"></button>'
    )


def _row(title: str, images: Sequence[str]) -> str:
    if not images:
        return ""
    pictures = "".join(f'<img src="{PICTURE}{escape(image)}" alt="" loading="lazy">' for image in images)
    return f'<h3>{title}</h3><div class="pl-row">{pictures}</div>'


def _gauge(accuracy: float, low: float, high: float) -> str:
    """Return a bar from 0 to 100 %: the interval as a band, the accuracy as a mark, the coin as a line."""
    return (
        '<div class="pl-gauge" role="img" '
        f'aria-label="{_percent(accuracy)}, interval {_percent(low)} to {_percent(high)}; a coin gets 50 %">'
        f'<i class="pl-band" style="left:{low:.1%};width:{max(high - low, 0.0):.1%}"></i>'
        f'<i class="pl-coin"></i><i class="pl-mark" style="left:{accuracy:.1%}"></i></div>'
        '<div class="pl-scale"><span>0 %</span><span>a coin</span><span>100 %</span></div>'
    )


def _curve(hits: Sequence[float]) -> str:
    """Return the accuracy as it grew with the answers; "" while there are too few for a line to mean anything."""
    if len(hits) < CURVE_FROM:
        return ""
    shares = [total / (i + 1) for i, total in enumerate(itertools.accumulate(hits))]
    step = 560 / (len(shares) - 1)
    line = " ".join(f"{i * step:.1f},{100 - 90 * share:.1f}" for i, share in enumerate(shares))
    return (
        f'<svg class="pl-curve" viewBox="-4 0 568 104" role="img" aria-label="accuracy over {len(hits)} predictions">'
        f'<line x1="0" y1="55" x2="560" y2="55"/><polyline points="{line}"/>'
        '</svg><div class="pl-scale"><span>first answers</span><span>now</span></div>'
    )
