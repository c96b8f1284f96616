"""The numbers of TotalSegmentator's label maps: `TOTAL` of its CT model (version 2), `TOTAL_MR` of its MR model."""

from __future__ import annotations

from collections.abc import Mapping


def _numbered(labels: str) -> Mapping[int, str]:
    return dict(enumerate(labels.split(), start=1))


_SPINE = (
    "vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1 "
    + " ".join(f"vertebrae_T{number}" for number in range(12, 0, -1))
    + " "
    + " ".join(f"vertebrae_C{number}" for number in range(7, 0, -1))
)
_RIBS = " ".join(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13))

TOTAL: Mapping[int, str] = _numbered(
    f"""
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
    lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
    esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
    kidney_cyst_right sacrum {_SPINE} heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right
    subclavian_artery_left common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left
    brachiocephalic_vein_right atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein
    iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left
    scapula_right clavicula_left clavicula_right femur_left femur_right hip_left hip_right spinal_cord
    gluteus_maximus_left gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left
    gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain skull {_RIBS} sternum
    costal_cartilages
    """
)
TOTAL_MR: Mapping[int, str] = _numbered(
    """
    spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left lung_left
    lung_right esophagus small_bowel duodenum colon urinary_bladder prostate sacrum vertebrae intervertebral_discs
    spinal_cord heart aorta inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right
    iliac_vena_left iliac_vena_right humerus_left humerus_right fibula tibia femur_left femur_right hip_left hip_right
    gluteus_maximus_left gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left
    gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right quadriceps_femoris_left
    quadriceps_femoris_right thigh_medial_compartment_left thigh_medial_compartment_right
    thigh_posterior_compartment_left thigh_posterior_compartment_right sartorius_left sartorius_right brain
    """
)
