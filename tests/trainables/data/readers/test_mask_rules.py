import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.data.partition import three_way_split
from trainables.data.readers.mask_rules import Picture, has_masks, train_and_test, with_masks


def test_layout(tmp_path):
    (tmp_path / "images").mkdir()
    assert not has_masks(tmp_path)
    (tmp_path / "masks").mkdir()
    assert has_masks(tmp_path)


@pytest.mark.parametrize(
    ("images", "masks", "endings", "pairs"),
    [
        (["i/b.png", "i/a.jpg"], ["m/a.png"], (), [("i/b.png", ()), ("i/a.jpg", ("m/a.png",))]),
        (["i/a.png"], ["m/2/a.png", "m/1/a.tif"], (), [("i/a.png", ("m/2/a.png", "m/1/a.tif"))]),
        (["i/a.png"], ["m/a_mask.png"], ("mask", "OD"), [("i/a.png", ("m/a_mask.png",))]),
        (["i/a_OD.png"], ["m/a_OD.png"], ("mask", "OD"), [("i/a_OD.png", ("m/a_OD.png",))]),
        (["i/a_OD.png"], ["m/a_OD_mask.png"], ("mask", "OD"), [("i/a_OD.png", ("m/a_OD_mask.png",))]),
        (
            ["i/a_OD.png", "i/a.png"],
            ["m/a_OD.png", "m/a_mask.png"],
            ("mask", "OD"),
            [("i/a_OD.png", ("m/a_OD.png",)), ("i/a.png", ("m/a_mask.png",))],
        ),
        *(
            (["i/a.jpg", "i/b.jpg"], [f"m/{name}"], (), [("i/a.jpg", (f"m/{name}",)), ("i/b.jpg", ())])
            for name in (
                "a_Segmentation.png",
                "a_MASK.png",
                "a_anno.bmp",
                "a_lesion.png",
                "a_seg.tif",
                "a-mask.png",
                "A.png",
                "a.jpg.png",
                "a.jpg_mask.png",
                "a_mask.jpg.png",
                "a_mask_1.png",
                "a_mask2.png",
                "a_gt.png",
                "a_label.png",
            )
        ),
        (["i/Ä.png"], ["m/A\u0308_mask.png"], (), [("i/Ä.png", ("m/A\u0308_mask.png",))]),
        (["i/a.png", "i/A.png"], ["m/A.png"], (), [("i/a.png", ()), ("i/A.png", ("m/A.png",))]),
        (["i/a.png", "i/a_mask.png"], ["m/a_mask.png"], (), [("i/a.png", ()), ("i/a_mask.png", ("m/a_mask.png",))]),
    ],
)
def test_a_mask_belongs_to_the_picture_whose_name_it_bears(tmp_path, images, masks, endings, pairs):
    assert with_masks(tmp_path, images, masks, endings) == tuple(Picture(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["i/a.png", "i/a.jpg"], [], r"i/a\.png and .*i/a\.jpg have the same name before the dot: rename one"),
        (["i/a.png"], ["m/b_mask.png"], r"mask .*m/b_mask\.png is of no picture; expected one named b: add it"),
        (["i/a.png"], ["m/a_mask_mask.png"], r"expected one named a_mask(?: \(.*\))?: add it"),
        (["i/case_01.png"], ["m/case-01_mask.png"], r"expected one named case-01 \(the nearest is case_01\): add it"),
        (["i/a.png", "i/A.png"], ["m/a_MASK.png"], r"is of no picture; expected one named a \(the nearest is a\)"),
    ],
)
def test_names_that_do_not_match(tmp_path, images, masks, message):
    with pytest.raises(DataError, match=message):
        with_masks(tmp_path, images, masks, ("mask",))


def test_train_and_test():
    labels_N = np.arange(40) % 2
    parts = train_and_test(labels_N, "0123456789abcdef" + "x" * 16, 0.25)
    assert list(parts) == ["train", "test"]
    assert np.bincount(labels_N[parts["test"]]).tolist() == [5, 5]
    assert sorted([*parts["train"], *parts["test"]]) == list(range(40))
    expected = three_way_split(labels_N, "0123456789abcdef", val_share=0.0, test_share=0.25)
    assert np.array_equal(parts["test"], expected["test"])
