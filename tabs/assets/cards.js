// A choice among pictures with names: radio buttons in looks and in the keyboard. With `multiple` any number can be on:
// the value is their ids, a click tells its id by `release`, and the server answers with the new value.
const root = element.querySelector(".cards");
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
  const empty = element.querySelector(".nothing");
  empty.textContent = props.nothing || "";
  empty.hidden = items.length > 0;
  if (focused) (root.querySelector(`[data-id="${CSS.escape(focused)}"]`) || root.firstElementChild)?.focus();
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
  const all = [...root.children];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  choose(next.dataset.id);
  root.querySelector('[aria-checked="true"]')?.focus();
});
draw();
watch(["value", "choices"], draw);
