"""Splits into images that are labelled, that validate and that stay unlabelled: pure functions of labels.

Every class has one random order of its training images, fixed by (content hash, label set). Labelled images
come from its beginning, so 5 shots lie inside 10 and methods are paired; `realistic` validation images come
from its end. With all shots, every labelled image is one of them. Images that nobody has labelled (-1) stay unlabelled
in every draw. Pictures whose `roles` forbid it are passed over in an order, which stays as it is. No group of images is
on both sides: what shares one with an image that validates is neither labelled nor unlabelled meanwhile. Where labelled
pictures are counted in all, `drawn_split` draws instead.

Shapes: N training images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.core.conditions import Conditions
from trainables.core.shots import ALL_SHOTS
from trainables.data.groups import Groups, alone, deal_out_groups, kin_of, share_out_groups
from trainables.data.partition import UNLABELLED, Indices, Labels, random_order, shuffled_class
from trainables.data.roles import Roles, usable
from trainables.data.split_checks import check_asked, check_counts, check_drawn, check_fold

_ALL_CLASSES_WITHIN = 10


@dataclass(frozen=True)
class FewShotSplit:
    """Ascending indices into the train split, but for validation images that come from the val split."""

    labelled_indices: Indices
    unlabelled_indices: Indices
    validation_indices: Indices
    validation_from: Literal["train", "val"]
    label_set_hash: str
    """12 hex digits, of the labelled and the validating indices."""

    label_budget: int
    """Labels that the whole procedure looks at; with `labelled-cv` all folds look at the same."""

    num_folds: int = 1
    """Parts of the labelled images that validate in turn; 1 in the other modes than `labelled-cv`."""


def num_folds(shots: int, folds: int = Conditions.folds) -> int:
    """Folds of `labelled-cv`: as many as are asked for, or one per shot when there are fewer."""
    return folds if shots == ALL_SHOTS else min(folds, shots)


def few_shot_split(
    train_labels: Labels,
    *,
    num_classes: int,
    shots: int,
    label_set: int,
    content_hash: str,
    validation: str,
    fold: int = 0,
    folds: int = Conditions.folds,
    num_validation: int | None = None,
    class_names: Sequence[str] | None = None,
    roles: Roles | None = None,
    groups: Groups | None = None,
) -> FewShotSplit:
    """Draw a few-shot problem; the same arguments always give the same one.

    Args:
        train_labels: (N,), in 0..K-1, or -1 where nobody has labelled an image.
        num_classes: K.
        shots: Labelled images per class; `ALL_SHOTS`: all there are, and only the pool is unlabelled.
        label_set: Number of the draw.
        content_hash: Hash of the data, so that two datasets of one size are not drawn alike.
        validation: One of `VALIDATION_MODES`.
        fold: The part of the labelled images that validates, in `labelled-cv`; 0 in the other modes.
        folds: Most parts in `labelled-cv`: of all shots not more than the rarest class has images, or groups.
        num_validation: Size of the val split; needed for `official` only.
        class_names: Used in messages.
        roles: Roles that are left to the images where some are equal, of val as well in `official`; None: all.
        groups: (N,); None: every image is one of its own.

    Raises:
        DataError: unknown mode, shots or fold out of range, or a class with too few images or groups.
    """
    check_asked(shots, validation, num_validation)
    roles = roles or Roles.all(len(train_labels), num_validation or 0)
    groups_N = alone(len(train_labels)) if groups is None else groups
    seed = (content_hash, label_set)
    shuffled = (shuffled_class(train_labels, label, *seed) for label in range(num_classes))
    orders = [usable(order, roles.teaching_N) for order in shuffled]
    check_counts(np.array([len(order) for order in orders]), shots, validation, class_names)
    taken = [order if shots == ALL_SHOTS else order[:shots] for order in orders]
    num_parts = _num_parts(taken, groups_N, shots, folds, class_names) if validation == "labelled-cv" else 1
    check_fold(fold, num_parts, shots, validation)
    if validation == "official":
        return _split(_sorted(taken), np.flatnonzero(roles.validating_V), roles.present_N, validated_in="val")
    if validation == "realistic":
        chosen = _ends(orders, shots, kin_of(groups_N, _sorted(taken)), class_names)
    else:
        chosen = _part_of_drawn(taken, groups, fold, num_parts, seed)
    return _split(_sorted(taken), chosen, roles.present_N & ~kin_of(groups_N, chosen), num_parts=num_parts)


def drawn_split(
    labels_N: Labels,
    *,
    shots: int,
    label_set: int,
    content_hash: str,
    validation: str,
    val_share: float,
    fold: int = 0,
    folds: int = Conditions.folds,
    class_names: Sequence[str],
    roles: Roles | None = None,
    groups: Groups | None = None,
) -> FewShotSplit:
    """Draw a problem whose labelled pictures are counted in all; the same arguments always give the same one.

    Every label set shares the pictures out anew, class by class, into train and val. Of train the first `shots` of one
    random order are labelled, the rest is unlabelled. Orders are drawn until the first 10 hold every class (the first
    `shots`, if these are fewer): so 10 lie inside 20, and any more. `official` validates on the whole val part;
    `realistic` on its first `shots`, at most all, in an order whose beginnings are shared among the classes like the
    whole; `labelled-cv` on folds of the labelled pictures, dealt out class by class. With all shots every picture of
    train is labelled, in `labelled-cv` those of val too. Pictures of the pool are unlabelled in every draw.

    Args:
        labels_N: Labels of the pictures that are no test pictures, in 0..K-1, or -1 where nobody has labelled one.
        shots: Labelled pictures; `ALL_SHOTS`: all there are.
        label_set: Number of the draw.
        content_hash: Hash of the data.
        validation: One of `VALIDATION_MODES`.
        val_share: Share of every class that is val and not train.
        fold: The part of the labelled pictures that validates, in `labelled-cv`; 0 in the other modes.
        folds: Most parts in `labelled-cv`.
        class_names: All K, used in messages too.
        roles: Roles that are left to the pictures where some are equal; None: all.
        groups: (N,); None: every picture is one of its own.

    Raises:
        DataError: unknown mode, shots or fold out of range, or a class with too few pictures or groups.
    """
    check_asked(shots, validation, num_validation=1)
    seed = (content_hash, label_set, "counted in all")
    roles = roles or Roles.all(len(labels_N))
    by_folds, all_of_them = validation == "labelled-cv", shots == ALL_SHOTS
    groups_N = alone(len(labels_N)) if groups is None else groups
    train, val = _train_and_val(labels_N, groups_N, seed, 0.0 if by_folds and all_of_them else val_share)
    may_teach, chosen = (usable(part, roles.teaching_N) for part in (train, val))
    check_drawn(labels_N, may_teach, None if by_folds and all_of_them else chosen, shots, class_names)
    first = len(may_teach) if all_of_them else min(shots, _ALL_CLASSES_WITHIN)
    drawn = _first_with_all_classes(labels_N, train, first, seed, roles)[: shots or None]
    taken = [drawn[labels_N[drawn] == label] for label in range(len(class_names))]
    num_parts = _parts_of_drawn(taken, groups, shots, folds, class_names) if by_folds else 1
    check_fold(fold, num_parts, shots, validation)
    if validation == "realistic":
        chosen = usable(_evenly_mixed(labels_N, val, seed), roles.teaching_N)[:shots]
    elif by_folds:
        chosen = _part_of_drawn(taken, groups, fold, num_parts, seed)
    outside_N = kin_of(groups_N, np.union1d(val, chosen))
    return _split(np.sort(drawn), np.sort(chosen), roles.present_N & ~outside_N, num_parts=num_parts)


def _train_and_val(
    labels_N: Labels, groups_N: Groups, seed: tuple[object, ...], val_share: float
) -> tuple[Indices, Indices]:
    """Labelled pictures of the train and of the val part, ascending; the pool is shared out to neither."""
    known = np.flatnonzero(labels_N != UNLABELLED)
    words = "/".join(map(str, seed))
    parts = share_out_groups(labels_N[known], groups_N[known], words, val_share=val_share, test_share=0.0)
    return known[parts["train"]], known[parts["val"]]


def _split(
    drawn: Indices,
    chosen: Indices,
    present_N: NDArray[np.bool_],
    validated_in: Literal["train", "val"] = "train",
    num_parts: int = 1,
) -> FewShotSplit:
    """The split whose drawn images are labelled unless they are chosen to validate; all are ascending.

    Unlabelled are those of the present ones that are neither.
    """
    in_val = validated_in == "val"
    labelled = drawn if in_val else np.setdiff1d(drawn, chosen)
    looked_at = drawn if in_val else np.union1d(drawn, chosen)
    return FewShotSplit(
        labelled_indices=labelled,
        unlabelled_indices=np.setdiff1d(np.flatnonzero(present_N), looked_at),
        validation_indices=chosen,
        validation_from=validated_in,
        label_set_hash=_hash(labelled, chosen, validated_in),
        label_budget=len(looked_at) + (len(chosen) if in_val else 0),
        num_folds=num_parts,
    )


def _num_parts(
    taken: Sequence[Indices], groups_N: Groups, shots: int, folds: int, class_names: Sequence[str] | None
) -> int:
    """Folds that the labelled images of every class, or their groups, are enough for."""
    counts = [len(np.unique(groups_N[order])) for order in taken]
    smallest = int(np.argmin(counts))
    count, asked = counts[smallest], num_folds(shots, folds)
    if count < (2 if shots == ALL_SHOTS else asked):
        name = f"class {smallest}" + (f" ('{class_names[smallest]}')" if class_names else "")
        raise DataError(
            f"the {len(taken[smallest])} labelled images of {name} are of {count} "
            f"group{'s' * (count > 1)}; expected at least {min(asked, 2) if shots == ALL_SHOTS else asked} with "
            "labelled-cv: label images of another group, lower folds, merge classes, or leave the class out"
        )
    return min(asked, count)


def _ends(
    orders: Sequence[Indices], shots: int, away_N: NDArray[np.bool_], class_names: Sequence[str] | None
) -> Indices:
    """The last images of every order that share no group with a labelled one."""
    ends = [usable(order, ~away_N)[-shots:] for order in orders]
    for label, end in enumerate(ends):
        if len(end) < shots:
            name = f"class {label}" + (f" ('{class_names[label]}')" if class_names else "")
            raise DataError(
                f"{name} has {len(end)} images to validate with whose groups are not labelled, but {shots} are asked "
                "for: lower --shots, or choose --validation labelled-cv"
            )
    return _sorted(ends)


def _part_of_drawn(
    taken: Sequence[Indices], groups_N: Groups | None, fold: int, num_parts: int, seed: tuple[object, ...]
) -> Indices:
    """The labelled images that validate in a fold, of every class alike, or of whole groups; ascending."""
    if groups_N is None:
        return _sorted([order[fold::num_parts] for order in taken])
    labels = np.repeat(np.arange(len(taken)), [len(order) for order in taken])
    drawn = np.concatenate(taken)
    order = np.argsort(drawn)
    parts_D = deal_out_groups(labels[order], groups_N[drawn[order]], num_parts, *seed)
    held_out: Indices = drawn[order][parts_D == fold]
    return held_out


def without_fold(split: FewShotSplit, pool: Indices) -> FewShotSplit:
    """Return a split of `labelled-cv` without a fold: all that is labelled teaches, and validates too.

    Args:
        split: Any fold of it.
        pool: The images that are unlabelled if they are not labelled.
    """
    everything = np.union1d(split.labelled_indices, split.validation_indices)
    return replace(
        split,
        labelled_indices=everything,
        unlabelled_indices=np.setdiff1d(pool, everything),
        validation_indices=everything,
        label_set_hash=_hash(everything, everything, split.validation_from),
    )


def whole_split(train_labels: Labels, roles: Roles) -> FewShotSplit:
    """Return the split in which every labelled image of train teaches, and validates too."""
    known_N = roles.teaching_N & (train_labels != UNLABELLED)
    labelled = np.flatnonzero(known_N)
    return FewShotSplit(
        labelled_indices=labelled,
        unlabelled_indices=np.flatnonzero(roles.present_N & ~known_N),
        validation_indices=labelled,
        validation_from="train",
        label_set_hash=_hash(labelled, labelled, "train"),
        label_budget=len(labelled),
    )


def _first_with_all_classes(
    labels_N: Labels, train: Indices, first: int, seed: tuple[object, ...], roles: Roles
) -> Indices:
    """A random order of the training pictures that may be labelled, whose first ones hold every class of all."""
    num_classes = len(np.unique(labels_N[train]))
    whole = (train[random_order(len(train), *seed, "labelled", attempt)] for attempt in count())
    orders = (usable(order, roles.teaching_N) for order in whole)
    return next(order for order in orders if len(np.unique(labels_N[order[:first]])) == num_classes)


def _evenly_mixed(labels_N: Labels, part: Indices, seed: tuple[object, ...]) -> Indices:
    """A random order in which every class comes first once, and then as often as it is frequent."""
    ranked = []
    for label in np.unique(labels_N):
        members = part[shuffled_class(labels_N[part], int(label), *seed, "validation")]
        ranked += [(rank and (rank + 0.5) / len(members), label, member) for rank, member in enumerate(members)]
    return np.array([member for _, _, member in sorted(ranked)], dtype=np.int64)


def _parts_of_drawn(
    taken: Sequence[Indices], groups: Groups | None, shots: int, folds: int, class_names: Sequence[str]
) -> int:
    """Folds that the labelled pictures of every class, or their groups, are enough for."""
    if groups is not None:
        return _num_parts(taken, groups, shots, folds, class_names)
    asked = num_folds(shots, folds)
    if shots == ALL_SHOTS:
        return min(asked, *map(len, taken))
    for name, own in zip(class_names, taken, strict=True):
        if len(own) < asked:
            raise DataError(
                f"labelled-cv deals every class out to {asked} folds, but {len(own)} of the {sum(map(len, taken))} "
                f"labelled pictures are of class '{name}': raise --shots or choose --validation realistic"
            )
    return asked


def _sorted(parts: Sequence[Indices]) -> Indices:
    return np.sort(np.concatenate(parts))


def _hash(labelled: Indices, validation: Indices, origin: str) -> str:
    text = "|".join([",".join(map(str, labelled.tolist())), origin, ",".join(map(str, validation.tolist()))])
    return sha256(text.encode()).hexdigest()[:12]
