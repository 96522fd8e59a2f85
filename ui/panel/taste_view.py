"""The tab "Taste" as HTML: words, pictures, how sure it is, and every answer. Every text is escaped here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ...adapters.comparisons import Comparison
from .studio import Learned

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport, WordEffect

__all__ = ["PICTURE", "answer_row", "answer_rows", "nothing_yet", "taste_page", "taste_shown"]

PICTURE = "palate/pictures/"  # a picture of the store, by id; relative, so that it works behind a prefix
CURVE_FROM = 8  # predictions
LIGHT = ' class="pl-light"'
OTHERS = (("tie", "Tie"), ("both_bad", "Both bad"), ("skip", "Skipped"))
BIN = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6" fill="none"/></svg>'


def taste_page() -> str:
    """Return the page without what was learned; taste.js fills it."""
    return (
        '<section class="pl-taste"><div id="palate-learned" aria-live="polite" aria-busy="true"></div>'
        '<section class="pl-answered" aria-labelledby="palate-answered-title" hidden>'
        '<h2 id="palate-answered-title">Your answers</h2><ol class="pl-rows" id="palate-answers"></ol>'
        '<button type="button" class="pl-quiet" id="palate-more" hidden>Show more</button></section></section>'
    )


def nothing_yet(title: str, text: str) -> str:
    """Return what is shown before anything was learned, with the one thing to do."""
    return (
        f'<div class="pl-nothing"><h1>{escape(title)}</h1><p>{escape(text)}</p>'
        '<button type="button" class="pl-main" data-show="compare">Compare pictures</button></div>'
    )


def taste_shown(data: Learned) -> str:
    """Return what was learned of a person: in words, in pictures, in numbers."""
    title = "What you like" if data.person == "me" else f"What {escape(data.person)} likes"
    return (
        f'<header class="pl-title"><h1>{title}</h1></header>'
        f'<div class="pl-known-by">{_words(data)}{_accuracy(data.report)}</div>'
        f"{_pictures('Most to your taste', data.best)}{_pictures('Least to your taste', data.worst)}"
    )


def answer_rows(answers: Sequence[Comparison]) -> str:
    """Return a row an answer."""
    return "".join(answer_row(one) for one in answers)


def answer_row(one: Comparison) -> str:
    """Return one answer with all that it could have been: a click changes it."""
    sides = "".join(
        f'<button type="button" data-change="{side}" aria-pressed="{_is(one.outcome == side)}" '
        f'aria-label="Preferred the {side} picture"><img src="{PICTURE}{escape(image)}" alt="" loading="lazy"></button>'
        for side, image in (("left", one.left), ("right", one.right))
    )
    others = "".join(
        f'<button type="button" data-change="{name}" aria-pressed="{_is(one.outcome == name)}">{text}</button>'
        for name, text in OTHERS
    )
    time = "" if one.created is None else f'<time data-time="{one.created:.0f}"></time>'
    return (
        f'<li data-answer-id="{one.id}"><div class="pl-sides">{sides}</div>'
        f'<div class="pl-name"><span class="pl-said">{escape(one.prompt) or "&nbsp;"}</span>{time}</div>'
        f'<div class="pl-others" role="group" aria-label="Or">{others}</div>'
        f'<button type="button" class="pl-round" data-delete aria-label="Delete this answer" title="Delete">{BIN}'
        "</button></li>"
    )


def _words(data: Learned) -> str:
    if data.likes is None:
        return (
            '<div class="pl-words"><p class="pl-soft">This encoder knows no words: it has no text side. '
            "The pictures below say it without.</p></div>"
        )
    if not data.likes and not data.dislikes:
        return (
            '<div class="pl-words"><p class="pl-headline">No word is likely yet.</p>'
            '<p class="pl-soft">More answers will tell what it is that you like.</p></div>'
        )
    sure = all(one.sure for one in (*data.likes, *(data.dislikes or ())))
    note = "Only words that your answers are sure of." if sure else "Light words are likely, not sure."
    return (
        f'<div class="pl-words">{_said("Likes", "likes", data.likes)}'
        f"{_said('Dislikes', 'dislikes', data.dislikes or ())}"
        f'<p class="pl-soft">{note}</p></div>'
    )


def _said(title: str, name: str, words: Sequence[WordEffect]) -> str:
    if not words:
        return ""
    strongest = max(abs(one.effect) for one in words)
    listed = "".join(
        f'<li{"" if one.sure else LIGHT} style="--much:{abs(one.effect) / strongest:.2f}">{escape(one.word.text)}</li>'
        for one in words
    )
    return f'<h2>{title}</h2><ul class="pl-{name}">{listed}</ul>'


def _accuracy(report: LearningReport) -> str:
    low, high = report.interval
    if report.accuracy is None:
        return (
            '<div class="pl-sure"><p class="pl-headline">Too early to say how sure this is.</p>'
            '<p class="pl-soft">One pair in three is drawn by chance; the taste is tested on those.</p></div>'
        )
    unsure = "" if report.better_than_coin else " pl-unsure"
    coin = "a coin foresees 50\u00a0%" if report.better_than_coin else "not yet surely better than a coin"
    return (
        f'<div class="pl-sure{unsure}"><p class="pl-figure"><strong data-accuracy="{report.accuracy:.3f}">'
        f"{_percent(report.accuracy)}</strong><span>of your choices foreseen</span></p>"
        f"{_gauge(report.accuracy, low, high)}"
        f'<p class="pl-soft">{_percent(low)} to {_percent(high)} with 95\u00a0% confidence, on '
        f"{report.predicted} pairs drawn by chance · {coin}</p>{_curve(report.hits)}</div>"
    )


def _pictures(title: str, images: Sequence[str]) -> str:
    if not images:
        return ""
    shown = "".join(f'<img src="{PICTURE}{escape(image)}" alt="" loading="lazy">' for image in images)
    return f'<h2>{title}</h2><div class="pl-row">{shown}</div>'


def _gauge(accuracy: float, low: float, high: float) -> str:
    """Return a bar from 0 to 100 %: the interval as a band, the accuracy as a mark, the coin as a line."""
    return (
        '<div class="pl-gauge" role="img" '
        f'aria-label="{_percent(accuracy)}, interval {_percent(low)} to {_percent(high)}; a coin gets 50 %">'
        f'<i class="pl-band" style="left:{low:.1%};width:{max(high - low, 0.0):.1%}"></i>'
        f'<i class="pl-coin"></i><i class="pl-mark" style="left:{accuracy:.1%}"></i></div>'
    )


def _curve(hits: Sequence[float]) -> str:
    """Return the accuracy as it grew with the answers; "" while there are too few for a line to mean anything."""
    if len(hits) < CURVE_FROM:
        return ""
    shares = [total / (i + 1) for i, total in enumerate(itertools.accumulate(hits))]
    step = 400 / (len(shares) - 1)
    line = " ".join(f"{i * step:.1f},{84 - 80 * share:.1f}" for i, share in enumerate(shares))
    return (
        f'<svg class="pl-curve" viewBox="0 0 400 88" role="img" aria-label="accuracy over {len(hits)} predictions">'
        f'<line x1="0" y1="44" x2="400" y2="44"/><polyline points="{line}"/></svg>'
        '<p class="pl-scale"><span>first test</span><span>now</span></p>'
    )


def _is(pressed: bool) -> str:
    return "true" if pressed else "false"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
