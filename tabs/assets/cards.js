// A choice among pictures with names: radio buttons in looks and in the keyboard. With `multiple` any number can be on:
// the value is their ids, a click tells its id by `release`, and the server answers with the new value. Items of a `group`
// stand below its name; of one that is not the last only the first row is shown until the others are asked for.
const root = element.querySelector(".cards");
const search = element.querySelector(".search");
let drawn;
let folded = true;
const cards = () => [...root.querySelectorAll("[data-id]")];
function draw() {
  const items = props.choices || [];
  const wanted = JSON.stringify(items);
  if (wanted !== drawn) build(items); // a card that stays under the pointer can be clicked while others are marked
  drawn = wanted;
  cards().forEach((card, index) => {
    const { id } = items[index];
    const place = props.multiple ? (props.value || []).indexOf(id) : -1;
    const on = props.multiple ? place >= 0 : props.value === id;
    card.setAttribute("aria-checked", on);
    if (on && card.dataset.folded) card.hidden = false;
    if (on && props.multiple && props.marks) card.dataset.mark = props.marks[place];
    else delete card.dataset.mark;
  });
  stops();
}
// What the tab key reaches: of radio buttons the chosen one, or the first that can be seen.
function stops() {
  const seen = cards().filter((card) => !card.hidden);
  const one = seen.find((card) => card.getAttribute("aria-checked") === "true") || seen[0];
  for (const card of cards()) card.tabIndex = props.multiple || card === one ? 0 : -1;
}
function build(items) {
  root.classList.toggle("nameless", items.every((item) => !item.name));
  root.style.setProperty("--columns", props.columns || 4);
  root.setAttribute("role", props.multiple ? "group" : "radiogroup");
  root.setAttribute("aria-label", props.title || "");
  const focused = root.contains(document.activeElement) && document.activeElement.dataset.id;
  const made = items.map((item, index) => {
      const card = document.createElement("button");
      card.type = "button";
      card.dataset.id = item.id;
      card.setAttribute("role", props.multiple ? "checkbox" : "radio");
      card.title = item.about || item.name || "";
      card.setAttribute("aria-label", item.name || item.about || `Choice ${index + 1}`);
      if (item.image) {
        const image = document.createElement("img");
        image.loading = "lazy";
        image.src = item.image;
        image.alt = "";
        card.append(image);
      }
      if (item.name) {
        const name = document.createElement("span");
        name.textContent = item.name;
        card.append(name);
      }
      if (item.note) {
        const note = document.createElement("small");
        note.textContent = item.note;
        card.append(note);
      }
      if (item.own) card.classList.add("own");
      card.addEventListener("click", () => choose(item.id));
      return card;
  });
  const names = [...new Set(items.map((item) => item.group || ""))];
  root.replaceChildren(...names.flatMap((name) => {
    const own = made.filter((_, index) => (items[index].group || "") === name);
    return name ? [group(name, own, name !== names.at(-1))] : own;
  }));
  search.hidden = !props.search || items.length < 8;
  search.placeholder = `Search ${items.length} directions`;
  search.setAttribute("aria-label", search.placeholder);
  look();
  const empty = element.querySelector(".nothing");
  empty.textContent = props.nothing || "";
  empty.hidden = items.length > 0;
  if (focused) (root.querySelector(`[data-id="${CSS.escape(focused)}"]`) || cards()[0])?.focus();
}
function group(name, members, folds) {
  const whole = document.createElement("div");
  whole.className = "group";
  whole.setAttribute("role", "group");
  whole.setAttribute("aria-label", name);
  const title = document.createElement("h4");
  title.textContent = name;
  whole.append(title, ...members);
  const first = props.columns || 4;
  if (!folds || members.length <= first) return whole;
  for (const card of members.slice(first)) card.dataset.folded = "yes";
  const all = document.createElement("button");
  all.type = "button";
  all.className = "all";
  all.dataset.count = members.length;
  all.addEventListener("click", () => {
    folded = !folded;
    look();
  });
  whole.append(all);
  return whole;
}
// Those whose name or description has all the words that were typed; without any, all that are not folded away.
function look() {
  const words = search.hidden ? [] : search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  cards().forEach((card, index) => {
    const { name = "", about = "" } = (props.choices || [])[index] || {};
    const text = `${name} ${about}`.toLowerCase();
    card.hidden = !words.every((word) => text.includes(word));
    found += !card.hidden;
    if (!words.length && folded && card.dataset.folded && card.getAttribute("aria-checked") !== "true") card.hidden = true;
  });
  for (const part of root.querySelectorAll(".group")) {
    const all = part.querySelector(".all");
    part.hidden = ![...part.querySelectorAll("[data-id]")].some((card) => !card.hidden);
    if (!all) continue;
    all.hidden = words.length > 0;
    all.textContent = folded ? `Show all ${all.dataset.count}` : "Show fewer";
    all.setAttribute("aria-expanded", !folded);
  }
  stops();
  element.querySelector(".none").hidden = found > 0 || !words.length;
  fade();
}
search.addEventListener("input", look);
// A list that goes on below its frame says so.
const frame = element.closest(".scroll");
function fade() {
  frame?.classList.toggle("more", frame.scrollHeight - frame.clientHeight - frame.scrollTop > 6);
}
if (frame) {
  frame.addEventListener("scroll", fade);
  new ResizeObserver(fade).observe(frame);
  new ResizeObserver(fade).observe(root);
}
function choose(id) {
  if (props.multiple) return trigger("release", { id });
  props.value = id;
  draw();
  trigger("input");
}
root.addEventListener("keydown", (event) => {
  if (props.multiple) return;
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = cards().filter((card) => !card.hidden);
  if (!all.includes(document.activeElement)) return;
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  choose(next.dataset.id);
  root.querySelector('[aria-checked="true"]')?.focus();
});
draw();
watch(["value", "choices"], draw);
