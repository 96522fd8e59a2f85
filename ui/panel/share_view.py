"""The page of the tab "Share": the parts that stay; share.js fills in the rest."""

from __future__ import annotations

__all__ = ["share_page"]


def share_page() -> str:
    """Return the page: your taste, tastes of others, a page to show, an embedding for other tools."""
    title = '<h1 class="pl-hidden">Share</h1>'
    return f'<div class="pl-two" id="palate-share-page">{title}{_OWN}{_OTHERS}{_PAGE}{_EMBEDDING}</div>'


_OWN = """
<section class="pl-panel" aria-labelledby="pl-own-title">
  <h2 id="pl-own-title">Your taste</h2>
  <p class="pl-lead" data-part="own">One moment…</p>
  <label class="pl-check"><input type="checkbox" data-part="named" checked> with my name in it</label>
  <div class="pl-actions">
    <button type="button" class="pl-button pl-strong" data-act="save-taste">Download my taste</button>
    <button type="button" class="pl-button" data-act="save-picture">As a picture</button>
    <button type="button" class="pl-button" data-act="save-user"
      title="For PPD: what moves the denoiser itself">As a user file</button>
  </div>
  <div data-part="saving"></div>
  <p class="pl-hint">A few numbers, below 1 MB: no pictures, no prompts, and nobody can see what you answered. The
  picture carries the same file: drop it here, or into ComfyUI. A user file moves the denoiser of one model (PPD).</p>
</section>
"""

_OTHERS = """
<section class="pl-panel" aria-labelledby="pl-others-title">
  <h2 id="pl-others-title">Tastes</h2>
  <p class="pl-lead">Drop taste files and user files anywhere on this page. Generate can use them all.</p>
  <ul class="pl-list" data-part="tastes" aria-live="polite"></ul>
  <div class="pl-actions">
    <button type="button" class="pl-button" data-act="choose-taste">Bring in a taste…</button>
    <input type="file" accept=".safetensors,.png" multiple hidden data-part="taste-file" aria-label="Taste files">
  </div>
</section>
"""

_PAGE = """
<section class="pl-panel pl-wide" aria-labelledby="pl-page-title">
  <h2 id="pl-page-title">A page to show</h2>
  <p class="pl-lead">What was learned, as one file that any browser opens: words, pictures, how good it is, a map.
  Small copies of the pictures are inside; nothing is fetched from anywhere.</p>
  <div class="pl-actions pl-apart">
    <button type="button" class="pl-button pl-strong" data-act="save-page">Save the page</button>
    <label class="pl-check"><input type="checkbox" data-part="page-named"> with my name</label>
    <label class="pl-check"><input type="checkbox" data-part="page-prompts"> with the prompts</label>
  </div>
  <div data-part="paging"></div>
</section>
"""

_EMBEDDING = """
<section class="pl-panel pl-wide" aria-labelledby="pl-embedding-title">
  <h2 id="pl-embedding-title">For other tools</h2>
  <p class="pl-lead">An embedding is your taste as a word for the prompt. Any Stable Diffusion tool takes it;
  Palate isn't needed there.</p>
  <form class="pl-line" data-part="embedding-form">
    <label class="pl-label">Its name <input class="pl-input" data-part="embedding-name" maxlength="60"
      autocomplete="off" spellcheck="false" placeholder="my-taste"></label>
    <button type="submit" class="pl-button pl-strong" data-act="train">Make it</button>
    <button type="button" class="pl-button" data-act="stop-training" hidden>Stop</button>
  </form>
  <label class="pl-check"><input type="checkbox" data-part="embedding-named" checked> with my name in it</label>
  <div data-part="training"></div>
  <ul class="pl-list" data-part="embeddings"></ul>
  <details class="pl-details"><summary>How to use it</summary>
    <dl class="pl-how">
      <dt>ComfyUI</dt><dd>Put the file into <code>models/embeddings</code> and write
        <code>embedding:<span data-part="word">my-taste</span></code> at the end of the prompt.</dd>
      <dt>A1111, Forge</dt><dd>Put it into <code>embeddings</code> and write
        <code><span data-part="word">my-taste</span></code> at the end of the prompt.</dd>
      <dt>diffusers</dt><dd><code>pipeline.load_textual_inversion("<span data-part="word">my-taste</span>.safetensors",
        token="&lt;<span data-part="word">my-taste</span>&gt;")</code>, then write
        <code>&lt;<span data-part="word">my-taste</span>&gt;</code> at the end of the prompt.</dd>
    </dl>
  </details>
</section>
"""
