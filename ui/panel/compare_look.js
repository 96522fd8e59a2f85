// A second look: answers that may be slips are shown again, one by one, with what was answered. Choosing the same again
// keeps it, another answer takes its place; pairs go on where they were.
(() => {
  const kit = window.palateKit;
  const find = (selector) => document.querySelector(`#palate-stage ${selector}`);
  let slips = []; // [{id, images, prompt, outcome}]
  let at = 0;
  let busy = false;
  let opened = false;
  const open = () => opened;
  const COMPARING = { skip: "Skip", undo: "Undo" };
  const LOOKING = { skip: "Later", undo: "Back" };
  const rename = (names) => Object.entries(names).forEach(([name, text]) => (find(`#palate-${name} span`).textContent = text));

  const show = () => {
    const slip = slips[at];
    const stage = document.getElementById("palate-stage");
    window.palateSet.dress({ images: slip.images, ticket: "" }, window.palateCompare.way());
    stage.dataset.look = "";
    rename(LOOKING);
    const places = [...stage.querySelectorAll(".pl-picture")];
    places.forEach((place, index) => {
      const id = slip.images[index];
      place.replaceChildren(...(id ? [kit.make("img", { src: `palate/pictures/${encodeURIComponent(id)}`, alt: `the ${["left", "right"][index]} picture`, draggable: false })] : []));
      const given = slip.outcome === ["left", "right"][index];
      const card = place.closest("[data-choose]");
      card.querySelector(".pl-nth").textContent = given ? "your answer" : "";
      card.setAttribute("aria-label", given ? `Keep the ${slip.outcome} picture, which you preferred` : `Prefer the ${card.dataset.choose} picture instead`);
    });
    stage.style.setProperty("--ratio", "1");
    stage.removeAttribute("aria-busy");
    delete stage.dataset.ticket;
    document.getElementById("palate-question").textContent = "Is this still your answer?";
    document.getElementById("palate-prompt").textContent = slip.prompt || "\u00a0";
    document.getElementById("palate-step").textContent = `${at + 1} of ${slips.length} · Enter keeps it, another answer takes its place, Escape goes back`;
    document.getElementById("palate-said").textContent = `Answer ${at + 1} of ${slips.length}: you preferred the ${slip.outcome} picture. Keep it, or choose another answer.`;
  };

  const close = () => {
    opened = false;
    delete document.getElementById("palate-stage").dataset.look;
    rename(COMPARING);
    for (const nth of document.querySelectorAll("#palate-stage .pl-nth")) nth.textContent = "";
    window.palateCompare.again();
  };

  const next = () => {
    at += 1;
    if (at < slips.length) show();
    else {
      close();
      kit.say(slips.length === 1 ? "Thank you: looked at again." : `Thank you: all ${slips.length} looked at again.`);
    }
  };

  const answer = kit.trying(async (outcome) => {
    if (busy) return; // a double click is for this one, not for the one behind it
    busy = true;
    try {
      const slip = slips[at];
      await window.palateCompare.ask("second-look/answer", () => ({ id: slip.id, before: slip.outcome, outcome }));
      if (opened && slips[at] === slip) next(); // else somebody went on, or back to the pairs
    } finally {
      busy = false;
    }
  });

  /** Take what was clicked or pressed while answers are looked at again; gives whether it was for that. */
  const act = (name) => {
    if (!opened) return false;
    if (name === "undo") close();
    else if (name === "skip") next();
    else answer(name === "keep" ? slips[at].outcome : name);
    return true;
  };

  const begin = kit.trying(async () => {
    await window.palateCompare.settled();
    const who = window.palate.person();
    const told = await window.palate.ask("second-look", {});
    if (opened || who !== window.palate.person()) return undefined;
    if (!told.slips.length) return kit.say("There is nothing to look at again now.");
    [slips, at, opened] = [told.slips, 0, true];
    window.palateCompare.leave();
    document.getElementById("palate-look").hidden = true;
    return show();
  });

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest("#palate-look")) begin(), target.closest("#palate-look").blur();
    if (opened && target.closest("#palate-keep")) act("keep");
  });
  document.addEventListener("keydown", (event) => {
    if (!opened || event.repeat || event.ctrlKey || event.metaKey || event.altKey || window.palate.shown() !== "compare" || window.palate.typing(event.target, event.key)) return;
    if (!document.getElementById("palate-zoom").hidden) return;
    const key = event.key.toLowerCase();
    if (key === "escape") close();
    else if (key === "k" || (key === "enter" && !event.target.closest?.("button, a"))) act("keep");
    else return;
    event.preventDefault();
  });
  document.addEventListener("palate:person", () => opened && close());

  window.palateLook = { open, act };
})();
