"""What the phantom is made of: one code per material, its HU and the segment it belongs to."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SEGMENTS = ("Left lung", "Right lung", "Airways", "Bone", "Fat", "Soft tissue")
"""Labels 1 to 6 of the truth. Small vessels and emphysema count as lung, vessels of the hilum do not."""

LEFT_LUNG, RIGHT_LUNG, AIRWAYS, BONE, FAT, SOFT = range(1, 7)


class Material(IntEnum):
    """Codes in the material volume, uint8."""

    AIR = 0
    TABLE_SHELL = 1
    TABLE_FOAM = 2
    SKIN = 3
    SUBCUTANEOUS_FAT = 4
    MUSCLE = 5
    INNER_FAT = 6
    LUNG_LEFT = 7
    LUNG_RIGHT = 8
    EMPHYSEMA_LEFT = 9
    EMPHYSEMA_RIGHT = 10
    FINE_VESSEL_LEFT = 11
    FINE_VESSEL_RIGHT = 12
    VESSEL_LEFT = 13
    VESSEL_RIGHT = 14
    BLOOD = 15
    HEART = 16
    LIVER = 17
    SPLEEN = 18
    STOMACH = 19
    STOMACH_GAS = 20
    KIDNEY = 21
    SPINAL_CANAL = 22
    DISC = 23
    CARTILAGE = 24
    CORTEX = 25
    MARROW = 26
    AIRWAY_WALL = 27
    AIRWAY_LUMEN = 28
    THYROID = 29
    OESOPHAGUS = 30


_FACTS: dict[Material, tuple[float, int]] = {
    Material.AIR: (-1000, 0),
    Material.TABLE_SHELL: (-180, 0),
    Material.TABLE_FOAM: (-930, 0),
    Material.SKIN: (15, SOFT),
    Material.SUBCUTANEOUS_FAT: (-105, FAT),
    Material.MUSCLE: (52, SOFT),
    Material.INNER_FAT: (-95, FAT),
    Material.LUNG_LEFT: (-818, LEFT_LUNG),
    Material.LUNG_RIGHT: (-818, RIGHT_LUNG),
    Material.EMPHYSEMA_LEFT: (-985, LEFT_LUNG),
    Material.EMPHYSEMA_RIGHT: (-985, RIGHT_LUNG),
    # thinner than a pixel, so mostly lung by volume
    Material.FINE_VESSEL_LEFT: (-500, LEFT_LUNG),
    Material.FINE_VESSEL_RIGHT: (-500, RIGHT_LUNG),
    Material.VESSEL_LEFT: (20, LEFT_LUNG),
    Material.VESSEL_RIGHT: (20, RIGHT_LUNG),
    Material.BLOOD: (40, SOFT),
    Material.HEART: (46, SOFT),
    Material.LIVER: (60, SOFT),
    Material.SPLEEN: (50, SOFT),
    Material.STOMACH: (25, SOFT),
    Material.STOMACH_GAS: (-980, SOFT),
    Material.KIDNEY: (32, SOFT),
    Material.SPINAL_CANAL: (25, SOFT),
    Material.DISC: (85, SOFT),
    Material.CARTILAGE: (110, SOFT),
    Material.CORTEX: (900, BONE),
    Material.MARROW: (220, BONE),
    Material.AIRWAY_WALL: (20, SOFT),
    Material.AIRWAY_LUMEN: (-1000, AIRWAYS),
    Material.THYROID: (105, SOFT),
    Material.OESOPHAGUS: (35, SOFT),
}

HU_OF_MATERIAL: NDArray[np.float32] = np.array([_FACTS[m][0] for m in Material], dtype=np.float32)
LABEL_OF_MATERIAL: NDArray[np.uint8] = np.array([_FACTS[m][1] for m in Material], dtype=np.uint8)

IN_LUNG = tuple(m for m in Material if _FACTS[m][1] in (LEFT_LUNG, RIGHT_LUNG))


def in_lung(kind: str) -> NDArray[np.uint8]:
    """uint8[materials]: what each material becomes where `kind` (such as "VESSEL") of that side is put."""
    becomes = np.arange(len(Material), dtype=np.uint8)
    for material in IN_LUNG:
        side = "LEFT" if _FACTS[material][1] == LEFT_LUNG else "RIGHT"
        becomes[material] = Material[f"{kind}_{side}"]
    return becomes


def inside_body(material: Material, *, sparing: tuple[Material, ...] = ()) -> NDArray[np.uint8]:
    """uint8[materials]: `material` everywhere but outside the body and in what is to be spared."""
    becomes = np.full(len(Material), material, dtype=np.uint8)
    for spared in (Material.AIR, Material.TABLE_SHELL, Material.TABLE_FOAM, *sparing):
        becomes[spared] = spared
    return becomes
