"use strict";
// The browser of pairs. All that a model wrote is set as text (textContent), never as markup;
// formulas are built element by element from the fixed list of names that the page was made with.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const CHUNK = 20;

const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("pairs");
const blank = document.getElementById("pair-template").content.firstElementChild;
const form = document.getElementById("filters");
const place = new Map(data.pairs.map((pair, i) => [pair.id, i]));
const marks = loadMarks();
let shown = data.pairs;
let drawn = 0;
let current = -1;
let asWritten = false;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function formula([name, attributes, ...children]) {
  const made = document.createElementNS(MATHML, name === "menclose" ? "mrow" : name);
  if (name === "menclose") made.classList.add("boxed");
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  for (const child of children) {
    made.append(typeof child === "string" ? child : formula(child));
  }
  return made;
}

function writeSpans(into, spans) {
  into.replaceChildren();
  for (const [text, mark, tree] of spans) {
    const holder = mark === "new" ? element("mark") : mark ? element("span", mark) : into;
    const said = text.trimEnd();
    holder.append(tree && !asWritten ? formula(tree) : said);
    if (holder !== into) into.append(holder);
    into.append(text.slice(said.length));
  }
}

const number = new Intl.NumberFormat("en");

function fillSide(side, said, kind, name) {
  const head = side.querySelector("h3");
  head.append(element("b", "", name));
  if (said.answer !== null) {
    const answer = element("span", "", "answer ");
    answer.append(element("b", "", said.answer));
    head.append(answer);
  }
  head.append(element("span", "", verdict(said, kind, name)));
  head.append(element("span", "", number.format(said.tokens) + " tokens"));
  if (said.finish !== "stop") head.append(element("span", "", "ended by " + said.finish));
  writeSpans(side.querySelector(".text"), said.text);
  hidden(side, said.hidden);
}

function verdict(said, kind, name) {
  if (kind === "dropout_ntp") return name === "Chosen" ? "whole response" : "went on without the image";
  if (kind === "judged") return name === "Chosen" ? "the better text to the judge" : "the worse text to the judge";
  const words = { format: "no clear final answer", truncated: "cut at max_tokens" };
  const outcome = name === "Chosen" ? "correct" : words[kind] || "incorrect";
  return said.rule ? `${outcome} by rule ${said.rule}` : outcome;
}

function hidden(where, count) {
  if (count) where.append(element("p", "soft small", `… ${number.format(count)} more characters in the pair itself`));
}

function draw(pair, before) {
  const card = blank.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  card.id = pair.id;
  find(".tag").textContent = pair.kind;
  find(".source").textContent = pair.source;
  find(".rate").textContent = pair.rate === null ? "" : `${Math.round(100 * pair.rate)} % of ${pair.n} right`;
  find(".seed").textContent = pair.seed;
  find(".template").textContent = pair.template;
  find(".link").textContent = pair.id.slice(0, 12);
  find(".link").href = "#" + pair.id;
  find(".mark-it").addEventListener("click", () => toggleMark(pair.id));
  pair.images.forEach((index, i) => {
    const image = element("img");
    image.src = data.images[index];
    image.alt = `image ${i + 1} of the question`;
    image.addEventListener("click", () => image.classList.toggle("big"));
    find(".shots").append(image);
  });
  if (!pair.images.length) find(".shots").remove();
  writeSpans(find(".question"), pair.question);
  hidden(find(".ask-text"), pair.hidden);
  if (pair.truth.length) {
    pair.truth.forEach((spans, i) => {
      const said = element("b");
      writeSpans(said, spans);
      find(".facts").append(i ? " · " : "Truth: ", said);
    });
  } else {
    find(".facts").textContent = "The truth is not known.";
  }
  fillSide(find(".side.good"), pair.chosen, pair.kind, "Chosen");
  fillSide(find(".side.bad"), pair.rejected, pair.kind, "Rejected");
  showMark(card, pair.id);
  if (before && before.seed === pair.seed && before.source === pair.source) {
    card.classList.add("same");  // Question and picture stand above, once.
    find(".ask").remove();
  }
  return card;
}

