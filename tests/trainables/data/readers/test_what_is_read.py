"""Every reader reads the same of the same files for ever: labels, pixels, masks, hashes, names in the cache."""

from hashlib import md5
from io import BytesIO
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest
from PIL import Image

from trainables.core.conditions import VALIDATION_MODES
from trainables.data.readers.shapes import shapes
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task

# Files are uncompressed, and no side differs from what lies in them where Pillow would resize smoothly.
SIDE = 40


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_classes(root):
    rng = np.random.default_rng(1)
    for name in ("calm", "ill"):
        for index in range(10):
            save(root / f"own/{name}/{index}.bmp", rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def write_masks(root):
    images, masks = shapes(20, SIDE, seed=5)
    endings = ("", "_mask", "_segmentation", "_OD")
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(root / f"own/images/{index:02}.bmp", image)
        save(root / f"own/masks/{index:02}{endings[index % 4]}.bmp", mask * (255 if index % 2 else 1))


def write_lesions(root):
    images, masks = shapes(24, SIDE, seed=6)
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(root / f"own/images/{index:02}.bmp", image if index != 7 else images[3])
        if index % 2:
            save(root / f"own/masks/{'ab'[index % 3 // 2]}/{index:02}.bmp", mask)
            save(root / f"own/masks/{index:02}.bmp", np.roll(mask, 3))


def write_idrid(root):
    rng = np.random.default_rng(3)
    images, masks = shapes(12, SIDE, seed=8)
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        folder, name = root / f"idrid/segmentation/{'train' if index < 8 else 'test'}", f"IDRiD_{index:02}"
        save(folder / f"images/{name}.bmp", image)
        save(folder / f"masks/OD/{name}_OD.bmp", mask)
        save(folder / f"masks/{('MA', 'HE', 'EX', 'SE')[index % 4]}/{name}{'_MA' * (index % 4 == 0)}.bmp", mask)
    lines = ["file,retinopathy_grade"]
    for index in range(16):
        save(root / f"idrid/grading/images/{index:03}.bmp", rng.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8))
        lines.append(f"{index:03}.bmp,{int(index > 12)}")
    (root / "idrid/grading/labels.csv").write_text("\n".join(lines))


def write_npz(root):
    rng = np.random.default_rng(4)
    with ZipFile(root / "own.npz", "w") as archive:
        for split, count in (("train", 24), ("val", 6), ("test", 6)):
            images_NHW = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
            for key, array in (("images", images_NHW), ("labels", rng.permutation(np.arange(count) % 3))):
                member = BytesIO()
                np.save(member, array)
                archive.writestr(ZipInfo(f"{split}_{key}.npy"), member.getvalue())  # at no time of day


def nothing(root):
    pass


CASES = {
    "digits": (nothing, "digits", "classification"),
    "npz": (write_npz, "own.npz", "classification"),
    "classes": (write_classes, "own/", "classification"),
    "lesions": (write_lesions, f"own/@{SIDE}", "classification"),
    "idrid": (write_idrid, f"idrid@{SIDE}", "classification"),
    "masks": (write_masks, f"own/@{SIDE}", "segmentation"),
    "idrid-disc": (write_idrid, f"idrid-disc@{SIDE}", "segmentation"),
    "shapes": (nothing, f"shapes@{SIDE}", "segmentation"),
}


def md5_of(*arrays):
    total = md5(usedforsecurity=False)
    for array in arrays:
        total.update(str((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:12]


def read_all(source):
    for split in source.splits:
        images = source.images(split)
        yield from (source.labels(split), images)
        masks = source.masks(split, np.arange(len(images)))
        if masks is not None:
            yield masks


@pytest.fixture(params=sorted(CASES))
def case(request, tmp_path):
    write, dataset, kind = CASES[request.param]
    write(tmp_path)
    return request.param, dataset, kind, tmp_path


MARKED = dict.fromkeys(("lesions", "masks", "idrid-disc", "shapes"), (True, 0.25, True))
MARKED["idrid"] = (True, 50 / 199, True)

PINNED = {
    "classes": ("own", ("calm", "ill"), (14, 2, 4), "7972faa540adfe68", "5930b0fe51c3", "9418537f5092", "16176723db97"),
    "digits": (
        "digits",
        ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        (1197, 199, 401),
        "717a258403283d25",
        "c0163cb8a221",
        "6c4980057c30",
        "48c6a168ba17",
    ),
    "idrid": (
        "idrid@40",
        ("healthy", "lesion"),
        (20, 5),
        "211e68ecd14742c7",
        "0a5b2f8d0907",
        "c138456c0b7c",
        "c138456c0b7c",
        "pictures-211e68ecd14742c7575b5f78c2adc3c4-40-v2",
    ),
    "idrid-disc": (
        "idrid-disc@40",
        ("optic disc",),
        (8, 4),
        "d373981124b38c11",
        "61ce146fe9df",
        "75b2e82e2713",
        "75b2e82e2713",
        "masks-d373981124b38c11a84250e707dbf578-40-test-v2",
        "masks-d373981124b38c11a84250e707dbf578-40-train-v2",
    ),
    "lesions": (
        "own@40",
        ("healthy", "lesion"),
        (19, 4),
        "cf35990984842f97",
        "9a85d4347367",
        "337a72bdfb17",
        "337a72bdfb17",
        "pictures-cf35990984842f9754672683c211f0e1-40-v2",
    ),
    "masks": (
        "own@40",
        ("foreground",),
        (16, 4),
        "2bba6032cbe0553b",
        "f05a3400dbb3",
        "490aa727aa01",
        "490aa727aa01",
        "masks-2bba6032cbe0553b501bf16b0614e055-40-test-v2",
        "masks-2bba6032cbe0553b501bf16b0614e055-40-train-v2",
    ),
    "npz": ("own", ("0", "1", "2"), (24, 6, 6), "60e22cec5073de1a", "e293e91f3453", "32fb750cbe3a", "052bed8acd65"),
    "shapes": (
        "shapes@40",
        ("ellipse",),
        (240, 100),
        "70b8388a3381254f",
        "c0902fe3410b",
        "1c7b995b8a44",
        "1ffe493c733c",
    ),
}


def test_everything_that_is_read(case, cache):
    name, dataset, kind, root = case
    source = open_source(dataset, root, kind=kind)
    shots = {"classification": 8 if source.shots_in_all else 2, "segmentation": 4}[kind]
    draws = [
        few_shot_task(dataset, shots, 1, mode, root, kind=kind).provenance.label_set_hash
        for mode in VALIDATION_MODES
        if mode == "realistic" or (mode == "official") == source.shots_in_all
    ]
    counts = tuple(source.check_images(split) for split in source.splits)
    found = [source.name, source.class_names, counts, source.content_hash, md5_of(*read_all(source)), *draws]
    kept = sorted(path.name for path in cache.iterdir() if path.is_dir())
    assert (*found, *kept) == PINNED[name]
    assert (source.shots_in_all, source.val_share, source.has_masks) == MARKED.get(name, (False, 0.0, False))
    assert source.kind == kind
