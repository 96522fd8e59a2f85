"""What was learned as HTML, piece by piece, for the tab "Taste" and the saved page. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from .taste_learned import Learned, Place

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport, WordEffect

__all__ = ["Pictures", "accuracy_of", "map_of", "row_of", "strip_of", "words_of_taste"]

ENDS = '<p class="pl-ends" aria-hidden="true"><span>not me</span><i></i><span>me</span></p>'
VAGUE = 0.55  # an interval as wide as after ten answers
LIGHT = ' class="pl-light"'


@dataclass(frozen=True)
class Pictures:
    """Where pictures come from.

    Attributes:
        small: Address by image id.
        large: Address of the original; "" where the small one is all there is.
        prompts: What each was made from, as far as it may be told.
    """

    small: Callable[[str], str]
    large: Callable[[str], str]
    prompts: Mapping[str, str] = field(default_factory=dict)


def words_of_taste(data: Learned) -> str:
    """Return likes and dislikes, stronger ones larger."""
    if data.likes is None:
        return (
            '<div class="pl-words"><p class="pl-soft">This encoder knows no words: it has no text side. '
            "The pictures below say it without.</p></div>"
        )
    if not data.likes and not data.dislikes:
        more = "More pictures of it, or more answers," if data.subject else "More answers"
        return (
            '<div class="pl-words"><p class="pl-headline">No word is likely yet.</p>'
            f'<p class="pl-soft">{more} will tell what it is that you like.</p></div>'
        )
    sure = all(one.sure for one in (*data.likes, *(data.dislikes or ())))
    note = "Only words that the answers are sure of." if sure else "Light words are likely, not sure."
    return (
        f'<div class="pl-words">{_said("Likes", "likes", data.likes)}'
        f"{_said('Dislikes', 'dislikes', data.dislikes or ())}"
        f'<p class="pl-soft">{note}</p></div>'
    )


def _said(title: str, name: str, words: Sequence[WordEffect]) -> str:
    if not words:
        return ""
    strongest = max(abs(one.effect) for one in words) or 1.0
    listed = "".join(
        f'<li{"" if one.sure else LIGHT} style="--much:{abs(one.effect) / strongest:.2f}">{escape(one.word.text)}</li>'
        for one in words
    )
    return f'<h2>{title}</h2><ul class="pl-{name}">{listed}</ul>'


def accuracy_of(report: LearningReport, whose: str = "your") -> str:
    """Return how well the taste foresees its person, beside the average of others; a script draws the curve into it.

    Args:
        whose: "your", or "this" where somebody else reads it.
    """
    low, high = report.interval
    advice = f'<p class="pl-advice">{escape(report.advice)}</p>' if report.advice and whose == "your" else ""
    if report.accuracy is None or report.verdict == "few":  # "0 %" of two says nothing, in large letters
        return (
            '<div class="pl-sure"><p class="pl-headline">Too early to say how sure this is.</p>'
            f'<p class="pl-soft">One pair in three is drawn by chance; the taste is tested on those.</p>{advice}</div>'
        )
    unsure = "" if report.better_than_coin else " pl-unsure"
    coin = "a coin foresees 50\u00a0%" if report.better_than_coin else "not yet surely better than a coin"
    choices = "of your choices foreseen" if whose == "your" else "of the choices foreseen"
    return (
        f'<div class="pl-sure{unsure}"><p class="pl-figure"><strong data-accuracy="{report.accuracy:.3f}">'
        f"{_percent(report.accuracy)}</strong><span>{choices}</span></p>"
        f'<div class="pl-curve" data-part="curve"></div>{_against_others(report, whose)}{advice}{_leaning(report)}'
        f'<p class="pl-soft">{_percent(low)} to {_percent(high)} with 95\u00a0% confidence, on '
        f"{report.predicted} answers · {coin}{_most(report)}{_line(report)}</p></div>"
    )


def _against_others(report: LearningReport, whose: str) -> str:
    """Return two bars from a coin's 50 % up: this taste, and the average of other people's on the same answers."""
    own, others = report.accuracy, report.stranger_accuracy
    if own is None or others is None:
        return ""
    bars = "".join(
        f'<li{mark}><span>{name}</span><i style="--share:{min(max(2 * share - 1, 0), 1):.3f}"></i>'
        f"<b>{_percent(share)}</b></li>"
        for name, share, mark in ((f"{whose} taste", own, ' class="pl-own"'), ("the average of others", others, ""))
    )
    return f'<ul class="pl-bars" aria-label="Foreseen by">{bars}</ul>'


def _leaning(report: LearningReport) -> str:
    if not report.leans or report.left_share is None:
        return ""
    share = report.left_share if report.leans == "left" else 1 - report.left_share
    return (
        f'<p class="pl-soft">The {report.leans} picture was preferred in {_percent(share)}, whatever it showed: look '
        "at both before you choose.</p>"
    )


def _most(report: LearningReport) -> str:
    if report.ceiling is None:
        return ""
    low, high = report.ceiling_interval
    return (
        f" · about {_percent(report.ceiling)} ({_percent(low)} to {_percent(high)}) is possible: "
        f"{report.repeats} pairs were asked twice, and that is how far your answers agree"
    )


def _line(report: LearningReport) -> str:
    # What the browser draws: points that say something; `VAGUE` in taste_curve.js.
    drawn = sum(high - low < VAGUE for *_, low, high in report.curve)
    return " · the line is that share as it grew" if drawn > 1 else ""


def row_of(title: str, images: Sequence[str], pictures: Pictures) -> str:
    """Return a row of pictures under a title; "" for none."""
    if not images:
        return ""
    shown = "".join(
        _picture(image, f"{title}, {number} of {len(images)}", pictures, number == 1)
        for number, image in enumerate(images, start=1)
    )
    name = escape(title)
    return f'<h2>{name}</h2><div class="pl-row" data-pictures role="group" aria-label="{name}">{shown}</div>'


def strip_of(images: Sequence[str], pictures: Pictures) -> str:
    """Return pictures from what is liked least to what is liked most, over a scale; "" for fewer than two."""
    if len(images) < 2:
        return ""
    count = len(images)
    shown = "".join(
        _picture(image, f"{number} of {count} from not me to me", pictures, number == 1)
        for number, image in enumerate(images, start=1)
    )
    return (
        '<div class="pl-strip" data-pictures role="group" aria-label="From not me to me" '
        f'style="--count:{count}">{shown}</div>{ENDS}'
    )


def map_of(places: Sequence[Place], pictures: Pictures) -> str:
    """Return the map: small pictures by how much they are liked, left to right, and by what else differs, upwards.

    It shows without a script; taste_map.js lets it be moved about.
    """
    if not places:
        return ""
    liked = sorted(place.x for place in places)
    dots = "".join(
        f'<img src="{escape(pictures.small(place.image))}" loading="lazy" id="pl-dot-{number}" '
        f'alt="{_share_below(liked, place.x)}" {_large(place.image, pictures)}'
        f'data-x="{place.x:.4f}" data-y="{place.y:.4f}" style="--x:{place.x:.4f};--y:{1 - place.y:.4f}">'
        for number, place in enumerate(places)
    )
    return (
        '<div class="pl-map" data-map><div class="pl-ground" tabindex="0" role="application" data-pictures '
        f'aria-label="Map of {len(places)} pictures, the more you like them the further right. Arrow keys go from one '
        f'to the next, plus and minus zoom, Enter shows it large.">{dots}</div>'
        f"{ENDS}"
        '<div class="pl-under"><p class="pl-soft">Upwards: what else tells them apart most.</p>'
        '<div class="pl-nearer" role="group" aria-label="Zoom" hidden>'
        '<button type="button" data-zoom="out" aria-label="Further away">−</button>'
        '<button type="button" data-zoom="in" aria-label="Closer">+</button>'
        '<button type="button" data-zoom="all" aria-label="The whole map">⤢</button></div></div></div>'
    )


def _percent(share: float) -> str:
    """Return a share in percent, with a space that does not break."""
    return f"{100 * share:.0f}\u00a0%"


def _picture(image: str, label: str, pictures: Pictures, first: bool) -> str:
    """Return one picture of a row; a row is one stop of the tab key, its arrows go on from there."""
    stop = "" if first else ' tabindex="-1"'
    return (
        f'<button type="button" class="pl-picked"{stop} aria-label="{escape(label)}" {_large(image, pictures)}>'
        f'<img src="{escape(pictures.small(image))}" alt="" loading="lazy"></button>'
    )


def _large(image: str, pictures: Pictures) -> str:
    address, prompt = pictures.large(image), pictures.prompts.get(image, "")
    large = f'data-large="{escape(address)}" ' if address else 'data-large="" '
    return f'{large}data-said="{escape(prompt)}" ' if prompt else large


def _share_below(liked: Sequence[float], x: float) -> str:
    below = sum(one < x for one in liked)
    return f"liked more than {_percent(below / max(len(liked) - 1, 1))} of them"
