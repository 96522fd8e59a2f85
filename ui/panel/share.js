// Share: your taste as a file, tastes brought in by button or dropped anywhere, an embedding for other tools.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;
  const SAVES = ["save-taste", "save-picture", "save-user", "save-page", "train"]; // without a taste, none of them

  kit.when("#palate-share-page", (page) => {
    const on = (name) => part(page, name);
    const act = (name) => page.querySelector(`[data-act="${name}"]`);
    let job = null;

    const told = () => document.dispatchEvent(new CustomEvent("palate:tastes"));
    const answers = (count) => `${count} answer${count === 1 ? "" : "s"}`;

    // -- your taste

    const own = async () => {
      const who = kit.person();
      for (const name of SAVES) act(name).disabled = true;
      if (!on("embedding-name").value) on("embedding-name").placeholder = `${who.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-taste`;
      word();
      let taste = null, said = "Nothing learned yet. Choose between some pictures, and your taste can be saved here.";
      try {
        taste = await kit.ask(`own?person=${encodeURIComponent(who)}`);
        if (taste.answers) said = `${answers(taste.answers)} as ${taste.person}, in ${taste.numbers} numbers for ${taste.encoder}.`;
      } catch (error) {
        said = error.message;
      }
      if (who !== kit.person()) return; // it is about whoever chose before
      on("own").textContent = said;
      for (const name of SAVES) act(name).disabled = !taste?.answers || (name === "train" && job !== null);
    };

    const save = (picture) => kit.trying(async () => {
      const saved = await kit.ask("tastes/save", { person: kit.person(), named: on("named").checked });
      const address = `palate/api/tastes/${encodeURIComponent(saved.file)}`;
      if (picture) kit.download(`${address}/picture`, saved.file.replace(/\.safetensors$/, ".png"));
      else kit.download(address);
      kit.say(`Saved as ${saved.file}.`);
      await tastes();
      told();
    });
    act("save-taste").addEventListener("click", save(false));
    act("save-picture").addEventListener("click", save(true));
    act("save-user").addEventListener("click", kit.trying(async () => {
      act("save-user").disabled = true;
      try {
        const begun = await kit.ask("users/save", { person: kit.person(), named: on("named").checked });
        const end = await kit.work(on("saving"), begun);
        if (end.state === "failed") return kit.say(end.error);
        if (end.state === "stopped") return kit.say("Stopped; nothing was kept.");
        kit.download(`palate/api/users/${encodeURIComponent(end.file)}`);
        kit.say(`Saved as ${end.file}, of your newest ${answers(end.answers)}.`);
      } finally {
        act("save-user").disabled = false;
      }
      await tastes();
      return told();
    }));

    // -- a page to show

    act("save-page").addEventListener("click", kit.trying(async () => {
      act("save-page").disabled = true;
      try {
        const told = await window.palate.ask("taste/page", { named: on("page-named").checked, prompts: on("page-prompts").checked });
        const end = await kit.work(on("paging"), told);
        if (end.state === "failed") kit.say(end.error);
        else if (end.state === "stopped") kit.say("Stopped; nothing was kept.");
        else {
          kit.download(`palate/api/pages/${encodeURIComponent(end.file)}`);
          kit.say(`Saved as ${end.path}`);
        }
      } finally {
        act("save-page").disabled = false;
      }
    }));

    // -- the shelf

    const download = (href, name) => kit.dragOut(make("a", { className: "pl-button", textContent: "Download", href, download: name, title: "Click, or drag it to where it shall go", "aria-label": `Download ${name}` }), href, name);

    const entry = (file) => {
      const use = () => (kit.useTaste(file.source), window.palate.show("generate"));
      const shelf = file.kind === "user" ? "users" : "tastes";
      const remove = kit.trying(async () => {
        await kit.ask(`${shelf}/remove`, { file: file.file });
        await tastes();
        told();
        const back = kit.trying(async () => (await kit.ask(`${shelf}/restore`, { file: file.file }), await tastes(), told()));
        kit.say(`Removed ${file.file}.`, "Undo", back);
      });
      const said = file.answers === undefined ? "" : [file.kind === "user" ? "user file" : "", answers(file.answers), file.encoder].filter(Boolean).join(" · ");
      return make(
        "li",
        { data: { file: file.file } },
        make("span", { className: "pl-item" }, make("strong", { textContent: file.name ?? kit.nameOf(file.source) }), make("small", { textContent: [file.file, said].filter(Boolean).join(" · ") }), file.trouble ? make("small", { className: "pl-trouble", textContent: file.trouble }) : null),
        file.fits ? make("button", { type: "button", className: "pl-button", textContent: "Use", "aria-label": `Generate with ${file.file}`, onclick: use }) : null,
        download(`palate/api/${shelf}/${encodeURIComponent(file.file)}`, file.file),
        make("button", { type: "button", className: "pl-round pl-remove", textContent: "×", "aria-label": `Remove ${file.file}`, onclick: remove }),
      );
    };

    const tastes = async () => {
      const { files } = await kit.ask("tastes");
      on("tastes").replaceChildren(...(files.length ? files.map(entry) : [make("li", { className: "pl-hint", textContent: "None yet." })]));
    };

    const bring = kit.trying(async (files) => {
      const good = [], bad = [];
      for (const file of files) {
        try {
          good.push(await kit.ask(`tastes?name=${encodeURIComponent(file.name)}`, file));
        } catch (error) {
          bad.push(error.message);
        }
      }
      if (good.length) {
        await tastes();
        told();
      }
      const names = good.map((one) => (one.kind === "user" ? `${one.name}, as a user file` : one.name)).join(", ");
      const fitting = good.filter((one) => one.fits);
      const text = [names && `Added the taste of ${names}.`, ...good.map((one) => one.trouble), ...bad].filter(Boolean).join(" ");
      if (fitting.length) kit.say(text, "Use it", () => (fitting.forEach((one) => kit.useTaste(one.source)), window.palate.show("generate")));
      else if (text) kit.say(text);
    });

    act("choose-taste").addEventListener("click", () => on("taste-file").click());
    on("taste-file").addEventListener("change", async (event) => {
      await bring([...event.target.files]);
      event.target.value = "";
    });

    let veil = null;
    addEventListener("dragover", (event) => {
      if (!kit.brings(event)) return;
      event.preventDefault();
      if (veil) return;
      veil = make("div", { className: "pl-drop" }, make("p", { textContent: "Drop to bring in a taste or a user file" }));
      document.body.append(veil);
    });
    const lift = () => (veil?.remove(), (veil = null));
    addEventListener("dragleave", (event) => event.relatedTarget === null && lift());
    addEventListener("drop", (event) => {
      lift();
      if (!kit.brings(event) || event.defaultPrevented) return;
      event.preventDefault();
      bring([...event.dataTransfer.files]);
    });

    // -- the embedding

    const word = () => {
      const name = on("embedding-name").value.trim() || on("embedding-name").placeholder;
      for (const place of page.querySelectorAll('[data-part="word"]')) place.textContent = name;
    };

    const work = (state) => {
      const busy = state?.state === "working";
      act("train").disabled = busy;
      act("stop-training").hidden = !busy;
      const bar = busy && make("div", { className: "pl-working" }, make("div", { className: "pl-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * state.share) }, make("i")), make("span", { role: "status", textContent: state.text || "One moment…" }));
      if (busy) bar.querySelector("i").style.width = `${100 * state.share}%`;
      on("training").replaceChildren(...(busy ? [bar] : []));
    };

    const removed = kit.trying(async (file) => {
      await kit.ask("embeddings/remove", { file });
      await embeddings();
      const back = kit.trying(async () => (await kit.ask("embeddings/restore", { file }), await embeddings()));
      kit.say(`Removed ${file}.`, "Undo", back);
    });

    const embeddings = async () => {
      const { files } = await kit.ask("embeddings");
      on("embeddings").replaceChildren(
        ...files.map((file) =>
          make(
            "li",
            { data: { file: file.file } },
            make("span", { className: "pl-item" }, make("strong", { textContent: file.file }), make("small", { textContent: file.said })),
            download(`palate/api/embeddings/${encodeURIComponent(file.file)}`, file.file),
            make("button", { type: "button", className: "pl-round pl-remove", textContent: "×", "aria-label": `Remove ${file.file}`, onclick: () => removed(file.file) }),
          ),
        ),
      );
    };

    const stop = async () => {
      if (!job) return;
      job.stopped = true; // it may have no id yet
      if (job.id) await kit.ask(`jobs/${job.id}/stop`, {});
    };

    const train = kit.trying(async () => {
      if (job) return;
      const name = on("embedding-name").value.trim() || on("embedding-name").placeholder;
      job = {};
      work({ state: "working", share: 0 });
      try {
        const begun = await kit.ask("embeddings", { person: kit.person(), name, named: on("embedding-named").checked });
        job.id = begun.job;
        if (job.stopped) await stop();
        const end = await kit.follow(begun.job, work);
        if (end.state === "failed") kit.say(end.error);
        else if (end.state === "stopped") kit.say("Stopped; nothing was kept.");
        else kit.say(end.said);
        await embeddings();
      } finally {
        job = null;
        work(null);
      }
    });

    on("embedding-form").addEventListener("submit", (event) => {
      event.preventDefault();
      train();
    });
    on("embedding-name").addEventListener("input", word);
    act("stop-training").addEventListener("click", kit.trying(stop));

    const refresh = kit.trying(() => kit.person() && Promise.all([own(), tastes(), embeddings()]));
    document.addEventListener("palate:person", () => window.palate.shown() === "share" && refresh());
    document.addEventListener("palate:front", () => window.palate.shown() === "share" && refresh());
    if (window.palate?.shown() === "share") refresh();
  });
})();
