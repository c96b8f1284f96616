"""Texts that nothing in the atlas answers: other body parts and modalities, everyday phrases, random tokens.

They are negatives in training, so that `match` can say none. Words listed under `HELD_OUT_*` are kept for calibration
and never trained on.
"""

from __future__ import annotations

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_training.mini_clip.claims import Claim
from mirage_training.mini_clip.queries import Query, framed

NOWHERE = Claim(brain=False)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


BODY_PARTS = _listed(
    """
    knee, wrist, hip, elbow, hand, foot, lumbar spine, cervical spine, pelvis, prostate, uterus, heart, lung,
    kidney, spleen, stomach, bowel, bladder, breast, thyroid, femur, rib, clavicle, jaw, tooth, eye, orbit, ear,
    nose, sinus, neck, larynx, aorta, carotid artery, coronary arteries, skin, toe, finger, thumb, heel,
    achilles tendon, meniscus, ovary, testis, adrenal gland, gallbladder, appendix, colon, esophagus, trachea,
    diaphragm, sacrum, coccyx, scapula, humerus, radius, ulna, fetus, placenta, muscle, tongue, forearm, thigh,
    calf, buttock, shoulder blade, collarbone, armpit, navel, abdominal aorta, vena cava, portal vein, bile
    duct, pancreatic duct, small intestine, duodenum, jejunum, ileum, caecum, sigmoid, anus, urethra, penis,
    vagina, cervix, fallopian tube, bronchus, pleura, mediastinum, pericardium, mitral valve, left ventricle,
    right atrium, pulmonary artery, knee cap, fibula, metatarsal, tarsal bones, carpal bones, scaphoid, lunate,
    metacarpal, phalanx, hip joint, acetabulum, sacroiliac joint, lumbar disc, vertebral arch, ligament, tendon,
    cartilage, biceps, triceps, deltoid, quadriceps, hamstring, plantar fascia, parotid gland, submandibular
    gland, tonsils, pharynx, epiglottis, vocal cords, thymus, cornea, retina, lens, eyelid, lip, cheek, chin,
    scalp, nail, hair, bone marrow, peritoneum, mesentery, liver transplant
    """
)
MODALITIES = (
    "MRI",
    "mri",
    "CT",
    "x-ray",
    "ultrasound",
    "PET",
    "angiogram",
    "radiograph",
    "histology",
    "endoscopy",
    "photo",
)
PROBLEMS = (
    "broken",
    "fractured",
    "painful",
    "swollen",
    "torn",
    "dislocated",
    "inflamed",
    "infected",
    "bleeding",
    "arthritic",
)
FINDINGS = _listed(
    """
    pneumonia, appendicitis, kidney stone, gallstones, pleural effusion, pneumothorax, melanoma, diabetic
    retinopathy, pulmonary embolism, osteoarthritis, disc herniation, scoliosis, pregnancy, hernia, cataract,
    tuberculosis, breast cancer, colon polyp, aneurysm of the aorta, cirrhosis, fatty liver, psoriasis, acne,
    mammography, colonoscopy, electrocardiogram, blood smear, pap smear, dental caries, glaucoma
    """
)
EVERYDAY = _listed(
    """
    a cat on a sofa, dog, pizza recipe, red car, how are you, hello, weather tomorrow, football match, a house
    by the sea, best laptop, python code, train to the city, birthday cake, mountain landscape, a woman with an
    umbrella, coffee, guitar lesson, tax form, flight tickets, garden flowers, a plane taking off, left wing
    politics, turn right, the level of the sea, slice of bread, right answer, t shirt, bright sunny day, dark
    night, normal day, image of a horse, show me a tree, find a restaurant, picture of a sunset, brain teaser,
    television, bicycle, soup, river bank, computer keyboard, musical note, chess, history of rome, wedding
    dress, lion, a bowl of fruit, city skyline, running shoes, university, homework, phone number, movie, song
    lyrics, map of france, stock market, the moon, an old book, wine, swimming pool, airport, elephant, bridge,
    baby, school bus, clock, candle, snow, fish
    """
)
HELD_OUT_BODY_PARTS = _listed(
    """
    ankle, shin, groin, nipple, hamate, sternum, patella, calcaneus, ureter, spermatic cord, rotator cuff, iliac crest,
    sartorius, mandible, psoas, rectum
    """
)
HELD_OUT_EVERYDAY = _listed(
    """
    my washing machine is leaking, spaghetti carbonara, violin concerto, quarterly revenue report, zebra crossing,
    how to bake sourdough, vintage typewriter, rocket launch, volcano, penguins on ice, cheap hotel in lisbon,
    quantum physics, tulips, origami, knitting pattern, jazz trio, mortgage rates, electric scooter, waterfall,
    crossword puzzle, tennis racket, vegetable curry, lighthouse, steam locomotive, parking lot
    """
)
HELD_OUT_FINDINGS = _listed(
    """
    broken ankle, torn rotator cuff, gout, lymphoma, psoriatic plaque, prosthesis, eczema, whiplash, asthma,
    endometriosis, hallux valgus, varicose veins, bunion, rickets, haemodialysis, haemorrhoids
    """
)

