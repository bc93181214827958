"""`r_tpt`: prompts tuned on views of the picture, and a vote of the views (R-TPT, Sheng et al., CVPR 2025).

    tuning:  min over v of mean_{i in S} H(p(x_i; t + v)),  S: the views of least entropy, H: entropy, one step of AdamW
    vote:    z = sum_i w_i z(x_i; t + v),  w = softmax(r / temperature),  r_i: mean cosine of view i to its nearest views

v is added to the token embeddings of the first `context` tokens after the start of every class prompt, which is tuning the
context that they share, and serves changed prompts too. Views: the picture, and random crops, mirrored or not; the public
code's further distortions (AugMix) are left out. An adversary sees tuned prompts and chosen views as constants.
"""

import torch

from mmcoa.defenses.at_test._views import crops, entropy
from mmcoa.errors import UserError
from mmcoa.model import hf_text
from mmcoa.model.clip import token_counts

LABEL = "R-TPT"
SOURCE = "Sheng et al., CVPR 2025"
DRAWS = 1
VERSION = 1
SETTINGS = {
    "views": 64,
    "least_area": 0.08,
    "kept": 0.1,
    "context": 4,
    "lr": 5e-3,
    "steps": 1,
    "neighbours": 20,
    "temperature": 0.01,
}
LEAST = {"views": 2, "least_area": 0, "kept": 0, "context": 1, "lr": 0, "steps": 1, "neighbours": 1, "temperature": 1e-6}


def scores(model, images, text, settings, generators):
    """Logits [N, C]; pictures come one by one, each with prompts of its own."""
    words = Words(model, text, settings.context)
    images = model.resized(images)
    return torch.stack([answer(model, *one, text, words, settings) for one in zip(images, generators, strict=True)])


def answer(model, image, generator, text, words, settings):
    """Logits [C] of one picture [3, h, w]."""
    views = torch.cat([image[None], crops(image, settings.views - 1, settings.least_area, generator)])
    features = model.encode_image(views)
    scaled = model.scale * features
    with torch.no_grad():
        uncertain = entropy(scaled @ text.features.T)
    chosen = uncertain.argsort(stable=True)[: max(1, int(settings.kept * settings.views))]
    tuned = words.tuned(scaled[chosen].detach(), settings)
    likeness = (features @ features.T).masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)
    reliable = likeness.topk(min(settings.neighbours, len(views) - 1), dim=1).values.mean(dim=1)
    return (reliable / settings.temperature).softmax(dim=0) @ (scaled @ tuned.T)


class Words:
    """Class prompts to whose first `context` words a common vector may be added. `UserError` for a model without words."""

    def __init__(self, model, text, context):
        self.embedding = hf_text.token_embedding(model.clip)
        if self.embedding is None:
            raise UserError(f"r_tpt tunes token embeddings, which '{model.name}' does not have; use ttc, dbd or clipure_cos")
        if text.prompts is None or len(text.prompts) != 1:
            raise UserError("r_tpt tunes the words of one prompt a class, not an ensemble or bare embeddings")
        self.model, self.tokens = model, model.tokenizer(list(text.prompts[0])).to(model.device)
        places = torch.arange(self.tokens.shape[1], device=model.device)
        ends = token_counts(model, self.tokens)[:, None] - 1
        self.rows, self.places = ((places >= 1) & (places <= context) & (places < ends)).nonzero(as_tuple=True)
        self.context = context

    def features(self, vector):
        """Unit embeddings [C, D] with `vector` [context, W] added."""

        def add(module, arguments, output):
            return output.index_put((self.rows, self.places), vector[self.places - 1].to(output.dtype), accumulate=True)

        hook = self.embedding.register_forward_hook(add)
        try:
            return self.model.encode_tokens(self.tokens)
        finally:
            hook.remove()

    def tuned(self, views, settings):
        """Unit embeddings [C, D] after the tuning on some views, scaled embeddings [V, D]; without gradient."""
        with torch.enable_grad():
            vector = torch.zeros(self.context, self.embedding.embedding_dim, device=views.device, requires_grad=True)
            optimizer = torch.optim.AdamW([vector], lr=settings.lr)
            for _ in range(settings.steps):
                loss = entropy(views @ self.features(vector).T).mean()
                (vector.grad,) = torch.autograd.grad(loss, vector)
                optimizer.step()
        with torch.no_grad():
            return self.features(vector)
