// A table or formula that scrolls sideways in its own box can be scrolled with the keyboard: the box takes the focus, and says
// what is in it.
(() => {
  const BOXES = ".pst-scrollable-table-container, .dt-layout-table, .dt-layout-table > .dt-layout-cell, div.math, .bd-article pre, .bd-article .cell_output";

  function update() {
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls = box.scrollWidth > box.clientWidth && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
      if (scrolls && box.tabIndex < 0) {
        const number = box.querySelector(".caption-number");
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", `${number ? number.textContent.trim() : "content"}, scrolls sideways`);
        box.dataset.scrolls = "";
      } else if (!scrolls && "scrolls" in box.dataset) {
        for (const name of ["tabindex", "role", "aria-label", "data-scrolls"]) box.removeAttribute(name);
      }
    }
  }

  addEventListener("load", update);
  addEventListener("resize", update);
})();
