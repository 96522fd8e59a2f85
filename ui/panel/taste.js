// Taste in the browser: what was learned, and the answers, changed by a click.
(() => {
  const SOON = 400; // ms after the last change until the taste is looked at again
  const byId = (id) => document.getElementById(id);
  const part = (name) => document.querySelector(`#palate-page-taste [data-part="${name}"]`);
  const ask = (path, body) => window.palate.ask(path, body);
  let before = null; // id of the last answer that is listed, null: the list ends there
  let soon = 0;
  let latest = 0; // number of the request whose answer is the one to show
  let listing = 0; // and of the one for the list of answers
  let lane = Promise.resolve(); // changes of answers, one after the other: the last one is what counts
  let subject = ""; // the prompt that it is about, "": everything
  let shown = ""; // the one that is on the page
  let accuracy = null; // as told last
  let page = ""; // what was learned, as it is on the page
  const running = new Map(); // ids of jobs by what they are for

  /** Follow a job in a place of the page. Gives how it ended. */
  const follow = async (place, told) => {
    running.set(place, told.job);
    try {
      return await window.palateKit.work(place, told);
    } finally {
      running.delete(place);
    }
  };

  /** Ask for what may take a while; null when it was stopped. */
  const worked = async (path, body, place) => {
    for (;;) {
      const told = await ask(path, body);
      if (!told.job) return told;
      const end = await follow(place, told);
      if (end.state === "failed") throw new Error(end.error);
      if (end.state === "stopped") return null;
    }
  };

  const curve = () => {
    const place = part("curve");
    if (!place || !accuracy) return;
    window.palateCurve(place, accuracy);
  };

  const measured = async (number) => {
    const place = part("accuracy");
    if (!place) return;
    if (accuracy) place.innerHTML = accuracy.html; // as it was, until it is known anew
    curve();
    try {
      const wait = accuracy ? part("looking") : place;
      const told = await worked("taste/accuracy", {}, wait);
      if (number !== latest) return;
      if (!told) {
        if (!accuracy) place.innerHTML = '<p class="pl-soft">Not tested. <button type="button" class="pl-inline" data-act="look-again">Test it now</button></p>';
        return;
      }
      accuracy = told;
      part("accuracy").innerHTML = told.html; // escaped by the panel
      curve();
    } catch (error) {
      if (number === latest) place.textContent = error.message;
    }
  };

  const learned = async () => {
    const number = (latest += 1);
    const place = byId("palate-learned");
    if (!place.firstElementChild) place.innerHTML = '<div class="pl-nothing"><p>Looking at your answers…</p></div>';
    place.setAttribute("aria-busy", "true");
    const kept = document.activeElement?.id;
    try {
      const told = await worked("taste", { subject }, part("looking"));
      if (number !== latest) return;
      if (!told) {
        subject = shown;
        if (part("about")) byId("palate-subject").value = shown;
        else place.innerHTML = '<div class="pl-nothing"><p>Stopped.</p><button type="button" class="pl-main" data-act="look-again">Go on</button></div>';
        return;
      }
      shown = subject;
      if (told.html !== page || !part("about")) {
        place.innerHTML = page = told.html; // escaped by the panel
        if (kept === "palate-subject") byId(kept)?.focus();
        for (const map of place.querySelectorAll("[data-map]")) window.palateMap(map);
        if (window.palate.looking()) byId("palate-half-life")?.setAttribute("disabled", "");
      }
      window.palate.count(told.answers);
      document.querySelector(".pl-answered").hidden = !byId("palate-answers").firstElementChild;
      measured(number);
    } catch (error) {
      if (number !== latest) return;
      if (part("about")) return window.palateKit.say(error.message);
      const { make } = window.palateKit;
      const again = make("button", { type: "button", className: "pl-main", textContent: "Try again", data: { act: "look-again" } });
      place.replaceChildren(make("div", { className: "pl-nothing" }, make("h1", { textContent: "Your taste can't be worked out" }), make("p", { textContent: error.message }), again));
    } finally {
      if (number === latest) place.removeAttribute("aria-busy");
    }
  };

  const learnSoon = () => {
    clearTimeout(soon);
    soon = setTimeout(learned, SOON);
  };

  const about = (prompt) => {
    if (prompt === subject) return;
    subject = prompt;
    learned();
  };

  const halve = window.palateKit.trying(async (field) => {
    if (!field.reportValidity()) return;
    await ask("taste/half-life", { days: field.value === "" ? null : Number(field.value) });
    await learned();
  });

  const paint = window.palateKit.trying(async () => {
    const place = part("painting");
    const number = latest;
    const end = await follow(place, await ask("taste/paint", { subject }));
    if (end.state === "failed") window.palateKit.say(end.error);
    if (number === latest) await learned(); // pictures that are done are there after a stop, too
  });

  const list = async (more) => {
    const number = (listing += 1);
    const told = await ask("answers", { before: more ? before : null });
    if (number !== listing) return; // asked again meanwhile, or for somebody else
    const rows = byId("palate-answers");
    if (more) rows.insertAdjacentHTML("beforeend", told.rows);
    else rows.innerHTML = told.rows;
    before = told.more;
    byId("palate-more").hidden = before === null;
    document.querySelector(".pl-answered").hidden = !rows.firstElementChild;
    window.palate.times(rows);
    if (window.palate.looking()) for (const button of rows.querySelectorAll("[data-change]")) button.disabled = true;
  };

  const refresh = window.palateKit.trying(async () => {
    learned();
    await list(false);
  });

  /** Ask for a change of an answer, of who wants it now. */
  const changed = (path, body) => {
    const person = window.palate.person();
    const done = lane.then(() => ask(path, { person, ...body }));
    lane = done.catch(() => {});
    return done;
  };
  const rowOf = (id) => document.querySelector(`#palate-answers [data-answer-id="${id}"]`); // it may have been listed anew

  const change = window.palateKit.trying(async (row, outcome) => {
    const focus = document.activeElement?.dataset.change;
    const id = row.dataset.answerId;
    for (const one of row.querySelectorAll("[data-change]")) one.setAttribute("aria-pressed", String(one.dataset.change === outcome));
    const told = await changed("answers/change", { id: Number(id), outcome }).catch(async (error) => {
      await list(false); // as it is
      throw error;
    });
    learnSoon();
    if (!rowOf(id)) return;
    rowOf(id).outerHTML = told.row;
    const now = rowOf(id);
    window.palate.times(now);
    if (focus) now.querySelector(`[data-change="${focus}"]`)?.focus();
  });

  const remove = window.palateKit.trying(async (row) => {
    const id = row.dataset.answerId;
    await changed("answers/delete", { id: Number(id) });
    const there = rowOf(id);
    const next = there?.nextElementSibling ?? there?.previousElementSibling;
    there?.remove();
    next?.querySelector("[data-delete]").focus();
    learnSoon();
    window.palateKit.say("Answer deleted.", "Undo", window.palateKit.trying(async () => {
      await ask("answers/restore", {});
      await list(false);
      learnSoon();
    }));
  });

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const go = target.closest("[data-show]");
    if (go) window.palate.show(go.dataset.show);
    const row = target.closest("#palate-answers [data-answer-id]");
    const choice = target.closest("[data-change]");
    if (row && choice && choice.getAttribute("aria-pressed") !== "true") change(row, choice.dataset.change);
    if (row && target.closest("[data-delete]")) remove(row);
    if (target.closest("#palate-more")) window.palateKit.trying(list)(true);
    const act = target.closest("#palate-page-taste [data-act]")?.dataset.act;
    if (act === "everything") about("");
    else if (act === "paint-more") paint();
    else if (act === "look-again") learned();
  });
  const asked = (event) => event.target instanceof Element && event.target.closest('#palate-page-taste [data-part="about"]');
  document.addEventListener("submit", (event) => {
    if (event.target.matches?.('[data-part="half-life"]')) event.preventDefault();
    if (!asked(event)) return;
    event.preventDefault();
    about(byId("palate-subject").value.trim());
  });
  document.addEventListener("change", (event) => event.target.id === "palate-half-life" && halve(event.target));
  document.addEventListener("change", (event) => asked(event) && about(byId("palate-subject").value.trim()));
  document.addEventListener("input", (event) => {
    if (asked(event) && event.inputType === "insertReplacementText") about(event.target.value.trim()); // picked from the list
  });
  addEventListener("resize", curve);
  document.addEventListener("palate:person", () => {
    latest += 1; // what is on its way was asked for somebody else
    listing += 1;
    [subject, shown, accuracy] = ["", "", null];
    for (const job of running.values()) ask(`jobs/${job}/stop`, {}).catch(() => {});
    byId("palate-learned").replaceChildren();
    byId("palate-answers").replaceChildren();
    document.querySelector(".pl-answered").hidden = true;
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && window.palate.shown() === "taste" && byId("palate-learned")?.firstElementChild) learnSoon(); // answers may have come from elsewhere
  });
  document.addEventListener("palate:front", (event) => event.detail === "taste" && refresh());
})();
