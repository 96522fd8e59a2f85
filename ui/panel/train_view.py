"""The page of the tab "Train": the parts that stay; train.js fills in the rest."""

from __future__ import annotations

from html import escape

from ...adapters.finetune.usual import USUAL_LOSS

__all__ = ["LOSSES", "train_page"]

# By name: what it is called, and what it does in a line.
LOSSES = {
    "mapo": ("What you chose over the other", "MaPO: fast and with little memory."),
    "dpo": ("The same, more carefully", "DPO: held close to the model as it is."),
    "sft": ("What you chose, alone", "SFT: imitates the pictures you chose and ignores the others."),
}
MORE = {
    "rdpo": ("With slips in mind", "rDPO: reckons that one answer in ten was a slip."),
    "cdpo": ("Softer with slips", "cDPO: the same thought, but stops pushing once a pair is clear."),
    "adaptive_dpo": ("Finding the slips", "Adaptive-DPO: trusts answers less that the model keeps doubting."),
    "rpo": ("Across prompts", "Diffusion-RPO: also learns from pictures of other prompts that look alike."),
    "ipo": ("Never too sure", "IPO: pulls each pair to a fixed distance, against learning by heart."),
    "kto": ("Picture by picture", "KTO: every picture counts as good or bad by itself, not as a pair."),
}


def train_page() -> str:
    """Return the page: what would happen and how, and beside it how it goes."""
    return f'<div class="pl-generate pl-train" id="palate-train-page">{_plan()}{_COURSE}</div>'


def _plan() -> str:
    first = {USUAL_LOSS: (LOSSES | MORE)[USUAL_LOSS], **LOSSES}
    simple = "".join(_choice(name, *words, usual=name == USUAL_LOSS) for name, words in first.items())
    more = "".join(_choice(name, *words) for name, words in MORE.items() if name != USUAL_LOSS)
    return f"""
<form class="pl-wish" data-part="train-form" autocomplete="off" novalidate>
  <div class="pl-train-plan"><h1>Train a LoRA</h1>
    <p data-part="train-plan" role="status">One moment…</p>
    <p class="pl-hint" data-part="train-worth"></p>
    <p class="pl-trouble" data-part="train-trouble" hidden></p></div>
  <fieldset class="pl-losses"><legend class="pl-label">Learn from</legend>{simple}
    <details class="pl-details" data-part="train-more"><summary>More ways</summary>{more}</details>
  </fieldset>
  <div class="pl-train-drop">
    <label class="pl-check"><input type="checkbox" data-part="train-drop" checked> Leave out what looks like
      slips</label>
    <p class="pl-hint">Answers that your other answers speak against. Nothing is deleted.</p></div>
  <details class="pl-details"><summary>Settings</summary>
    <div class="pl-fields">
      <label class="pl-label">Steps <input class="pl-input" inputmode="numeric" data-part="train-steps"></label>
      <label class="pl-label">Rank <input class="pl-input" inputmode="numeric" data-part="train-rank"></label>
      <label class="pl-label">Learning rate <input class="pl-input" inputmode="decimal" data-part="train-rate"></label>
      <label class="pl-label">Seed <input class="pl-input" inputmode="numeric" data-part="train-seed"
        placeholder="0"></label>
    </div>
    <label class="pl-check"><input type="checkbox" data-part="train-frozen"> Hold the model in bytes</label>
    <p class="pl-hint">Half of its memory while it trains; the LoRA is about as good.</p>
  </details>
  <div class="pl-actions pl-train-go">
    <button type="submit" class="pl-button pl-strong pl-big" data-act="start-training">Train</button>
    <button type="button" class="pl-button" data-act="train-anew" hidden>Begin anew</button>
  </div>
</form>
"""


def _choice(name: str, title: str, line: str, usual: bool = False) -> str:
    line = f"{line} The usual choice." if usual else line
    return (
        f'<label class="pl-loss"><input type="radio" name="palate-loss" value="{name}"{" checked" * usual}>'
        f"<span><strong>{escape(title)}</strong><small>{escape(line)}</small></span></label>"
    )


_COURSE = """
<section class="pl-course" aria-label="How the training goes">
  <div class="pl-train-empty" data-part="train-empty">
    <svg viewBox="0 0 120 48" aria-hidden="true"><path d="M4 40C30 40 36 30 54 22S92 9 116 8"/></svg>
    <p>How well it does on answers that it never saw is drawn here, while it learns.</p>
    <p class="pl-hint">You can close this page meanwhile, and stop and go on whenever you like.</p>
  </div>
  <div class="pl-train-head" data-part="train-head" hidden>
    <p class="pl-train-title" data-part="train-title" role="status"></p>
    <button type="button" class="pl-button" data-act="stop-training-lora">Stop</button>
  </div>
  <div class="pl-bar" data-part="train-bar" role="progressbar" aria-label="Training" aria-valuemin="0"
    aria-valuemax="100" aria-valuenow="0" hidden><i></i></div>
  <div class="pl-left-out" data-part="train-left-out" hidden></div>
  <div class="pl-verdict" data-part="train-verdict" hidden></div>
  <div class="pl-train-plots" data-part="train-plots" hidden>
    <figure class="pl-train-main"><figcaption><strong>Right on unseen answers</strong>
      <span data-part="train-accuracy-now"></span></figcaption><div data-part="train-accuracy"></div></figure>
    <figure><figcaption><strong>Margin</strong> <span data-part="train-margin-now"></span></figcaption>
      <div data-part="train-margin"></div>
      <small>how far it tells two pictures apart; up is good</small></figure>
    <figure><figcaption><strong>Loss</strong> <span data-part="train-loss-now"></span></figcaption>
      <div data-part="train-loss"></div><small>what it gets wrong while it learns; down is good</small></figure>
  </div>
  <div class="pl-samples" data-part="train-samples" hidden></div>
</section>
"""
