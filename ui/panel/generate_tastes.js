// Generate, the tastes: people, taste files and user files, each with a weight. Three of them are a triangle, any other
// number are sliders, and three may be sliders, too: only those go below zero.
(() => {
  const kit = (window.palateKit ??= {});
  const { make, part } = kit;

  /**
   * Fill the form's list. `method()` is the way that is chosen, `denoiser()` chooses the PPD if there is one; `changed`
   * comes when the list is another, `leaning` while weights move, `weighed` when they rest.
   */
  kit.tastesList = (form, { method, denoiser, changed, leaning, weighed }) => {
    const list = part(form, "parts"), adding = part(form, "add"), shapes = part(form, "shapes");
    let parts = []; // [{source, weight}]
    let shape = ""; // "sliders" where three are no triangle
    let known = { people: [], files: [] };
    let triangle = null;

    const own = () => `person:${kit.person()}`;
    const file = (source) => known.files.find((one) => one.source === source);
    const label = (source) => {
      if (source === own()) return "Your taste";
      if (source.startsWith("person:")) return kit.nameOf(source);
      const name = file(source)?.name ?? kit.nameOf(source);
      const kind = source.startsWith("user:") ? "user file" : "file";
      const alike = known.files.filter((one) => one.name === name && one.source.split(":")[0] === source.split(":")[0]);
      return `${name} (${kind}${alike.length > 1 ? ` ${kit.nameOf(source)}` : ""})`;
    };
    const trouble = (source) => {
      const byUser = method() === "user";
      if (byUser && source.startsWith("file:")) return "A taste file can’t move the denoiser. Choose another way under Moves.";
      if (!byUser && source.startsWith("user:")) return "A user file only moves the denoiser. Choose it under Moves.";
      return file(source)?.trouble ?? "";
    };
    const three = () => parts.length === 3 && parts.every((one) => one.weight >= 0);
    const cornered = () => parts.length === 3 && shape !== "sliders";
    const mark = () => triangle?.mark(kit.easel?.marks?.() ?? []);

    // -- sliders

    const row = (one) => {
      const value = make("output", { textContent: kit.number(one.weight) });
      const weigh = (event) => {
        one.weight = Number(event.target.value);
        value.textContent = kit.number(one.weight);
        value.classList.toggle("pl-minus", one.weight < 0);
        leaning();
      };
      const name = label(one.source);
      value.classList.toggle("pl-minus", one.weight < 0);
      return make(
        "li",
        { className: "pl-part" },
        make("span", { className: "pl-part-name", textContent: name, title: name }),
        make("input", { type: "range", min: -1, max: 1, step: 0.05, value: one.weight, oninput: weigh, onchange: () => weighed(), "aria-label": `Weight of ${name}`, data: { source: one.source } }),
        value,
        make("button", { type: "button", className: "pl-round pl-remove", textContent: "×", title: `Remove ${name}`, "aria-label": `Remove ${name}`, onclick: () => without(one) }),
        trouble(one.source) ? make("small", { className: "pl-trouble", textContent: trouble(one.source) }) : null,
      );
    };

    // -- the triangle

    const corners = () => {
      triangle = kit.triangle({
        names: parts.map((one) => label(one.source)),
        weights: parts.map((one) => one.weight),
        moved: (weights) => {
          weights.forEach((weight, index) => (parts[index].weight = weight));
          leaning();
        },
        chosen: () => weighed(),
        remove: (index) => without(parts[index]),
      });
      const wrong = parts.filter((one) => trouble(one.source));
      return make("li", { className: "pl-blend" }, triangle, ...wrong.map((one) => make("small", { className: "pl-trouble", textContent: `${label(one.source)}: ${trouble(one.source)}` })));
    };

    const show = () => {
      triangle = null;
      list.replaceChildren(...(cornered() ? [corners()] : parts.map(row)));
      mark();
      if (!parts.length) list.append(make("li", { className: "pl-hint", textContent: "None: the model paints as it is." }));
      shapes.hidden = parts.length !== 3;
      for (const button of shapes.children) button.setAttribute("aria-pressed", String((button.dataset.shape === "sliders") !== cornered()));
      const used = new Set(parts.map((one) => one.source));
      const option = (one) => make("option", { value: one.source, textContent: label(one.source) + (one.fits === false ? " (doesn't fit this model)" : "") });
      const mine = { source: own() };
      const people = [mine, ...known.people.filter((one) => one.source !== mine.source)];
      const free = (some) => some.filter((one) => !used.has(one.source)).map(option);
      adding.replaceChildren(make("option", { value: "", textContent: "Add a taste…" }), ...free(people), ...free(known.files));
    };

    /** Take another list: three that can be a triangle are one, and what was one gets its weights back to 1 at most. */
    const change = (next, before = cornered()) => {
      const most = Math.max(...next.map((one) => Math.abs(one.weight)), 0);
      if (before && next.length !== 3 && most > 0) for (const one of next) one.weight = Math.round((100 * one.weight) / most) / 100;
      parts = next;
      if (parts.length !== 3) shape = "";
      else if (!three()) shape = "sliders";
      if (cornered()) shared();
      show();
      changed();
    };
    const shared = () => kit.shares(parts.map((one) => one.weight)).forEach((weight, index) => (parts[index].weight = weight));
    const without = (one) => change(parts.filter((other) => other !== one));
    const add = (source) => {
      if (parts.some((one) => one.source === source)) return;
      if (source.startsWith("user:") && method() !== "user" && denoiser()) kit.say("The pictures follow people through the denoiser now: a user file only works there.");
      change([...parts, { source, weight: 1 }]);
    };

    adding.addEventListener("change", (event) => event.target.value && add(event.target.value));
    shapes.addEventListener("click", (event) => {
      const chosen = event.target.closest("button")?.dataset.shape;
      if (!chosen || (chosen === "sliders") !== cornered()) return;
      shape = chosen === "sliders" ? "sliders" : "";
      if (cornered()) shared();
      show();
      changed();
      weighed();
    });
    document.addEventListener("palate:flipped", mark);

    return {
      show,
      add,
      parts: () => parts.map((one) => ({ ...one })),
      shape: () => shape,
      /** Weights worth painting ahead. */
      grid: () => (cornered() ? kit.triangleGrid : []),
      /** Take what was kept; `kept` is the shape, "sliders" or anything else. */
      set: (given, kept) => {
        parts = given.map(({ source, weight }) => ({ source, weight }));
        shape = parts.length === 3 && (kept === "sliders" || !three()) ? "sliders" : "";
        if (cornered()) shared();
        show();
      },
      /** Whether there are files of which only the loaded model tells whether they fit. */
      unsure: () => known.files.some((one) => one.kind === "user"),
      know: (told) => {
        known = told;
        show();
      },
    };
  };
})();
