"""Facts that the mini llm may state beyond its captions: short textbook facts, each a whole sentence, written by us."""

from __future__ import annotations

PLANES: dict[str, tuple[str, ...]] = {
    "axial": (
        "An axial section cuts the body horizontally and is read as if seen from the feet.",
        "In the axial plane the left of the picture is the patient's right.",
    ),
    "coronal": (
        "A coronal section cuts the body into a front and a back part.",
        "In the coronal plane the left of the picture is the patient's right.",
    ),
    "sagittal": (
        "A sagittal section cuts the body into a left and a right part.",
        "The sagittal plane shows the midline structures from front to back.",
    ),
    "frontal": ("A frontal view is taken with the beam running between the front and the back of the body.",),
    "lateral": ("A lateral view is taken from the side and complements the frontal one.",),
}

SEQUENCES: dict[str, tuple[str, ...]] = {
    "t1": (
        "On T1-weighted images cerebrospinal fluid is dark and white matter is brighter than grey matter.",
        "T1 weighting shows anatomy well, because grey and white matter differ clearly.",
    ),
    "t2": (
        "On T2-weighted images cerebrospinal fluid is bright and white matter is darker than grey matter.",
        "T2 weighting makes tissue that holds more water bright.",
    ),
    "flair": (
        "FLAIR is T2-like with the signal of cerebrospinal fluid suppressed, so lesions beside the ventricles stand out.",
        "On FLAIR images cerebrospinal fluid is dark while most lesions stay bright.",
    ),
}

MODALITIES: dict[str, tuple[str, ...]] = {
    "x-ray": (
        "On X-ray images bone is bright and air is dark, because bone absorbs more of the beam.",
        "An X-ray image is a projection: structures along the beam lie on top of each other.",
    ),
    "ct": (
        "CT measures how strongly tissue absorbs X-rays, so bone is bright and air is black.",
        "On CT the window decides which densities can be told apart.",
    ),
    "mr": (
        "MRI uses no ionising radiation, and its contrast depends on the sequence.",
        "In MRI the signal comes from hydrogen nuclei in water and fat.",
    ),
    "us": (
        "In ultrasound fluid is black, and gas or bone throws a shadow.",
        "Ultrasound draws tissue by the echoes that it sends back.",
    ),
    "nm": (
        "Nuclear medicine shows where a tracer gathers, so it tells of function more than of anatomy.",
        "In a bone scan the tracer gathers where bone is being rebuilt.",
    ),
    "fundus": ("A fundus photograph shows the retina, the optic disc and the vessels through the pupil.",),
    "histology": ("Histology shows stained tissue under the microscope, cell by cell.",),
}

LOBES: dict[str, tuple[str, ...]] = {
    "frontal lobe": ("The frontal lobe serves movement, planning and, usually on the left, the production of speech.",),
    "parietal lobe": ("The parietal lobe serves touch and the sense of space.",),
    "occipital lobe": ("The occipital lobe holds the visual cortex.",),
    "temporal lobe": ("The temporal lobe serves hearing, memory and the understanding of speech.",),
    "cerebellum": ("The cerebellum coordinates movement and balance, each half for its own side of the body.",),
    "basal ganglia": ("The basal ganglia help to start and to scale movement.",),
    "thalamus": ("The thalamus relays sensory signals to the cortex.",),
}

SIGNALS: dict[str, tuple[str, ...]] = {
    "hyperintense": ("Hyperintense means brighter than the tissue around.",),
    "hypointense": ("Hypointense means darker than the tissue around.",),
}

