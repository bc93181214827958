"""Sphinx extension: the package's docstrings, which are plain text, as reStructuredText for autodoc.

Words between single backticks become code, public classes of the package become links, everything else is taken literally. A
block "Arguments", or a paragraph of lines `name: meaning`, becomes a list; indented text after a blank line becomes code. The
fields of a dataclass or a pydantic model are listed with their defaults and comments. References to notes of the project,
"(trap I2)", are left out.
"""

import ast
import dataclasses
import inspect
import re
import textwrap

import mmcoa

ARGUMENT = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): ")
TRAP = re.compile(r" ?\(trap \w+\)")
LONG = 40  # characters of a type that is still shown


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-process-signature", without_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app, what, name, obj, options, lines):
    """autodoc's event: `lines` are changed in place."""
    made = to_rst("\n".join(lines))
    if what == "class" and has_fields(obj):
        made += ["", ":Fields:", *[f"   {line}" for line in field_list(obj)]]
    lines[:] = [*made, ""]


def without_fields(app, what, name, obj, options, signature, returns):
    """No signature where the fields are listed anyway."""
    return ("", None) if what == "class" and has_fields(obj) else None


def has_fields(obj):
    """Whether a class is a dataclass or a pydantic model."""
    return dataclasses.is_dataclass(obj) or hasattr(obj, "model_fields")


def to_rst(text):
    """Lines of reStructuredText for a docstring in the house style."""
    made = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(TRAP.sub("", text))):
        made += [*blocks(block), ""]
    return made[:-1]


def blocks(block):
    """One paragraph: code, a list of arguments, a list of points, or plain text."""
    lines = block.splitlines()
    if lines[0].startswith("    "):
        code = textwrap.dedent(block)
        return [f".. code-block:: {language(code)}", "", *textwrap.indent(code, "   ").splitlines()]
    if lines[0] in ("Arguments", "Raises") and len(lines) > 1:
        return [f":{lines[0]}:", *[f"   {line}" for line in listed(textwrap.dedent("\n".join(lines[1:])))]]
    if all(ARGUMENT.match(line) or line.startswith("    ") for line in lines):
        return listed(block)
    if not any(line.startswith("- ") for line in lines):
        return [literal(" ".join(lines))]
    return [part for line in joined(lines) for part in (["", literal(line)] if line.startswith("- ") else [literal(line)])]


def listed(text):
    """Lines `name: meaning`, continued with indentation, as a list; other lines stay as they are."""
    made = []
    for line in joined(text.splitlines()):
        if found := ARGUMENT.match(line):
            names = ", ".join(f"``{name}``" for name in found[1].split(", "))
            made.append(f"- {names}: {literal(line[found.end() :])}")
        else:
            made += ["", literal(line), ""]
    return made


def joined(lines):
    """Lines with their indented continuations on one line each."""
    made = []
    for line in lines:
        if made and line.startswith(" "):
            made[-1] += f" {line.strip()}"
        else:
            made.append(line)
    return made


def literal(text):
    """Text in which nothing is markup but single backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one without a partner
        return escaped(text)
    made = "".join(f"\x01{word(part)}\x02" if i % 2 else escaped(part) for i, part in enumerate(parts))
    made = re.sub(r"(?<=[^\s\x02])\x01|\x02(?=\S)", r"\\ ", made)  # what touches markup is kept apart from it
    return re.sub(r"[\x01\x02]", "", made)


def escaped(text):
    return re.sub(r"([\\*_|`])", r"\\\1", text)


def word(text):
    """What stands between backticks: a link to a public class, or code; `train` may be a key of a profile as well."""
    return f":py:obj:`{text} <mmcoa.{text}>`" if text in mmcoa.__all__ and text[0].isupper() else f"``{text}``"


def language(code):
    """`python` where it is Python, else `text`."""
    try:
        ast.parse(code)
    except SyntaxError:
        return "text"
    return "python"


def field_list(obj):
    """Fields of a class in the order of its source: name, type, default and the comment behind it."""
    source = textwrap.dedent(inspect.getsource(obj))
    lines, made = source.splitlines(), []
    for node in ast.parse(source).body[0].body:
        if not isinstance(node, ast.AnnAssign):
            continue
        kind, default = ast.unparse(node.annotation), ast.unparse(node.value) if node.value else None
        shown = (
            node.target.id
            + (f": {kind}" if len(kind) <= LONG and "Annotated" not in kind else "")
            + (f" = {default}" if default else "")
        )
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().partition("# ")[2]
        made.append(f"- ``{shown}``" + (f": {literal(TRAP.sub('', comment))}" if comment else ""))
    return made
