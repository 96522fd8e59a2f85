/** What asks, in node and sidebar: head, clock, pictures and buttons. */

export const ANSWERING_STYLE = `
.palate-pairs, .palate-viewer { --palate-part: color-mix(in srgb, var(--palate-text) 10%, transparent);
  --palate-part-hover: color-mix(in srgb, var(--palate-text) 18%, transparent);
  --palate-wrong: color-mix(in srgb, var(--destructive-background, #e05252) 60%, var(--palate-text)); }
.palate-pairs { container-type: inline-size; display: flex; flex-direction: column; gap: 6px; width: 100%; height: 100%;
  min-height: 240px; padding: 2px 4px 4px; overflow: hidden; border-radius: 8px; font-size: 12px; outline: none;
  touch-action: manipulation; user-select: none; }
.palate-pairs:focus-visible { outline: 2px solid var(--palate-accent); outline-offset: -1px; }
.palate-head { display: flex; flex: none; justify-content: space-between; gap: 10px; height: 18px; line-height: 18px; }
.palate-prompt { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.palate-head:has(.palate-wrong) { height: auto; max-height: 54px; }
.palate-prompt.palate-wrong { white-space: normal; }
.palate-count { flex: none; color: var(--palate-quiet); }
.palate-waiting .palate-prompt::before { content: ""; display: inline-block; width: 7px; height: 7px; margin: 0 6px 1px 1px;
  border-radius: 50%; background: var(--palate-accent); animation: palate-pulse 1.6s ease-in-out infinite; }
@keyframes palate-pulse { 50% { opacity: 0.25; } }
@media (prefers-reduced-motion: reduce) { .palate-waiting .palate-prompt::before { animation: none; } }
.palate-clock { flex: none; height: 2px; margin: -3px 0; border-radius: 1px; overflow: hidden; }
.palate-clock i { display: block; width: 0; height: 100%; background: var(--palate-accent); }
.palate-images { position: relative; flex: 1 1 0; min-height: 110px; }
.palate-grid { position: absolute; inset: 0; display: grid; place-content: center; place-items: center; }
.palate-picture { position: relative; padding: 0; border: 0; border-radius: 6px; background: none; cursor: pointer;
  outline: 2px solid transparent; outline-offset: -2px; overflow: hidden; font: inherit; }
.palate-picture img { display: block; width: 100%; height: 100%; object-fit: contain; pointer-events: none;
  -webkit-user-drag: none; }
.palate-picture::after { content: ""; position: absolute; inset: 0; border-radius: inherit; pointer-events: none;
  border: 2px solid transparent; transition: border-color 80ms; }
.palate-asking .palate-picture:hover::after, .palate-asking .palate-picture:focus-visible::after {
  border-color: var(--palate-accent); }
.palate-picture[data-chosen]::after { border-color: var(--palate-accent); }
.palate-picture b { position: absolute; top: 5px; left: 5px; min-width: 20px; padding: 0 5px; border-radius: 10px;
  background: rgb(0 0 0 / 55%); color: #fff; font-size: 11px; font-weight: 600; line-height: 20px; text-align: center; }
.palate-picture em { position: absolute; inset: auto 6px 6px; width: fit-content; padding: 0 7px; border-radius: 10px;
  background: var(--palate-accent); color: #fff; font-size: 11px; font-style: normal; line-height: 20px; }
.palate-picture[data-place] b { background: var(--palate-accent); }
.palate-images:not(.palate-asking) .palate-picture { opacity: 0.45; cursor: default; }
.palate-images:not(.palate-asking) .palate-picture[data-chosen] { opacity: 0.8; }
.palate-empty { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; padding: 12px;
  border: 1px dashed var(--palate-line); border-radius: 8px; color: var(--palate-quiet); text-align: center; }
.palate-buttons { display: flex; flex: none; gap: 4px; }
.palate-buttons .palate-button { flex: 1 1 auto; min-height: 28px; padding: 3px 6px; font-size: 12px; white-space: nowrap; }
.palate-buttons .palate-button[aria-disabled="true"] { opacity: 0.45; cursor: default; }
.palate-buttons .palate-button.palate-plain { flex: none; width: 30px; padding: 0; font-size: 15px; }
.palate-buttons .palate-key { display: none; }
@container (min-width: 520px) { .palate-buttons .palate-key { display: inline-block; } }
@container (max-width: 310px) { .palate-buttons .palate-button { padding: 3px 2px; } .palate-buttons span { display: none; }
  .palate-buttons .palate-key { display: inline; border: 0; color: inherit; font-size: 12px; } .palate-count { display: none; } }
@media (pointer: coarse) { .palate-buttons .palate-button { min-height: 36px; }
  .palate-buttons .palate-button.palate-plain { width: 36px; } }
`;
