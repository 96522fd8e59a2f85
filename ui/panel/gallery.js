// The gallery under the easel: one's own pictures or everybody's, newest first, a page at a time.
(() => {
  const kit = window.palateKit;
  const { make, part } = kit;

  kit.when("#palate-generate-page", (page) => {
    const gallery = part(page, "gallery");
    const more = gallery.querySelector('[data-act="more"]');
    const whose = part(gallery, "whose");
    let shots = [];
    let person = null; // whose choice `whose` shows
    let latest = 0; // number of the request whose answer is the one to show

    /** Offer one's own pictures first, then everybody's, then those of the others who have some. */
    const offer = (people) => {
      const own = kit.person();
      const chosen = person === own ? whose.value : kit.kept("gallery").everybody ? "" : own;
      person = own;
      const others = people.filter((one) => one !== own);
      whose.replaceChildren(new Option("Yours", own), new Option("Everybody's", ""), ...others.map((one) => new Option(one, one)));
      whose.value = chosen === "" || people.includes(chosen) ? chosen : own;
      whose.hidden = others.length === 0 && whose.value === own;
    };

    const tile = (shot) => {
      const strength = shot.tastes.length ? `strength ${kit.number(shot.strength)}` : "as it is";
      const open = () => kit.view(shots, shots.indexOf(shot));
      const tile = make(
        "button",
        { type: "button", className: "pl-tile", onclick: open, data: { id: shot.id }, "aria-label": `${shot.prompt}, seed ${shot.seed}, ${strength}` },
        make("img", { src: kit.picture(shot.id), alt: "", loading: "lazy", draggable: false }),
        make("span", { textContent: shot.prompt }),
        make("small", { textContent: `${strength}${shot.starred ? " · ★" : ""}` }),
      );
      return kit.dragOut(tile, kit.picture(shot.id), `${shot.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${shot.seed}.png`, "image/png");
    };

    const load = async (before) => {
      if (!kit.person()) return; // it comes with palate:person
      const number = (latest += 1);
      if (person !== kit.person()) offer([]);
      const asked = new URLSearchParams({ between: part(gallery, "between").checked, person: whose.value });
      if (before !== undefined) asked.set("before", before);
      const found = await kit.ask(`gallery?${asked}`);
      if (number !== latest) return; // others were chosen meanwhile, or the same once more
      offer(found.people);
      shots = before === undefined ? found.shots : [...shots, ...found.shots];
      part(gallery, "grid").replaceChildren(...shots.map(tile));
      part(gallery, "none").hidden = shots.length > 0;
      more.hidden = !found.more;
    };

    const refresh = kit.trying(() => load());
    more.addEventListener("click", kit.trying(() => load(shots.at(-1)?.created)));
    part(gallery, "between").addEventListener("change", refresh);
    whose.addEventListener("change", () => {
      kit.keep("gallery", { everybody: whose.value === "" });
      refresh();
    });
    document.addEventListener("palate:person", () => window.palate.shown() === "generate" && refresh());
    document.addEventListener("palate:painted", refresh);
    document.addEventListener("palate:gallery", refresh);
    document.addEventListener("palate:front", () => window.palate.shown() === "generate" && refresh());
    if (window.palate?.shown() === "generate") refresh();
  });
})();
