"""Worst case of AutoAttack's parts, but for FAB."""

ATTACK = dict(
    name="auto",
    summary="worst case of apgd-ce, apgd-dlr-t and square",
    source="Croce and Hein, ICML 2020",
    label="auto",
    knows="weights, label",
    version=1,
    parts=("apgd-ce", "apgd-dlr-t", "square"),
    order=60,
)
