"""What one visit of a page shows, in a wide window and in one as narrow as a telephone."""

from types import SimpleNamespace

WIDE, NARROW = 1400, 375  # pixels
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")

READY = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""

CONTENT = r"""() => {
  const visible = [...document.querySelectorAll("article *")].filter(e => !e.closest("pre, code, script, style"));
  const text = visible.flatMap(e => [...e.childNodes]).filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data).join("\n");
  return {
    unrendered: [...document.querySelectorAll(".math")].filter(e => !e.querySelector("mjx-container")).map(e => e.textContent),
    failed: [...document.querySelectorAll("mjx-merror")].map(e => e.textContent),
    latex: text.match(/\$\$|\\\(|\\\[|\\(frac|text|mathrm|begin)\b/g) || [],
    missing: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
    unnamed: [...document.images].filter(i => !(i.alt || "").trim()).map(i => i.src),
    fonts: [...document.fonts].filter(f => f.status === "error").map(f => f.family),
  };
}"""

# How far the page scrolls sideways, and what is cut off rather than scrolled in a box of its own; no caption may be scrolled.
WIDTHS = """() => {
  const boxed = e => {
    for (let p = e.parentElement; p && p.tagName !== "ARTICLE"; p = p.parentElement)
      if (getComputedStyle(p).overflowX !== "visible") return true;
  };
  const cut = [...document.querySelectorAll("article *")].filter(e => {
    const place = e.getBoundingClientRect(), mayScroll = e.tagName !== "CAPTION" && boxed(e);
    return place.width && place.right > innerWidth + 1 && !mayScroll && !e.closest(".visually-hidden, mjx-assistive-mml");
  });
  const shown = cut.slice(0, 3).map(e => e.outerHTML.slice(0, 120));
  return { sideways: document.documentElement.scrollWidth - innerWidth, cut: shown };
}"""

# The theme fades its colours in: until that has ended, a contrast depends on how fast the machine is.
AXE = """async rules => {
  const fading = document.getAnimations().filter(animation => animation instanceof CSSTransition);
  await Promise.all(fading.map(transition => transition.finished.catch(() => null)));
  const found = await axe.run(document, { preload: false, resultTypes: ["violations"], runOnly: rules });
  return found.violations.filter(v => ["serious", "critical"].includes(v.impact))
    .flatMap(v => v.nodes.map(n => `${v.id}: ${n.target} ${n.html.slice(0, 160)}`));
}"""


def visit(browser, path, axe):
    """Open a page from disk and look at it in both widths; `axe`: the script. Returns the messages of its console, its requests
    and those that failed, its content, widths ({width: ...}) and what is inaccessible."""
    seen = SimpleNamespace(console=[], requests=[], failed=[], widths={})
    page = browser.new_page(viewport={"width": WIDE, "height": 900})
    page.on("console", lambda message: seen.console.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("requestfailed", lambda request: seen.failed.append(request.url))
    page.goto(path.as_uri())
    page.evaluate(READY)
    seen.content = page.evaluate(CONTENT)
    for width in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(50)  # for listeners of the resize
        seen.widths[width] = page.evaluate(WIDTHS) | {"bytes": len(page.screenshot())}  # few where a page shows nothing
    seen.inaccessible = judge(page, axe)
    page.close()
    return seen


def judge(page, axe):
    """Serious and critical findings of axe-core on an open page."""
    page.evaluate(axe)
    return page.evaluate(AXE, RULES)
