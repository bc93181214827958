"""The size in which pictures count, and an attack's epsilon: a property of a data set, whatever the seed and the split."""

PROBED = 64  # pictures of each source that are looked at


def one_side(sources):
    """The shorter side where all pictures share it, by some of every source; None where it varies.

    Where it varies, a transform preset decides (transforms.py). Pictures are opened, not decoded; unreadable ones are told
    where they are read.
    """
    sides = set()
    for source in sources:
        for place in range(0, len(source), max(1, len(source) // PROBED)):
            try:
                sides.add(min(source.decode(place).size))
            except Exception:  # decoders raise whatever they like
                continue
    return sides.pop() if len(sides) == 1 else None
