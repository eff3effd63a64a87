// Tabs have a place in the address and in the history: Back goes to the tab before, and a link opens one.
const bar = () => document.querySelector("#tabs > .tab-wrapper");
const tabs = () => [...(bar()?.querySelectorAll('button[role="tab"]') || [])].filter((tab) => tab.offsetParent);
const slug = (tab) => tab.textContent.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");
const selected = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
const here = () => location.hash.slice(1);
function follow() {
  const first = tabs()[0];
  const wanted = tabs().find((tab) => slug(tab) === here()) || first;
  if (wanted && wanted !== selected()) wanted.click();
}
let last = null;
function record() {
  const now = selected();
  if (!now || slug(now) === last) return;
  const known = last !== null;
  last = slug(now);
  if (last === (here() || slug(tabs()[0]))) return;
  if (known) history.pushState(null, "", `#${last}`);
}
window.addEventListener("popstate", follow);
new MutationObserver(record).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
// A tab asks for its beginning when it is opened. Before the page has found its visit it would be told of another one,
// so that a tab which is clicked earlier is opened then; the first one is told anew.
const PATIENCE = 15000; // milliseconds; then without the visit
const found = () => document.body.dataset.visit === "found";
let early = null;
function hold(event) {
  const tab = found() ? null : event.target.closest?.('#tabs > .tab-wrapper button[role="tab"]');
  if (!tab) return;
  event.stopPropagation();
  event.preventDefault();
  early = tab;
}
document.addEventListener("click", hold, true);
setTimeout(() => (document.body.dataset.visit = "found"), PATIENCE);
const started = setInterval(() => {
  if (!selected() || !found()) return;
  clearInterval(started);
  document.removeEventListener("click", hold, true);
  last = slug(selected());
  if (early?.isConnected) early.click();
  else if (here()) follow();
}, 60);
