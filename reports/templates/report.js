"use strict";
// The filter of the cards. Its state is the page's hash, so that a view can be linked to: #concept=object&q=boat
(() => {
  const form = document.getElementById("filter");
  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const cards = [...document.querySelectorAll("article")].map((element) => ({
    element,
    tags: JSON.parse(element.dataset.tags),
    words: [...element.querySelectorAll("h3, dd")].flatMap((part) => words(part.textContent)),
  }));

  function state() {
    return [...new FormData(form)].filter(([, value]) => value !== "");
  }

  // The beginning of a word will do, of a number only the whole: 7 is not 70.
  function has(card, wanted) {
    return card.words.some((word) => (/^\d+$/.test(wanted) ? word === wanted : word.startsWith(wanted)));
  }

  function matches(card, wanted) {
    return wanted.every(([key, value]) =>
      key === "q"
        ? words(value).every((word) => has(card, word))
        : card.tags[key] === value,
    );
  }

  function show() {
    const wanted = state();
    let shown = 0;
    for (const card of cards) {
      const visible = matches(card, wanted);
      card.element.hidden = !visible;
      shown += visible;
    }
    document.getElementById("shown").value = `${shown} of ${cards.length}`;
    document.getElementById("nothing").hidden = shown > 0;
  }

  function read() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (![...form.elements].some((field) => field.name && wanted.has(field.name))) return;
    for (const field of form.elements) if (field.name) field.value = wanted.get(field.name) ?? "";
    show();
    document.getElementById("cards").scrollIntoView();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    show();
    history.replaceState(null, "", `#${new URLSearchParams(state())}`);
  });
  form.addEventListener("reset", () => {
    setTimeout(show);
    history.replaceState(null, "", "#cards");
  });
  addEventListener("hashchange", read);
  form.hidden = false;
  read();
})();
