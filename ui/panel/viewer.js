// A picture at full size, with what it was made with and what can be done about it; arrows go on, Escape closes.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;

  kit.when("#palate-generate-page", (page) => {
    const viewer = part(page, "viewer");
    const act = (name) => viewer.querySelector(`[data-act="${name}"]`);
    let items = []; // [{id}], or whole entries of the gallery
    let at = 0;
    let shot = null;

    const line = (name, value) => (value === "" || value === null ? [] : [make("dt", { textContent: name }), make("dd", { textContent: value })]);

    const describe = () => {
      part(viewer, "view-prompt").textContent = shot.prompt;
      const tastes = shot.tastes.map((one) => `${kit.nameOf(one.source)} ${kit.number(one.weight)}`).join(", ");
      part(viewer, "facts").replaceChildren(
        ...line("Without", shot.negative),
        ...line("Tastes", tastes),
        ...line("Strength", shot.tastes.length ? `${kit.number(shot.strength)}${shot.degrees === null ? "" : ` · turned by ${Math.round(shot.degrees)}°`}` : "as it is"),
        ...line("Seed", shot.seed),
        ...line("Model", `${shot.model} · ${shot.steps} steps · guidance ${kit.number(shot.guidance)} · ${shot.size.join("×")}`),
        ...line("Moves", shot.method),
        ...line("For", shot.person === kit.person() ? "" : shot.person),
        ...line("Painted", `${new Date(1000 * shot.created).toLocaleString()} · ${shot.seconds.toFixed(1)} s`),
      );
      star();
    };

    const star = () => {
      act("star").textContent = shot.starred ? "★ Kept" : "☆ Keep";
      act("star").setAttribute("aria-pressed", String(shot.starred));
    };

    const show = kit.trying(async () => {
      const wanted = items[at];
      part(viewer, "large").src = kit.picture(wanted.id);
      act("previous").disabled = at === 0;
      act("next").disabled = at === items.length - 1;
      shot = wanted.prompt === undefined ? null : wanted;
      if (!shot) {
        const found = await kit.ask(`gallery/${wanted.id}`);
        if (items[at] !== wanted) return;
        Object.assign(wanted, found);
        shot = wanted;
      }
      describe();
    });

    const step = (by) => {
      const next = Math.min(Math.max(at + by, 0), items.length - 1);
      if (next === at) return;
      at = next;
      show();
    };

    /** Show these pictures, this one first. */
    kit.view = (list, first) => {
      [items, at] = [list, Math.max(first, 0)];
      if (!viewer.open) viewer.showModal();
      show();
    };

    const gone = (id) => document.dispatchEvent(new CustomEvent("palate:gallery", { detail: id }));
    const acts = {
      previous: () => step(-1),
      next: () => step(1),
      close: () => viewer.close(),
      again: () => {
        viewer.close();
        kit.useSettings(shot);
      },
      star: kit.trying(async () => {
        const kept = shot; // by the time of the answer another one may be shown
        Object.assign(kept, await kit.ask(`gallery/${kept.id}/star`, { starred: !kept.starred }));
        if (shot === kept) star();
        gone(kept.id);
      }),
      download: () => kit.download(`palate/api/gallery/${shot.id}/download`),
      delete: kit.trying(async () => {
        const deleted = shot;
        const { id } = deleted;
        await kit.ask(`gallery/${id}/delete`, {});
        if (shot === deleted) viewer.close();
        gone(id);
        kit.say("Deleted.", "Undo", kit.trying(async () => (await kit.ask(`gallery/${id}/restore`, {}), gone(id))));
      }),
    };

    viewer.addEventListener("click", (event) => {
      if (event.target === viewer) viewer.close(); // the ground behind it
      const button = event.target.closest("[data-act]");
      if (button && (shot || ["close", "previous", "next"].includes(button.dataset.act))) acts[button.dataset.act]?.();
    });
    viewer.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (by) event.preventDefault(), step(by);
      else if (event.key === "s" && shot) acts.star();
      else if (event.key === "d" && shot) acts.download();
    });
  });
})();
