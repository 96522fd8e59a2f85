// People in the browser: switch, add, rename, forget.
(() => {
  const byId = (id) => document.getElementById(id);
  const ask = (path, body) => window.palate.ask(path, body);
  let about = ""; // who is renamed or forgotten

  const when = (seconds) => {
    const ago = Date.now() / 1000 - seconds;
    for (const [unit, size] of [["minute", 60], ["hour", 3600], ["day", 86400]]) {
      const next = { minute: 3600, hour: 86400, day: 14 * 86400 }[unit];
      if (ago < 60) return "just now";
      if (ago < next) return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.floor(ago / size), unit);
    }
    return new Date(1000 * seconds).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  };
  /** Write times as people say them. */
  window.palate.times = (root) => {
    for (const place of root.querySelectorAll("[data-time]")) {
      place.textContent = when(Number(place.dataset.time));
      place.dateTime = new Date(1000 * place.dataset.time).toISOString();
    }
  };

  const LATER = 2000; // ms until those whose accuracy is being worked out are asked about again
  let later = 0;
  let latest = 0; // number of the request whose answer is the one to show

  const refresh = async (again = true) => {
    clearTimeout(later);
    const number = (latest += 1);
    try {
      const told = await ask("people", {});
      if (number !== latest) return; // of before somebody was chosen, renamed or forgotten
      byId("palate-people-rows").innerHTML = told.rows; // escaped by the panel
      window.palate.times(byId("palate-people-rows"));
      if (window.palate.looking()) for (const here of byId("palate-people-rows").querySelectorAll(".pl-here")) here.textContent = "shown now";
      const look = () => window.palate.shown() === "people" && !document.activeElement?.closest("#palate-people") && refresh(false);
      if (told.more && again) later = setTimeout(look, LATER);
      const { html } = await ask("people/alike", {});
      if (number === latest) byId("palate-alike").innerHTML = html;
    } catch (error) {
      window.palateKit.say(error.message);
    }
  };

  const opened = (id, name) => {
    about = name;
    const dialog = byId(id);
    dialog.querySelector(".pl-wrong").hidden = true;
    dialog.showModal();
    return dialog;
  };

  const acts = {
    use: (name) => window.palate.use(name),
    rename: (name) => {
      opened("palate-rename", name);
      byId("palate-new-name").value = name;
      byId("palate-new-name").select();
    },
    forget: (name, button) => {
      const dialog = opened("palate-forget", name);
      const count = button.dataset.answers;
      byId("palate-forget-what").textContent = `${name} gave ${count} answer${count === "1" ? "" : "s"}. They can't be brought back.`;
      byId("palate-forget-name").value = "";
      dialog.querySelector("[type=submit]").disabled = true;
    },
  };

  const submitted = {
    "palate-rename": async () => {
      const who = about; // the dialog may be about somebody else by then
      const { name } = await ask("people/rename", { before: who, name: byId("palate-new-name").value });
      return who === window.palate.person() ? window.palate.use(name) : refresh();
    },
    "palate-forget": async () => {
      const who = about;
      await ask("people/forget", { name: who, typed: byId("palate-forget-name").value });
      window.palateKit.say(`The answers of ${who} are deleted.`);
      return window.palate.use(window.palate.person());
    },
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    for (const [name, act] of Object.entries(acts)) {
      const button = target.closest(`#palate-people [data-${name}]`);
      if (button) act(button.dataset[name], button);
    }
    const dialog = target.closest("#palate-people dialog");
    if (dialog && (target === dialog || target.closest("[data-close]"))) dialog.close();
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "palate-forget-name") return;
    byId("palate-forget").querySelector("[type=submit]").disabled = event.target.value !== about;
  });
  document.addEventListener("submit", async (event) => {
    const dialog = event.target.closest("#palate-people dialog");
    if (event.target.id === "palate-add") {
      event.preventDefault();
      const name = byId("palate-new-person").value.trim();
      if (name && (await window.palate.use(name))) {
        byId("palate-new-person").value = "";
        window.palate.show("compare");
      }
    } else if (dialog) {
      event.preventDefault();
      try {
        await submitted[dialog.id]();
        dialog.close();
      } catch (error) {
        const wrong = dialog.querySelector(".pl-wrong");
        wrong.textContent = error.message;
        wrong.hidden = false;
      }
    }
  });
  document.addEventListener("palate:front", (event) => event.detail === "people" && refresh());
  document.addEventListener("palate:someone-else", () => byId("palate-new-person").focus());
})();
