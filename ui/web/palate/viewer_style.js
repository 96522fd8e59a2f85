/** The pictures at full size: the stage, its panes and the foot. */

export const VIEWER_STYLE = `
.palate-viewer { position: fixed; inset: 0; width: 100vw; height: 100vh; height: 100dvh; max-width: none; max-height: none;
  margin: 0; padding: 0; border: 0; outline: none; background: var(--bg-color, #202020); overflow: hidden; }
.palate-viewer[open] { display: flex; flex-direction: column; }
.palate-viewer::backdrop { background: rgb(0 0 0 / 70%); }
.palate-stage { position: relative; flex: 1 1 0; min-height: 0; margin: 8px 8px 0; }
.palate-pane { position: absolute; overflow: hidden; border-radius: 8px; touch-action: none; cursor: zoom-in; }
.palate-zoomed .palate-pane { cursor: grab; }
.palate-zoomed .palate-pane:active { cursor: grabbing; }
.palate-pane img { position: absolute; inset: 0; margin: auto; will-change: transform; user-select: none;
  -webkit-user-drag: none; pointer-events: none; }
.palate-pane[data-coarse] img { image-rendering: pixelated; }
.palate-pane button { position: absolute; top: 10px; left: 10px; min-width: 30px; padding: 4px 10px; border: 0;
  border-radius: 14px; background: rgb(0 0 0 / 60%); color: #fff; font: inherit; font-size: 12px; cursor: pointer; }
.palate-pane button:hover, .palate-pane[data-place] button { background: var(--palate-accent); }
.palate-pane button:focus-visible { outline: 2px solid var(--palate-accent); outline-offset: 2px; }
.palate-foot { display: flex; flex: none; flex-wrap: wrap; align-items: center; justify-content: center; gap: 6px 18px;
  padding: 8px 12px calc(8px + env(safe-area-inset-bottom)); }
.palate-foot > div { display: flex; gap: 4px; }
.palate-foot .palate-told { flex: 1 1 160px; min-width: 0; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; }
.palate-foot .palate-button { min-height: 34px; min-width: 34px; }
.palate-foot .palate-button[aria-disabled="true"] { opacity: 0.45; cursor: default; }
.palate-foot .palate-percent { min-width: 58px; }
.palate-foot .palate-side { flex: 1 1 160px; justify-content: flex-end; }
@media (max-width: 900px) { .palate-foot .palate-told, .palate-foot .palate-key { display: none; } }
`;
