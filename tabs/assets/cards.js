// A choice among pictures with names: radio buttons in looks and in the keyboard. With `multiple` any number can be on:
// the value is their ids, a click tells its id by `release`, and the server answers with the new value.
const root = element.querySelector(".cards");
const search = element.querySelector(".search");
let drawn;
function draw() {
  const items = props.choices || [];
  const wanted = JSON.stringify(items);
  if (wanted !== drawn) build(items); // a card that stays under the pointer can be clicked while others are marked
  drawn = wanted;
  [...root.children].forEach((card, index) => {
    const { id } = items[index];
    const place = props.multiple ? (props.value || []).indexOf(id) : -1;
    const on = props.multiple ? place >= 0 : props.value === id;
    card.setAttribute("aria-checked", on);
    card.tabIndex = on || props.multiple || (index === 0 && !items.some((other) => other.id === props.value)) ? 0 : -1;
    if (on && props.multiple && props.marks) card.dataset.mark = props.marks[place];
    else delete card.dataset.mark;
  });
}
function build(items) {
  root.classList.toggle("nameless", items.every((item) => !item.name));
  root.style.setProperty("--columns", props.columns || 4);
  root.setAttribute("role", props.multiple ? "group" : "radiogroup");
  root.setAttribute("aria-label", props.title || "");
  const focused = root.contains(document.activeElement) && document.activeElement.dataset.id;
  root.replaceChildren(
    ...items.map((item, index) => {
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
    }),
  );
  search.hidden = !props.search || items.length < 8;
  search.placeholder = `Search ${items.length} directions`;
  search.setAttribute("aria-label", search.placeholder);
  look();
  const empty = element.querySelector(".nothing");
  empty.textContent = props.nothing || "";
  empty.hidden = items.length > 0;
  if (focused) (root.querySelector(`[data-id="${CSS.escape(focused)}"]`) || root.firstElementChild)?.focus();
}
// Those whose name or description has all the words that were typed.
function look() {
  const words = search.hidden ? [] : search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  [...root.children].forEach((card, index) => {
    const { name = "", about = "" } = (props.choices || [])[index] || {};
    const text = `${name} ${about}`.toLowerCase();
    card.hidden = !words.every((word) => text.includes(word));
    found += !card.hidden;
  });
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
  const all = [...root.children].filter((card) => !card.hidden);
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  choose(next.dataset.id);
  root.querySelector('[aria-checked="true"]')?.focus();
});
draw();
watch(["value", "choices"], draw);
