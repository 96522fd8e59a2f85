// Generate, the right side: pictures of one seed at several strengths lie on top of each other, and the slider shows
// the nearest one. They are all loaded before they can be seen, so that moving the slider asks nobody for anything.
// Pictures with other weights of the tastes are kept likewise: while weights are moved the nearest of them is shown.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const SLIDER = [0, 0.5, 1, 1.5, 2]; // strengths that the panel paints for the slider
  const SAME = 0.004; // between two weights that make one picture

  kit.when("#palate-generate-page", (page) => {
    const easel = part(page, "easel");
    const on = (name) => part(easel, name);
    const slider = on("strength");
    const me = Math.random().toString(36).slice(2); // this page, whose newer wishes replace older ones
    let shown = {}; // {wish, frames: {seed: {strength: {id}}}, blends: [{weights, seed, strength, id}], degrees, seed}
    let job = null;
    let held = false;

    const frames = () => shown.frames?.[shown.seed] ?? {};
    const strengths = () => Object.keys(frames()).map(Number).sort((a, b) => a - b);
    const nearest = (value) => strengths().reduce((best, one) => (best === null || Math.abs(one - value) < Math.abs(best - value) ? one : best), null);
    const now = () => (held ? 0 : nearest(Number(slider.value)));
    const weightsOf = (wish) => wish.tastes.map((one) => one.weight);
    /** All of a wish but strength, seeds and weights: where it is the same, pictures with other weights are of use. */
    const bare = (wish) => wish && JSON.stringify({ ...wish, strength: 0, seeds: [], tastes: wish.tastes.map((one) => one.source) });

    // -- what is seen

    const flip = () => {
      const value = Number(slider.value), strength = now(), about = strength !== null && frames()[strength]?.about;
      on("value").textContent = kit.number(value);
      slider.style.setProperty("--pl-share", `${(100 * value) / 2}%`);
      for (const picture of on("frames").children) picture.classList.toggle("pl-on", Number(picture.dataset.strength) === strength);
      on("tag").hidden = strength === null;
      on("tag").textContent = strength === 0 ? "as it is" : `strength ${kit.number(strength ?? 0)}${about ? " · nearest so far" : ""}`;
      on("canvas").setAttribute("aria-label", strength === null ? "No picture yet" : `Seed ${shown.seed}, strength ${strength}: ${shown.wish?.prompt ?? ""}`);
      const degrees = shown.degrees?.[Math.round(value / 0.05)];
      const limit = shown.wish?.limit ?? 60;
      const other = !held && strength !== null && Math.abs(strength - value) > 0.001 && strengths().length > 1;
      const turns = degrees === undefined ? "" : `turns the prompt by ${Math.round(degrees)}°${degrees >= limit - 0.1 ? ", the limit" : ` of ${limit}° at most`}${other ? `; Paint makes ${kit.number(value)} exactly` : ""}`;
      on("turned").textContent = [shown.given, shown.given && turns ? `It ${turns}` : turns].filter(Boolean).join(" ") || "\u00a0";
      document.dispatchEvent(new CustomEvent("palate:flipped"));
    };

    /** The picture that is seen and its counterpart, ids of the gallery; null where there are no two. */
    const pair = () => {
      const strength = nearest(Number(slider.value));
      const all = strengths();
      const other = strength === 0 ? (frames()[shown.wish?.strength] ? shown.wish.strength : all.at(-1)) : 0;
      if (strength === null || all.length < 2 || strength === other) return null;
      const [first, second] = [frames()[strength], frames()[other]];
      return !first || !second || first.about || second.about ? null : { chosen: first.id, rejected: second.id };
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
      const seeds = Object.keys(shown.frames ?? {});
      on("canvas").style.aspectRatio = Object.values(frames())[0]?.shape ?? 1;
      on("empty").hidden = wanted.length > 0;
      on("acts").hidden = wanted.length === 0;
      on("marks").replaceChildren(...wanted.map(([strength]) => make("option", { value: strength })));
      on("thumbs").replaceChildren(...seeds.map(thumb));
      on("variety").textContent = shown.variety || "\u00a0";
      on("thumbs").hidden = seeds.length < 2;
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

    // -- other weights

    const apart = (one, other) => Math.hypot(...one.map((value, index) => value - other[index]));
    const tried = (seed, strength) => (shown.blends ?? []).filter((one) => one.seed === seed && one.strength === strength);
    const remember = (picture, weights, seed, strength) => {
      shown.blends = tried(seed, strength).some((one) => apart(one.weights, weights) < SAME) ? shown.blends : [...(shown.blends ?? []), { ...picture, weights, seed, strength }];
    };

    const letGo = () => (kit.trying(stop)(job), (job = null), work(null));

    /** Show the nearest that there is to these weights. Gives whether the easel is about the same wish. */
    const lean = (wish) => {
      if (!strengths().length || bare(wish) !== bare(shown.wish)) return false;
      const wanted = weightsOf(wish), strength = wish.strength;
      if (job && apart(weightsOf(job.wish), wanted) >= SAME) letGo();
      const best = tried(shown.seed, strength).reduce((one, other) => (!one || apart(other.weights, wanted) < apart(one.weights, wanted) ? other : one), null);
      const seen = best ?? frames()[nearest(strength)];
      const about = !best || apart(best.weights, wanted) >= SAME;
      shown.frames[shown.seed] = { ...(frames()[0] ? { 0: frames()[0] } : {}), ...(strength > 0 ? { [strength]: { id: seen.id, shape: seen.shape, about } } : {}) };
      shown.degrees = [];
      lay();
      return true;
    };

    // -- painting

    const take = (state, wish) => {
      if (state.strength !== undefined && state.strength !== wish.strength) {
        wish.strength = shown.wish.strength = state.strength; // no user could be made of the answers: the prompt is moved instead
        slider.value = state.strength;
      }
      for (const frame of state.frames ?? []) {
        const picture = { id: frame.id, shape: frame.width / frame.height };
        if (frame.strength > 0) remember(picture, frame.weights ?? weightsOf(wish), frame.seed, frame.strength);
        if (frame.weights && apart(frame.weights, weightsOf(wish)) >= SAME) continue;
        shown.frames[frame.seed] ??= {};
        shown.frames[frame.seed][frame.strength] = picture;
      }
      if (state.degrees?.length) shown.degrees = state.degrees;
      if (!shown.frames[shown.seed] && state.frames?.length) shown.seed = state.frames[0].seed; // the best of several is another
      if (state.variety) shown.variety = state.variety;
      if (wish.best === shown.wish?.best) shown.given = state.given ?? ""; // not by what only fills the slider of one seed
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
      const mine = (job = { id: null, wish });
      try {
        work({ state: "working", text: "One moment…", share: 0 });
        const begun = await kit.ask("paint", { ...wish, page: me });
        mine.id = begun.job;
        if (mine.stopped) await stop(mine);
        const end = await kit.follow(begun.job, (state) => job === mine && take(state, wish));
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
      const there = (one) => shown.frames[seed]?.[one] && !shown.frames[seed][one].about;
      if (!wish?.tastes?.length || SLIDER.every(there)) return;
      run({ ...wish, seeds: [seed], best: 1 }, false);
    };

    // Under who wished for it: somebody else may choose by the time it is painted.
    const keep = () => kit.keep("easel", { ...shown, strength: Number(slider.value) }, shown.wish?.person);

    kit.easel = {
      strength: () => Number(slider.value),
      setStrength: (value) => ((slider.value = value), flip()),
      pair,
      flip,
      keep,
      lean,
      any: () => strengths().length > 0,
      twofold: () => Boolean(frames()[0]) && strengths().length > 1,
      held: () => held,
      hold: (really) => ((held = really), flip()),
      stop: () => job && stop(job),
      /** Open what is seen at full size, with the other strengths beside it. */
      full: () => {
        const items = strengths().map((one) => ({ id: frames()[one].id }));
        if (items.length) kit.view(items, strengths().indexOf(nearest(Number(slider.value))));
      },
      /** Paint a wish; what is on the easel goes, unless only the strength is another. */
      paint: (wish, blends = []) => {
        const chosen = wish.best > 1; // new answers choose other seeds: the old ones go
        const same = !chosen && JSON.stringify({ ...shown.wish, strength: 0 }) === JSON.stringify({ ...wish, strength: 0 });
        const before = same ? shown : {};
        const kept = bare(wish) === bare(shown.wish) ? shown.blends : [];
        shown = { wish, frames: before.frames ?? {}, blends: kept, degrees: before.degrees ?? [], seed: before.seed ?? wish.seeds[0] };
        if (on("canvas").getBoundingClientRect().top > innerHeight / 2) easel.scrollIntoView({ block: "start", behavior: "smooth" }); // on a phone
        const first = chosen || !wish.seeds.includes(shown.seed) ? wish.seeds : [shown.seed, ...wish.seeds.filter((seed) => seed !== shown.seed)];
        lay();
        if (!strengths().length) message("", "");
        return run({ ...wish, seeds: first, blends: kit.untried(blends) }, !same);
      },
      /** Paint what is on the easel with other weights, and then with those of `blends` that were not painted yet. */
      reweigh: (wish, blends = []) => {
        if (!lean(wish)) return undefined;
        const seeds = [shown.seed, ...Object.keys(shown.frames).filter((seed) => seed !== shown.seed)];
        shown.wish = { ...wish, seeds: shown.wish.seeds };
        shown.variety = ""; // it was with other weights
        for (const seed of seeds.slice(1)) for (const [strength, one] of Object.entries(shown.frames[seed])) one.about = Number(strength) > 0;
        const plain = seeds.some((seed) => !shown.frames[seed][0]);
        return run({ ...wish, seeds, plain, surprise: 0, blends: kit.untried(blends) }, false);
      },
      /** Show what this person had on the easel. */
      arrive: () => {
        if (job) letGo(); // it was for somebody else
        const kept = kit.kept("easel");
        const sound = kept.frames && kept.wish && kept.frames[kept.seed];
        shown = sound ? kept : {};
        if (typeof kept.strength === "number") slider.value = kept.strength;
        lay();
      },
    };
    /** Of these weights those that the seed on the screen was not painted with yet. */
    kit.untried = (blends) => blends.filter((weights) => !tried(shown.seed, Number(slider.value)).some((one) => apart(one.weights, weights) < SAME));
    /** Weights that there are pictures of, for the triangle to mark. */
    kit.easel.marks = () => tried(shown.seed, Number(slider.value)).map((one) => one.weights);
    slider.addEventListener("input", flip);
    slider.addEventListener("change", keep);
    lay();
  });
})();
