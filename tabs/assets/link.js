// A link to the composition: the page's own address with the composition in its query.
const root = element.querySelector(".link");
const field = root.querySelector("input");
const copy = root.querySelector("button");
const words = root.querySelector("p");
function draw() {
  const { token, note } = props.value || {};
  root.hidden = !token;
  if (!token) return;
  field.value = `${location.origin}${location.pathname}?compose=${token}`;
  words.textContent = note || "";
  copy.textContent = "Copy";
}
copy.addEventListener("click", async () => {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy");
  }
  copy.textContent = "Copied";
});
draw();
watch("value", draw);
