"""The tab "Compare" as HTML, before there is a pair; compare.js and its neighbours fill it."""

from __future__ import annotations

__all__ = ["compare_page"]

ANSWERS = (("tie", "Tie", "T"), ("both_bad", "Both bad", "B"), ("skip", "Skip", "S"), ("undo", "Undo", "Z"))
PLACES = (("left", "←", "ArrowLeft"), ("right", "→", "ArrowRight"), ("third", "3", "3"), ("fourth", "4", "4"))
PENCIL = (
    '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M4 16l.8-3.6L13 4.2a1.6 1.6 0 0 1 2.3 0l.5.5a1.6 1.6 0 0 1 '
    '0 2.3l-8.2 8.2z" fill="none"/></svg>'
)
WAYS = (("pairs", "Pairs"), ("best", "Best of four"), ("order", "Put four in order"))
DRAWINGS = {
    "pairs": '<rect x="2" y="5" width="9" height="10" rx="2"/><rect x="13" y="5" width="9" height="10" rx="2"/>',
    "best": '<rect x="4" y="2" width="7" height="7" rx="2" class="pl-full"/>'
    '<rect x="13" y="2" width="7" height="7" rx="2"/><rect x="4" y="11" width="7" height="7" rx="2"/>'
    '<rect x="13" y="11" width="7" height="7" rx="2"/>',
    "order": '<path d="M4 16.5v-13M10 16.5v-9.5M16 16.5v-6M22 16.5v-2.5" class="pl-bars"/>',
}


def compare_page() -> str:
    """Return the stage, its buttons, the live view, the zoom and the choice of pictures."""
    cards = "".join(
        f'<button type="button" class="pl-card" data-choose="{place}" aria-label="Prefer the {place} picture" '
        f'aria-keyshortcuts="{keys}"><span class="pl-picture"></span><kbd aria-hidden="true">{key}</kbd>'
        '<span class="pl-nth" aria-hidden="true"></span></button>'
        for place, key, keys in PLACES
    )
    buttons = "".join(
        f'<button type="button" class="pl-quiet" data-answer="{name}" id="palate-{name}" aria-keyshortcuts="{key}">'
        f"<span>{text}</span><kbd>{key}</kbd></button>"
        for name, text, key in ANSWERS
    )
    return (
        '<section class="pl-stage" id="palate-stage" data-way="pairs" aria-labelledby="palate-question" '
        'aria-busy="true"><div class="pl-ask"><h1 id="palate-question">Which do you prefer?</h1>'
        '<button type="button" class="pl-about" id="palate-about" aria-haspopup="dialog">'
        f'<span id="palate-prompt">&nbsp;</span>{PENCIL}<span class="pl-hidden">Change what to compare</span></button>'
        f'<p class="pl-step-text" id="palate-step">&nbsp;</p>{_ways()}</div>'
        f'<div class="pl-pair">{cards}</div>'
        '<div class="pl-stopped" role="status" hidden></div>'
        '<div class="pl-answers" role="group" aria-label="Other answers"><button type="button" class="pl-quiet" '
        f'id="palate-keep" aria-keyshortcuts="K"><span>Keep it</span><kbd>K</kbd></button>{buttons}'
        '<span class="pl-hint">Hold <kbd>Space</kbd> to look closer'
        '<span class="pl-much">, <kbd>⇧</kbd> for much better</span></span></div>'
        f'{_live()}<p class="pl-hidden" role="status" id="palate-said"></p></section>'
        f"{_zoom()}{_choice()}"
    )


def _ways() -> str:
    buttons = "".join(
        f'<button type="button" data-way="{way}" aria-pressed="{str(way == "pairs").lower()}" aria-label="{text}" '
        f'title="{text} (W: the next way)"><svg viewBox="0 0 24 20" aria-hidden="true">{DRAWINGS[way]}</svg></button>'
        for way, text in WAYS
    )
    return f'<div class="pl-ways" role="group" aria-label="Way of asking">{buttons}</div>'


def _live() -> str:
    return (
        '<aside class="pl-live" aria-label="How well your taste is known">'
        '<p role="status" id="palate-status">&nbsp;</p><div class="pl-meter"><i></i></div>'
        '<div id="palate-plot"></div><p id="palate-advice">&nbsp;</p>'
        '<div id="palate-beside"></div><button type="button" class="pl-quiet" id="palate-try" hidden></button>'
        '<button type="button" class="pl-quiet" id="palate-look" hidden></button>'
        '<label class="pl-surprise" for="palate-surprise"><span>Surprise me</span>'
        '<input type="range" id="palate-surprise" min="0" max="1" step="0.1" value="0" '
        'aria-describedby="palate-variety"></label><p id="palate-variety">&nbsp;</p></aside>'
    )


def _zoom() -> str:
    return (
        '<div class="pl-zoom" id="palate-zoom" hidden aria-hidden="true">'
        "<div><span></span></div><div><span></span></div>"
        "<p>move to look around · scroll, + or − for more</p></div>"
    )


def _choice() -> str:
    return (
        '<dialog class="pl-dialog" id="palate-choice" aria-labelledby="palate-choice-title"><form method="dialog">'
        '<h2 id="palate-choice-title">What to compare</h2>'
        '<label class="pl-option"><input type="radio" name="kind" value="prompts">'
        "<span>Pictures from prompts</span></label>"
        '<label class="pl-field" data-kind="prompts"><span>Prompt</span>'
        '<textarea id="palate-wanted-prompt" rows="2" '
        'maxlength="20000" placeholder="empty: many examples"></textarea></label>'
        '<label class="pl-option"><input type="radio" name="kind" value="folder">'
        "<span>Pictures of your own</span></label>"
        '<label class="pl-field" data-kind="folder"><span>Folder on this computer</span>'
        '<input id="palate-wanted-folder" '
        'type="text" placeholder="/home/you/Pictures" autocomplete="off" spellcheck="false"></label>'
        '<p class="pl-wrong" role="alert" hidden></p>'
        '<footer><button type="button" class="pl-quiet" data-close>Cancel</button>'
        '<button type="submit" class="pl-main" id="palate-use">Compare these</button></footer></form></dialog>'
    )
