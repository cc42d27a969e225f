"""One row per dataset that is known by name: the one place to add one, whatever opens it.

Importing this module is cheap (no torch, NumPy or scikit-learn): the command line lists it in milliseconds. A row names
the function of a reader module that opens it, which is imported when it is needed.

Source: Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; each row cites where its images come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search_spaces.core.errors import DataError
from trainables.core.kind import Kind, MirrorAxis
from trainables.data.checksums import MEDMNIST_MD5
from trainables.data.names import PREPARED_SIDES, reader_function


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a dataset that are known before any file is opened."""

    name: str
    title: str
    class_names: tuple[str, ...]
    """In the order of the labels; of a segmentation, what is marked: the background has no name."""

    channels: int
    """1 (grey) or 3 (RGB)."""

    sides: tuple[int, ...]
    """Image sides on offer, in pixels; the first is meant when no `@SIDE` is given."""

    licence: str
    citation: str
    split_sizes: tuple[int, int, int]
    """Images in train, val and test."""

    opener: str
    """MODULE:FUNCTION of `trainables.data.readers` that makes a reader of a `RowRequest`."""

    place: str = ""
    """File or folder below the data root; empty where images are bundled or made on the spot.

    `{side}` in it stands for nothing at the first side, and for `_SIDE` at any other.
    """

    presence: str = ""
    """MODULE:FUNCTION of `trainables.data.readers` that tells of the path if it is complete; empty: it exists."""

    checksums: Mapping[int, str] = field(default_factory=dict, hash=False)
    """MD5 of the published data, by side."""

    any_finding: bool = False
    """Labels are columns of findings, read as 1 when any is set and 0 when none is."""

    side_range: tuple[int, int] | None = None
    """Least and greatest side, in pixels, where pictures are prepared at any side that is asked for."""

    kind: Kind = "classification"
    """Kind of task that can be learned."""

    asymmetric: tuple[MirrorAxis, ...] = ()
    """Axes along which a mirrored image shows something else: training images are never mirrored along them."""

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    def path_below(self, root: Path, side: int) -> Path:
        """Path of the images of a side, in pixels; the root itself where they need no file."""
        return root / self.place.replace("{side}", "" if side == self.sides[0] else f"_{side}")

    def is_here(self, root: Path, side: int) -> bool:
        """True if the images of a side, in pixels, can be read without a download."""
        path = self.path_below(root, side)
        return bool(reader_function(self.presence)(path)) if self.presence else not self.place or path.exists()

    def check_side(self, side: int | None) -> int:
        """Side to read, in pixels.

        Raises:
            DataError: the dataset does not come in this side.
        """
        if side is None:
            return self.sides[0]
        low, high = self.side_range or (0, 0)
        if side not in self.sides and not low <= side <= high:
            known = f"{low} to {high}" if high else ", ".join(str(known) for known in self.sides)
            raise DataError(f"{self.name} has no images of side {side}; it comes in {known}: write {self.name}@SIDE")
        return side


def _medmnist(
    name: str,
    title: str,
    class_names: tuple[str, ...],
    channels: int,
    split_sizes: tuple[int, int, int],
    images_from: str,
    *,
    licence: str = "CC BY 4.0",
    any_finding: bool = False,
    asymmetric: tuple[MirrorAxis, ...] = (),
) -> DatasetInfo:
    """One of the 2-D files of MedMNIST."""
    return DatasetInfo(
        name=name,
        title=title,
        class_names=class_names,
        channels=channels,
        sides=tuple(MEDMNIST_MD5[name]),
        licence=licence,
        citation=f"Yang et al., MedMNIST v2, Scientific Data 2023; {images_from}",
        split_sizes=split_sizes,
        opener="medmnist:open_medmnist",
        place=f"{name}{{side}}.npz",
        checksums=MEDMNIST_MD5[name],
        any_finding=any_finding,
        asymmetric=asymmetric,
    )


