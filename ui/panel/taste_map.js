// The map: drag and wheel or pinch, plus and minus, arrows from picture to picture, Enter or a click for the picture
// itself. Places are CSS's, from --x and --y of each picture and --zoom, --left, --top of the ground.
(() => {
  const MOST = 16; // times
  const STEP = 1.6;
  const STILL = 5; // px that a press may move and be a click
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** Let a map that is on the page be moved about. */
  window.palateMap = (map) => {
    const ground = map.querySelector(".pl-ground");
    const dots = [...ground.querySelectorAll("img")];
    const places = dots.map((dot) => [Number(dot.dataset.x), 1 - Number(dot.dataset.y)]);
    const pointers = new Map();
    let [zoom, left, top] = [1, 0.5, 0.5]; // left, top: what lies in the middle
    let [moved, spread] = [0, 0];
    let current = -1;

    const draw = () => {
      const half = 0.5 / zoom;
      [left, top] = [clamp(left, half, 1 - half), clamp(top, half, 1 - half)];
      for (const [name, value] of [["--zoom", zoom], ["--left", left], ["--top", top]]) ground.style.setProperty(name, value);
      ground.classList.toggle("pl-near", zoom > 1);
    };
    const zoomed = (to, x = 0.5, y = 0.5) => {
      const next = clamp(to, 1, MOST);
      left += (x - 0.5) * (1 / zoom - 1 / next); // what is under the pointer stays there
      top += (y - 0.5) * (1 / zoom - 1 / next);
      zoom = next;
      draw();
    };
    const share = (event) => {
      const box = ground.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };

    const choose = (index) => {
      dots[current]?.removeAttribute("aria-selected");
      current = index;
      if (index < 0) return ground.removeAttribute("aria-activedescendant");
      dots[index].setAttribute("aria-selected", "true");
      ground.setAttribute("aria-activedescendant", dots[index].id);
      const [x, y] = places[index];
      const inside = 0.42 / zoom; // of the middle; else the map follows
      left = clamp(left, x - inside, x + inside);
      top = clamp(top, y - inside, y + inside);
      draw();
    };
    /** The nearest picture in a direction; what lies aside counts double. */
    const next = (dx, dy) => {
      if (current < 0) return choose(nearest(left, top));
      const [x, y] = places[current];
      let [best, far] = [-1, Infinity];
      places.forEach(([px, py], index) => {
        const ahead = (px - x) * dx + (py - y) * dy;
        const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
        if (index !== current && ahead > 0 && ahead + 2 * aside < far) [best, far] = [index, ahead + 2 * aside];
      });
      if (best >= 0) choose(best);
    };
    const nearest = (x, y) => {
      const away = places.map(([px, py]) => Math.hypot(px - x, py - y));
      return away.indexOf(Math.min(...away));
    };
    const open = (index) => {
      const order = [...dots.keys()].sort((a, b) => places[a][0] - places[b][0]).map((each) => dots[each]);
      window.palateLarge(order, dots[index]);
    };

    ground.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (by) next(...by);
      else if (["+", "="].includes(event.key)) zoomed(zoom * STEP, ...around());
      else if (event.key === "-") zoomed(zoom / STEP, ...around());
      else if (event.key === "Home" || event.key === "Escape") zoomed(1);
      else if ((event.key === "Enter" || event.key === " ") && current >= 0) open(current);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const around = () => (current < 0 ? [0.5, 0.5] : [(places[current][0] - left) * zoom + 0.5, (places[current][1] - top) * zoom + 0.5]);

    // The wheel is the page's until the map was clicked, as a page that can't be scrolled past a map is a nuisance.
    ground.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !ground.matches(":focus")) return;
      event.preventDefault();
      zoomed(zoom * Math.exp(-event.deltaY / 300), ...share(event));
    }, { passive: false });

    const apart = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    };
    ground.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      if (!pointers.size) moved = 0;
      pointers.set(event.pointerId, event);
      if (pointers.size === 2) spread = apart();
    });
    ground.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const box = ground.getBoundingClientRect();
      moved += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
      if (moved > STILL && !ground.hasPointerCapture(event.pointerId)) ground.setPointerCapture(event.pointerId);
      left -= (event.clientX - before.clientX) / box.width / zoom / pointers.size;
      top -= (event.clientY - before.clientY) / box.height / zoom / pointers.size;
      pointers.set(event.pointerId, event);
      if (pointers.size !== 2) return draw();
      const [a, b] = [...pointers.values()].map(share);
      const now = apart();
      zoomed((zoom * now) / Math.max(spread, 1), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      spread = now;
    });
    for (const end of ["pointerup", "pointercancel"]) ground.addEventListener(end, (event) => pointers.delete(event.pointerId));
    ground.addEventListener("click", (event) => {
      const index = dots.indexOf(event.target);
      if (moved > STILL || index < 0) return;
      choose(index);
      open(index);
    });
    ground.addEventListener("dblclick", (event) => dots.includes(event.target) || zoomed(zoom * STEP, ...share(event)));
    ground.addEventListener("dragstart", (event) => event.preventDefault());

    const buttons = map.querySelector(".pl-nearer");
    buttons.hidden = false;
    buttons.addEventListener("click", (event) => {
      const by = { in: zoom * STEP, out: zoom / STEP, all: 1 }[event.target.closest("[data-zoom]")?.dataset.zoom];
      if (by) zoomed(by, ...around());
    });
    draw();
  };
})();
