/* Makes the columns of the table of claims sort it. Without a script it is a table in its order. */
"use strict";

(() => {
  const table = document.querySelector(".claims table"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const compare = (a, b) => a - b || a.localeCompare(b, "en", { numeric: true });

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      const key = (row) => row.cells[column].dataset.key;
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
      body.append(...(falling ? rows.reverse() : rows));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    });
  });

  /* On a narrow screen a row is a card, and each of its cells says what it is. */
  for (const row of body.rows)
    heads.forEach((head, column) => { row.cells[column].dataset.head = head.textContent; });
})();
