// Train: what would happen, the one button, and how it goes. The training is the panel's, not the page's: a reload, a
// closed tab or another person's page finds it as it is.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const SLOW = 4000, QUICK = 700; // ms between two looks, with the tab behind and in front
  const BELOW_TABS = 72; // px from where a page isn't behind the tabs
  const FIELDS = { steps: "train-steps", rank: "train-rank", learning_rate: "train-rate", seed: "train-seed" };
  const percent = (share) => `${Math.round(100 * share)} %`;
  const round = (value) => (Math.abs(value) >= 100 ? String(Math.round(value)) : Number(value.toPrecision(2)).toString()).replace("-", "−");

  const lasting = (seconds) => {
    if (seconds < 50) return "less than a minute";
    if (seconds < 90 * 60) return `about ${Math.max(1, Math.round(seconds / 60))} min`;
    return `about ${Math.round(seconds / 1800) / 2} h`;
  };

  kit.when("#palate-train-page", (page) => {
    const on = (name) => part(page, name);
    const act = (name) => page.querySelector(`[data-act="${name}"]`);
    let [training, plan, timer, asked] = [null, null, null, 0];

    const loss = () => page.querySelector("input[name=palate-loss]:checked").value;
    const working = () => training?.state === "working";
    const mine = () => training && training.person === kit.person();
    const goesOn = () => !working() && plan?.stopped;

    // -- what would happen

    const dropping = ({ dropped }) => {
      if (!on("train-drop").checked) return "";
      if (dropped === null) return "";
      return dropped ? ` ${dropped} ${dropped === 1 ? "is" : "are"} left out.` : " None is left out: none is doubted.";
    };

    const planned = () => {
      if (!plan) return;
      const few = !plan.pairs;
      const steps = Number(on("train-steps").value) || plan.steps;
      const long = plan.seconds ? `, ${lasting((plan.seconds / plan.steps) * steps)}` : "";
      const model = plan.model === "playground" ? "the playground" : plan.model;
      const me = plan.person === "me";
      on("train-plan").textContent = few
        ? `${me ? "You have" : `${plan.person} has`} no answers yet that prefer one of two pictures. Compare some first.`
        : `${plan.pairs - plan.held_out - (plan.dropped || 0)} of ${me ? "your" : `${plan.person}’s`} answers train a LoRA for ${model} in ${steps} steps${long}; ${plan.held_out || "none"} are held back to judge it by.${dropping(plan)}`;
      on("train-worth").textContent = few ? "" : plan.worth;
      on("train-trouble").textContent = plan.trouble;
      on("train-trouble").hidden = !plan.trouble;
      on("train-steps").placeholder = plan.steps ?? "";
      on("train-rank").placeholder = plan.rank ?? "";
      on("train-rate").placeholder = plan.learning_rate ?? "";
    };

    const look = async () => {
      const wanted = ++asked;
      const found = await kit.ask(`train/plan?person=${encodeURIComponent(kit.person())}&loss=${loss()}&drop_doubted=${on("train-drop").checked}`);
      if (wanted !== asked) return;
      plan = found;
      planned();
      buttons();
    };

    const buttons = () => {
      const go = act("start-training");
      go.textContent = working() ? "Training…" : goesOn() ? `Go on from step ${plan.stopped.step}` : "Train";
      go.disabled = working() || !plan?.pairs || Boolean(plan?.trouble);
      act("train-anew").hidden = working() || !goesOn();
      for (const field of page.querySelectorAll(".pl-wish input")) field.disabled = working();
    };

    // -- how it goes

    const TITLES = {
      done: { true: "Better than none", false: "No better than none", null: "Too early to say" },
      stopped: "Stopped",
      failed: "It could not go on",
    };

    const verdict = () => {
      const { state, result, error } = training;
      const place = on("train-verdict");
      place.hidden = state === "working";
      if (state === "working") return;
      const title = state === "done" ? TITLES.done[String(result?.better ?? null)] : TITLES[state];
      place.dataset.kind = state === "done" ? String(result?.better ?? null) : state;
      const lines = [make("h3", { textContent: title })];
      if (state === "done") {
        lines.push(make("p", { textContent: result.summary }));
        if (result.stopped) lines.push(make("p", { className: "pl-hint", textContent: `It ended early: ${result.stopped}.` }));
        const file = result.file.split(/[\\/]/).at(-1);
        lines.push(
          make("div", { className: "pl-actions" }, make("a", { className: `pl-button${result.better === false ? "" : " pl-strong"}`, href: `palate/api/train/file/${encodeURIComponent(training.name)}`, download: file, textContent: "Download the LoRA" })),
          make("p", { className: "pl-hint pl-where" }, make("code", { textContent: file }), " – ComfyUI: models/loras, then Load LoRA. A1111 and Forge: models/Lora."),
        );
      } else if (state === "stopped") {
        lines.push(make("p", { textContent: training.step ? `After ${training.step} of ${training.steps} steps. What was reached is kept.` : "Before the first step; nothing was changed." }));
      } else lines.push(make("p", { className: "pl-trouble", textContent: error }));
      place.replaceChildren(...lines);
    };

    const title = () => {
      const whose = mine() ? "" : `${training.person} · `;
      const names = `${whose}${training.model} · ${training.loss.replace("_", "-").toUpperCase()}`;
      if (!working()) return names;
      if (training.text) return training.text;
      const left = training.seconds_left ? ` · ${lasting(training.seconds_left)} left` : "";
      return `Step ${training.step} of ${training.steps}${left}`;
    };

    // Which answers it does without: of the first dozen the pictures, what was chosen before what it was chosen over.
    const leftOut = () => {
      const told = training.left_out;
      const place = on("train-left-out");
      place.hidden = !told;
      if (!told || place.dataset.key === String(training.began)) return;
      place.dataset.key = String(training.began);
      const thumb = (id, alt) => make("img", { src: `palate/api/thumbs/${encodeURIComponent(id)}`, alt, loading: "lazy" });
      const rows = told.pairs.map(([chosen, rejected]) => make("div", { className: "pl-sample" }, thumb(chosen, "chosen"), thumb(rejected, "not chosen")));
      place.replaceChildren(
        make("p", { className: "pl-hint", textContent: told.text }),
        ...(rows.length ? [make("details", { className: "pl-details" }, make("summary", { textContent: "Which" }), make("div", { className: "pl-left-out-rows" }, ...rows))] : []),
      );
    };

    const plots = () => {
      const { points, looks, steps } = training;
      on("train-plots").hidden = !points.length;
      if (!points.length) return;
      const wide = Math.max(280, on("train-accuracy").clientWidth || 560);
      const small = Math.max(200, on("train-loss").clientWidth || 270);
      const seen = looks.map((one) => [one.step, one.accuracy]);
      on("train-accuracy").replaceChildren(kit.plotTraining(seen, { name: "Right on unseen answers", steps, low: 0.3, high: 0.9, marks: true, grounds: [{ value: 0.5, text: "a coin" }, ...(training.sure ? [{ value: training.sure, text: "sure" }] : [])], shape: percent, width: wide, height: 190 }));
      const column = (index) => points.map((one) => [one[0], one[index]]).filter((one) => one[1] !== null);
      for (const [name, index, words] of [["loss", 1, "Loss"], ["margin", 2, "Margin"]]) {
        const raw = column(index);
        const grounds = name === "margin" ? [{ value: 0, text: "0" }] : [];
        on(`train-${name}`).replaceChildren(kit.plotTraining(kit.smoothed(raw), { name: words, steps, faint: raw, grounds, shape: round, width: small, height: 120 }));
      }
      const best = looks.reduce((found, one) => (!found || one.log_loss < found.log_loss ? one : found), null);
      on("train-accuracy-now").textContent = !looks.length ? (plan?.held_out === 0 ? "too few answers to hold some back" : "first look soon") : `best after ${best.step} steps: ${percent(best.accuracy)}`;
    };

    const samples = () => {
      const shown = training.samples;
      const place = on("train-samples");
      place.hidden = !shown.length;
      const key = shown.map((one) => one.step).join();
      if (!shown.length || place.dataset.key === `${training.began}/${key}`) return;
      place.dataset.key = `${training.began}/${key}`;
      const [first, last] = [shown[0], shown.at(-1)];
      const picture = (one, number) => make("img", { src: `palate/api/train/samples/${encodeURIComponent(training.name)}/${one.step}/${number}?of=${training.began}`, alt: one.step ? `after ${one.step} steps` : "before", loading: "lazy" });
      const rows = first.files.map((_, number) => make("div", { className: "pl-sample" }, picture(first, number), ...(last === first ? [] : [picture(last, number)])));
      place.replaceChildren(
        make("h3", { textContent: last === first ? "Before" : "Before, and now" }),
        make("p", { className: "pl-hint", textContent: "The same prompts and seeds; all that differs is the LoRA." }),
        make("div", { className: "pl-sample-rows" }, ...rows),
      );
    };

    const show = () => {
      on("train-empty").hidden = Boolean(training);
      on("train-head").hidden = !training;
      on("train-bar").hidden = !working();
      act("stop-training-lora").hidden = !working();
      buttons();
      if (!training) return;
      if (on("train-title").textContent !== title()) on("train-title").textContent = title();
      on("train-bar").setAttribute("aria-valuenow", Math.round(100 * training.share));
      on("train-bar").querySelector("i").style.width = `${100 * training.share}%`;
      leftOut();
      verdict();
      plots();
      samples();
    };

    // -- asking

    const merged = (found) => {
      if (!found || !training || training.began !== found.began) return found;
      const first = found.points[0]?.[0] ?? Infinity;
      return { ...found, points: [...training.points.filter((one) => one[0] < first), ...found.points] };
    };

    const ask = async () => {
      clearTimeout(timer);
      const before = working();
      const since = before ? training.step : 0;
      const who = kit.person();
      const state = async (from) => (await kit.ask(`train?person=${encodeURIComponent(kit.person())}&since=${from}`)).training;
      try {
        const found = await state(since);
        const now = found && training?.began !== found.began && since ? await state(0) : merged(found);
        if (who !== kit.person()) return; // asked again for who chooses now
        training = now;
        show();
        if (before && !working()) await look();
      } catch (error) {
        on("train-title").textContent = error.message;
      }
      if (working()) timer = setTimeout(ask, window.palate.shown() === "train" && !document.hidden ? QUICK : SLOW);
    };

    const start = kit.trying(async (anew) => {
      if (working()) return;
      act("start-training").disabled = true;
      const body = { person: kit.person(), loss: loss(), anew, drop_doubted: on("train-drop").checked };
      if (on("train-frozen").checked) body.frozen = "int8";
      for (const [name, field] of Object.entries(FIELDS)) body[name] = on(field).value.trim().replace(",", ".");
      try {
        ({ training } = await kit.ask("train", body));
        show();
        const { top, bottom } = on("train-head").getBoundingClientRect();
        if (top < BELOW_TABS || bottom > innerHeight) on("train-head").scrollIntoView({ behavior: "smooth", block: "center" });
        timer = setTimeout(ask, QUICK);
      } finally {
        buttons();
      }
    });

    on("train-form").addEventListener("submit", (event) => {
      event.preventDefault();
      start(!goesOn());
    });
    act("train-anew").addEventListener("click", () => start(true));
    act("stop-training-lora").addEventListener("click", kit.trying(async () => {
      act("stop-training-lora").disabled = true;
      try {
        await kit.ask("train/stop", {});
        await ask();
      } finally {
        act("stop-training-lora").disabled = false;
      }
    }));
    page.addEventListener("change", (event) => (event.target.name === "palate-loss" || event.target === on("train-drop")) && (buttons(), kit.trying(look)()));
    on("train-steps").addEventListener("input", planned);
    addEventListener("resize", () => training && plots());

    const refresh = kit.trying(() => kit.person() && Promise.all([look(), ask()]));
    document.addEventListener("palate:person", () => window.palate.shown() === "train" && refresh());
    document.addEventListener("palate:front", () => window.palate.shown() === "train" && refresh());
    if (window.palate?.shown() === "train") refresh();
  });
})();
