// One quantity of a training as it goes, drawn as a small SVG: a line, its ground level, and what was best. Colours are the
// page's own, so that it follows light and dark.
(() => {
  const kit = (window.palateKit ??= {});
  const MARGIN = { top: 12, right: 44, bottom: 18, left: 6 }; // px
  const MOST_MARKS = 30; // dots beyond which a line says it better
  const SMOOTH = 0.12; // share of the newest point in the smoothed line; a single step's loss says little

  const draw = (...given) => kit.drawn(...given);
  const path = (dots) => kit.path(dots);

  /** A running mean of points [step, value], so that the way can be seen through the noise. */
  kit.smoothed = (points) => {
    let mean = null;
    return points.map(([step, value], index) => {
      mean = mean === null ? value : mean + Math.max(SMOOTH, 1 / (index + 1)) * (value - mean);
      return [step, mean];
    });
  };

  /**
   * Points are [step, value], oldest first; `steps` is where the way ends. `low` and `high` hold at least these values;
   * `grounds` are levels with their texts; `marks` draws a dot for each point; `shape` turns a value into text; `name` is said
   * to those who don't see it.
   */
  kit.plotTraining = (points, { name, steps, low = Infinity, high = -Infinity, grounds = [], marks = false, faint = [], shape = String, width = 560, height = 150 }) => {
    const sound = points.filter((one) => one.every(Number.isFinite));
    const veiled = faint.filter((one) => one.every(Number.isFinite));
    const svg = draw("svg", { class: "pl-plot", viewBox: `0 0 ${width} ${height}`, role: "img", "font-size": 12, fill: "none", preserveAspectRatio: "xMidYMid meet" });
    const last = sound.at(-1);
    svg.append(draw("title", {}, last ? `${name}: ${shape(last[1])} after ${last[0]} of ${steps} steps` : `${name}: nothing is known yet`));
    const values = [...sound.map((one) => one[1]), ...grounds.map((one) => one.value)];
    let [from, to] = [Math.min(low, ...values), Math.max(high, ...values)];
    if (!(to > from)) [from, to] = [(Number.isFinite(from) ? from : 0) - 0.5, (Number.isFinite(to) ? to : 0) + 0.5];
    const x = (step) => MARGIN.left + (Math.min(step, steps) / Math.max(steps, 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => MARGIN.top + (1 - (Math.min(Math.max(value, from), to) - from) / (to - from)) * (height - MARGIN.top - MARGIN.bottom);
    const right = width - MARGIN.right;
    for (const { value, text } of grounds) {
      svg.append(draw("path", { d: path([[MARGIN.left, y(value)], [right, y(value)]]), "stroke-width": 1, "stroke-dasharray": "3 4", style: "stroke: var(--pl-soft)" }));
      const near = last && Math.abs(y(value) - y(last[1])) < 13 && x(last[0]) > right - 60; // two texts on top of each other say nothing
      if (!near) svg.append(draw("text", { x: right + 6, y: y(value) + 4, style: "fill: var(--pl-soft)" }, text));
    }
    svg.append(draw("path", { d: path([[MARGIN.left, height - MARGIN.bottom], [right, height - MARGIN.bottom]]), "stroke-width": 1, style: "stroke: var(--pl-line)" }));
    svg.append(draw("text", { x: right, y: height - 4, "text-anchor": "end", style: "fill: var(--pl-soft)" }, `${steps} steps`));
    if (veiled.length > 1) svg.append(draw("path", { d: path(veiled.map(([step, value]) => [x(step), y(value)])), "stroke-width": 1, style: "stroke: var(--pl-line)" }));
    if (!last) return svg;
    const dots = sound.map(([step, value]) => [x(step), y(value)]);
    svg.append(draw("path", { d: path(dots), "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round", style: "stroke: var(--pl-accent)" }));
    for (const [cx, cy] of marks && dots.length <= MOST_MARKS ? dots : dots.slice(-1)) svg.append(draw("circle", { cx, cy, r: 3.5, style: "fill: var(--pl-accent)" }));
    svg.append(draw("text", { x: dots.at(-1)[0] + 8, y: Math.min(dots.at(-1)[1] + 4, height - MARGIN.bottom - 6), "font-weight": 600, style: "fill: var(--pl-ink); paint-order: stroke; stroke: var(--pl-paper); stroke-width: 4px" }, shape(last[1])));
    return svg;
  };
})();
