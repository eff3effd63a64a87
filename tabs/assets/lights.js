// Light or dark: the visitor's choice, kept in this browser; the system's until they choose.
const parts = [document.documentElement, document.body];
const isDark = () => parts.some((part) => part.classList.contains("dark"));
const set = (dark) => parts.forEach((part) => part.classList.toggle("dark", dark));
const kept = localStorage.getItem("lights");
if (kept) set(kept === "dark");
element.querySelector("button").addEventListener("click", () => {
  set(!isDark());
  localStorage.setItem("lights", isDark() ? "dark" : "light");
});
