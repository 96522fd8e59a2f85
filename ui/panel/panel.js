// The panel in the browser: a click on a picture, a key, and the time it took. Everything else is Gradio's.
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

  // Gradio follows the system; the button in the head overrules it, and is remembered.
  const theme = () => {
    const kept = localStorage.getItem("palate-theme");
    if (kept) document.body.classList.toggle("dark", kept === "dark");
  };

  const look = () => {
    const now = stage();
    const view = now?.dataset.view ?? "";
    if (view === seen) return;
    if (!seen) theme();
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
    if (event.target instanceof Element && event.target.closest("#palate-theme")) {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem("palate-theme", dark ? "dark" : "light");
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.isComposing || !visible(stage())) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const field = target.closest("input, textarea, select, [contenteditable=true], [role=slider], [role=listbox]");
    const choice = field?.matches("input[type=radio], input[type=checkbox]");
    if (field && !(choice && event.key.length === 1)) return;
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
    theme();
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributeFilter: ["data-view"] });
    look();
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
