/**
 * What everything of the pack looks like: ComfyUI's own colours, and the few parts that node and sidebar share.
 *
 * Colours are ComfyUI's theme variables, so that every palette of theirs fits, with fallbacks for front ends that lack
 * one. A root element has the class `palate`; the parts below it are `palate-...`.
 */

const BASE = `
.palate { --palate-text: var(--base-foreground, var(--fg-color, #ddd));
  --palate-quiet: var(--muted-foreground, var(--descrip-text, #999));
  --palate-line: var(--interface-stroke, var(--border-color, #4e4e4e));
  --palate-part: var(--secondary-background, var(--comfy-input-bg, #222));
  --palate-part-hover: var(--secondary-background-hover, var(--content-hover-bg, #333));
  --palate-accent: var(--primary-background, #0b8ce9); --palate-wrong: var(--destructive-background, #e05252);
  box-sizing: border-box; color: var(--palate-text); font: 13px/1.4 Inter, system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
.palate *, .palate *::before { box-sizing: border-box; }
.palate-button { display: inline-flex; align-items: center; justify-content: center; gap: 6px; min-width: 0;
  min-height: 30px; padding: 4px 10px; border: 1px solid transparent; border-radius: 6px;
  background: var(--palate-part); color: var(--palate-text); font: inherit; line-height: 1.2; cursor: pointer; }
.palate-button:hover:not(:disabled) { background: var(--palate-part-hover); }
.palate-button:disabled { opacity: 0.45; cursor: default; }
.palate-button:focus-visible, .palate a:focus-visible, .palate select:focus-visible {
  outline: 2px solid var(--palate-accent); outline-offset: 1px; }
.palate-plain { background: none; color: var(--palate-quiet); }
.palate-plain:hover:not(:disabled) { color: var(--palate-text); }
.palate-key { flex: none; min-width: 16px; padding: 0 3px; border: 1px solid var(--palate-line); border-radius: 4px;
  color: var(--palate-quiet); font-size: 10px; line-height: 14px; text-align: center; }
.palate-quiet { color: var(--palate-quiet); }
.palate-wrong { color: var(--palate-wrong); }
.palate-hidden { display: none !important; }
`;

/**
 * Put styles into the page, once.
 *
 * @param {string} name of the part they belong to
 * @param {string} css
 */
export function addStyle(name, css) {
  dress("base", BASE);
  dress(name, css);
}

function dress(name, css) {
  const id = `palate-style-${name}`;
  if (document.getElementById(id)) return;
  document.head.append(Object.assign(document.createElement("style"), { id, textContent: css }));
}
