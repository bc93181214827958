"""A book of several studies: one set of report notebooks, run once for each of them.

The first study has the pages `report_...`. A later one, PROFILE, has pages PROFILE_..., with tables and figures in a folder of its
own; links between its pages, labels and paths are rewritten here, so that no notebook knows of it.
"""

import re
from dataclasses import dataclass

LATER = (
    "report_impact",
    "report_gallery",
    "report_in_distribution",
    "report_finetuning",
    "report_modality",
    "report_claims",
    "report_training",
)  # pages of a second study
PAGE = "report_"


@dataclass(frozen=True)
class Part:
    """One study of a book. profile: name or path; name: of the profile; prefix: of its pages, empty for the first; title: what it
    is about, empty in a book of one study."""

    profile: str
    name: str
    prefix: str = ""
    title: str = ""

    def page(self, page):
        """Name of a page of this study: `report_impact` -> `photos_impact`."""
        return f"{self.prefix}_{page.removeprefix(PAGE)}" if self.prefix else page

    def folder(self, book):
        """Where its tables/ and figures/ lie."""
        return book / self.prefix if self.prefix else book


def labels(text):
    """Names that tables and figures of a page have."""
    return set(re.findall(r"^:name: (\S+)$", text, re.M))


def rewritten(text, part, names, pages=LATER):
    """Markdown of a page as the page of a later study.

    Arguments:
        names: labels of all pages of a study; a reference to any other label stays.
        pages: pages that the study has; a link to any other page stays.
    """
    if not part.prefix:
        return text

    def label(match):
        return match[0].replace(match["label"], f"{part.prefix}-{match['label']}") if match["label"] in names else match[0]

    def page(match):
        return match[0].replace(match["page"], part.page(match["page"])) if match["page"] in pages else match[0]

    text = re.sub(r"^:name: (?P<label>\S+)$", label, text, flags=re.M)
    text = re.sub(r"\{(?:num)?ref\}`(?:[^`<]*<)?(?P<label>[\w-]+)>?`", label, text)
    text = re.sub(r"\{doc\}`(?:[^`<]*<)?(?P<page>\w+)>?`", page, text)
    text = re.sub(r"\{glue:\w+\}`(?P<page>\w+)\.ipynb::", page, text)
    return re.sub(r"(^:file: |\{figure\} |\{image\} |<)(?=(tables|figures)/)", rf"\1{part.prefix}/", text, flags=re.M)


def titled(text, part):
    """Markdown of a page with the study in its title."""
    return re.sub(r"\A# (.+)$", rf"# \1 ({part.title})", text, count=1, flags=re.M) if part.title else text


def linked(text, parts, pages=LATER):
    """Markdown of a page about all studies: a link to a page that each has becomes one link a study."""

    def links(match):
        return " and ".join(f"{{doc}}`{part.page(match[1])}`" for part in parts) if match[1] in pages else match[0]

    return re.sub(r"\{doc\}`(\w+)`", links, text)


def contents(template, parts, exists):
    """The book's table of contents.

    Arguments:
        template: dict, as in book/_toc_template.yml: a part with `each_study` stands for one part a study.
        exists: page's name -> whether the book has it. What it lacks is left out.
    """
    made = []
    for each in template["parts"]:
        chapters = [item["file"] for item in each["chapters"]]
        several = [
            (part_caption(parts, index, each["caption"]), [part.page(page) for page in chapters])
            for index, part in enumerate(parts)
        ]
        for caption, pages in several if each.get("each_study") else [(each["caption"], chapters)]:
            if found := [{"file": page} for page in pages if exists(page)]:
                made.append({"caption": caption, "chapters": found})
    return {"format": template["format"], "root": template["root"], "parts": made}


def part_caption(parts, index, caption):
    return f"Part {index + 1}: {parts[index].title}" if len(parts) > 1 else caption
