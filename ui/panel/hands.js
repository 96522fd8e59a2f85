// Hands on the pair: hold a picture, or the space bar, to see both in full and side by side; swipe a picture to the
// right to prefer it, to the left to prefer the other one.
(() => {
  const HOLD = 280; // ms until a press is a look, not a choice
  const STILL = 8; // px that a finger may tremble
  const SWIPE = 70; // px
  const MOST = 8; // times
  const STEP = 1.5;
  let pressed = null; // {card, x, y, time, timer, touch}
  let held = false; // the press that ends now was a look or a swipe
  let scale = 1;

  const zoom = () => document.getElementById("palate-zoom");
  const open = () => Boolean(zoom()) && !zoom().hidden;
  const other = { left: "right", right: "left" };

  const look = () => {
    const pictures = [...document.querySelectorAll("#palate-stage .pl-picture img")];
    if (pictures.length !== 2) return;
    [...zoom().querySelectorAll("span")].forEach((place, index) => place.replaceChildren(pictures[index].cloneNode()));
    zoom().hidden = false;
    zoomed(1);
  };
  const zoomed = (to, x = 0.5, y = 0.5) => {
    scale = Math.min(Math.max(to, 1), MOST);
    for (const image of zoom().querySelectorAll("img")) {
      image.style.transformOrigin = `${100 * x}% ${100 * y}%`;
      image.style.transform = `scale(${scale})`;
    }
  };
  const away = () => {
    if (open()) zoom().hidden = true;
  };

  // The same place of both pictures follows the pointer, whichever of the two it is over.
  const follow = (event) => {
    const places = [...zoom().querySelectorAll("span")].map((place) => place.getBoundingClientRect());
    const box = places.find((one) => event.clientX <= one.right && event.clientY <= one.bottom) ?? places[1];
    const share = (at, from, size) => Math.min(Math.max((at - from) / size, 0), 1);
    zoomed(scale, share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height));
  };

  const drop = () => {
    clearTimeout(pressed?.timer);
    if (pressed) pressed.card.style.transform = "";
    pressed = null;
  };

  document.addEventListener("pointerdown", (event) => {
    held = false;
    const card = event.target instanceof Element ? event.target.closest("#palate-stage [data-choose]") : null;
    if (!card || event.button > 0) return;
    const timer = setTimeout(() => {
      held = true;
      if (pressed) pressed.card.style.transform = "";
      look();
    }, HOLD);
    pressed = { card, x: event.clientX, y: event.clientY, timer, touch: event.pointerType !== "mouse" };
  });
  document.addEventListener("pointermove", (event) => {
    if (open()) return follow(event);
    if (!pressed) return;
    const [across, down] = [event.clientX - pressed.x, event.clientY - pressed.y];
    if (Math.hypot(across, down) < STILL) return;
    clearTimeout(pressed.timer);
    if (pressed.touch && Math.abs(across) > Math.abs(down)) {
      pressed.card.style.transform = `translateX(${across}px) rotate(${across / 40}deg)`;
    }
  });
  document.addEventListener("pointerup", (event) => {
    const was = pressed;
    drop();
    if (open()) return away();
    if (!was?.touch) return;
    const across = event.clientX - was.x;
    if (Math.abs(across) < SWIPE || Math.abs(across) < Math.abs(event.clientY - was.y)) return;
    held = true;
    window.palateCompare.choose(across > 0 ? was.card.dataset.choose : other[was.card.dataset.choose]);
  });
  document.addEventListener("pointercancel", () => (drop(), away()));
  document.addEventListener("contextmenu", (event) => {
    if (pressed?.touch || (open() && event.target.closest?.("#palate-zoom, #palate-stage"))) event.preventDefault();
  });
  document.addEventListener("wheel", (event) => open() && zoomed(scale * (event.deltaY < 0 ? STEP : 1 / STEP)), { passive: true });

  document.addEventListener("keydown", (event) => {
    if (open() && (event.key === "+" || event.key === "=")) return zoomed(scale * STEP);
    if (open() && event.key === "-") return zoomed(scale / STEP);
    if (open() && event.key === "Escape") return away();
    // On a button the space bar presses it, as everywhere; on a picture Enter does.
    const target = event.target instanceof Element ? event.target : document.body;
    const free = !target.closest("a, button:not([data-choose])") && !window.palate.typing(target);
    if (event.key !== " " || !free || window.palate.shown() !== "compare") return;
    event.preventDefault();
    if (!event.repeat && !open()) look();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || window.palate.shown() !== "compare") return;
    if (event.target.closest?.("[data-choose]")) event.preventDefault();
    away();
  });
  window.addEventListener("blur", () => (drop(), away()));

  /** Whether the click that comes now ends a look or a swipe, and chooses nothing. */
  window.palateHands = { held: () => held };
})();
