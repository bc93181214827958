// Makes the tables that sortable.py has prepared sortable, and the large ones searchable. A cell without a key stays last, whichever way.
(function () {
  "use strict";

  function last(compare) {
    return function (a, b) {
      if (a === "" || b === "") return (a === "") - (b === "");
      return compare(a, b);
    };
  }

  function figures(a, b) {
    return Number(a) - Number(b);
  }

  function words(a, b) {
    return a.localeCompare(b, "en", { numeric: true });
  }

  function kind(compare) {
    return {
      order: {
        pre: String,
        asc: last(compare),
        desc: last(function (a, b) {
          return compare(b, a);
        }),
      },
    };
  }

  function prepare(table) {
    var large = table.classList.contains("large");
    var heads = Array.from(table.tHead.rows[0].cells);
    var widths = Array.from(table.querySelectorAll("col"), function (column) {
      return column.style.width || null;
    });
    new DataTable(table, {
      paging: false,
      searching: large,
      autoWidth: false,
      order: [],
      layout: { topStart: large ? "search" : null, topEnd: large ? "info" : null, bottomStart: null, bottomEnd: null },
      columns: heads.map(function (head, place) {
        var numbers = head.dataset.kind === "figures"; // largest first: most are accuracies
        return { type: head.dataset.kind, width: widths[place] || null, orderSequence: numbers ? ["desc", "asc", ""] : ["asc", "desc", ""] };
      }),
      language: {
        search: "Search this table",
        info: "_TOTAL_ rows",
        infoEmpty: "no row",
        infoFiltered: "of _MAX_",
        zeroRecords: "No row has these words.",
      },
    });
  }

  function start() {
    DataTable.type("figures", kind(figures));
    DataTable.type("words", kind(words));
    document.querySelectorAll("table.sortable").forEach(prepare);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
