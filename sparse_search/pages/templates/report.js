"use strict";
for (const board of document.querySelectorAll("[data-board]")) {
  const body = board.querySelector("tbody");
  const heads = [...board.querySelectorAll("thead th")];
  const tools = board.querySelector(".tools");
  const input = tools.querySelector("input");
  const count = tools.querySelector("output");
  const rows = [...body.rows];

  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.value = `${shown} of ${rows.length}`;
  };

  const sort = (head, column) => {
    const now = head.getAttribute("aria-sort");
    const descending = now ? now === "ascending" : head.dataset.sort === "down";
    const key = (row) => row.cells[column].dataset.value ?? "";
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return descending ? -order : order;
    };
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...[...body.rows].sort(compare));
  };

  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
  input.addEventListener("input", filter);
  tools.hidden = false;
  filter();
}
