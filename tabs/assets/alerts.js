// What is refused is said where it can be seen, and no longer once it is seen to; what is deleted is asked about first.
const seen = (node) => {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < window.innerHeight - 20;
};
function look(node) {
  requestAnimationFrame(() => {
    if (node.isConnected && node.offsetParent && !seen(node)) node.scrollIntoView({ behavior: "smooth", block: "center" });
  });
}
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) {
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      const alert = node.matches(".message[role=alert]") ? node : node.querySelector(".message[role=alert]");
      if (alert) look(alert);
    }
  }
}).observe(document.body, { subtree: true, childList: true });

document.addEventListener("input", (event) => {
  if (!event.target.closest("#source-text, #target-text")) return;
  for (const refused of document.querySelectorAll("#training > .message[role=alert], #training .prose > .message[role=alert]")) refused.hidden = true;
});
document.addEventListener(
  "click",
  (event) => {
    if (!event.target.closest("#remove-own")) return;
    const name = document.querySelector("#own-name input, #own-name textarea")?.value || "this direction";
    if (confirm(`Delete “${name}”? It also leaves your composition. What was saved as a file stays.`)) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  },
  true,
);
