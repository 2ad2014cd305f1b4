/* A click on a heading sorts the table by that column, a second one turns it round. */
document.addEventListener("DOMContentLoaded", () => {
  const key = (row, column) => row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.append(...heading.querySelector("p").childNodes);
      heading.querySelector("p").append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const sorted = [...body.rows].sort((a, b) => {
          const [x, y] = [key(a, column), key(b, column)];
          if (!x || !y) return !x - !y; // without a figure: last, either way
          return down ? compare(y, x) : compare(x, y);
        });
        body.append(...sorted);
      });
    });
  }
});
