// Gradio's own panel on how to call the app: every endpoint with its parameters, in Python and more, at this address.
// Its button is in Gradio's footer, which is not shown.
const own = () => document.querySelector("footer button.show-api");
element.querySelector("button").addEventListener("click", () => own()?.click());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.querySelector(".api-docs")) own()?.click();
});
// Gradio puts ?view=api into the address, yet does not open the panel for it: it takes it for open, so close it first.
let patience = 200;
const opening = new URLSearchParams(location.search).get("view") === "api" && setInterval(() => {
  if (!own() && --patience) return;
  clearInterval(opening);
  own()?.click();
  setTimeout(() => own()?.click());
}, 60);
