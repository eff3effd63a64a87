// Directions that were found: where each changes the picture, and the picture at -, 0 and +. Nodes are kept while rows
// fill up, so that a name can be written meanwhile.
const root = element.querySelector(".found");
const $ = (name) => root.querySelector(`[data-part="${name}"]`);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
let chosen = -1;
let search = null;
let wasBusy = false;

function rowNode(index) {
  const row = make("div", "row");
  const open = make("button", "open");
  open.type = "button";
  for (const kind of ["heat", "minus", "zero", "plus"]) {
    const figure = make("span", kind);
    figure.append(make("img"));
    if (kind === "heat") figure.append(make("img", "glow"));
    figure.append(make("small"));
    open.append(figure);
  }
  for (const image of open.querySelectorAll("img")) image.alt = "";
  const about = make("div", "about");
  const name = make("input", "name");
  name.type = "text";
  name.maxLength = 80;
  name.setAttribute("aria-label", "Name of the direction");
  name.addEventListener("change", () => {
    if (name.value.trim()) trigger("edit", { index, name: name.value.trim() });
    else fill(row, (props.value?.rows || [])[index], index);
  });
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") name.blur();
  });
  about.append(name, make("div", "facts"), make("div", "changes"));
  row.append(open, about);
  row.addEventListener("click", (event) => {
    if (event.target === name) return;
    chosen = index;
    draw();
    trigger("select", { index });
  });
  return row;
}
const source = (image, url) => {
  if (url && image.getAttribute("src") !== url) image.src = url;
  if (!url) image.removeAttribute("src");
};
function fill(node, row, index) {
  node.classList.toggle("chosen", index === chosen);
  node.classList.toggle("waiting", !row.frames);
  const open = node.querySelector(".open");
  open.setAttribute("aria-pressed", index === chosen);
  open.setAttribute("aria-label", `Open ${row.name}`);
  const [heat, minus, zero, plus] = open.children;
  source(heat.querySelector("img"), props.value.picture);
  source(heat.querySelector(".glow"), row.heat);
  heat.querySelector("small").textContent = "where";
  [minus, zero, plus].forEach((figure, i) => {
    source(figure.querySelector("img"), row.frames?.[i]);
    figure.querySelector("small").textContent = ["−", "0", "+"][i];
  });
  const name = node.querySelector(".name");
  if (document.activeElement !== name) name.value = row.name;
  name.title = row.about || "";
  node.querySelector(".facts").replaceChildren(
    ...row.facts.map(([label, value, title]) => {
      const fact = make("span", "fact", `${label} `);
      fact.append(make("b", "", value));
      fact.title = title;
      return fact;
    }),
  );
  node.querySelector(".changes").textContent = row.changes || "";
}
function draw() {
  const value = props.value || {};
  const rows = value.rows || [];
  if (value.search !== search) {
    search = value.search;
    chosen = -1;
    $("rows").replaceChildren();
  }
  root.setAttribute("aria-busy", Boolean(value.busy));
  root.dataset.drawn = rows.filter((row) => row.frames).length;
  root.dataset.rows = rows.length;
  root.dataset.refined = Boolean(value.refined);
  $("state").hidden = !value.note;
  $("state").classList.toggle("bad", Boolean(value.bad));
  $("note").textContent = value.note || "";
  $("done").style.width = `${Math.round(100 * (value.fraction ?? 0))}%`;
  $("done").parentNode.hidden = value.fraction === undefined || value.fraction === null;
  // What was asked for far below is shown where the eye is: once, when the work begins.
  const box = root.getBoundingClientRect();
  if (value.busy && !wasBusy && (box.top < 0 || box.top > window.innerHeight - 160)) {
    root.scrollIntoView({ behavior: "smooth", block: "start" });
  }
  if (value.bad && value.note && (box.top < 0 || box.top > window.innerHeight - 60)) {
    root.scrollIntoView({ behavior: "smooth", block: "center" });
  }
  wasBusy = Boolean(value.busy);
  const list = $("rows");
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach((row, index) => fill(list.children[index] || list.appendChild(rowNode(index)), row, index));
}
draw();
watch("value", draw);