STRUCTURES: dict[str, str] = {
    "genu of the corpus callosum": "The genu is the front bend of the corpus callosum and joins the frontal lobes.",
    "body of the corpus callosum": "The body of the corpus callosum is white matter that joins the two hemispheres above the lateral ventricles.",
    "splenium of the corpus callosum": "The splenium is the thick back end of the corpus callosum and joins the occipital and temporal lobes.",
    "frontal horns of the lateral ventricles": "The frontal horns lie in front of the thalami, with the heads of the caudate nuclei as their outer walls.",
    "bodies of the lateral ventricles": "The bodies of the lateral ventricles lie under the corpus callosum and hold cerebrospinal fluid.",
    "atria of the lateral ventricles": "The atria are where body, occipital horn and temporal horn of the lateral ventricles meet.",
    "third ventricle": "The third ventricle is a narrow midline cleft between the two thalami.",
    "fourth ventricle": "The fourth ventricle lies between the pons and the cerebellum.",
    "thalami": "The thalami are paired grey matter nuclei beside the third ventricle that relay signals to the cortex.",
    "heads of the caudate nuclei": "The heads of the caudate nuclei bulge into the frontal horns of the lateral ventricles.",
    "putamina": "The putamina are the outer parts of the lentiform nuclei and belong to the basal ganglia.",
    "globi pallidi": "The globi pallidi are the inner parts of the lentiform nuclei, medial to the putamina.",
    "insulae": "The insulae are cortex hidden in the depth of the lateral sulci.",
    "hippocampi": "The hippocampi lie in the medial temporal lobes and are needed to form new memories.",
    "amygdalae": "The amygdalae lie in front of the hippocampi and take part in emotion.",
    "midbrain": "The midbrain is the top of the brainstem, between the thalami and the pons.",
    "pons": "The pons is the middle of the brainstem and bulges forward in front of the fourth ventricle.",
    "medulla oblongata": "The medulla oblongata is the lowest part of the brainstem and goes over into the spinal cord.",
    "cerebellar hemispheres": "The cerebellar hemispheres lie under the occipital lobes, behind the brainstem.",
    "cerebellar vermis": "The cerebellar vermis is the midline part of the cerebellum between its hemispheres.",
    "cingulate gyri": "The cingulate gyri curve around the corpus callosum on the medial surface.",
    "precuneus": "The precuneus is the medial surface of the parietal lobe in front of the parieto-occipital sulcus.",
    "cuneus": "The cuneus is the medial surface of the occipital lobe above the calcarine sulcus.",
    "calcarine cortex": "The calcarine cortex is the primary visual cortex.",
    "orbitofrontal cortex": "The orbitofrontal cortex lies on the roof of the orbits.",
    "frontal poles": "The frontal poles are the foremost ends of the hemispheres.",
    "superior frontal gyri": "The superior frontal gyri run along the top of the frontal lobes, beside the midline.",
    "precentral gyri": "The precentral gyri hold the primary motor cortex, in front of the central sulcus.",
    "postcentral gyri": "The postcentral gyri hold the primary somatosensory cortex, behind the central sulcus.",
    "superior parietal lobules": "The superior parietal lobules lie behind the postcentral gyri, above the intraparietal sulcus.",
    "superior temporal gyri": "The superior temporal gyri lie under the lateral sulcus and hold the auditory cortex.",
    "middle temporal gyri": "The middle temporal gyri lie under the superior temporal gyri on the outer surface.",
    "temporal poles": "The temporal poles are the front ends of the temporal lobes, in the middle cranial fossa.",
    "fusiform gyri": "The fusiform gyri lie on the underside of the temporal lobes and take part in recognising faces.",
    "occipital poles": "The occipital poles are the back ends of the hemispheres.",
    "supramarginal gyri": "The supramarginal gyri curve around the ends of the lateral sulci in the parietal lobes.",
    "centrum semiovale": "The centrum semiovale is the white matter above the lateral ventricles.",
    "corona radiata": "The corona radiata is the fan of white matter between the internal capsules and the cortex.",
    "posterior limbs of the internal capsules": "The posterior limbs of the internal capsules run between the thalami and the lentiform nuclei and carry the pyramidal tracts.",
    "paracentral lobules": "The paracentral lobules are the medial ends of the precentral and postcentral gyri and serve the leg and foot.",
}
"""By the names of the landmark table."""

PARTS: dict[str, str] = {
    "chest": "In the chest, air in the lungs is dark beside the heart and the great vessels.",
    "abdomen": "In the abdomen the liver lies on the patient's right and the spleen on the left.",
    "pelvis": "The pelvis holds the bladder and the reproductive organs within the bony ring.",
    "spine": "The spine is read level by level: vertebral body, disc, canal and foramina.",
    "knee": "In the knee the menisci lie between the femur and the tibia.",
    "shoulder": "In the shoulder the rotator cuff surrounds the head of the humerus.",
    "heart": "The heart is seen with four chambers, the left ventricle having the thickest wall.",
    "liver": "The liver is supplied by the portal vein and the hepatic artery.",
    "kidney": "A kidney has a cortex, a medulla and a collecting system.",
    "neck": "In the neck the airway lies in front of the oesophagus and the spine.",
    "hand": "A hand has eight carpal bones, five metacarpals and fourteen phalanges.",
    "foot": "The foot is divided into hindfoot, midfoot and forefoot.",
    "hip": "In the hip the femoral head sits in the acetabulum.",
    "breast": "Breast tissue is a mix of glandular tissue and fat.",
    "lower leg": "The lower leg has two bones, the tibia and the fibula.",
    "head": "In the head the skull surrounds the brain, the orbits and the sinuses.",
    "thyroid": "The thyroid lies in front of the trachea in the lower neck.",
    "lymph node": "A normal lymph node is bean-shaped with a fatty hilum.",
}


def sentences() -> frozenset[str]:
    """Every fact, as it is written."""
    tables = (PLANES, SEQUENCES, MODALITIES, LOBES, SIGNALS)
    several = {fact for table in tables for facts in table.values() for fact in facts}
    return frozenset(several | set(STRUCTURES.values()) | set(PARTS.values()))
