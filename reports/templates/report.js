"use strict";
// The cards: loaded when a reader comes near them, drawn some at a time, filtered and sorted.
// What is shown is the page's hash, so that it can be linked to: #concept=object&q=boat, or #card=KEY for one card.
(() => {
  const AT_A_TIME = 60;
  const byId = (id) => document.getElementById(id);
  const form = byId("filter");
  const list = byId("list");
  const end = byId("end");
  const total = Number(list.dataset.total);
  const cards = [];
  const byKey = new Map();
  let matching = [];
  let drawn = 0;
  let only = null;

  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

  // Everything is made as text: a model's words never become markup.
  function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    Object.assign(made, properties);
    made.append(...children);
    return made;
  }

  function add(more) {
    for (const card of more) {
      card.place = cards.length;
      card.words = [card.title, ...card.texts.map(([, text]) => text)].flatMap(words);
      cards.push(card);
      byKey.set(card.key, card);
    }
  }

  // The beginning of a word will do, of a number only the whole: 7 is not 70.
  function has(card, wanted) {
    return card.words.some((word) => (/^\d+$/.test(wanted) ? word === wanted : word.startsWith(wanted)));
  }

  function state() {
    return new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  }

  function within(card, name, low, high) {
    if (low === null && high === null) return true;
    const value = card.scores[name]?.[0];
    return value !== undefined && (low === null || value >= Number(low)) && (high === null || value <= Number(high));
  }

  function choose(wanted) {
    const score = wanted.get("score");
    const asked = words(wanted.get("q") ?? "");
    const tags = [...wanted].filter(([key]) => !["q", "score", "low", "high", "order"].includes(key));
    const found = cards.filter(
      (card) =>
        tags.every(([key, value]) => card.tags[key] === value) &&
        asked.every((word) => has(card, word)) &&
        (score === null || within(card, score, wanted.get("low"), wanted.get("high"))),
    );
    if (score !== null) {
      const sign = wanted.get("order") === "lowest" ? 1 : -1;
      const value = (card) => card.scores[score]?.[0];
      // Cards without the score come last, whichever way.
      found.sort(
        (a, b) =>
          (value(a) === undefined) - (value(b) === undefined) || sign * (value(a) - value(b)) || a.place - b.place,
      );
    }
    return found;
  }

  function histogram({ title, edges, counts }) {
    const most = Math.max(...counts, 1);
    const bars = counts.map((count, i) => {
      const bar = element("i", { title: `${edges[i].toPrecision(3)} to ${edges[i + 1].toPrecision(3)}: ${count}` });
      // The square root, or the many small ones would hide the few large ones.
      bar.style.height = `${100 * Math.sqrt(count / most)}%`;
      return bar;
    });
    const short = (edge) => String(Number(edge.toPrecision(2)));
    const range = `${short(edges[0])} – ${short(edges[edges.length - 1])}`;
    return element(
      "figure",
      { className: "histogram", title: "a bar’s height is the square root of its count" },
      element("div", {}, ...bars),
      element("figcaption", { textContent: `${title}, ${range}` }),
    );
  }

  function picture([caption, source]) {
    const image = element("img", { loading: "lazy", decoding: "async", alt: caption, src: source });
    const figure = element("figure", {}, image, element("figcaption", { textContent: caption }));
    // A strip of pictures takes the card's whole width.
    image.addEventListener("load", () => {
      figure.className = image.naturalWidth > 2 * image.naturalHeight ? "wide" : "";
    });
    return figure;
  }

  function address(key) {
    return `#${new URLSearchParams({ card: key })}`;
  }

  function neighbours(card) {
    const links = card.related.map(([key, name]) =>
      byKey.has(key) ? element("a", { href: address(key), textContent: name }) : element("span", { textContent: name }),
    );
    return element("p", { className: "related" }, "near ", ...links);
  }

  function scores(card, names) {
    const shown = names.map((name) =>
      element("span", {}, `${name} `, element("b", { textContent: card.scores[name][1] })),
    );
    return shown.length ? [element("p", { className: "card-scores" }, ...shown)] : [];
  }

  function draw(card) {
    const article = element("article");
    article.append(element("h3", {}, element("a", { href: address(card.key), textContent: card.title })));
    const chips = Object.entries(card.tags).map(([key, value]) =>
      element("span", { className: "chip", title: key, textContent: value }),
    );
    article.append(element("p", { className: "tags" }, ...chips));
    if (card.pictures.length) article.append(element("div", { className: "pictures" }, ...card.pictures.map(picture)));
    const texts = card.texts.flatMap(([key, text]) => [
      element("dt", { textContent: key }),
      element("dd", { textContent: text }),
    ]);
    if (texts.length) article.append(element("dl", {}, ...texts));
    if (card.histogram) article.append(histogram(card.histogram));
    if (card.related.length) article.append(neighbours(card));
    const names = Object.keys(card.scores);
    // 'iou_top rolled' is the score of a control: there, but folded.
    article.append(...scores(card, names.filter((name) => !name.includes(" "))));
    const controls = scores(card, names.filter((name) => name.includes(" ")));
    if (controls.length) {
      article.append(element("details", {}, element("summary", { textContent: "controls" }), ...controls));
    }
    return article;
  }

  function more() {
    const next = matching.slice(drawn, drawn + AT_A_TIME);
    list.append(...next.map(draw));
    drawn += next.length;
    end.hidden = drawn >= matching.length;
  }

  function show() {
    matching = only === null ? choose(state()) : [byKey.get(only)].filter(Boolean);
    drawn = 0;
    list.replaceChildren();
    more();
    byId("shown").value = `${matching.length} of ${total}`;
    byId("nothing").hidden = matching.length > 0;
  }

  // One file after the other, so that cards keep their order.
  function load(sources) {
    const [next, ...rest] = sources;
    if (next === undefined) {
      form.hidden = false;
      byId("loading").hidden = true;
      show();
      new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && more(), {
        rootMargin: "1000px",
      }).observe(end);
      return;
    }
    const script = element("script", { src: next });
    script.addEventListener("load", () => load(rest));
    script.addEventListener("error", () => {
      byId("loading").textContent = `${next} can’t be read: keep it beside this page, or make the report again.`;
    });
    document.head.append(script);
  }

  let begun = false;
  function begin() {
    if (begun) return;
    begun = true;
    const inline = byId("cards-data");
    if (inline) add(JSON.parse(inline.textContent));
    load(JSON.parse(list.dataset.sources));
  }

  function read() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const fields = [...form.elements].filter((field) => field.name);
    only = wanted.get("card");
    if (only === null && !fields.some((field) => wanted.has(field.name))) return;
    for (const field of fields) field.value = wanted.get(field.name) ?? "";
    if (begun) show();
    begin();
    byId("cards").scrollIntoView();
  }

  globalThis.lmmsaeCards = add;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    only = null;
    show();
    history.replaceState(null, "", `#${state()}`);
  });
  form.addEventListener("reset", () => {
    only = null;
    setTimeout(show);
    history.replaceState(null, "", "#cards");
  });
  addEventListener("hashchange", read);
  read();
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && begin(), {
    rootMargin: "1500px",
  }).observe(byId("cards"));
})();
