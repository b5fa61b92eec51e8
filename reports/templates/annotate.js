"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const state = { rater: "", answers: [], ...stored() };
let whole = false;
let since = performance.now();

function stored() {
  try { return JSON.parse(localStorage.getItem(data.storage)) || {}; } catch { return {}; }
}

function keep() {
  try { localStorage.setItem(data.storage, JSON.stringify(state)); } catch { /* a private window */ }
}

function show(id) {
  for (const screen of ["intro", "rate", "end"]) part(screen).hidden = screen !== id;
}

function draw() {
  const at = state.answers.length, item = data.items[at];
  if (!item) return show("end");
  show("rate");
  const masked = !whole || item.images.length < 2;
  part("picture").src = data.pictures[item.images[masked ? 0 : 1]];
  part("caption").textContent = masked ? "the lit parts count" : "the same pictures, whole";
  part("mask").disabled = item.images.length < 2;
  part("explanation").textContent = item.explanation;
  part("progress").value = at;
  part("count").textContent = `${at + 1} of ${data.items.length}`;
  part("undo").disabled = at === 0;
}

function next() {
  whole = false;
  since = performance.now();
  draw();
}

function answer(rating) {
  const item = data.items[state.answers.length];
  const seconds = Math.round(performance.now() - since) / 1000;
  const explanation = part("explanation").textContent;
  state.answers.push({ key: item.key, explanation, rating, seconds });
  keep();
  next();
}

function undo() {
  if (!state.answers.length) return;
  state.answers.pop();
  keep();
  next();
}

function toggle() {
  whole = !whole;
  draw();
}

function begin() {
  state.rater = part("rater").value.trim();
  if (!state.rater) return;
  keep();
  next();
}

function save() {
  const content = { ...data.file, rater: state.rater, ratings: state.answers };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  const name = state.rater.replace(/[^\w.-]+/g, "_");
  link.download = `ratings-${data.file.draw.run_id}-${data.file.page}-${name}.json`;
  link.click();
  part("saved").textContent = `Saved as ${link.download}.`;
}

const KEYS = {
  rate: {
    1: () => answer(1), y: () => answer(1), 0: () => answer(0), n: () => answer(0),
    "?": () => answer(null), u: () => answer(null), m: toggle, Backspace: undo, h: () => show("intro"),
  },
  end: { s: save, Backspace: undo },
  intro: { Enter: begin },
};

document.addEventListener("keydown", (event) => {
  // A key that is held down must not answer the next items.
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const screen = Object.keys(KEYS).find((id) => !part(id).hidden);
  const act = KEYS[screen][event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
for (const button of document.querySelectorAll("[data-rating]"))
  button.addEventListener("click", () => { button.blur(); answer(JSON.parse(button.dataset.rating)); });
part("rater").addEventListener("input", () => { part("begin").disabled = !part("rater").value.trim(); });
part("begin").addEventListener("click", begin);
part("mask").addEventListener("click", () => { part("mask").blur(); toggle(); });
part("undo").addEventListener("click", () => { part("undo").blur(); undo(); });
part("reopen").addEventListener("click", undo);
part("help").addEventListener("click", () => { part("help").blur(); show("intro"); });
part("save").addEventListener("click", save);

part("rater").value = state.rater;
part("begin").disabled = !state.rater;
if (state.answers.length) next();
else part("rater").focus();
