"""SPARSE in the published order of operations: every forward anew, every loss written out, nothing shared.

What `trainables.sparse` has to equal (test_sparse_equality.py) and is timed against (bench/sparse_step.py). Written
for reading, from the mathematics alone; of `trainables` it runs the networks and uses nothing else. As lean as that
order allows, with torch's own losses and fused optimisers, and wasteful only where the published code is:
pseudo-labels with a graph that nobody walks, three translations of the same images, gradients of D that are thrown
away.

Networks and optimisers come as dicts by NAMES. Random numbers are drawn from torch's CPU generator in the order in
which a reader meets them, which is also the learner's.

Shapes: B batch, U used of it, R with a sure pseudo-label, P peers or voters, C channels, H W pixels, K classes.
"""

from collections import defaultdict
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from search_spaces.sparse import SparseConfig

NAMES = ("generator", "critic", "classifier")

Networks = dict[str, nn.Module]
Optimisers = dict[str, Optimizer]
History = defaultdict[int, list[Tensor]]
"""The votes (K,) of earlier passes, oldest first, by number of the unlabelled image: `defaultdict(list)`."""


def new_optimisers(nets: Networks, config: SparseConfig) -> Optimisers:
    """AdamW for each network, in the published setting: betas (0.5, 0.999), one rate, a smaller decay for C."""
    decays = (config.weight_decay, config.weight_decay, config.weight_decay_classifier)
    options = {"lr": config.lr, "betas": (config.beta1, 0.999), "fused": True}
    return {n: AdamW(nets[n].parameters(), weight_decay=d, **options) for n, d in zip(NAMES, decays, strict=True)}


class PublishedGate(nn.Module):
    """The layers of a gate of the generator, which projects the deep features after making them larger."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.from_deep, self.from_skip, self.mix = gate.from_deep, gate.from_skip, gate.mix

    def forward(self, deep_BDHW: Tensor, skip_BDHW: Tensor) -> Tensor:
        """The skip features, gated."""
        up_BDHW = F.interpolate(deep_BDHW, skip_BDHW.shape[2:], mode="bilinear", align_corners=True)
        return skip_BDHW * self.mix((self.from_deep(up_BDHW) + self.from_skip(skip_BDHW)).relu()).sigmoid()


def in_published_order(nets: Networks) -> Networks:
    """The networks, changed in place: equal weights by equal names, with the generator's gates as published."""
    for up in (nets["generator"].up1, nets["generator"].up2, nets["generator"].up3):
        up.gate = PublishedGate(up.gate)
    return nets


# Supervised: three losses, three backward passes, three steps


def supervised_step(
    nets: Networks, optimisers: Optimisers, config: SparseConfig, images_BCHW: Tensor, labels_B: Tensor
) -> None:
    """One step of each network on labelled images."""
    clean = {name: _class_logits(nets, name, images_BCHW) for name in NAMES}
    mixed = {name: _mixup_loss(nets, name, config, images_BCHW, _one_hot(labels_B, clean[name])) for name in NAMES}
    for name in NAMES:
        own_BK, classes_BK = clean[name], _one_hot(labels_B, clean[name])
        loss = config.w_proto * _prototype_loss(own_BK, classes_BK, config.proto_temperature)
        loss = loss + config.w_entropy * _entropy(own_BK.softmax(1)).mean() + config.w_mixup * mixed[name]
        if config.mutual_gradient:
            peers_PBK = torch.stack([clean[other].softmax(1).detach() for other in NAMES if other != name])
            mutual = _cross_entropy(own_BK, classes_BK) + config.lambda_kl * _divergence(own_BK, peers_PBK.mean(0))
            loss = loss + config.w_mutual * mutual
        if name != "generator":
            loss = loss + config.w_bce * _binary_cross_entropy(own_BK, classes_BK)
        _step(optimisers[name], loss)


