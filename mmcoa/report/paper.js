// Before printing: equations are typeset, then each table that is wider than the page is made to fit. Up to SMALLEST of
// its size it shrinks, beyond that it gets a page in landscape. Captions leave their tables: between two blocks a break can
// be forbidden.
const SMALLEST = 0.8;
const WHOLE = 450; // a table of at most so many pixels, half a page, is kept on one page
MathJax = { options: { processHtmlClass: "tex2jax_process|mathjax_process|math|output_area" }, startup: { pageReady: () => MathJax.startup.defaultPageReady().then(fit) } };

function fit() {
  for (const element of document.querySelectorAll("article table, article mjx-container[display]")) {
    const room = document.body.clientWidth;
    let scale = room / neededWidth(element);
    if (scale >= 1) continue;
    const box = element.closest(".pst-scrollable-table-container");
    if (scale < SMALLEST && box) {
      box.classList.add("wide");
      scale = Math.min(1, box.clientWidth / neededWidth(element));
    }
    element.style.zoom = Math.floor(scale * 1000) / 1000;
  }
  for (const table of document.querySelectorAll(".pst-scrollable-table-container > table")) keepTogether(table);
  document.documentElement.dataset.ready = "";
}

function keepTogether(table) {
  const box = table.parentElement;
  if (table.caption) {
    const caption = document.createElement("div");
    caption.className = "caption";
    caption.append(...table.caption.childNodes);
    table.deleteCaption();
    table.before(caption);
  }
  if (box.offsetHeight <= WHOLE) box.classList.add("whole");
}

// A table of 100 % grows beyond its box where its words need more.
function neededWidth(element) {
  return Math.max(element.scrollWidth, element.getBoundingClientRect().width);
}
