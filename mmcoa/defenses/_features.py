"""Features of prompts that several defences share."""

from mmcoa.attacks.prefix import encode_texts


def class_features(model, prompts):
    """Unit embeddings [C, D] of all class prompts as the inner image attack sees them, without gradient.

    Computed once a step; once a run where no weight of the text tower is trained.
    """
    visual = {id(p) for p in model.clip.visual.parameters()}
    frozen = not any(p.requires_grad for p in model.clip.parameters() if id(p) not in visual)
    key = (model.clip, tuple(prompts), model.device)
    kept = getattr(model, "class_features", None)
    if frozen and kept is not None and kept[0] == key:
        return kept[1]
    features = encode_texts(model, prompts)
    model.class_features = (key, features) if frozen else None
    return features
