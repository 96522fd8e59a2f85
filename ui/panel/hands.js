// Hands on the pair: hold a picture, or the space bar, to see both in full and side by side; swipe a picture to the
// right to prefer it, to the left to prefer the other one. Of four, one is seen in full, and digits go to the others.
(() => {
  const HOLD = 280; // ms until a press is a look, not a choice
  const STILL = 8; // px that a finger may tremble
  const SWIPE = 70; // px
  const MOST = 8; // times
  const STEP = 1.5;
  const TWO = "move to look around · scroll, + or − for more";
  const FOUR = "1 to 4 for the others · move to look around · scroll, + or − for more";
  let pressed = null; // {card, x, y, time, timer, touch}
  let held = false; // the press that ends now was a look or a swipe
  let scale = 1;

  const zoom = () => document.getElementById("palate-zoom");
  const open = () => Boolean(zoom()) && !zoom().hidden;
  const other = { left: "right", right: "left" };

  const all = () => [...document.querySelectorAll("#palate-stage .pl-picture img")];
  const lay = (pictures) => [...zoom().querySelectorAll("span")].forEach((place, index) => place.replaceChildren(...pictures.slice(index, index + 1).map((one) => one.cloneNode())));
  /** Show both in full; of more than two this one, else the one under the pointer or with the focus, else the first. */
  const look = (card = document.querySelector("#palate-stage .pl-card:hover") ?? document.activeElement) => {
    const pictures = all();
    if (pictures.length < 2) return;
    const one = pictures.length > 2;
    zoom().classList.toggle("pl-one", one);
    zoom().querySelector("p").textContent = one ? FOUR : TWO;
    lay(one ? [card?.querySelector?.(".pl-picture img") ?? pictures[0]] : pictures);
    zoom().hidden = false;
    zoomed(1);
  };
  /** Show another of four in the place of this one, at the same spot and size. */
  const flip = (number) => {
    const picture = all()[number - 1];
    if (!picture || !zoom().classList.contains("pl-one")) return;
    const { transform, transformOrigin } = zoom().querySelector("img").style;
    lay([picture]);
    Object.assign(zoom().querySelector("img").style, { transform, transformOrigin });
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
    const places = [...zoom().querySelectorAll("span")].map((place) => place.getBoundingClientRect()).filter((one) => one.width);
    const box = places.find((one) => event.clientX <= one.right && event.clientY <= one.bottom) ?? places.at(-1);
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
      look(card);
    }, HOLD);
    pressed = { card, x: event.clientX, y: event.clientY, timer, touch: event.pointerType !== "mouse" };
  });
  document.addEventListener("pointermove", (event) => {
    if (open()) return follow(event);
    if (!pressed) return;
    const [across, down] = [event.clientX - pressed.x, event.clientY - pressed.y];
    if (Math.hypot(across, down) < STILL) return;
    clearTimeout(pressed.timer);
    if (pressed.touch && all().length === 2 && Math.abs(across) > Math.abs(down)) {
      pressed.card.style.transform = `translateX(${across}px) rotate(${across / 40}deg)`;
    }
  });
  document.addEventListener("pointerup", (event) => {
    const was = pressed;
    drop();
    if (open()) return away();
    if (!was?.touch) return;
    const across = event.clientX - was.x;
    if (all().length !== 2 || Math.abs(across) < SWIPE || Math.abs(across) < Math.abs(event.clientY - was.y)) return;
    held = true;
    window.palateCompare.act(across > 0 ? was.card.dataset.choose : other[was.card.dataset.choose]);
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
    if (open() && /^[1-9]$/.test(event.key)) return flip(Number(event.key));
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