function drawMore(until = drawn + CHUNK) {
  const end = Math.min(until, shown.length);
  const more = document.createDocumentFragment();
  for (; drawn < end; drawn++) more.append(draw(shown[drawn], shown[drawn - 1]));
  list.append(more);
}

function haystack(pair) {
  if (pair.words === undefined) {
    const texts = [pair.question, ...pair.truth, pair.chosen.text, pair.rejected.text];
    const whole = texts.map((spans) => spans.map(([text]) => text).join(""));
    pair.words = [pair.id, pair.seed, pair.source, ...whole].join("\n").toLowerCase();
  }
  return pair.words;
}

function wanted() {
  const chosen = new FormData(form);
  const kinds = new Set(chosen.getAll("kind"));
  const source = chosen.get("source");
  const low = chosen.get("low") === "" ? null : Number(chosen.get("low")) / 100;
  const high = chosen.get("high") === "" ? null : Number(chosen.get("high")) / 100;
  const words = chosen.get("words").toLowerCase().split(/\s+/).filter(Boolean);
  return (pair) =>
    (!kinds.size || kinds.has(pair.kind)) &&
    (!source || pair.source === source) &&
    (low === null || (pair.rate !== null && pair.rate >= low)) &&
    (high === null || (pair.rate !== null && pair.rate <= high)) &&
    (!chosen.get("marked") || marks.has(pair.id)) &&
    words.every((word) => haystack(pair).includes(word));
}

function filter() {
  const keep = current >= 0 ? shown[current].id : null;
  shown = data.pairs.filter(wanted());
  drawn = 0;
  current = -1;
  list.replaceChildren();
  drawMore();
  document.getElementById("count").textContent = `${number.format(shown.length)} of ${number.format(data.pairs.length)} shown here`;
  document.getElementById("nothing").hidden = shown.length > 0;
  const again = shown.findIndex((pair) => pair.id === keep);
  if (again >= 0) select(again, false);
}

function select(index, move = true) {
  if (index < 0 || index >= shown.length) return;
  list.querySelector(".current")?.classList.remove("current");
  current = index;
  if (index >= drawn - 3) drawMore(index + CHUNK);
  const card = document.getElementById(shown[index].id);
  card.classList.add("current");
  if (!move) return;
  card.scrollIntoView({ block: "start" });
  card.focus({ preventScroll: true });
  try {
    history.replaceState(null, "", "#" + shown[index].id);
  } catch {
    // Some viewers of local files forbid it; then only the address bar stays behind.
  }
}

function nearest() {
  const cards = [...list.children];
  const index = cards.findIndex((card) => card.getBoundingClientRect().bottom > 90);
  return index < 0 ? cards.length - 1 : index;
}

function goToHash() {
  const id = location.hash.slice(1);
  if (!/^[0-9a-f]{32}$/.test(id)) return;
  document.getElementById("missing").hidden = place.has(id);
  if (!place.has(id)) return;
  if (!shown.some((pair) => pair.id === id)) {
    form.reset();
    filter();
  }
  select(shown.findIndex((pair) => pair.id === id));
}

function loadMarks() {
  const found = new Set(data.rejected);
  try {
    for (const id of JSON.parse(localStorage.getItem(data.key) || "[]")) {
      if (/^[0-9a-f]{32}$/.test(id)) found.add(id);
    }
  } catch {
    // Without storage marks last as long as the page is open.
  }
  return found;
}

function toggleMark(id) {
  if (!marks.delete(id)) marks.add(id);
  try {
    localStorage.setItem(data.key, JSON.stringify([...marks]));
  } catch {
    // As above.
  }
  const card = document.getElementById(id);
  if (card) showMark(card, id);
  countMarks();
}

