"""The image attacks by name. One signature:

function(model, images, labels, text_features, threat, sample_ids=None, stop=False) -> adversarial images
"""

from mmcoa.attacks.apgd import apgd_ce, apgd_dlr, apgd_dlr_targeted
from mmcoa.attacks.pgd import cw, feature, feature_l2, fgsm, pgd
from mmcoa.attacks.square import square


def co_attack(model, images, labels, text_features, threat, sample_ids=None, stop=False):
    """Away from the clean picture's embedding and from the label's (changed) prompt; arguments as `pgd`."""
    return feature(model, images, labels, text_features, threat, sample_ids, own_text=text_features[labels])


FUNCTIONS = {
    "pgd": pgd,
    "fgsm": fgsm,
    "cw": cw,
    "apgd-ce": apgd_ce,
    "apgd-dlr": apgd_dlr,
    "apgd-dlr-t": apgd_dlr_targeted,
    "feature": feature,
    "feature-l2": feature_l2,
    "square": square,
    "co_attack": co_attack,
}
