// Compare in the browser: a click on a picture, a key, and the time it took.
(() => {
  const OUTCOMES = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right", b: "right", t: "tie", x: "both_bad", s: "skip" };
  const stage = () => document.querySelector("#palate-stage .pl-stage[data-ticket]");
  // Gradio patches the stage in place, so a new pair is told by its view, not by a new element.
  let seen = ""; // the view that is shown
  let since = 0; // when its pictures could be seen, ms
  let sent = ""; // the view that was answered

  const press = (name) => document.getElementById(`palate-${name}`)?.click();
  const visible = (element) => element !== null && element.offsetParent !== null;

  // Gradio calls this when an answer button is pressed; what it returns goes to the server.
  window.palateAnswer = (outcome) => {
    const now = stage();
    if (!now || now.dataset.view === sent) return JSON.stringify({ ticket: "" });
    sent = now.dataset.view;
    for (const card of now.querySelectorAll("[data-choose]")) {
      if (outcome === "left" || outcome === "right") {
        card.classList.add(card.dataset.choose === outcome ? "pl-chosen" : "pl-passed");
      } else {
        card.classList.add("pl-passed");
      }
    }
    const seconds = since ? (performance.now() - since) / 1000 : null;
    return JSON.stringify({ ticket: now.dataset.ticket, seconds });
  };

  const look = () => {
    const now = stage();
    const view = now?.dataset.view ?? "";
    if (view === seen) return;
    seen = view;
    since = 0;
    if (!now) return;
    delete now.dataset.ready;
    // After a name or a source was chosen, keys are for the pictures again.
    if (document.activeElement?.closest("#palate-person, #palate-source")) document.activeElement.blur();
    const cards = [...now.querySelectorAll(".pl-card")];
    for (const card of cards) card.classList.remove("pl-chosen", "pl-passed");
    const pictures = cards.map((card) => card.querySelector("img"));
    Promise.allSettled(pictures.map((picture) => picture.decode())).then(() => {
      if (seen !== view) return;
      since = performance.now();
      now.dataset.ready = view;
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
      for (const card of cards) card.animate([{ opacity: 0.2 }, { opacity: 1 }], { duration: 180, easing: "ease-out" });
    });
  };

  document.addEventListener("click", (event) => {
    const card = event.target instanceof Element ? event.target.closest("#palate-stage [data-choose]") : null;
    if (card) press(card.dataset.choose);
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.isComposing || !visible(stage())) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (window.palate.typing(target, event.key)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" || event.shiftKey) return;
      event.preventDefault();
      press("undo");
    } else if (key === "u") {
      press("undo");
    } else if (OUTCOMES[key] && !event.shiftKey) {
      event.preventDefault();
      press(OUTCOMES[key]);
    }
  });

  const begin = () => {
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributeFilter: ["data-view"] });
    look();
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
