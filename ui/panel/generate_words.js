// Generate, below the prompt: words that the tastes like and it doesn't say yet. A click adds one; the prompt stays yours.
(() => {
  const kit = (window.palateKit ??= {});
  const { make, part } = kit;
  const REST = 400; // ms without a key before words are looked for

  /** Offer words for what is typed; `tastes()` is the list of tastes. Returns what to call when they are others. */
  kit.likedWords = (form, tastes) => {
    const offers = part(form, "words"), prompt = part(form, "prompt"), negative = part(form, "negative");
    let asked = 0;
    let waiting = null;

    const add = (input, text) => {
      const before = input.value.trimEnd().replace(/,$/, "");
      input.focus();
      input.setSelectionRange(before.length, input.value.length);
      const more = before ? `, ${text}` : text;
      // Typing for the person keeps the browser's own undo.
      if (!document.execCommand("insertText", false, more)) input.setRangeText(more, before.length, input.value.length, "end");
      input.dispatchEvent(new Event("input", { bubbles: true }));
      look();
    };

    const chip = (input, text, sign, says) =>
      make("button", { type: "button", className: "pl-word", textContent: text, title: says, "aria-label": `${says}: ${text}`, onclick: () => add(input, text), data: { sign } });

    const show = ({ liked, disliked }) => {
      disliked = disliked.filter((text) => !negative.value.includes(text));
      offers.hidden = !liked.length && !disliked.length;
      offers.replaceChildren(
        make("span", { className: "pl-hint", textContent: "Say what you like:" }),
        ...liked.map((text) => chip(prompt, text, "+", "Add to the prompt")),
        ...disliked.map((text) => chip(negative, text, "−", "Add to Without")),
      );
    };

    const look = async () => {
      clearTimeout(waiting);
      const mine = ++asked;
      try {
        const found = await kit.ask("words", { prompt: prompt.value, negative: negative.value, tastes: tastes() });
        if (mine === asked) show(found);
      } catch {
        if (mine === asked) offers.hidden = true; // an offer that can't be made is none; painting names what is wrong
      }
    };

    const soon = () => {
      clearTimeout(waiting);
      waiting = setTimeout(look, REST);
    };

    prompt.addEventListener("input", soon);
    return soon;
  };
})();