VOCABULARY = (259, 49405)
"""Range of CLIP BPE token ids that random texts are drawn from."""


def phrase(rng: np.random.Generator, *, held_out: bool = False) -> str:
    """An off-atlas text in words; with `held_out` only from the lists that training never sees."""
    parts = HELD_OUT_BODY_PARTS if held_out else BODY_PARTS
    findings = HELD_OUT_FINDINGS if held_out else FINDINGS
    everyday = HELD_OUT_EVERYDAY if held_out else EVERYDAY
    part = choose(rng, parts)
    plane = choose(rng, ("axial", "coronal", "sagittal", "left", "right", "frontal", "lateral", "transverse"))
    sequence = choose(
        rng, ("T1", "T2", "T2-weighted", "T1-weighted", "FLAIR", "STIR", "proton density", "contrast-enhanced")
    )
    roll = rng.random()
    if roll < 0.22:
        return framed(choose(rng, everyday), rng)
    if roll < 0.40:
        return framed(choose(rng, findings), rng)
    return choose(
        rng,
        (
            f"{plane} {sequence} of the {part}",
            f"{plane} {sequence} MRI of the {part}",
            f"{sequence} {plane} {part}",
            f"{plane} {choose(rng, MODALITIES)} of the {part}",
            f"{part} {choose(rng, MODALITIES)}",
            f"{choose(rng, MODALITIES)} of the {choose(rng, ('left', 'right'))} {part}",
            f"{choose(rng, PROBLEMS)} {part}",
            f"lesion in the {choose(rng, ('left', 'right'))} {part}",
            f"{part}",
            f"{choose(rng, ('left', 'right'))} {part}",
            f"{sequence} {plane} image at the level of the {part}",
            f"fracture of the {part}",
        ),
    )


def random_tokens(rng: np.random.Generator, longest: int = 12) -> list[int]:
    """Ids of a random text of 1 to `longest` tokens, without start and end."""
    return [int(i) for i in rng.integers(*VOCABULARY, size=int(rng.integers(1, longest + 1)))]


def opening(rng: np.random.Generator) -> str:
    """Returns the usual beginning of a query, up to the body part; random tokens follow it in training."""
    plane = choose(rng, ("axial", "coronal", "sagittal", "left", "right", "transverse", "lateral"))
    sequence = choose(rng, ("T1", "T2", "T2-weighted", "T1-weighted", "FLAIR", "STIR"))
    modality = choose(rng, MODALITIES)
    return choose(
        rng,
        (
            f"{plane} {sequence} of the",
            f"{plane} {sequence} MRI of the",
            f"{sequence} {plane}",
            f"{modality} of the",
            f"{plane} {modality}",
            f"lesion in the {choose(rng, ('left', 'right'))}",
            f"{choose(rng, PROBLEMS)}",
            "fracture of the",
            f"{modality}",
            f"{sequence} {choose(rng, ('left', 'right'))}",
            f"{plane} {modality} of the",
            f"{sequence} image at the level of the",
        ),
    )


def off_atlas_query(rng: np.random.Generator) -> Query:
    """An off-atlas training text that nothing answers."""
    return Query(phrase(rng), NOWHERE)