function showMark(card, id) {
  const marked = marks.has(id);
  card.classList.toggle("marked", marked);
  const button = card.querySelector(".mark-it");
  button.textContent = marked ? "marked as bad" : "mark as bad";
  button.setAttribute("aria-pressed", String(marked));
}

function countMarks() {
  const save = document.getElementById("save");
  save.textContent = `save reject list (${number.format(marks.size)})`;
  save.disabled = document.getElementById("clear").disabled = marks.size === 0;
}

function rejectList() {
  const lines = [...marks].sort().map((id) => {
    const pair = data.pairs[place.get(id)];
    return pair ? `${id}  # ${pair.kind} ${pair.source} ${pair.seed}`.replace(/\s+/g, " ") : id;
  });
  return [
    `# Pairs marked as bad: ${data.name.replace(/\s+/g, " ")}`,
    "# mmpr pair (same recipe and settings) pairing.reject_list=THIS_FILE",
    ...lines,
    "",
  ].join("\n");
}

const answers = document.getElementById("undecided");
const labelKey = data.key + ":labels";

function labels() {
  return [...answers.querySelectorAll("input:checked")].map((input) => {
    const { id, seed, answer } = input.closest(".open").dataset;
    return JSON.stringify({ id, label: input.value, seed, answer });
  });
}

function countLabels() {
  const button = document.getElementById("save-labels");
  const count = labels().length;
  button.textContent = `save labels.jsonl (${number.format(count)})`;
  button.disabled = !count;
}

function setUpLabels() {
  try {
    for (const line of JSON.parse(localStorage.getItem(labelKey) || "[]")) {
      const { id, label } = JSON.parse(line);
      const inputs = [...answers.querySelectorAll("input")];
      const found = inputs.find((input) => input.name === id && input.value === label);
      if (found) found.checked = true;
    }
  } catch {
    // Without storage labels last as long as the page is open.
  }
  answers.addEventListener("change", () => {
    try {
      localStorage.setItem(labelKey, JSON.stringify(labels()));
    } catch {
      // As above.
    }
    countLabels();
  });
  document.getElementById("save-labels").addEventListener("click", () => download(labels().join("\n") + "\n", "labels.jsonl"));
  countLabels();
}

function save() {
  download(rejectList(), "reject_list.txt");
}

function download(text, name) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function clearMarks() {
  if (!confirm(`Forget all ${marks.size} marks?`)) return;
  for (const id of [...marks]) toggleMark(id);
}

function writeFormulas(written) {
  asWritten = written;
  const top = current;
  const until = drawn;
  drawn = 0;
  list.replaceChildren();
  drawMore(until);
  if (top >= 0) select(top, false);
}

const KEYS = {
  j: () => select(current < 0 ? nearest() : current + 1),
  k: () => select(current < 0 ? nearest() : current - 1),
  x: () => current >= 0 && toggleMark(shown[current].id),
  "/": () => document.getElementById("words").focus(),
  l: () => document.getElementById("as-written").click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (typing) {
    const text = event.target.type === "search" || event.target.type === "number";
    if (event.key === "Escape") event.target.blur();
    if (text || event.target.tagName === "SELECT") return;
  }
  if (Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
list.addEventListener("click", (event) => {
  const card = event.target.closest(".pair");
  if (card) select(shown.findIndex((pair) => pair.id === card.id), false);
});
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("as-written").addEventListener("change", (event) => writeFormulas(event.target.checked));
document.getElementById("save").addEventListener("click", save);
document.getElementById("clear").addEventListener("click", clearMarks);
window.addEventListener("hashchange", goToHash);
new ResizeObserver(() => document.documentElement.style.setProperty("--tools", form.offsetHeight + "px")).observe(form);
new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && drawMore(), { rootMargin: "600px" })
  .observe(document.getElementById("end"));

if (answers) setUpLabels();
document.getElementById("more").open = matchMedia("(min-width: 721px)").matches;
filter();
countMarks();
goToHash();
