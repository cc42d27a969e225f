from trainables.data.description import describe


def test_a_folder_with_a_pool(write_pictures):
    folder = write_pictures({"benign": 7, "malignant": 4, "unlabelled": 9})
    (folder / "unlabelled/copy.png").write_bytes((folder / "benign/000.png").read_bytes())
    (folder / "benign/scan.mha").write_text("")
    found = describe(str(folder))
    assert (found.name, found.channels, found.side) == ("scans", 1, 10)
    assert found.class_names == ("benign", "malignant")
    assert found.class_counts == {"train": (7, 4)}
    assert (found.sizes, found.num_unlabelled) == ({"train": 11}, 10)
    assert found.notes == (
        "1 files that are no PNG, JPEG, BMP, TIFF or DICOM passed over (benign/scan.mha)",
        "1 of train left out as the same pixels are there before",
    )


def test_splits_of_an_npz(write_npz):
    found = describe(str(write_npz()))
    assert found.sizes == {"train": 36, "val": 9, "test": 12}
    assert found.class_counts == {"train": (12,) * 3, "val": (3,) * 3}
    assert found.num_unlabelled == 0


def test_masks_are_counted_without_classes():
    found = describe("shapes@16")
    assert (found.kind, found.class_counts, found.num_unlabelled) == ("segmentation", {}, 0)
    assert sum(found.sizes.values()) == 340


def test_patients_are_counted(write_table):
    rows = {f"{n}.png": ("xy"[n % 2], f"p{n // 4}", "train" if n < 12 else "test") for n in range(20)}
    found = describe(str(write_table(rows, columns=("label", "patient", "split"))))
    assert found.group_counts == {"train": 3, "test": 2}
    assert found.num_folds == 3


def test_labels_that_are_too_few_are_told(write_pictures):
    found = describe(str(write_pictures({"a": 1, "b": 3, "unlabelled": 2})))
    assert found.num_folds is None
    assert found.notes[-1].startswith("all labels cannot be used with labelled-cv: class 0 ('a') has 1 labelled")
