// A triangle to blend three tastes: a point between three corners, moved by mouse, finger or arrow keys. Its weights are
// how near it is to each corner; they add up to 1.
(() => {
  const kit = (window.palateKit ??= {});
  const { make } = kit;
  const [WIDE, HIGH] = [300, 236];
  const CORNERS = [[150, 12], [14, 224], [286, 224]]; // in the order of the tastes: above, left, right
  const STEP = 12; // px of the drawing that an arrow key moves the point
  const SNAP = 0.04; // a pointer that leaves one less than this leaves it none
  const LATER = 450; // ms after the last arrow key until the weights count as chosen

  const draw = (...given) => kit.drawn(...given);

  /** Where these weights lie in the drawing. */
  const placed = (weights) => [0, 1].map((axis) => weights.reduce((sum, weight, index) => sum + weight * CORNERS[index][axis], 0));

  /** Weights of a place of the drawing: barycentric coordinates, cut at `least`, which sum to 1. */
  const weighed = (x, y, least = 0) => {
    const [[ax, ay], [bx, by], [cx, cy]] = CORNERS;
    const area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
    const first = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / area;
    const second = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / area;
    return kit.shares([first, second, 1 - first - second].map((share) => (share < least ? 0 : share)));
  };

  /** Weights of at least 0 that add up to 1, in hundredths; equal ones where all are 0. */
  kit.shares = (weights) => {
    const sound = weights.map((weight) => Math.max(weight, 0));
    const sum = sound.reduce((all, one) => all + one, 0);
    const hundredths = sound.map((one) => Math.round(100 * (sum > 0 ? one / sum : 1 / weights.length)));
    hundredths[hundredths.indexOf(Math.max(...hundredths))] += 100 - hundredths.reduce((all, one) => all + one, 0);
    return hundredths.map((one) => one / 100);
  };

  /** Corners, middles of the sides, and the centre: what is painted ahead, so that the point moves at once. */
  kit.triangleGrid = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.34, 0.33, 0.33]];

  /**
   * Give an element: `names` and `weights` are three each; `remove(index)` takes one off. `moved(weights)` comes while the
   * point moves, `chosen(weights)` when it rests; `element.mark(list)` shows where there are pictures.
   */
  kit.triangle = ({ names, weights, moved, chosen, remove }) => {
    let now = kit.shares(weights);
    let resting = 0;
    const said = () => names.map((name, index) => `${name} ${Math.round(100 * now[index])} %`).join(", ");
    const spokes = CORNERS.map(() => draw("line", { class: "pl-spoke" }));
    const dots = CORNERS.map(([x, y]) => draw("circle", { class: "pl-corner", cx: x, cy: y }));
    const marks = draw("g", { class: "pl-marks" });
    const point = draw("g", { class: "pl-point", tabindex: 0, role: "slider", "aria-label": "Blend of three tastes; arrow keys move it, Home is the centre", "aria-valuemin": 0, "aria-valuemax": 100 }, draw("circle", { r: 20, class: "pl-reach" }), draw("circle", { r: 9 }));
    const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}` }, draw("path", { class: "pl-sides-of", d: `M${CORNERS.map((one) => one.join(" ")).join("L")}Z` }), ...spokes, marks, ...dots, point);
    const values = names.map(() => make("output"));
    const jump = (index) => settle(CORNERS.map((_, other) => Number(other === index)));
    const labels = names.map((name, index) =>
      make(
        "span",
        { className: "pl-corner-name" },
        make("button", { type: "button", className: "pl-jump", title: `Only ${name}`, "aria-label": `Only ${name}`, onclick: () => jump(index) }, make("span", { textContent: name }), values[index]),
        make("button", { type: "button", className: "pl-round pl-remove", textContent: "×", title: `Remove ${name}`, "aria-label": `Remove ${name}`, onclick: () => remove(index) }),
      ),
    );
    const box = make("div", { className: "pl-triangle" }, ...labels, svg);

    const lay = () => {
      const [x, y] = placed(now);
      point.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      point.setAttribute("aria-valuenow", Math.round(100 * now[0]));
      point.setAttribute("aria-valuetext", said());
      now.forEach((weight, index) => {
        const [cx, cy] = CORNERS[index];
        Object.entries({ x1: x, y1: y, x2: cx, y2: cy, "stroke-opacity": 0.15 + 0.85 * weight }).forEach(([key, value]) => spokes[index].setAttribute(key, value));
        dots[index].setAttribute("r", (3 + 5 * weight).toFixed(1));
        values[index].textContent = `${Math.round(100 * weight)} %`;
        labels[index].classList.toggle("pl-none", weight === 0);
      });
    };
    const move = (to) => {
      now = to;
      lay();
      moved(now);
    };
    const settle = (to) => {
      move(to);
      clearTimeout(resting);
      chosen(now);
    };
    const under = (event) => {
      const at = svg.getBoundingClientRect();
      return weighed(((event.clientX - at.left) / at.width) * WIDE, ((event.clientY - at.top) / at.height) * HIGH, SNAP);
    };

    svg.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      event.preventDefault();
      svg.setPointerCapture(event.pointerId);
      svg.classList.add("pl-held");
      point.focus({ preventScroll: true });
      move(under(event));
    });
    svg.addEventListener("pointermove", (event) => svg.classList.contains("pl-held") && move(under(event)));
    for (const end of ["pointerup", "pointercancel"]) {
      svg.addEventListener(end, () => {
        if (svg.classList.contains("pl-held")) chosen(now);
        svg.classList.remove("pl-held");
      });
    }
    point.addEventListener("keydown", (event) => {
      const by = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
      if ((!by && event.key !== "Home") || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const [x, y] = placed(now);
      const step = event.shiftKey ? STEP / 4 : STEP;
      move(by ? weighed(x + step * by[0], y + step * by[1]) : kit.shares([1, 1, 1]));
      clearTimeout(resting);
      resting = setTimeout(() => chosen(now), LATER);
    });

    box.mark = (list) => marks.replaceChildren(...list.map((one) => draw("circle", { cx: placed(one)[0].toFixed(1), cy: placed(one)[1].toFixed(1), r: 2.5 })));
    lay();
    return box;
  };
})();
