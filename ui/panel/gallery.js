// The gallery under the easel: newest first, a page at a time.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;

  kit.when("#palate-generate-page", (page) => {
    const gallery = part(page, "gallery");
    const more = gallery.querySelector('[data-act="more"]');
    let shots = [];

    const tile = (shot) => {
      const strength = shot.tastes.length ? `strength ${kit.number(shot.strength)}` : "as it is";
      const open = () => kit.view(shots, shots.indexOf(shot));
      return make(
        "button",
        { type: "button", className: "pl-tile", onclick: open, data: { id: shot.id }, "aria-label": `${shot.prompt}, seed ${shot.seed}, ${strength}` },
        make("img", { src: kit.picture(shot.id), alt: "", loading: "lazy", draggable: false }),
        make("span", { textContent: shot.prompt }),
        make("small", { textContent: `${strength}${shot.starred ? " · ★" : ""}` }),
      );
    };

    const load = async (before) => {
      const between = part(gallery, "between").checked;
      const found = await kit.ask(`gallery?between=${between}${before === undefined ? "" : `&before=${before}`}`);
      shots = before === undefined ? found.shots : [...shots, ...found.shots];
      part(gallery, "grid").replaceChildren(...shots.map(tile));
      part(gallery, "none").hidden = shots.length > 0;
      more.hidden = !found.more;
    };

    const refresh = kit.trying(() => load());
    more.addEventListener("click", kit.trying(() => load(shots.at(-1)?.created)));
    part(gallery, "between").addEventListener("change", refresh);
    document.addEventListener("palate:painted", refresh);
    document.addEventListener("palate:gallery", refresh);
    document.addEventListener("palate:front", () => window.palate.shown() === "generate" && refresh());
    if (window.palate?.shown() === "generate") refresh();
  });
})();
