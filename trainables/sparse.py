"""SPARSE: a generator G, a discriminator D and a classifier C teach each other.

    every epoch, on the labelled images; one loss for each of G, D and C:
        prototypes + mutual learning + entropy + mixup
    every μ epochs, for each batch of unlabelled images u:
        ŷ ← confidence-weighted vote of D and C, blended with earlier passes' votes; keep the surest 1 - ρ
        z ← random classes
        D: real u against translated G(u, z), gradient penalty, ŷ on u
        G: deceive D, be z for D and for G itself, and come back: G(G(u, z), ŷ) = u
        C: be z on G(u, z)

Two presets, and defaults of ours, which learn more from the labelled images and follow schedules, with predictions by
the moving averages of D's and C's weights. `paper` is the publication with its sign error corrected; `reference` is
what the published code does: ρ, the temporal ensemble and mutual learning have no effect on its training. Departures
from both, and why:
- G(u, z) serves D's and G's step, and D sees the kept u and G(u, z) as one batch: the same numbers for less work.
  BatchNorm's running statistics count the shared pass twice, as the source's two passes do.
- Mutual learning stops the gradient at the peers, so that each network learns from its own loss; where it has
  no gradient (`mutual_gradient` off) its constant is left out.
- The temporal ensemble is kept per image, corrected for its start, and updated with the vote before blending.
- Batches are of equal size and none is dropped (`even_batches`); images are never mirrored in prediction.
- `n_critic` > 1: G and C step at every n-th batch only, or at the last batch of a shorter pass.
Prediction uses C (`sparse`), or the mean of D and C (`sparse_ens`); G helps training only.

Published accuracy, mean over 11 MedMNIST sets at 128 px with ImageNet weights, 5 / 10 / 20 / 50 shots:
sparse 0.632 / 0.685 / 0.734 / 0.772, sparse_ens 0.662 / 0.710 / 0.757 / 0.783.

Source: Manni et al., Comput. Med. Imaging Graph. 128:102705 (2026), arXiv:2508.06429.
Shapes: B batch, N labelled, M unlabelled, R kept, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.sparse import SparseConfig
from trainables.components.augmentation import ImageAugmentation
from trainables.components.batches import even_batches, num_used
from trainables.components.losses import (
    bce_sum,
    entropy_loss,
    gradient_penalty,
    mixup,
    mutual_loss,
    one_hot,
    prototype_loss,
    slope_norms,
    soft_cross_entropy,
)
from trainables.components.meters import Means
from trainables.components.modes import batch_norm_counts, evaluated, frozen
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import pace_of
from trainables.components.parallel import data_parallel
from trainables.components.prediction import NetworkPredictor, class_probabilities, network_state, predict_in_chunks
from trainables.components.prototypes import PrototypeBank
from trainables.components.pseudo_labels import (
    TemporalEnsemble,
    class_balance,
    most_confident,
    num_kept,
    vote_health,
    weighted_vote,
)
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.nets.attention_unet import AttentionUNet
from trainables.nets.backbone import build_classifier
from trainables.nets.patch_discriminator import PatchDiscriminator

_NO_LABEL = -1
_MIN_UNLABELLED = 2
"""BatchNorm cannot take a single image."""


@final
class SparseLearner:
    """Three networks with an optimiser each, the images on the device, and the votes remembered per image."""

    def __init__(self, config: SparseConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._num_classes, self._device = config, task.num_classes, accelerator.device
        self._labelled_NCHW = task.labelled.images_NCHW.to(self._device)
        self._labels_N = task.labelled.labels_N.to(self._device)
        self._unlabelled_MCHW = task.unlabelled_NCHW.to(self._device)
        self._epoch = 0
        self._had_unsupervised_phase = False
        self._augmented, self._pace = ImageAugmentation(config, task), pace_of(config)

        shape = {"channels": task.channels, "num_classes": task.num_classes}
        generator = AttentionUNet(**shape, width=config.width, squashed=config.generator_output == "sigmoid")
        discriminator, classifier = _new_predicting(config, TaskForm.of(task), config.pretrained)
        lr, decay, decay_classifier = config.lr, config.weight_decay, config.weight_decay_classifier
        ratio_discriminator, ratio_classifier = config.lr_ratio_critic, config.lr_ratio_classifier
        prepare = partial(OptimisedModel, accelerator=accelerator, beta1=config.beta1, pace=self._pace)
        self._generator = prepare(generator, lr=lr, weight_decay=decay)
        on_gpu = self._device.type == "cuda"  # on a CPU the penalty takes half as long again with channels last
        self._discriminator = prepare(
            discriminator,
            average=config.average,
            lr=lr * ratio_discriminator,
            weight_decay=decay,
            channels_last=on_gpu,
            compiled=False,
        )
        # The plain discriminator, without autocast: a slope needs float32.
        self._slopes = partial(data_parallel, partial(slope_norms, discriminator.patches), accelerator=accelerator)
        self._classifier = prepare(
            classifier, average=config.average, lr=lr * ratio_classifier, weight_decay=decay_classifier
        )
        memory = TemporalEnsemble(len(self._unlabelled_MCHW), task.num_classes, config.ema_momentum)
        self._memory = memory.to(self._device)
        self._pseudo_labels_M = torch.full((len(self._unlabelled_MCHW),), _NO_LABEL, device=self._device)
        self._strata_N = _strata(config, task.labelled.labels_N) if config.stratify else None
        self._classify: dict[str, Callable[[Tensor], Tensor]] = {
            "generator": self._generator,
            "critic": lambda images_BCHW: self._discriminator(images_BCHW)[1],
            "classifier": self._classifier,
        }
        names = self._classify if config.proto_source == "bank" else ()
        self._banks = nn.ModuleDict({n: PrototypeBank(len(self._labels_N), task.num_classes) for n in names})
        self._banks.to(self._device)

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """One supervised epoch per step and, where it is due, a pass over the unlabelled images."""
        while True:
            yield self._train_epoch()

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the mean of D and C, and of C alone."""
        both = partial(_mean_and_own, self._discriminator.predict, self._classifier.predict)
        networks, side = self.predicting_networks(), self._config.image_size
        return predict_in_chunks(both, images_BCHW, side=side, device=self._device, networks=networks)

    def prediction_state(self) -> dict[str, Tensor]:
        """D and C, or their averages."""
        return network_state(critic=self._discriminator.predicting, classifier=self._classifier.predicting)

    def predicting_networks(self) -> Sequence[nn.Module]:
        """D and C, or their averages."""
        return (self._discriminator.predicting, self._classifier.predicting)

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is."""
        self._pace.begin_epoch(seen, budget)

    def pseudo_labels(self) -> Tensor | None:
        """Labels (M,) that the last epoch gave, -1 where it gave none; None when it had no unsupervised phase."""
        return self._pseudo_labels_M if self._had_unsupervised_phase else None

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, remembered votes, epochs done; the tensors are the live ones, not copies."""
        return {"epoch": self._epoch} | {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._epoch = state["epoch"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, OptimisedModel[Any] | nn.Module]:
        networks: dict[str, OptimisedModel[Any]]
        networks = {"generator": self._generator, "critic": self._discriminator, "classifier": self._classifier}
        return {**networks, "memory": self._memory, "banks": self._banks}

    def _train_epoch(self) -> dict[str, float]:
        means = Means()
        num_images = _epoch_labelled(self._config, len(self._labels_N))
        for index_B in even_batches(num_images, self._config.batch_size, classes_N=self._strata_N):
            index_B = index_B % len(self._labels_N)
            self._pace.advance(len(index_B))
            self._supervised_step(index_B.to(self._device, non_blocking=True), means)
        self._finish_steps()
        due = _begins_cycle(self._config, self._epoch)
        self._had_unsupervised_phase = due and len(self._unlabelled_MCHW) >= _MIN_UNLABELLED
        if self._had_unsupervised_phase:
            self._unsupervised_pass(means)
            self._finish_steps()
        self._epoch += 1
        return means.read()

    def _finish_steps(self) -> None:
        for model in (self._generator, self._discriminator, self._classifier):
            model.finish()

    def _images(self, images_NCHW: Tensor, index_B: Tensor) -> Tensor:
        return self._augmented(images_NCHW[index_B])

    # Supervised

    def _supervised_step(self, index_B: Tensor, means: Means) -> None:
        images_BCHW, labels_B = self._images(self._labelled_NCHW, index_B), self._labels_N[index_B]
        logits = {name: classify(images_BCHW) for name, classify in self._classify.items()}
        losses = {
            name: self._supervised_loss(name, logits, images_BCHW, labels_B)
            + self._config.w_proto * self._prototype_loss(name, logits[name], index_B)
            for name in logits
        }
        # Peers get no gradient, so the gradients of the sum are those of the three losses apart.
        self._generator.backward_and_step(
            torch.stack(list(losses.values())).sum(), self._discriminator, self._classifier
        )
        means.add(len(index_B), **losses)

    def _supervised_loss(self, name: str, logits: dict[str, Tensor], images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        config, own_BK, num_classes = self._config, logits[name], self._num_classes
        loss = config.w_entropy * entropy_loss(own_BK)
        if config.mutual_gradient:
            peers_BK = [logits[other] for other in logits if other != name]
            loss = loss + config.w_mutual * mutual_loss(own_BK, peers_BK, labels_B, config.lambda_kl)
        if config.w_mixup:
            mixed_BCHW, targets_BK = mixup(images_BCHW, labels_B, num_classes, config.mixup_alpha)
            loss = loss + config.w_mixup * soft_cross_entropy(self._classify[name](mixed_BCHW), targets_BK)
        if config.w_bce and name != "generator":
            loss = loss + config.w_bce * bce_sum(own_BK, one_hot(labels_B, num_classes))
        return loss

    def _prototype_loss(self, name: str, logits_BK: Tensor, index_B: Tensor) -> Tensor:
        labels_N, temperature = self._labels_N, self._config.proto_temperature
        others = None
        if name in self._banks:
            bank = cast(PrototypeBank, self._banks[name])
            others = bank.others(index_B, labels_N)
            bank.update(index_B, (logits_BK.detach() / temperature).softmax(1))
        return prototype_loss(logits_BK, labels_N[index_B], self._num_classes, temperature, others)

    # Unsupervised

    def _unsupervised_pass(self, means: Means) -> None:
        config = self._config
        batches = even_batches(len(self._unlabelled_MCHW), config.batch_size, share=config.unsup_fraction)
        counts_K = torch.zeros(self._num_classes, device=self._device)
        self._pseudo_labels_M.fill_(_NO_LABEL)
        for number, index_B in enumerate(batches, start=1):
            self._pace.advance(len(index_B))
            translate = number % config.n_critic == 0 or number == len(batches) < config.n_critic
            counts_K += self._unsupervised_step(index_B.to(self._device, non_blocking=True), translate, means)
        means.add(1, pseudo_balance=class_balance(counts_K))

    def _unsupervised_step(self, index_B: Tensor, translate: bool, means: Means) -> Tensor:
        """Step D, and with `translate` also G and C; return the kept pseudo-labels per class (K,)."""
        images_BCHW = self._images(self._unlabelled_MCHW, index_B)
        labels_B, kept_R = self._pseudo_labels(index_B, images_BCHW, means)
        labels_R = labels_B[kept_R]
        self._pseudo_labels_M[index_B[kept_R]] = labels_R

        # Of the batch, the images that are used at all; of these, the ones whose pseudo-labels are.
        used, certain = (kept_R, slice(None)) if self._config.mask_scope == "all" else (slice(None), kept_R)
        images_BCHW = images_BCHW[used]
        targets_B = torch.randint(self._num_classes, (len(images_BCHW),)).to(self._device, non_blocking=True)
        with (
            batch_norm_counts(self._generator.module, 2 if translate else 1),
            torch.set_grad_enabled(translate),
        ):
            fake_BCHW = self._translate(images_BCHW, targets_B)

        self._discriminator_step(images_BCHW, fake_BCHW.detach(), labels_R, certain, means)
        if translate:
            back_RCHW = self._translate(fake_BCHW[certain], labels_R)
            reconstruction = F.l1_loss(back_RCHW, images_BCHW[certain])
            self._generator_step(fake_BCHW, targets_B, reconstruction, means)
            self._classifier_step(images_BCHW, targets_B, means)
            if self._config.w_pseudo:
                self._self_training_step(images_BCHW[certain], labels_R, means)
        return one_hot(labels_R, self._num_classes).sum(0)

    @torch.no_grad()
    def _pseudo_labels(self, index_B: Tensor, images_BCHW: Tensor, means: Means) -> tuple[Tensor, Tensor]:
        """Labels (B,) by vote, and the positions (R,) of the images whose labels are sure enough."""
        config, batch = self._config, len(index_B)
        voter = self._classifier.module
        with evaluated(voter) if config.pseudo_label_mode == "eval" else nullcontext():
            logits = [self._classify[name](images_BCHW) for name in ("critic", "classifier")]
        votes_BK = current_BK = weighted_vote(logits, config.ens_temperature, normalise=config.normalise_vote)
        if config.temporal_ensemble:
            votes_BK = self._memory.blend(index_B, current_BK, config.ens_blend)
            self._memory.update(index_B, current_BK)
        count = num_kept(batch, config.percentile) if config.mask else batch
        means.add(batch, coverage=votes_BK.new_full((), count / batch), **vote_health(votes_BK, logits))
        return votes_BK.argmax(1), most_confident(votes_BK, count, by_class=config.percentile_by_class)

    def _discriminator_step(
        self, real_BCHW: Tensor, fake_BCHW: Tensor, labels_R: Tensor, certain: Tensor | slice, means: Means
    ) -> None:
        """Step D: real above fake, a slope of 1 between them, pseudo-labels on the certain ones of the real images."""
        config = self._config
        patches_2B1HW, logits_2BK = self._discriminator(torch.cat([real_BCHW, fake_BCHW]))
        real_B1HW, fake_B1HW = patches_2B1HW.chunk(2)
        distance = real_B1HW.mean() - fake_B1HW.mean()
        penalty = gradient_penalty(self._slopes, real_BCHW, fake_BCHW)
        pseudo_loss = self._class_loss(logits_2BK[: len(real_BCHW)][certain], labels_R)
        loss = config.lambda_gp * penalty + config.lambda_cls_d * pseudo_loss - distance
        self._discriminator.backward_and_step(loss)
        means.add(len(real_BCHW), unsup_critic=loss, critic_distance=distance, gradient_penalty=penalty)

    def _generator_step(self, fake_BCHW: Tensor, targets_B: Tensor, reconstruction: Tensor, means: Means) -> None:
        """Step G: deceive D, be the target for D and for G itself, and find the way back."""
        config = self._config
        with frozen(self._discriminator.module):
            patches_B1HW, discriminator_BK = self._discriminator(fake_BCHW)
            loss = config.lambda_rec * reconstruction - patches_B1HW.mean()
            loss = loss + config.lambda_cls_g * self._class_loss(discriminator_BK, targets_B)
            loss = loss + config.lambda_cls_gg * self._class_loss(self._generator(fake_BCHW), targets_B)
            self._generator.backward_and_step(loss)
        means.add(len(fake_BCHW), unsup_generator=loss, reconstruction=reconstruction)

    def _classifier_step(self, images_BCHW: Tensor, targets_B: Tensor, means: Means) -> None:
        """Step C: name the target of translations by the generator that has just learned."""
        with torch.no_grad():
            fake_BCHW = self._translate(images_BCHW, targets_B)
        loss = self._class_loss(self._classifier(fake_BCHW), targets_B)
        self._classifier.backward_and_step(loss, scale=self._config.w_syn)
        means.add(len(images_BCHW), unsup_classifier=loss)

    def _self_training_step(self, images_RCHW: Tensor, labels_R: Tensor, means: Means) -> None:
        """Step C: name the pseudo-labels of the images that are sure enough, as D does."""
        loss = self._class_loss(self._classifier(images_RCHW), labels_R)
        self._classifier.backward_and_step(loss, scale=self._config.w_pseudo)
        means.add(len(images_RCHW), pseudo_classifier=loss)

    def _translate(self, images_BCHW: Tensor, classes_B: Tensor) -> Tensor:
        translated_BCHW: Tensor = self._generator(images_BCHW, one_hot(classes_B, self._num_classes))
        return translated_BCHW

    def _class_loss(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        if self._config.class_loss == "ce":
            return F.cross_entropy(logits_BK, labels_B)
        return bce_sum(logits_BK, one_hot(labels_B, self._num_classes))


def _begins_cycle(config: SparseConfig, epoch: int) -> bool:
    """Return True if the epoch after so many has an unsupervised phase."""
    since_warmup = epoch - config.unsup_warmup
    return config.mu > 0 and since_warmup >= 0 and since_warmup % config.mu == 0


def _ends_cycle(config: SparseConfig, epoch: int) -> bool:
    """Return True if after so many epochs the next unsupervised phase comes, and not the first."""
    return epoch > config.unsup_warmup and _begins_cycle(config, epoch)


def _epoch_labelled(config: SparseConfig, num_labelled: int) -> int:
    """Labelled images of an epoch."""
    return max(num_labelled, config.batch_size) if config.fill_batches else num_labelled


def _strata(config: SparseConfig, labels_N: Tensor) -> Tensor:
    """Labels of the images of an epoch, those that are repeated included."""
    return labels_N[torch.arange(_epoch_labelled(config, len(labels_N))) % len(labels_N)]


def _epoch_images(config: SparseConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """The labelled images, as often as it holds them, and those of an unsupervised phase where it has one."""
    if not _begins_cycle(config, epoch) or num_unlabelled < _MIN_UNLABELLED:
        return _epoch_labelled(config, num_labelled)
    return _epoch_labelled(config, num_labelled) + num_used(num_unlabelled, config.unsup_fraction)


def _new_predicting(config: SparseConfig, form: TaskForm, pretrained: str) -> tuple[PatchDiscriminator, nn.Module]:
    """D and C."""
    shape = {"channels": form.channels, "num_classes": form.num_classes}
    return PatchDiscriminator(**shape, side=config.image_size, width=config.critic_width), build_classifier(
        config.classifier, **shape, pretrained=pretrained, dropout=config.dropout,
        drop_path=config.drop_path, head_init=config.head_init,
    )  # fmt: skip


def _mean_and_own(
    discriminate: Callable[[Tensor], tuple[Tensor, Tensor]], classify: Callable[[Tensor], Tensor], unit_BCHW: Tensor
) -> dict[str, Tensor]:
    """Probabilities (B, K) of the mean of D and C, and of C alone."""
    discriminator_BK = class_probabilities(discriminate(unit_BCHW)[1])
    classifier_BK = class_probabilities(classify(unit_BCHW))
    return {"sparse_ens": (discriminator_BK + classifier_BK) / 2, "sparse": classifier_BK}


def predictor(config: SparseConfig, form: TaskForm) -> Predictor:
    """D and C, their weights to be loaded."""
    critic, classifier = _new_predicting(config, form, "")
    networks = {"critic": critic, "classifier": classifier}
    both = partial(_mean_and_own, critic, classifier)
    return NetworkPredictor(networks, both, side=config.image_size, contiguous=("critic",))


def build(config: SparseConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with fresh networks, or pretrained ones where the configuration names weights."""
    return SparseLearner(config, task, accelerator)


METHOD = Method(
    SparseConfig, ("classification",), build, predictors=("sparse_ens", "sparse"), predictor=predictor,
    epoch_images=_epoch_images, cycle_ends=_ends_cycle,
)  # fmt: skip
