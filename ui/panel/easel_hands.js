// Hands on the easel: prefer a picture, hold it to see the one without, open it at full size; mouse, finger and keys.
(() => {
  const kit = window.palateKit;
  const { part } = kit;
  const HOLD = 180; // ms: a shorter press opens the picture at full size

  kit.when("#palate-generate-page", (page) => {
    const easel = part(page, "easel");
    const canvas = part(easel, "canvas"), slider = part(easel, "strength");
    const act = (name) => easel.querySelector(`[data-act="${name}"]`);
    const hands = kit.easel;
    let answers = {}; // comparison ids by "chosen rejected"
    let pending = false;

    const counterparts = () => {
      const two = hands.pair();
      const given = two && answers[`${two.chosen} ${two.rejected}`];
      act("prefer").disabled = !two || Boolean(given) || pending;
      act("prefer").firstChild.textContent = given ? "Noted" : "I prefer this one";
      act("undo-prefer").hidden = !given;
      act("hold").disabled = !hands.twofold();
    };

    const prefer = kit.trying(async () => {
      const two = hands.pair();
      if (!two || pending || answers[`${two.chosen} ${two.rejected}`]) return;
      pending = true;
      counterparts();
      try {
        const who = kit.person();
        const answer = await kit.ask("prefer", { ...two, person: who });
        if (who !== kit.person()) return; // it is stored, and not theirs who choose now
        delete answers[`${two.rejected} ${two.chosen}`];
        answers[`${two.chosen} ${two.rejected}`] = answer.comparison;
        window.palate.count(answer.answers);
      } finally {
        pending = false;
        counterparts();
      }
    });
    const takeBack = kit.trying(async () => {
      const two = hands.pair();
      const key = two && `${two.chosen} ${two.rejected}`;
      if (!key || !answers[key]) return;
      const who = kit.person();
      const told = await kit.ask("prefer/undo", { comparison: answers[key], person: who });
      if (who !== kit.person()) return;
      window.palate.count(told.answers);
      delete answers[key];
      counterparts();
      act("prefer").focus();
    });

    act("prefer").addEventListener("click", prefer);
    act("undo-prefer").addEventListener("click", takeBack);
    act("full").addEventListener("click", hands.full);
    act("stop").addEventListener("click", kit.trying(async () => hands.stop()));
    let pressed = 0;
    let waiting = 0;
    for (const target of [canvas, act("hold")]) {
      target.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !hands.any()) return;
        pressed = performance.now();
        waiting = setTimeout(() => hands.hold(true), target === act("hold") ? 0 : HOLD);
      });
      for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
        target.addEventListener(end, () => {
          clearTimeout(waiting);
          const tapped = end === "pointerup" && target === canvas && pressed && !hands.held();
          pressed = 0;
          if (hands.held()) hands.hold(false);
          if (tapped) hands.full();
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
      if (key === "b" && act("hold").disabled === false) hands.hold(true);
      else if (event.repeat) return;
      else if (key === "p") prefer();
      else if (key === "z" || key === "u") takeBack();
      else if (key === "f" || (key === "enter" && target === canvas)) hands.full();
    });
    document.addEventListener("keyup", (event) => event.key.toLowerCase() === "b" && hands.held() && hands.hold(false));
    document.addEventListener("palate:flipped", counterparts);
    document.addEventListener("palate:person", () => (answers = {}));
    addEventListener("blur", () => hands.held() && hands.hold(false));
    hands.flip();
  });
})();