def _mixup_loss(nets: Networks, name: str, config: SparseConfig, images_BCHW: Tensor, classes_BK: Tensor) -> Tensor:
    alpha = torch.tensor(config.mixup_alpha, dtype=torch.float64)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    mixed_BCHW = share * images_BCHW + (1 - share) * images_BCHW[partner_B]
    mixed_BK = share * classes_BK + (1 - share) * classes_BK[partner_B]
    return _cross_entropy(_class_logits(nets, name, mixed_BCHW), mixed_BK)


def _prototype_loss(logits_BK: Tensor, classes_BK: Tensor, temperature: float) -> Tensor:
    probs_BK = (logits_BK / temperature).softmax(1)
    nearness = []
    for member_B in classes_BK.unbind(1):
        mean_K = (member_B[:, None] * probs_BK).sum(0) / member_B.sum().clamp(min=1)
        nearness.append(-(probs_BK - mean_K).pow(2).sum(1))
    return _cross_entropy(torch.stack(nearness, 1), classes_BK)


# Unsupervised: pseudo-labels, then a step of D, of G and of C


def unsupervised_step(
    nets: Networks,
    optimisers: Optimisers,
    config: SparseConfig,
    images_BCHW: Tensor,
    index_B: Tensor,
    history: History,
) -> None:
    """One step of each network on unlabelled images; `history` takes in the vote on each."""
    generator, discriminator, classifier = (nets[name] for name in NAMES)
    logits_PBK = [discriminator(images_BCHW)[1], classifier(images_BCHW)]
    votes_BK = _votes([logits_BK.detach() for logits_BK in logits_PBK], config, index_B, history)
    kept_R = _surest(votes_BK.amax(1), config.percentile) if config.mask else torch.arange(len(votes_BK))

    real_UCHW, sure_R = images_BCHW, kept_R
    if config.mask_scope == "all":
        real_UCHW, sure_R = images_BCHW[kept_R], torch.arange(len(kept_R))
    pseudo_RK = _one_hot(votes_BK.argmax(1)[kept_R], logits_PBK[0])
    targets_UK = _one_hot(torch.randint(votes_BK.shape[1], (len(real_UCHW),)), logits_PBK[0])

    fake_UCHW = generator(real_UCHW, targets_UK).detach()
    patches_U1HW, discriminator_UK = discriminator(real_UCHW)
    loss = discriminator(fake_UCHW)[0].mean() - patches_U1HW.mean()
    loss = loss + config.lambda_gp * _gradient_penalty(discriminator, real_UCHW, fake_UCHW)
    _step(optimisers["critic"], loss + config.lambda_cls_d * _class_loss(config, discriminator_UK[sure_R], pseudo_RK))

    fake_UCHW = generator(real_UCHW, targets_UK)
    back_RCHW = generator(fake_UCHW[sure_R], pseudo_RK)
    patches_U1HW, discriminator_UK = discriminator(fake_UCHW)
    loss = config.lambda_rec * (back_RCHW - real_UCHW[sure_R]).abs().mean() - patches_U1HW.mean()
    loss = loss + config.lambda_cls_g * _class_loss(config, discriminator_UK, targets_UK)
    loss = loss + config.lambda_cls_gg * _class_loss(config, generator(fake_UCHW), targets_UK)
    _step(optimisers["generator"], loss)  # fills D's gradients too; D's next step begins by dropping them

    fake_UCHW = generator(real_UCHW, targets_UK).detach()
    (group,) = optimisers["classifier"].param_groups
    group["lr"] = config.w_syn * config.lr  # as a weight of the loss, where a step follows the gradient's size
    _step(optimisers["classifier"], _class_loss(config, classifier(fake_UCHW), targets_UK))
    group["lr"] = config.lr


