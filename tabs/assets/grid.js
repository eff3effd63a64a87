// The grid of a sweep: a picture per pair of strengths; a click takes that pair into the composition.
const root = element.querySelector(".grid");
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + String(Math.abs(Number(value.toFixed(2))));
function draw() {
  const value = props.value || {};
  const { acrosses = [], downs = [], images = [], units = [1, 1] } = value;
  root.hidden = !acrosses.length;
  root.dataset.done = value.done ? "yes" : "no";
  if (!acrosses.length) return root.replaceChildren();
  const downwards = value.unsigned ? (number) => String(Number(number.toFixed(2))) : signed; // guidance is no strength
  const cells = make("div", "cells");
  cells.style.setProperty("--columns", acrosses.length);
  cells.append(make("b", "corner"), ...acrosses.map((strength) => make("span", "top", signed(strength / units[0]))));
  downs.forEach((down, r) => {
    cells.append(make("span", "side", downwards(down / units[1])));
    acrosses.forEach((across, c) => {
      const cell = make("button");
      cell.type = "button";
      cell.disabled = !value.done;
      cell.title = `${value.across} ${signed(across / units[0])}, ${value.down} ${downwards(down / units[1])}`;
      cell.setAttribute("aria-label", cell.title);
      const source = images[r * acrosses.length + c];
      const image = make(source ? "img" : "i");
      if (source) {
        image.src = source;
        image.alt = "";
      }
      cell.append(image);
      cell.addEventListener("click", () => trigger("release", { across, down }));
      cells.append(cell);
    });
  });
  root.replaceChildren(make("div", "axis", `${value.across} →`), make("div", "axis down", `${value.down} ↓`), cells);
}
draw();
watch("value", draw);
