// Generate, the right side: pictures of one seed at several strengths lie on top of each other, and the slider shows
// the nearest one. They are all loaded before they can be seen, so that moving the slider asks nobody for anything.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const HOLD = 180; // ms: a shorter press opens the picture at full size

  kit.when("#palate-generate-page", (page) => {
    const easel = part(page, "easel");
    const on = (name) => part(easel, name);
    const act = (name) => easel.querySelector(`[data-act="${name}"]`);
    const slider = on("strength");
    const me = Math.random().toString(36).slice(2); // this page, whose newer wishes replace older ones
    let shown = {}; // {wish, frames: {seed: {strength: {id}}}, degrees, seed}
    let job = null;
    let held = false;
    let answers = {}; // comparison ids by "chosen rejected"
    let pending = false;

    const frames = () => shown.frames?.[shown.seed] ?? {};
    const strengths = () => Object.keys(frames()).map(Number).sort((a, b) => a - b);
    const nearest = (value) => strengths().reduce((best, one) => (best === null || Math.abs(one - value) < Math.abs(best - value) ? one : best), null);
    const now = () => (held ? 0 : nearest(Number(slider.value)));

    // -- what is seen

    const flip = () => {
      const value = Number(slider.value), strength = now();
      on("value").textContent = kit.number(value);
      slider.style.setProperty("--pl-share", `${(100 * value) / 2}%`);
      for (const picture of on("frames").children) picture.classList.toggle("pl-on", Number(picture.dataset.strength) === strength);
      on("tag").hidden = strength === null;
      on("tag").textContent = strength === 0 ? "as it is" : `strength ${kit.number(strength ?? 0)}`;
      on("canvas").setAttribute("aria-label", strength === null ? "No picture yet" : `Seed ${shown.seed}, strength ${strength}: ${shown.wish?.prompt ?? ""}`);
      const degrees = shown.degrees?.[Math.round(value / 0.05)];
      const limit = shown.wish?.limit ?? 60;
      const other = !held && strength !== null && Math.abs(strength - value) > 0.001 && strengths().length > 1;
      on("turned").textContent =
        degrees === undefined ? "\u00a0" : `turns the prompt by ${Math.round(degrees)}°${degrees >= limit - 0.1 ? ", the limit" : ` of ${limit}° at most`}${other ? `; Paint makes ${kit.number(value)} exactly` : ""}`;
      counterparts();
    };

    const pair = () => {
      const strength = nearest(Number(slider.value));
      const all = strengths();
      const other = strength === 0 ? (frames()[shown.wish?.strength] ? shown.wish.strength : all.at(-1)) : 0;
      if (strength === null || all.length < 2 || strength === other) return null;
      return { chosen: frames()[strength]?.id, rejected: frames()[other]?.id };
    };

    const counterparts = () => {
      const two = pair();
      const given = two && answers[`${two.chosen} ${two.rejected}`];
      act("prefer").disabled = !two || Boolean(given) || pending;
      act("prefer").firstChild.textContent = given ? "Noted" : "I prefer this one";
      act("undo-prefer").hidden = !given;
      act("hold").disabled = !frames()[0] || strengths().length < 2;
    };

    const lay = () => {
      const box = on("frames");
      const wanted = strengths().map((one) => [one, frames()[one].id]);
      const there = new Map([...box.children].map((picture) => [picture.dataset.id, picture]));
      box.replaceChildren(
        ...wanted.map(([strength, id]) => {
          const picture = there.get(id) ?? make("img", { src: kit.picture(id), alt: "", draggable: false, data: { id } });
          picture.dataset.strength = strength;
          return picture;
        }),
      );
      on("canvas").style.aspectRatio = Object.values(frames())[0]?.shape ?? 1;
      on("empty").hidden = wanted.length > 0;
      on("acts").hidden = wanted.length === 0;
      on("marks").replaceChildren(...wanted.map(([strength]) => make("option", { value: strength })));
      on("thumbs").replaceChildren(...Object.keys(shown.frames ?? {}).map(thumb));
      on("variety").textContent = shown.variety || "\u00a0";
      on("thumbs").hidden = Object.keys(shown.frames ?? {}).length < 2;
      flip();
    };

    const thumb = (seed) => {
      const all = shown.frames[seed];
      const one = all[shown.wish?.strength] ?? Object.values(all)[0];
      const choose = () => {
        shown.seed = seed;
        lay();
        keep();
        if (!job) fillIn(seed);
        on("thumbs").querySelector('[aria-pressed="true"]')?.focus();
      };
      return make("button", { type: "button", onclick: choose, "aria-pressed": String(seed === shown.seed), "aria-label": `Seed ${seed}` }, make("img", { src: kit.picture(one.id), alt: "" }), make("small", { textContent: seed }));
    };

    const message = (title, text) => {
      on("empty").hidden = false;
      on("empty").replaceChildren(make("h3", { textContent: title }), make("p", { textContent: text }));
    };

    const work = (state) => {
      const busy = state?.state === "working";
      on("working").hidden = !busy;
      on("working").classList.toggle("pl-quiet", Boolean(state?.asked));
      if (!busy) return;
      on("doing").textContent = state.text || "One moment…";
      on("working").querySelector("i").style.width = `${100 * state.share}%`;
      on("working").querySelector(".pl-bar").setAttribute("aria-valuenow", Math.round(100 * state.share));
    };

    // -- painting

    const take = (state) => {
      for (const frame of state.frames ?? []) {
        shown.frames[frame.seed] ??= {};
        shown.frames[frame.seed][frame.strength] = { id: frame.id, shape: frame.width / frame.height };
      }
      if (state.degrees?.length) shown.degrees = state.degrees;
      if (state.variety) shown.variety = state.variety;
      work(state);
      const count = JSON.stringify([shown.frames, shown.variety]);
      if (count !== take.seen) lay();
      else flip();
      take.seen = count;
    };

    const stop = (one) => {
      one.stopped = true; // it may have no id yet
      return one.id && kit.ask(`jobs/${one.id}/stop`, {});
    };

    const run = async (wish, fresh) => {
      const mine = (job = { id: null });
      try {
        work({ state: "working", text: "One moment…", share: 0 });
        const begun = await kit.ask("paint", { ...wish, page: me });
        mine.id = begun.job;
        if (mine.stopped) await stop(mine);
        const end = await kit.follow(begun.job, (state) => job === mine && take(state));
        if (job !== mine) return;
        if (end.note && end.state !== "failed") kit.say(end.note);
        if (end.state === "failed") {
          if (fresh || !strengths().length) Object.assign(shown, { frames: {}, degrees: [] }), lay(), message("That did not work", end.error);
          else kit.say(end.error);
        } else if (end.state === "stopped" && !strengths().length) message("Stopped", "Paint starts again.");
      } catch (error) {
        if (job !== mine) return;
        if (strengths().length) kit.say(error.message);
        else message("That did not work", error.message);
      } finally {
        if (job === mine) {
          job = null;
          work(null);
          keep();
          document.dispatchEvent(new CustomEvent("palate:painted"));
        }
      }
    };

    const fillIn = (seed) => {
      const wish = shown.wish;
      if (!wish?.tastes?.length || [0, 0.5, 1, 1.5, 2].every((one) => shown.frames[seed]?.[one])) return;
      run({ ...wish, seeds: [seed] }, false);
    };

    const keep = () => kit.keep("easel", { ...shown, strength: Number(slider.value) });

    kit.easel = {
      strength: () => Number(slider.value),
      setStrength: (value) => ((slider.value = value), flip()),
      /** Paint a wish; what is on the easel goes, unless only the strength is another. */
      paint: (wish) => {
        const same = JSON.stringify({ ...shown.wish, strength: 0 }) === JSON.stringify({ ...wish, strength: 0 });
        const before = same ? shown : {};
        shown = { wish, frames: before.frames ?? {}, degrees: before.degrees ?? [], seed: wish.seeds.includes(before.seed) ? before.seed : wish.seeds[0] };
        answers = same ? answers : {};
        if (on("canvas").getBoundingClientRect().top > innerHeight / 2) easel.scrollIntoView({ block: "start", behavior: "smooth" }); // on a phone
        const first = [shown.seed, ...wish.seeds.filter((seed) => seed !== shown.seed)];
        lay();
        if (!strengths().length) message("", "");
        return run({ ...wish, seeds: first }, !same);
      },
      /** Show what this person had on the easel. */
      arrive: () => {
        if (job) kit.trying(stop)(job); // it was for somebody else
        job = null;
        work(null);
        const kept = kit.kept("easel");
        const sound = kept.frames && kept.wish && kept.frames[kept.seed];
        shown = sound ? kept : {};
        answers = {};
        if (typeof kept.strength === "number") slider.value = kept.strength;
        lay();
      },
    };

    // -- mouse, finger and keys

    const hold = (really) => {
      held = really;
      flip();
    };
    const prefer = kit.trying(async () => {
      const two = pair();
      if (!two || pending || answers[`${two.chosen} ${two.rejected}`]) return;
      pending = true;
      counterparts();
      try {
        const answer = await kit.ask("prefer", { ...two, person: kit.person() });
        delete answers[`${two.rejected} ${two.chosen}`];
        answers[`${two.chosen} ${two.rejected}`] = answer.comparison;
        window.palate.count(answer.answers);
      } finally {
        pending = false;
        counterparts();
      }
    });
    const takeBack = kit.trying(async () => {
      const two = pair();
      const key = two && `${two.chosen} ${two.rejected}`;
      if (!key || !answers[key]) return;
      const told = await kit.ask("prefer/undo", { comparison: answers[key], person: kit.person() });
      window.palate.count(told.answers);
      delete answers[key];
      counterparts();
      act("prefer").focus();
    });
    const full = () => {
      const all = strengths();
      const items = all.map((one) => ({ id: frames()[one].id }));
      if (items.length) kit.view(items, all.indexOf(nearest(Number(slider.value))));
    };

    slider.addEventListener("input", flip);
    slider.addEventListener("change", keep);
    act("prefer").addEventListener("click", prefer);
    act("undo-prefer").addEventListener("click", takeBack);
    act("full").addEventListener("click", full);
    act("stop").addEventListener("click", kit.trying(async () => job && stop(job)));
    let pressed = 0;
    let waiting = 0;
    for (const target of [on("canvas"), act("hold")]) {
      target.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !strengths().length) return;
        pressed = performance.now();
        waiting = setTimeout(() => hold(true), target === act("hold") ? 0 : HOLD);
      });
      for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
        target.addEventListener(end, () => {
          clearTimeout(waiting);
          const tapped = end === "pointerup" && target === on("canvas") && pressed && !held;
          pressed = 0;
          if (held) hold(false);
          if (tapped) full();
        });
      }
      target.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
    }
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || window.palate.shown() !== "generate") return;
      const target = event.target instanceof Element ? event.target : document.body;
      if (target !== slider && window.palate.typing(target, event.key)) return;
      if (target.closest("dialog")) return;
      const key = event.key.toLowerCase();
      if (key === "b" && act("hold").disabled === false) hold(true);
      else if (event.repeat) return;
      else if (key === "p") prefer();
      else if (key === "u") takeBack();
      else if (key === "f" || (key === "enter" && target === on("canvas"))) full();
    });
    document.addEventListener("keyup", (event) => event.key.toLowerCase() === "b" && held && hold(false));
    addEventListener("blur", () => held && hold(false));
    lay();
  });
})();