_COLON = (
    "adipose",
    "background",
    "debris",
    "lymphocytes",
    "mucus",
    "smooth muscle",
    "normal colon mucosa",
    "cancer-associated stroma",
    "colorectal adenocarcinoma epithelium",
)
_SKIN = (
    "actinic keratoses and intraepithelial carcinoma",
    "basal cell carcinoma",
    "benign keratosis-like lesions",
    "dermatofibroma",
    "melanoma",
    "melanocytic nevi",
    "vascular lesions",
)
_BLOOD = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
_KIDNEY = (
    "Collecting Duct, Connecting Tubule",
    "Distal Convoluted Tubule",
    "Glomerular endothelial cells",
    "Interstitial endothelial cells",
    "Leukocytes",
    "Podocytes",
    "Proximal Tubule Segments",
    "Thick Ascending Limb",
)
_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
_RETINA_OCT = ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")
_GRADES = ("0", "1", "2", "3", "4")
_BREAST = ("malignant", "normal, benign")
_LITS = "Bilic et al., LiTS, Medical Image Analysis 2023; Xu et al., TMI 2019"
_KERMANY = "Kermany et al., Cell 2018"
_DIGITS = DatasetInfo(
    name="digits",
    title="Digits, handwritten (comes with scikit-learn)",
    class_names=tuple(str(digit) for digit in range(10)),
    channels=1,
    sides=(8,),
    licence="CC BY 4.0",
    citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998",
    split_sizes=(1197, 199, 401),
    opener="digits:open_digits",
    checksums={8: "717a258403283d25fecfadab063a2716"},
    asymmetric=("horizontal", "vertical"),
)
_IDRID = DatasetInfo(
    name="idrid",
    title="IDRiD, fundus pictures with marked lesions or without retinopathy",
    class_names=("healthy", "lesion"),
    channels=3,
    sides=(1024,),
    licence="CC BY 4.0",
    citation="Porwal et al., IDRiD, Medical Image Analysis 2020; the cohort of Lecouat et al., arXiv:1812.07832",
    split_sizes=(149, 50, 49),
    opener="idrid:open_idrid",
    place="idrid",
    presence="idrid:is_complete",
    side_range=PREPARED_SIDES,
)
_IDRID_DISC = DatasetInfo(
    name="idrid-disc",
    title="IDRiD, fundus pictures with marked optic discs",
    class_names=("optic disc",),
    channels=3,
    sides=(256,),
    licence="CC BY 4.0",
    citation="Porwal et al., IDRiD, Medical Image Analysis 2020",
    split_sizes=(40, 14, 27),
    opener="mask_reader:open_optic_discs",
    place="idrid",
    presence="idrid:is_complete",
    side_range=PREPARED_SIDES,
    kind="segmentation",
)
_SHAPES = DatasetInfo(
    name="shapes",
    title="Shapes, procedural pictures with masks (made on the spot)",
    class_names=("ellipse",),
    channels=3,
    sides=(64,),
    licence="as this package",
    citation="none: ellipses on textured backgrounds, to try segmentation on",
    split_sizes=(180, 60, 100),
    opener="mask_reader:open_shapes",
    side_range=(16, 512),
    kind="segmentation",
)

# fmt: off
_ROWS = (
    _medmnist("pathmnist", "PathMNIST, colon pathology", _COLON, 3, (89996, 10004, 7180),
              "Kather et al., PLOS Medicine 2019"),
    _medmnist("chestmnist", "ChestMNIST, chest X-ray, any finding against none", ("no finding", "finding"), 1,
              (78468, 11219, 22433), "Wang et al., CVPR 2017", any_finding=True),
    _medmnist("dermamnist", "DermaMNIST, dermatoscopy", _SKIN, 3, (7007, 1003, 2005),
              "Tschandl et al., Scientific Data 2018", licence="CC BY-NC 4.0"),
    _medmnist("octmnist", "OCTMNIST, retinal OCT", _RETINA_OCT, 1, (97477, 10832, 1000), _KERMANY),
    _medmnist("pneumoniamnist", "PneumoniaMNIST, chest X-ray of children", ("normal", "pneumonia"), 1,
              (4708, 524, 624), _KERMANY),
    _medmnist("retinamnist", "RetinaMNIST, fundus, grades of diabetic retinopathy", _GRADES, 3,
              (1080, 120, 400), "Liu et al., DeepDRiD, Patterns 2022"),
    _medmnist("breastmnist", "BreastMNIST, breast ultrasound", _BREAST, 1, (546, 78, 156),
              "Al-Dhabyani et al., Data in Brief 2020"),
    _medmnist("bloodmnist", "BloodMNIST, blood cell microscopy", _BLOOD, 3, (11959, 1712, 3421),
              "Acevedo et al., Data in Brief 2020"),
    _medmnist("tissuemnist", "TissueMNIST, kidney cortex microscopy", _KIDNEY, 1, (165466, 23640, 47280),
              "Ljosa et al., Nature Methods 2012"),
    _medmnist("organamnist", "OrganAMNIST, abdominal CT, axial", _ORGANS, 1, (34561, 6491, 17778), _LITS,
              asymmetric=("horizontal",)),
    _medmnist("organcmnist", "OrganCMNIST, abdominal CT, coronal", _ORGANS, 1, (12975, 2392, 8216), _LITS,
              asymmetric=("horizontal",)),
    _medmnist("organsmnist", "OrganSMNIST, abdominal CT, sagittal", _ORGANS, 1, (13932, 2452, 8827), _LITS),
    _DIGITS,
    _IDRID,
    _IDRID_DISC,
    _SHAPES,
)
# fmt: on

CATALOG: Mapping[str, DatasetInfo] = {row.name: row for row in _ROWS}
