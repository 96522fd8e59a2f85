// Generate, the left side: what to paint, which tastes with which weight, and the way to the easel.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const WAYS = { auto: "what suits the model", encoder: "the prompt, all of it", token_input: "the prompt’s words", eos_token: "the prompt’s end only", pooled: "the prompt’s summary (SDXL)", user: "the denoiser (PPD)" };
  const FIELDS = ["prompt", "negative", "seed", "number", "method", "objective", "steps", "guidance", "width", "height", "limit", "surprise"];
  const DEFAULTS = { negative: "", seed: "1", number: "2", method: "auto", objective: "bradley_terry", limit: "60", surprise: "0" };

  kit.when("#palate-generate-page", (page) => {
    const form = part(page, "wish");
    const field = (name) => part(form, name);
    let parts = []; // [{source, weight}]
    let known = { people: [], files: [] };
    let model = null;
    let whose = null; // the person whose wishes are shown

    const label = (source) => {
      if (source === `person:${kit.person()}`) return "Your taste";
      if (source.startsWith("person:")) return kit.nameOf(source);
      const file = known.files.find((one) => one.source === source);
      return file?.name ? `${file.name} (file)` : kit.nameOf(source);
    };

    const row = (one) => {
      const value = make("output", { textContent: kit.number(one.weight) });
      const weigh = (event) => {
        one.weight = Number(event.target.value);
        value.textContent = kit.number(one.weight);
        value.classList.toggle("pl-minus", one.weight < 0);
        keep();
      };
      const name = label(one.source);
      const file = known.files.find((other) => other.source === one.source);
      value.classList.toggle("pl-minus", one.weight < 0);
      return make(
        "li",
        { className: "pl-part" },
        make("span", { className: "pl-part-name", textContent: name, title: one.source }),
        make("input", { type: "range", min: -1, max: 1, step: 0.1, value: one.weight, oninput: weigh, "aria-label": `Weight of ${name}`, data: { source: one.source } }),
        value,
        make("button", { type: "button", className: "pl-round pl-remove", textContent: "×", "aria-label": `Remove ${name}`, onclick: () => change(parts.filter((other) => other !== one)) }),
        file && !file.fits ? make("small", { className: "pl-trouble", textContent: file.trouble }) : null,
      );
    };

    const show = () => {
      field("parts").replaceChildren(...parts.map(row));
      if (!parts.length) field("parts").append(make("li", { className: "pl-hint", textContent: "None: the model paints as it is." }));
      const used = new Set(parts.map((one) => one.source));
      const option = (one) => make("option", { value: one.source, textContent: label(one.source) + (one.fits === false ? " (doesn't fit this model)" : "") });
      const mine = { source: `person:${kit.person()}` };
      const people = [mine, ...known.people.filter((one) => one.source !== mine.source)];
      const free = (list) => list.filter((one) => !used.has(one.source)).map(option);
      field("add").replaceChildren(make("option", { value: "", textContent: "Add a taste…" }), ...free(people), ...free(known.files));
    };

    const change = (next) => {
      parts = next;
      show();
      keep();
    };

    const keep = () => kit.keep("wish", { ...Object.fromEntries(FIELDS.map((name) => [name, field(name).value])), parts });

    const fill = (values) => {
      for (const name of FIELDS) {
        const value = values[name] ?? DEFAULTS[name];
        if (value !== undefined) field(name).value = value;
      }
      const given = Array.isArray(values.parts) ? values.parts : [{ source: `person:${kit.person()}`, weight: 1 }];
      parts = given.filter((one) => typeof one?.source === "string" && Math.abs(one.weight) <= 1);
      show();
    };

    /** Show the wishes of whoever is choosing now. */
    const arrive = () => {
      if (whose === kit.person() || !kit.person()) return;
      whose = kit.person();
      const kept = kit.kept("wish");
      fill({ ...kept, prompt: kept.prompt ?? page.dataset.example });
      if (model) describe();
      kit.easel?.arrive();
    };

    const describe = () => {
      const chosen = kit.kept("wish").method ?? "auto";
      field("method").replaceChildren(...model.methods.map((name) => make("option", { value: name, textContent: WAYS[name] ?? name })));
      field("method").value = model.methods.includes(chosen) ? chosen : "auto";
      field("steps").placeholder = model.steps;
      field("guidance").placeholder = model.guidance;
      [field("width").placeholder, field("height").placeholder] = model.size;
    };

    const refresh = kit.trying(async () => {
      if (!kit.person()) return; // it comes with palate:person
      arrive();
      known = await kit.ask("tastes");
      show();
      if (!model) {
        model = await kit.ask("model");
        describe();
      }
    });

    /** Seeds one after the other; -1 and nothing are another one each time, and what is no number is for the panel to name. */
    const seedsFrom = (typed, count) => {
      if (typed !== "" && !/^[-+]?\d+$/.test(typed)) return [typed];
      const first = typed === "" || typed === "-1" ? BigInt(Math.floor(Math.random() * 2 ** 32)) : BigInt(typed.replace("+", ""));
      return Array.from({ length: count }, (_, i) => String(first + BigInt(i)));
    };

    const number = (name) => (field(name).value.trim() === "" ? null : Number(field(name).value));

    /** What is asked for now; seeds are text, for they may be longer than a browser's numbers. */
    kit.wish = () => {
      const seeds = seedsFrom(field("seed").value.trim(), Number(field("number").value));
      const side = (name, own) => number(name) ?? model?.size[own] ?? null;
      const size = number("width") === null && number("height") === null ? null : [side("width", 0), side("height", 1)];
      return {
        person: kit.person(),
        prompt: field("prompt").value,
        negative: field("negative").value,
        seeds,
        tastes: parts.filter((one) => one.weight !== 0),
        strength: kit.easel.strength(),
        method: field("method").value || "auto",
        objective: field("objective").value,
        steps: number("steps"),
        guidance: number("guidance"),
        limit: number("limit") ?? 60,
        surprise: number("surprise") ?? 0,
        size,
      };
    };

    /** Fill in what a picture was made with. */
    kit.useSettings = (shot) => {
      fill({
        prompt: shot.prompt,
        negative: shot.negative,
        seed: shot.seed,
        number: field("number").value,
        surprise: 0, // this seed and no other
        method: shot.method || "auto",
        objective: shot.objective || "bradley_terry",
        steps: shot.steps,
        guidance: shot.guidance,
        width: shot.size[0],
        height: shot.size[1],
        limit: shot.limit || 60,
        parts: shot.tastes.length ? shot.tastes : parts,
      });
      kit.easel.setStrength(shot.strength);
      keep();
      field("prompt").focus();
    };

    /** Take a taste into the list, when it isn't there. */
    kit.useTaste = (source) => {
      arrive();
      if (!parts.some((one) => one.source === source)) change([...parts, { source, weight: 1 }]);
    };

    form.addEventListener("input", keep);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keep();
      kit.easel.paint(kit.wish());
    });
    field("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    field("add").addEventListener("change", (event) => {
      if (event.target.value) change([...parts, { source: event.target.value, weight: 1 }]);
    });
    page.querySelector('[data-act="dice"]').addEventListener("click", () => {
      field("seed").value = Math.floor(Math.random() * 1e6);
      keep();
    });
    document.addEventListener("palate:front", () => window.palate.shown() === "generate" && refresh());
    document.addEventListener("palate:person", () => window.palate.shown() === "generate" && refresh());
    document.addEventListener("palate:tastes", () => window.palate.shown() === "generate" && refresh());
    if (window.palate?.shown() === "generate") refresh();
    kit.generate = { refresh };
  });
})();