def _votes(logits_PBK: list[Tensor], config: SparseConfig, index_B: Tensor, history: History) -> Tensor:
    probs_PBK = (torch.stack(logits_PBK) / config.ens_temperature).softmax(2)
    weights_PB1 = 1 - torch.stack([_entropy(p) for p in probs_PBK])[..., None] / log(probs_PBK.shape[2])
    votes_BK = (weights_PB1 * probs_PBK).sum(0) / (weights_PB1.sum(0) if config.normalise_vote else len(probs_PBK))
    if not config.temporal_ensemble:
        return votes_BK
    blended = []
    for image, vote_K in zip(index_B.tolist(), votes_BK, strict=True):
        earlier = history[image]
        before_K = average(earlier, config.ema_momentum) if earlier else vote_K
        blended.append(config.ens_blend * vote_K + (1 - config.ens_blend) * before_K)
        earlier.append(vote_K)
    return torch.stack(blended)


def average(votes: list[Tensor], momentum: float) -> Tensor:
    """The exponential average (K,) of votes (K,), oldest first, divided by the sum of its weights."""
    average_K = torch.zeros_like(votes[0])
    for vote_K in votes:
        average_K = momentum * average_K + (1 - momentum) * vote_K
    return average_K / (1 - momentum ** len(votes))


def _surest(confidence_B: Tensor, percentile: float) -> Tensor:
    """Positions (R,) above the percentile of the batch."""
    return (confidence_B > confidence_B.quantile(percentile)).nonzero().flatten()


def _gradient_penalty(discriminator: nn.Module, real_UCHW: Tensor, fake_UCHW: Tensor) -> Tensor:
    share_U111 = torch.rand(len(real_UCHW), 1, 1, 1).to(real_UCHW)
    between_UCHW = (share_U111 * real_UCHW + (1 - share_U111) * fake_UCHW).requires_grad_()
    patches_U1HW = discriminator(between_UCHW)[0]
    (slope_UCHW,) = torch.autograd.grad(patches_U1HW, between_UCHW, torch.ones_like(patches_U1HW), create_graph=True)
    return (slope_UCHW.pow(2).sum((1, 2, 3)).sqrt() - 1).pow(2).mean()


# Evaluation


@torch.no_grad()
def evaluate(nets: Networks, images_BCHW: Tensor) -> dict[str, Tensor]:
    """Probabilities (B, K) of each network and of `sparse_ens`, the mean of D and C: all three run, as published."""
    for net in nets.values():
        net.eval()
    probs = {name: _class_logits(nets, name, images_BCHW).softmax(1) for name in NAMES}
    for net in nets.values():
        net.train()
    return probs | {"sparse_ens": (probs["critic"] + probs["classifier"]) / 2}


# What several of these need


def _class_logits(nets: Networks, name: str, images_BCHW: Tensor) -> Tensor:
    output = nets[name](images_BCHW)
    return output[1] if name == "critic" else output


def _one_hot(labels_B: Tensor, like_BK: Tensor) -> Tensor:
    return torch.eye(like_BK.shape[1]).to(like_BK)[labels_B.to(like_BK.device)]


def _class_loss(config: SparseConfig, logits_BK: Tensor, classes_BK: Tensor) -> Tensor:
    loss = _cross_entropy if config.class_loss == "ce" else _binary_cross_entropy
    return loss(logits_BK, classes_BK)


def _cross_entropy(logits_BK: Tensor, classes_BK: Tensor) -> Tensor:
    return F.cross_entropy(logits_BK, classes_BK)


def _binary_cross_entropy(logits_BK: Tensor, classes_BK: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits_BK, classes_BK, reduction="sum") / len(logits_BK)


def _divergence(logits_BK: Tensor, peers_BK: Tensor) -> Tensor:
    log_probs_BK = logits_BK.log_softmax(1)
    return (log_probs_BK.exp() * (log_probs_BK - peers_BK.log())).sum(1).mean()


def _entropy(probs_BK: Tensor) -> Tensor:
    return -torch.xlogy(probs_BK, probs_BK).sum(1)


def _step(optimiser: Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
