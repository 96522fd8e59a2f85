// Taste in the browser: what was learned, and the answers, changed by a click.
(() => {
  const SOON = 400; // ms after the last change until the taste is looked at again
  const byId = (id) => document.getElementById(id);
  const ask = (path, body) => window.palate.ask(path, body);
  let before = null; // id of the last answer that is listed, null: the list ends there
  let soon = 0;
  let latest = 0; // number of the request whose answer is the one to show

  const learned = async () => {
    const number = (latest += 1);
    const place = byId("palate-learned");
    if (!place.firstElementChild) place.innerHTML = '<div class="pl-nothing"><p>Looking at your answers…</p></div>';
    place.setAttribute("aria-busy", "true");
    try {
      const told = await ask("taste", {});
      if (number !== latest) return;
      place.innerHTML = told.html; // escaped by the panel
      window.palate.count(told.answers);
      document.querySelector(".pl-answered").hidden = !byId("palate-answers").firstElementChild;
    } catch (error) {
      window.palateKit.say(error.message);
    } finally {
      if (number === latest) place.removeAttribute("aria-busy");
    }
  };

  const learnSoon = () => {
    clearTimeout(soon);
    soon = setTimeout(learned, SOON);
  };

  const list = async (more) => {
    const told = await ask("answers", { before: more ? before : null });
    const rows = byId("palate-answers");
    if (more) rows.insertAdjacentHTML("beforeend", told.rows);
    else rows.innerHTML = told.rows;
    before = told.more;
    byId("palate-more").hidden = before === null;
    document.querySelector(".pl-answered").hidden = !rows.firstElementChild;
    window.palate.times(rows);
  };

  const refresh = window.palateKit.trying(async () => {
    learned();
    await list(false);
  });

  const change = window.palateKit.trying(async (row, outcome) => {
    const focus = document.activeElement?.dataset.change;
    const told = await ask("answers/change", { id: Number(row.dataset.answerId), outcome });
    row.outerHTML = told.row;
    const now = document.querySelector(`[data-answer-id="${row.dataset.answerId}"]`);
    window.palate.times(now);
    if (focus) now.querySelector(`[data-change="${focus}"]`)?.focus();
    learnSoon();
  });

  const remove = window.palateKit.trying(async (row) => {
    await ask("answers/delete", { id: Number(row.dataset.answerId) });
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
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
  });
  document.addEventListener("palate:person", () => {
    latest += 1; // what is on its way was asked for somebody else
    byId("palate-learned").replaceChildren();
    byId("palate-answers").replaceChildren();
    document.querySelector(".pl-answered").hidden = true;
  });
  document.addEventListener("palate:front", (event) => event.detail === "taste" && refresh());
})();
