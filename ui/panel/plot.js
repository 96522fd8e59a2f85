// Accuracy as it grows, drawn as one small SVG: the line, its interval, a coin's 50 %, and how far it can go. Colours are
// the page's own, so that it follows light and dark; nothing in it needs the network.
(() => {
  const kit = (window.palateKit ??= {});
  const SPACE = "http://www.w3.org/2000/svg";
  const [LOW, HIGH] = [0.4, 1]; // what the height holds; an interval that goes lower is cut
  const WIDEST = 0.65; // an interval that wide says nothing: it is of the first few predictions
  const MARGIN = { top: 10, right: 38, bottom: 16, left: 4 }; // px
  const percent = (share) => `${Math.round(100 * share)} %`;

  /** An SVG element; other plots draw with this and the next, too. */
  const draw = (kit.drawn = (name, properties, ...inside) => {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  });

  const path = (kit.path = (dots) => dots.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join(""));

  /** What the plot says, for those who don't see it. */
  const told = (points, ceiling) => {
    if (!points.length) return "Accuracy: nothing is known yet";
    const [answers, accuracy, low, high] = points.at(-1);
    const most = ceiling === null ? "" : `; you agree with yourself in ${percent(ceiling)}, and nothing foresees more`;
    return `Accuracy after ${answers} answers: ${percent(accuracy)}, surely between ${percent(low)} and ${percent(high)}${most}`;
  };

  /**
   * Points are [answers, accuracy, low, high], oldest first, shares in [0, 1]; `ceiling` is a share or null.
   * Gives an SVG element of this size, px.
   */
  kit.plotCurve = (points, { ceiling = null, width = 220, height = 96 } = {}) => {
    const sound = points.filter((one) => one.every(Number.isFinite) && one[3] - one[2] < WIDEST);
    const [from, to] = [0, Math.max(...sound.map((one) => one[0]), 10)];
    const x = (answers) => MARGIN.left + ((answers - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
    const y = (share) => MARGIN.top + (1 - (Math.min(Math.max(share, LOW), HIGH) - LOW) / (HIGH - LOW)) * (height - MARGIN.top - MARGIN.bottom);
    const svg = draw("svg", { class: "pl-plot", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "font-size": 11, fill: "none" });
    svg.append(draw("title", {}, told(sound, ceiling)));

    const level = (share, text, properties) => {
      svg.append(draw("path", { d: path([[MARGIN.left, y(share)], [width - MARGIN.right, y(share)]]), "stroke-width": 1, ...properties }));
      svg.append(draw("text", { x: width - MARGIN.right + 5, y: y(share) + 4, style: "fill: var(--pl-soft)" }, text));
    };
    const last = sound.at(-1);
    const near = (share) => last && Math.abs(y(share) - y(last[1])) < 11; // two numbers on top of each other say nothing
    level(0.5, near(0.5) ? "" : "50 %", { style: "stroke: var(--pl-line)" });
    if (ceiling !== null) level(ceiling, near(ceiling) ? "" : percent(ceiling), { style: "stroke: var(--pl-soft)", "stroke-dasharray": "3 4" });
    if (!last) {
      svg.append(draw("text", { x: (width - MARGIN.right) / 2, y: y(0.5) - 12, "text-anchor": "middle", style: "fill: var(--pl-soft)" }, "your choices, foreseen"));
      return svg;
    }

    const line = sound.map((one) => [x(one[0]), y(one[1])]);
    const high = sound.map((one) => [x(one[0]), y(one[3])]);
    const low = sound.map((one) => [x(one[0]), y(one[2])]).reverse();
    svg.append(draw("path", { d: `${path([...high, ...low])}Z`, style: "fill: var(--pl-band)", "fill-opacity": 0.75 }));
    svg.append(draw("path", { d: path(line), style: "stroke: var(--pl-accent)", "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round" }));
    svg.append(draw("circle", { cx: line.at(-1)[0], cy: line.at(-1)[1], r: 3, style: "fill: var(--pl-accent)" }));
    svg.append(draw("text", { x: width - MARGIN.right + 5, y: line.at(-1)[1] + 4, "font-weight": 600, style: "fill: var(--pl-ink)" }, percent(last[1])));
    svg.append(draw("text", { x: line.at(-1)[0], y: height - 2, "text-anchor": line.at(-1)[0] > width / 3 ? "end" : "start", style: "fill: var(--pl-soft)" }, `${last[0]} answers`));
    return svg;
  };
})();
