"""The page of the tab "Generate": the parts that stay; its scripts fill in the rest."""

from __future__ import annotations

from html import escape

__all__ = ["generate_page"]


def generate_page(example: str) -> str:
    """Return the page: what to paint, the easel, the gallery.

    Args:
        example: Prompt to begin with.
    """
    return (
        f'<div class="pl-generate" id="palate-generate-page" data-example="{escape(example, quote=True)}">'
        '<h1 class="pl-hidden">Generate</h1>'
        f"{_WISH}{_EASEL}{_GALLERY}{_VIEWER}</div>"
    )


_WISH = """
<form class="pl-wish" data-part="wish" autocomplete="off" novalidate>
  <label class="pl-label">Prompt
    <textarea class="pl-input" data-part="prompt" rows="3" spellcheck="false"
      placeholder="What shall it show?"></textarea></label>
  <div class="pl-offered" data-part="words" role="group" aria-label="Words that your tastes like" hidden></div>
  <label class="pl-label">Without
    <input class="pl-input" data-part="negative" spellcheck="false" placeholder="what it shall not show"></label>
  <div class="pl-actions"><button type="submit" class="pl-button pl-strong pl-big" data-act="paint">Paint</button>
    <button type="button" class="pl-button pl-big" data-act="for-me"
      title="All that your answers give: words that you like, the denoiser where it can be told, and the best of three"
      >Paint for me</button></div>
  <fieldset class="pl-tastes"><legend class="pl-label">Tastes</legend>
    <div class="pl-shapes" data-part="shapes" role="group" aria-label="Blend by" hidden>
      <button type="button" data-shape="triangle">Triangle</button>
      <button type="button" data-shape="sliders">Sliders</button></div>
    <ul data-part="parts"></ul>
    <select class="pl-input pl-add" data-part="add" aria-label="Add a taste"></select>
  </fieldset>
  <label class="pl-label" title="What is moved so that the picture follows the tastes">Moves
    <select class="pl-input" data-part="method"><option value="auto">what suits the model</option></select>
    <small class="pl-hint" data-part="moves">&nbsp;</small></label>
  <div class="pl-fields">
    <label class="pl-label">Seed <span class="pl-joined"><input class="pl-input" data-part="seed"
      title="-1: another one each time">
      <button type="button" class="pl-button" data-act="dice" aria-label="Another seed" title="Another seed">↻</button>
      </span></label>
    <label class="pl-label">Pictures <select class="pl-input" data-part="number">
      <option>1</option><option selected>2</option><option>3</option><option>4</option></select></label>
  </div>
  <label class="pl-label pl-surprise" title="More seeds are painted, and those that differ most are shown">
    <span>Surprise me</span><input type="range" min="0" max="1" step="0.1" value="0" data-part="surprise"></label>
  <details class="pl-details" data-part="advanced"><summary>Advanced</summary>
    <div class="pl-fields">
      <label class="pl-label pl-broad">Towards <select class="pl-input" data-part="objective">
        <option value="bradley_terry">what you prefer</option><option value="positive">what you like</option>
        <option value="direction">your direction</option></select></label>
      <label class="pl-label">Steps <input class="pl-input" type="number" min="1" max="200" data-part="steps"></label>
      <label class="pl-label">Guidance <input class="pl-input" type="number" min="0" max="50" step="any"
        data-part="guidance"></label>
      <label class="pl-label">Width <input class="pl-input" type="number" min="64" max="2048" step="8"
        data-part="width"></label>
      <label class="pl-label">Height <input class="pl-input" type="number" min="64" max="2048" step="8"
        data-part="height"></label>
      <label class="pl-label">Turns at most <span class="pl-joined"><input class="pl-input" type="number" min="1"
        max="180" data-part="limit"><span class="pl-unit">°</span></span></label>
    </div>
  </details>
</form>
"""

_EASEL = """
<section class="pl-easel" aria-label="Pictures" data-part="easel">
  <div class="pl-canvas" data-part="canvas" tabindex="0" role="img" aria-label="No picture yet">
    <div class="pl-empty" data-part="empty"><p>Write what it shall show, then Paint.</p></div>
    <div class="pl-frames" data-part="frames"></div>
    <span class="pl-tag" data-part="tag" hidden></span>
  </div>
  <div class="pl-thumbs" data-part="thumbs" role="group" aria-label="Seeds"></div>
  <div class="pl-working" data-part="working" hidden>
    <div class="pl-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100"><i></i></div>
    <span data-part="doing" role="status"></span>
    <button type="button" class="pl-button" data-act="stop">Stop</button>
  </div>
  <div class="pl-strength">
    <label for="palate-strength">Strength</label>
    <input type="range" id="palate-strength" data-part="strength" min="0" max="2" step="0.05" value="1"
      list="palate-strengths">
    <output data-part="value" for="palate-strength">1</output>
    <datalist id="palate-strengths" data-part="marks"></datalist>
  </div>
  <p class="pl-turned" data-part="turned" role="status">&nbsp;</p>
  <p class="pl-turned" data-part="variety" role="status">&nbsp;</p>
  <div class="pl-actions pl-centre" data-part="acts" hidden>
    <button type="button" class="pl-button pl-strong" data-act="prefer">I prefer this one<kbd>P</kbd></button>
    <button type="button" class="pl-button" data-act="undo-prefer" hidden>Undo</button>
    <button type="button" class="pl-button pl-hold" data-act="hold">Hold: without<kbd>B</kbd></button>
    <button type="button" class="pl-button" data-act="full">Full size<kbd>F</kbd></button>
  </div>
</section>
"""

_GALLERY = """
<section class="pl-gallery" aria-labelledby="pl-gallery-title" data-part="gallery">
  <header><h2 id="pl-gallery-title">Gallery</h2>
    <select class="pl-input pl-whose" data-part="whose" aria-label="Whose pictures"></select>
    <label class="pl-check"><input type="checkbox" data-part="between"> with the slider’s pictures</label></header>
  <div class="pl-grid" data-part="grid"></div>
  <p class="pl-hint" data-part="none">Every picture you paint is kept here, the last 500 and all with a star.</p>
  <div class="pl-actions pl-centre"><button type="button" class="pl-button" data-act="more" hidden>More</button></div>
</section>
"""

_VIEWER = """
<dialog class="pl-viewer" data-part="viewer" aria-label="Picture at full size">
  <div class="pl-view-picture"><img data-part="large" alt="">
    <button type="button" class="pl-step" data-act="previous" aria-label="Previous picture" title="Previous">‹</button>
    <button type="button" class="pl-step" data-act="next" aria-label="Next picture" title="Next">›</button></div>
  <div class="pl-view-text">
    <p class="pl-view-prompt" data-part="view-prompt"></p>
    <dl class="pl-facts" data-part="facts"></dl>
    <div class="pl-actions">
      <button type="button" class="pl-button pl-strong" data-act="again">Use these settings</button>
      <button type="button" class="pl-button" data-act="star" aria-pressed="false">☆ Keep</button>
      <button type="button" class="pl-button" data-act="download">Download</button>
      <button type="button" class="pl-button" data-act="delete">Delete</button>
    </div>
  </div>
  <button type="button" class="pl-close" data-act="close" aria-label="Close" title="Escape">×</button>
</dialog>
"""
