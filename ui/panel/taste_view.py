"""The tab "Taste" as HTML: how good, in words, in pictures, and every answer. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from ...adapters.comparisons import Comparison, Ranking
from .half_lives import LONGEST
from .taste_learned import Learned, Subject
from .taste_parts import Pictures, map_of, row_of, strip_of, words_of_taste

__all__ = ["PICTURE", "answer_row", "answer_rows", "nothing_yet", "ranking_row", "taste_page", "taste_shown"]

PICTURE = "palate/pictures/"  # a picture of the store, by id; relative, so that it works behind a prefix
THUMB = "palate/api/thumbs/"  # a small copy of it
OTHERS = (("tie", "Tie"), ("both_bad", "Both bad"), ("skip", "Skipped"))
BIN = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6" fill="none"/></svg>'


def taste_page() -> str:
    """Return the page without what was learned; taste.js fills it."""
    return (
        '<section class="pl-taste"><div data-part="looking"></div>'
        '<div id="palate-learned" aria-live="polite" aria-busy="true"></div>'
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


def taste_shown(data: Learned, subjects: Sequence[Subject] = (), half_life: float | None = None) -> str:
    """Return what was learned of a person, of everything or of one prompt; the accuracy comes in later.

    Args:
        half_life: Days after which an answer counts half; None for never.
    """
    title = "What you like" if data.person == "me" else f"What {escape(data.person)} likes"
    pictures = Pictures(THUMB.__add__, PICTURE.__add__, data.prompts)
    return (
        f'<header class="pl-title"><h1>{title}</h1>{_chooser(data, subjects)}</header>'
        f'<div class="pl-known-by">{words_of_taste(data)}<div data-part="accuracy"></div></div>'
        f"{_strip(data, pictures)}"
        f"{row_of('Most to your taste', data.best, pictures)}{row_of('Least to your taste', data.worst, pictures)}"
        f"{_map(data, pictures)}{_half_life(half_life)}"
        '<p class="pl-soft pl-show-it">All of this can be saved as one file and shown to others: '
        '<button type="button" class="pl-inline" data-show="share">a page to show</button>.</p>'
    )


def _half_life(days: float | None) -> str:
    """Return the field for a taste that changes, in the words of Fit Taste and of `palate fit --half-life`."""
    value = "" if days is None else f"{days:g}"
    return (
        f'<details class="pl-half-life"{"" if days is None else " open"}><summary>A taste that changes</summary>'
        '<form data-part="half-life"><label for="palate-half-life">Half-life, in days</label>'
        f'<input class="pl-input" id="palate-half-life" type="number" min="0" max="{LONGEST:.0f}" step="any" '
        f'inputmode="decimal" placeholder="none" value="{value}"></form>'
        '<p class="pl-soft">After so many days an answer counts half. Empty counts all alike.</p></details>'
    )


def _chooser(data: Learned, subjects: Sequence[Subject]) -> str:
    """Return the field that says what it is about: a prompt that was seen, or any other."""
    listed = "".join(f'<option value="{escape(one.prompt)}">{one.pictures} pictures</option>' for one in subjects)
    return (
        '<form class="pl-subject" data-part="about"><label for="palate-subject">Pictures of</label>'
        f'<input class="pl-input" id="palate-subject" value="{escape(data.subject)}" placeholder="everything" '
        'list="palate-subjects" maxlength="2000" autocomplete="off" spellcheck="false">'
        f'<datalist id="palate-subjects">{listed}</datalist>'
        f'<button type="button" class="pl-quiet" data-act="everything"{"" if data.subject else " hidden"}>Everything'
        "</button></form>"
    )


def _strip(data: Learned, pictures: Pictures) -> str:
    shown = strip_of(data.strip, pictures)
    more = ""
    if data.subject:
        hint = "" if shown else f'<p class="pl-soft">No picture of “{escape(data.subject)}” yet.</p>'
        more = (
            f'{hint}<div class="pl-further" data-part="painting"><button type="button" class="pl-button" '
            f'data-act="paint-more">Paint {"more" if shown else "some"} of it</button></div>'
        )
    return f"<h2>From “not me” to “me”</h2>{shown}{more}" if shown or more else ""


def _map(data: Learned, pictures: Pictures) -> str:
    shown = map_of(data.map, pictures)
    return f"<h2>Map</h2>{shown}" if shown else ""


def answer_rows(answers: Sequence[Comparison], rankings: Mapping[int, Ranking] = MappingProxyType({})) -> str:
    """Return a row an answer; those that stand for a ranking show all of it."""
    whole = [(one, rankings.get(one.ranking or 0)) for one in answers]
    return "".join(answer_row(one) if ranking is None else ranking_row(one, ranking) for one, ranking in whole)


def ranking_row(one: Comparison, ranking: Ranking) -> str:
    """Return an answer over many pictures, the best first: it can be deleted as a whole, and be given again."""
    tiers = ranking.tiers or (ranking.images,)
    ordered = len(tiers) > 2 or any(len(tier) > 1 for tier in tiers[:-1])
    shown = ""
    for place, tier in enumerate(tiers, start=1):
        mark = f"<b>{place}</b>" if ordered else ""
        chosen = ' class="pl-best"' if ranking.tiers and place == 1 and len(tiers) > 1 else ""
        pictures = (f'<img src="{THUMB}{escape(image)}" alt="" loading="lazy">' for image in tier)
        shown += "".join(f"<li{chosen}>{picture}{mark}</li>" for picture in pictures)
    return (
        f'<li data-answer-id="{one.id}"><ol class="pl-ranked" aria-label="{_said_of(ranking, ordered)}">{shown}</ol>'
        f"{_of_what(one, _said_of(ranking, ordered))}{_delete()}</li>"
    )


def _said_of(ranking: Ranking, ordered: bool) -> str:
    if not ranking.tiers:
        return "None is good" if ranking.outcome == "both_bad" else "Skipped"
    if len(ranking.tiers) == 1:
        return "All alike"
    much = ", much better" if ranking.much else ""
    return f"In this order{much}" if ordered else f"Best of {len(ranking.images)}{much}"


def _of_what(one: Comparison, what: str = "") -> str:
    """Return prompt and time of an answer."""
    time = "" if one.created is None else f'<time data-time="{one.created:.0f}"></time>'
    said = f'<span class="pl-kind">{escape(what)}</span>' if what else ""
    prompt = escape(one.prompt) or "&nbsp;"
    return f'<div class="pl-name"><span class="pl-said">{prompt}</span><span>{said}{time}</span></div>'


def _delete() -> str:
    return (
        f'<button type="button" class="pl-round" data-delete aria-label="Delete this answer" title="Delete">{BIN}'
        "</button>"
    )


def answer_row(one: Comparison) -> str:
    """Return one answer with all that it could have been: a click changes it."""
    sides = "".join(
        f'<button type="button" data-change="{side}" aria-pressed="{_is(one.outcome == side)}" '
        f'aria-label="Preferred the {side} picture"><img src="{THUMB}{escape(image)}" alt="" loading="lazy"></button>'
        for side, image in (("left", one.left), ("right", one.right))
    )
    others = "".join(
        f'<button type="button" data-change="{name}" aria-pressed="{_is(one.outcome == name)}">{text}</button>'
        for name, text in OTHERS
    )
    return (
        f'<li data-answer-id="{one.id}"><div class="pl-sides">{sides}</div>'
        f"{_of_what(one, 'Much better' if one.much else '')}"
        f'<div class="pl-others" role="group" aria-label="Or">{others}</div>{_delete()}</li>'
    )


def _is(pressed: bool) -> str:
    return "true" if pressed else "false"
