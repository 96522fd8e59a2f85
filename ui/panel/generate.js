// Generate, the left side: what to paint, which tastes with which weight, and the way to the easel.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const WAYS = { auto: "what suits the model", encoder: "the prompt, all of it", token_input: "the prompt’s words", eos_token: "the prompt’s end only", pooled: "the prompt’s summary (SDXL)", user: "the denoiser (PPD)" };
  const MOVES = { user: "Your answers go straight into the model: four are enough.", prompt: "Your words are turned towards your taste." };
  const FIELDS = ["prompt", "negative", "seed", "number", "method", "objective", "steps", "guidance", "width", "height", "limit", "surprise"];
  const DEFAULTS = { negative: "", seed: "1", number: "2", method: "auto", objective: "bradley_terry", limit: "60", surprise: "0" };

  kit.when("#palate-generate-page", (page) => {
    const form = part(page, "wish");
    const field = (name) => part(form, name);
    const tastes = kit.tastesList(form, {
      method: () => field("method").value,
      denoiser: () => {
        if (model && !model.methods.includes("user")) return false;
        choose("user");
        field("moves").textContent = MOVES.user;
        return true;
      },
      changed: () => (keep(), offerWords()),
      leaning: () => kit.easel.lean(kit.wish()),
      weighed: () => (keep(), offerWords(), kit.easel.reweigh(kit.wish(), tastes.grid())),
    });
    const offerWords = kit.likedWords(form, () => tastes.parts());
    let model = null;
    let whose = null; // the person whose wishes are shown

    const keep = () => kit.keep("wish", { ...Object.fromEntries(FIELDS.map((name) => [name, field(name).value])), parts: tastes.parts(), shape: tastes.shape() });

    /** Choose a way; what was chosen before the model has said which it knows must not be lost. */
    const choose = (name) => {
      const select = field("method");
      if (!model && name && ![...select.options].some((one) => one.value === name)) select.append(make("option", { value: name, textContent: WAYS[name] ?? name }));
      select.value = name;
    };

    const fill = (values) => {
      for (const name of FIELDS) {
        const value = values[name] ?? DEFAULTS[name];
        if (name === "method") choose(value);
        else if (value !== undefined) field(name).value = value;
      }
      const given = Array.isArray(values.parts) ? values.parts : [{ source: `person:${kit.person()}`, weight: 1 }];
      tastes.set(given.filter((one) => typeof one?.source === "string" && Math.abs(one.weight) <= 1), values.shape);
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

    /** Say what the chosen way does, and what of the list it can't take. */
    const described = () => {
      field("moves").textContent = field("method").value === "user" ? MOVES.user : MOVES.prompt;
      tastes.show();
    };

    const describe = () => {
      const chosen = kit.kept("wish").method ?? "auto";
      field("method").replaceChildren(...model.methods.map((name) => make("option", { value: name, textContent: WAYS[name] ?? name })));
      field("method").value = model.methods.includes(chosen) ? chosen : "auto";
      field("steps").placeholder = model.steps;
      field("guidance").placeholder = model.guidance;
      [field("width").placeholder, field("height").placeholder] = model.size;
      described();
    };

    const refresh = kit.trying(async () => {
      if (!kit.person()) return; // it comes with palate:person
      arrive();
      tastes.know(await kit.ask("tastes"));
      offerWords();
      if (model) return;
      model = await kit.ask("model");
      describe();
      if (tastes.unsure()) tastes.know(await kit.ask("tastes")); // now it is known which user files fit
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
        tastes: tastes.parts(),
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
        parts: shot.tastes.length ? shot.tastes : tastes.parts(),
        shape: tastes.shape(),
      });
      kit.easel.setStrength(shot.strength);
      keep();
      field("prompt").focus();
    };

    /** Take a taste or a user file into the list, when it isn't there. */
    kit.useTaste = (source) => {
      arrive();
      tastes.add(source);
    };

    /** Paint with all that the person's answers give at once, as `palate generate --for` does. */
    const paintForMe = kit.trying(async () => {
      if (!model) kit.say("One moment: the model is being loaded.");
      const who = kit.person();
      await refresh(); // it is the model that says what it can be told
      if (who !== kit.person()) return undefined; // loading it takes a while
      const { strength, ...more } = model?.everything ?? { strength: 1 };
      const user = model?.methods.includes("user");
      kit.easel.setStrength(strength);
      keep();
      return kit.easel.paint({ ...kit.wish(), tastes: [{ source: `person:${kit.person()}`, weight: 1 }], method: user ? "user" : "auto", fallback: true, surprise: 0, ...more });
    });

    /** The same, from another tab. */
    kit.tryNow = () => {
      window.palate.show("generate");
      arrive();
      return paintForMe();
    };

    form.addEventListener("input", keep);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keep();
      kit.easel.paint(kit.wish(), tastes.grid());
    });
    field("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    field("method").addEventListener("change", described);
    page.querySelector('[data-act="for-me"]').addEventListener("click", paintForMe);
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
