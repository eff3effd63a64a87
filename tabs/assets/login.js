// Logging in happens in another tab: whether it did is asked when this one is looked at again.
const root = element.querySelector(".login");
const link = root.querySelector("a");
const words = root.querySelector("span");
const out = root.querySelector("button");
let away = false;
function draw() {
  const { name } = props.value || {};
  link.hidden = Boolean(name);
  words.hidden = out.hidden = !name;
  words.textContent = name ? `Logged in as ${name}` : "";
}
link.addEventListener("click", () => (away = true));
window.addEventListener("focus", () => {
  if (!away) return;
  away = false;
  trigger("release");
});
out.addEventListener("click", async () => {
  await fetch("/logout");
  trigger("release");
});
draw();
watch("value", draw);
