"""The tab "Compare" as HTML, before there is a pair; compare.js fills it."""

from __future__ import annotations

__all__ = ["compare_page"]

ANSWERS = (("tie", "Tie", "T"), ("both_bad", "Both bad", "X"), ("skip", "Skip", "S"), ("undo", "Undo", "U"))
SIDES = (("left", "←", "ArrowLeft"), ("right", "→", "ArrowRight"))
PENCIL = (
    '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M4 16l.8-3.6L13 4.2a1.6 1.6 0 0 1 2.3 0l.5.5a1.6 1.6 0 0 1 '
    '0 2.3l-8.2 8.2z" fill="none"/></svg>'
)


def compare_page() -> str:
    """Return the stage, its buttons, the zoom and the choice of pictures."""
    cards = "".join(
        f'<button type="button" class="pl-card" data-choose="{side}" aria-label="Prefer the {side} picture" '
        f'aria-keyshortcuts="{keys}"><span class="pl-picture"></span><kbd aria-hidden="true">{key}</kbd></button>'
        for side, key, keys in SIDES
    )
    buttons = "".join(
        f'<button type="button" class="pl-quiet" data-answer="{name}" id="palate-{name}" aria-keyshortcuts="{key}">'
        f"{text}<kbd>{key}</kbd></button>"
        for name, text, key in ANSWERS
    )
    return (
        '<section class="pl-stage" id="palate-stage" aria-labelledby="palate-question" aria-busy="true">'
        '<div class="pl-ask"><h1 id="palate-question">Which do you prefer?</h1>'
        '<button type="button" class="pl-about" id="palate-about" aria-haspopup="dialog">'
        f'<span id="palate-prompt">&nbsp;</span>{PENCIL}<span class="pl-hidden">Change what to compare</span>'
        "</button></div>"
        f'<div class="pl-pair">{cards}</div>'
        '<div class="pl-stopped" role="status" hidden></div>'
        f'<div class="pl-answers" role="group" aria-label="Other answers">{buttons}'
        '<span class="pl-hint">Hold <kbd>Space</kbd> to look closer</span></div>'
        '<div class="pl-way"><p role="status" id="palate-status">&nbsp;</p><div class="pl-meter"><i></i></div></div>'
        "</section>"
        f"{_zoom()}{_choice()}"
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
