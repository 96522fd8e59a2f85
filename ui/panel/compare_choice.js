// What to compare: pictures from prompts, or a folder of one's own. A dialog, opened by the words under the question.
(() => {
  const byId = (id) => document.getElementById(id);
  const dialog = () => byId("palate-choice");
  const kind = () => dialog().querySelector("[name=kind]:checked").value;
  const fields = () => {
    for (const field of dialog().querySelectorAll("[data-kind]")) field.hidden = field.dataset.kind !== kind();
  };

  const open = () => {
    const wanted = window.palateCompare.wanted();
    dialog().querySelector(`[value=${wanted.folder ? "folder" : "prompts"}]`).checked = true;
    byId("palate-wanted-prompt").value = wanted.prompt;
    byId("palate-wanted-folder").value = wanted.folder;
    dialog().querySelector(".pl-wrong").hidden = true;
    fields();
    dialog().showModal();
    dialog().querySelector("[data-kind]:not([hidden]) > :last-child").focus();
  };

  const use = async () => {
    const wrong = dialog().querySelector(".pl-wrong");
    const folder = kind() === "folder" ? byId("palate-wanted-folder").value : "";
    const prompt = kind() === "folder" ? "" : byId("palate-wanted-prompt").value;
    try {
      if (kind() === "folder" && !folder.trim()) throw new Error("Give the path of a folder.");
      const told = await window.palateCompare.want({ prompt, folder });
      if (told && told.found !== null) window.palateKit.say(`Found ${told.found} pictures.`);
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
      return;
    }
    dialog().close();
    document.activeElement?.blur();
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest("#palate-about")) open();
    if (target.closest("#palate-choice [data-close]") || target === dialog()) dialog().close();
  });
  document.addEventListener("change", (event) => event.target.closest?.("#palate-choice") && fields());
  document.addEventListener("submit", (event) => {
    if (!event.target.closest("#palate-choice")) return;
    event.preventDefault();
    use();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "palate-wanted-prompt" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    use();
  });
})();
