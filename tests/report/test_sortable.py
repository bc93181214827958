"""The extension that makes large tables sortable and searchable; in a browser: tests/browser/test_features.py."""

import importlib.util
import re
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "book" / "_ext" / "sortable.py"
spec = importlib.util.spec_from_file_location("sortable", PATH)
sortable = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sortable)


def test_figures_sort_by_the_number_that_a_cell_begins_with_and_words_without_case():
    numbers = {"61.3 (58.2–64.1)": 61.3, "+3.1 (−1.0 to +5.0)": 3.1, "−3.1 (−5.0 to −1.2)": -3.1, "12,345": 12345}
    numbers |= {"1/255": 1 / 255, "80 % of 3,000": 2400, "15, 12 above 0": 15, "6 of 6": 6, "4.0×": 4, "at least 12": 12}
    assert {text: float(sortable.key(text, "figures")) for text in numbers} == pytest.approx(numbers)
    assert sortable.key("12,345", "figures") == "12345" and sortable.key("MMCoA †", "words") == "mmcoa †"
    assert {sortable.key(text, kind) for text in ("–", "", "missing") for kind in ("figures", "words")} == {""}
    assert {sortable.key(text, "figures") for text in ("as its parts", "APGD-CE", "3d pictures")} == {""}  # last
    assert sortable.are_figures(["10", "–", "20 × 3 restarts", "as its parts"])
    assert not sortable.are_figures(["PGD", "3 steps", "FGSM"]) and not sortable.are_figures(["–", ""])


def html(rows, last="z", columns=("data set", "image")):
    """A table as Sphinx writes it."""
    head = "".join(f'<th class="head"><p>{name}</p></th>' for name in columns)
    body = "".join(f'<tr class="row-even"><td><p>s{i}</p></td>\n<td><p>{i}.0\u2060–</p></td>\n</tr>\n' for i in range(rows - 1))
    body += f'<tr class="row-odd"><td><p>{last}</p></td>\n<td><p>–</p></td>\n</tr>\n'
    start = '<table class="results docutils" id="t">\n<caption>c</caption>\n<thead>\n<tr class="row-odd">'
    return f"{start}{head}</tr>\n</thead>\n<tbody>\n{body}</tbody>\n</table>"


def boxed(text):
    return text.replace("<caption>c</caption>", '<caption><div class="caption-box">c</div></caption>')


def test_only_a_page_with_a_large_table_changes():
    assert sortable.rewritten(html(14)) == (boxed(html(14)), False)
    body, large = sortable.rewritten(html(15) + html(3) + html(1))
    assert large and body.count("sortable large") == 1 and body.count(' sortable"') == 1
    assert body.endswith(boxed(html(1)))  # one row: nothing to sort
    assert not sortable.rewritten(html(20, columns=("method", "image")))[1]  # one row a method: read as a whole
    facts = html(3, columns=("", ""))
    assert sortable.rewritten(html(15) + facts)[0].endswith(boxed(facts))
    assert body.count('data-kind="figures"') == body.count('data-kind="words"') == 2
    assert '<td data-order="3"><p>3.0' in body and '<td data-order=""><p>–</p>' in body and 'data-order="s3"' in body


def test_tables_that_cannot_be_sorted_stay_as_they_are():
    spanning = html(20).replace("<td>", '<td colspan="2">', 1)
    uneven = html(20).replace("<th ", '<th class="head">more</th><th ', 1)
    headless = re.sub(r"<thead>.*?</thead>", "", html(20), flags=re.S)
    assert sortable.rewritten(spanning + headless + uneven) == (boxed(spanning + headless + uneven), False)


def test_a_macro_mean_becomes_the_foot_of_its_table():
    for rows in (3, 20):
        body, large = sortable.rewritten(html(rows, last="macro mean"))
        foot = re.search(r"</tbody>\s*<tfoot>(.*?)</tfoot>\s*</table>", body, re.S)
        assert "macro mean" in foot[1] and "data-order" not in foot[1] and body.count("macro mean") == 1
        assert body.count("<tr") == rows + 1 and large == (rows > 15)


def test_the_bundle_becomes_a_plain_script():
    text = "var a=1,b=2;export{a as Other,b as default};\n/* licence: an export is text */"
    script = sortable.as_script(text)
    assert script.startswith('(function(){"use strict";') and "window.DataTable=b;" in script
    assert "export{" not in script and "licence" in script
    for text in ("var a=1;", 'import x from"y";export{x as default};', "export{a as b};"):
        with pytest.raises(sortable.ExtensionError, match=r"constraints\.txt"):
            sortable.as_script(text)
