// The report page: theme, tables and run legends. No framework. viewer.js uses these helpers.
"use strict";

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Create an element with attributes and children (nodes or text). */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- Theme: follows the system until the button is used

function theme() {
  const button = find("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => (button.textContent = dark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
}

// ---- Tables: headings sort, numbers in descending and text in ascending order first; missing values come last

function sortBy(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const numeric = heading.classList.contains("number");
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const order = heading.getAttribute("aria-sort") === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.children[column].dataset.value;
  const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  const rows = all("tbody tr", table).sort((a, b) => {
    const [one, other] = [value(a), value(b)];
    return (one === "") - (other === "") || sign * compare(one, other);
  });
  table.tBodies[0].append(...rows);
  for (const each of all("[aria-sort]", table)) each.setAttribute("aria-sort", each === heading ? order : "none");
}

function tables() {
  for (const heading of all("[aria-sort]")) find("button", heading).addEventListener("click", () => sortBy(heading));
  const confused = find("#confused");
  confused?.addEventListener("change", () => {
    for (const matrix of all("[data-matrix]")) matrix.hidden = matrix.dataset.matrix !== confused.value;
  });
}

// ---- Runs: a legend shows and hides a run in all charts

function legends() {
  for (const box of all("[data-toggle]")) {
    box.addEventListener("change", () => {
      for (const other of all(`[data-toggle="${box.dataset.toggle}"]`)) other.checked = box.checked;
      for (const drawn of all(`svg [data-run="${box.dataset.toggle}"]`)) drawn.style.display = box.checked ? "" : "none";
    });
  }
}

theme();
tables();
legends();
