// Four at once: the best of them by one click or key, or all in the order of liking. Which way it is asked in is chosen
// by a quiet switch; a half-made order survives a reload.
(() => {
  const PLACES = ["left", "right", "third", "fourth"];
  const NTH = ["1st", "2nd", "3rd", "4th"];
  const STEPS = "palate-order";
  const QUESTIONS = { pairs: "Which do you prefer?", best: "Which is the best?", order: "Put them in order" };
  const NEXT = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -2, ArrowDown: 2 };

  let set = null; // what is on the screen, when it is a set
  let way = "pairs";
  let placed = []; // places of the pictures that have their turn in the order, the best first

  const stage = () => document.getElementById("palate-stage");
  const cards = () => [...document.querySelectorAll("#palate-stage [data-choose]")];
  const write = (place, text) => place && place.textContent !== text && (place.textContent = text);
  const say = (text) => write(document.getElementById("palate-said"), text);

  const kept = () => {
    try {
      return JSON.parse(sessionStorage.getItem(STEPS)) ?? {};
    } catch {
      return {};
    }
  };

  const label = (index) => {
    if (!set) return `Prefer the ${PLACES[index]} picture`;
    if (way === "best") return `Picture ${index + 1} is the best`;
    const at = placed.indexOf(index);
    return at < 0 ? `Picture ${index + 1}: make it your ${NTH[placed.length]}` : `Picture ${index + 1}: your ${NTH[at]}; take it back`;
  };

  const mark = () => {
    cards().forEach((card, index) => {
      const at = set && way === "order" ? placed.indexOf(index) : -1;
      card.setAttribute("aria-label", label(index));
      card.setAttribute("aria-keyshortcuts", set ? String(index + 1) : ["ArrowLeft", "ArrowRight"][index] ?? "");
      card.classList.toggle("pl-placed", at >= 0);
      write(card.querySelector("kbd"), set ? String(index + 1) : ["←", "→"][index] ?? "");
      write(card.querySelector(".pl-nth"), at < 0 ? "" : NTH[at]);
    });
    const step = document.getElementById("palate-step");
    write(step, !set || way !== "order" ? "\u00a0" : placed.length ? `Now your ${NTH[placed.length]} · Backspace takes a step back` : "The best first; the last one follows by itself");
  };

  /** Make the stage fit what is shown; null: nothing is there yet. */
  const dress = (pair, wanted) => {
    const size = pair ? pair.images.length : wanted === "pairs" ? 2 : 4;
    set = pair && size > 2 ? pair : null;
    way = size === 2 ? "pairs" : wanted === "order" ? "order" : "best";
    const steps = kept();
    placed = set && steps.ticket === set.ticket && Array.isArray(steps.placed) ? steps.placed.filter((one) => one in PLACES) : [];
    stage().dataset.way = way;
    document.body.toggleAttribute("data-digits", Boolean(set)); // digits choose pictures then, and no tabs
    write(document.getElementById("palate-question"), QUESTIONS[way]);
    write(document.querySelector("#palate-both_bad span"), size === 2 ? "Both bad" : "None is good");
    for (const button of stage().querySelectorAll("[data-way]")) button.setAttribute("aria-pressed", String(button.dataset.way === wanted));
    mark();
  };

  const keep = () => sessionStorage.setItem(STEPS, JSON.stringify({ ticket: set.ticket, placed }));

  /** Choose the picture at this place: as the best, maybe a much better one, or as the next in the order. */
  const pick = (place, much = undefined) => {
    const index = PLACES.indexOf(place);
    if (!set || index < 0 || index >= set.images.length) return;
    if (way === "best") {
      const others = set.images.filter((_, other) => other !== index);
      window.palateCompare.choose("ranked", [[set.images[index]], others], place, much);
      return;
    }
    placed = placed.includes(index) ? placed.slice(0, placed.indexOf(index)) : [...placed, index];
    if (placed.length < set.images.length - 1) {
      keep();
      mark();
      say(placed.length ? `Picture ${index + 1} is your ${NTH[placed.length - 1]}. Choose your ${NTH[placed.length]}.` : "Choose your 1st.");
      return;
    }
    const last = set.images.findIndex((_, other) => !placed.includes(other));
    const order = [...placed, last].map((one) => [set.images[one]]);
    say(`In order. Picture ${last + 1} is your ${NTH[set.images.length - 1]}.`);
    placed = [];
    window.palateCompare.choose("ranked", order, place);
  };

  /** Take the last step of an order back; gives whether there was one. */
  const back = () => {
    if (!set || !placed.length) return false;
    const index = placed.at(-1);
    placed = placed.slice(0, -1);
    keep();
    mark();
    say(`Picture ${index + 1} is free again. Choose your ${NTH[placed.length]}.`);
    return true;
  };

  /** What a key does to a set; gives whether it was for it. */
  const key = (name, event) => {
    const digit = /^Digit([1-4])$/.exec(event.code)?.[1]; // whatever sign it makes, with Shift or on a French keyboard
    const much = event.shiftKey && !/^\d$/.test(event.key); // that one makes digits with Shift, which says nothing more
    if (event.shiftKey && !(digit && (way === "best" || !much))) return false;
    if (name === "w") return Boolean(turn());
    if (!set || window.palateLook?.open() || !document.getElementById("palate-zoom").hidden) return false;
    const number = Number(digit ?? name);
    if (PLACES[number - 1] && number <= set.images.length) return pick(PLACES[number - 1], much), true;
    if (name === "Backspace") return back();
    if (!NEXT[name] || event.target.closest?.("[role=tab]")) return false;
    const all = cards();
    const at = all.indexOf(document.activeElement);
    const to = at < 0 ? 0 : (at + NEXT[name] + set.images.length) % set.images.length;
    all[to].focus();
    return true;
  };

  const ask = window.palateKit.trying(async (wanted) => {
    if (wanted !== window.palateCompare.way()) await window.palateCompare.want({ way: wanted });
  });
  const turn = () => {
    const all = Object.keys(QUESTIONS);
    return ask(all[(all.indexOf(window.palateCompare.way()) + 1) % all.length]);
  };

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("#palate-stage [data-way]") : null;
    if (!button || button === stage()) return;
    if (event.detail) button.blur(); // keys are for the pictures again
    ask(button.dataset.way);
  });

  window.palateSet = { dress, pick, key };
})();
