/** The plot of what was learned: accuracy over answers, with its interval, a coin's line and the ceiling. */

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 112; // pixels, of the whole picture
const INSIDE = { left: 34, right: 10, top: 8, bottom: 20 }; // pixels around the axes
const LOWEST = 0.3; // accuracy at the bottom, unless an interval reaches below
const COIN = 0.5;
const HIGH = 0.85; // a line above this has its name below it

export const STYLE = `
.palate-plot { display: block; width: 100%; height: ${HEIGHT}px; overflow: visible; }
.palate-plot text { fill: var(--palate-quiet); font-size: 10px; font-family: inherit; paint-order: stroke;
  stroke: var(--comfy-menu-bg, transparent); stroke-width: 3px; stroke-linejoin: round; }
.palate-plot .palate-grid { stroke: var(--palate-line); stroke-width: 1; shape-rendering: crispEdges; }
.palate-plot .palate-dashed { stroke-dasharray: 3 3; }
.palate-plot .palate-band { fill: var(--palate-accent); opacity: 0.18; }
.palate-plot .palate-curve { fill: none; stroke: var(--palate-accent); stroke-width: 2; stroke-linejoin: round; }
.palate-plot .palate-now { fill: var(--palate-accent); }
.palate-plot .palate-ceiling { stroke: var(--palate-quiet); stroke-width: 1; stroke-dasharray: 3 3; }
`;

/**
 * Draw it.
 *
 * @param {[number, number, number, number][]} curve (answers, accuracy, low, high), at least one
 * @param {number | null} ceiling the accuracy that a perfect taste could reach
 * @param {number} width pixels
 * @param {{label: string, ceiling: string}} says what it shows, for those who can't see it; the name of the ceiling
 * @returns {SVGElement}
 */
export function drawCurve(curve, ceiling, width, says) {
  const most = Math.max(...curve.map(([answers]) => answers));
  const least = Math.min(LOWEST, ...curve.map(([, , low]) => Math.floor(low * 10) / 10));
  const right = Math.max(width - INSIDE.right, INSIDE.left + 1);
  const bottom = HEIGHT - INSIDE.bottom;
  const x = (answers) => INSIDE.left + ((right - INSIDE.left) * answers) / most;
  const y = (share) => bottom - ((bottom - INSIDE.top) * (share - least)) / (1 - least);
  const line = (share, name) => part("line", name, { x1: INSIDE.left, x2: right, y1: y(share), y2: y(share) });
  const path = (points) => points.map(([n, share]) => `${x(n).toFixed(1)},${y(share).toFixed(1)}`).join(" ");

  const viewBox = `0 0 ${width} ${HEIGHT}`;
  const picture = part("svg", "palate-plot", { viewBox, role: "img", "aria-label": says.label });
  for (const share of [1, COIN]) {
    picture.append(line(share, `palate-grid${share === COIN ? " palate-dashed" : ""}`));
    picture.append(text(INSIDE.left - 6, y(share) + 3, "end", percent(share)));
  }
  const band = [...curve.map(([n, , low]) => [n, low]), ...curve.map(([n, , , high]) => [n, high]).reverse()];
  picture.append(part("polygon", "palate-band", { points: path(band) }));
  const [answers, accuracy] = curve.at(-1);
  picture.append(part("polyline", "palate-curve", { points: path(curve) }));
  picture.append(part("circle", "palate-now", { cx: x(answers), cy: y(accuracy), r: 3.5 }));
  if ((ceiling ?? null) !== null) {
    const beside = y(ceiling) + (ceiling > HIGH ? 12 : -4);
    picture.append(line(ceiling, "palate-ceiling"), text(right, beside, "end", says.ceiling));
  }
  picture.append(text(INSIDE.left, HEIGHT - 5, "start", "0"), text(right, HEIGHT - 5, "end", String(most)));
  return picture;
}

/** A share as people read it. */
export function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`; // a break before the sign would tear it off
}

function part(tag, className, attributes) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function text(x, y, anchor, said) {
  const made = part("text", "palate-label", { x, y, "text-anchor": anchor });
  made.textContent = said;
  return made;
}
