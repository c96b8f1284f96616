"""Texts that no image of the training answers, and general texts for which the tuned tower stays close to the pretrained one.

The evaluation's unanswered queries are written by hand in `phrasings/`; their words for body parts and problems are not here.
"""

from __future__ import annotations

import importlib.resources
from functools import cache

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_training.mini_clip.facts import Facts
from mirage_training.mini_clip.offatlas import EVERYDAY, MODALITIES, PROBLEMS
from mirage_training.mini_clip.wordings import MODALITY, PLANE, SENTENCES, SEQUENCE, typed

Rng = np.random.Generator
UNANSWERED: Facts = frozenset({"kind:nowhere"})


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


UNSEEN_PARTS = _listed(
    """
    knee, elbow, foot, wrist, toe, heel, ear, nose, larynx, ovary, testis, uterus, thigh, forearm, tonsils, tongue, lip, eyelid,
    cornea, lens of the eye, inner ear, middle ear, Achilles tendon, meniscus, anterior cruciate ligament, scaphoid, metatarsal
    bones, sacroiliac joint, temporomandibular joint, parotid gland, submandibular gland, vocal cords, epiglottis, coronary arteries,
    mitral valve, placenta, fetus, embryo, penis, vagina, cervix of the uterus, fallopian tube, bile duct, appendix, lymph node of
    the groin, biceps, triceps, hamstring, quadriceps, calf muscle, plantar fascia, nail, hair, scalp, sinus, nasal septum, jugular
    vein, carotid bifurcation, thumb joint, cruciate ligament, kneecap, collateral ligament, radius and ulna, femoral artery,
    popliteal artery, milk duct, bone marrow, sperm, urine sediment
    """
)
UNSEEN_FINDINGS = _listed(
    """
    appendicitis, kidney stone, gallstones, diabetic foot, pulmonary embolism, osteoarthritis, scoliosis, pregnancy, twin pregnancy,
    inguinal hernia, cataract, tuberculosis, colon polyp, aortic aneurysm, cirrhosis, fatty liver, psoriasis, acne, mammography,
    colonoscopy, gastroscopy, electrocardiogram, ECG, pap smear, glaucoma, multiple sclerosis, stroke, subdural haematoma, epidural
    hematoma, hydrocephalus, Crohn's disease, diverticulitis, bowel obstruction, rheumatoid arthritis, osteoporosis, torn meniscus,
    tennis elbow, carpal tunnel syndrome, frostbite, burn, snake bite, chickenpox, malaria, leukaemia, sickle cell, prostate cancer,
    kidney cancer, hip replacement, pacemaker, swallowed coin, gunshot wound, cleft palate, Down syndrome, Alzheimer's disease,
    Parkinson's disease, epilepsy, migraine, meningitis, endoscopy of the stomach, PET scan, angiogram, venogram, bone density scan
    """
)
SEEN_PARTS = _listed(
    "chest, brain, hand, skin, tooth, breast, liver, kidney, spine, shoulder, heart, lung, spleen, stomach, skull"
)
MORE_PROBLEMS = (
    *PROBLEMS,
    "sprained",
    "bruised",
    "amputated",
    "burnt",
    "itchy",
    "frozen",
    "strained",
    "snapped",
    "cracked",
    "shattered",
)


def unanswered(rng: Rng) -> str:
    """A text that no image answers: everyday things, body parts and diseases that are not shown, injuries."""
    roll = rng.random()
    if roll < 0.28:
        return typed(choose(rng, SENTENCES).format(*(choose(rng, EVERYDAY),), a=choose(rng, EVERYDAY)), rng)
    if roll < 0.5:
        words = choose(rng, UNSEEN_FINDINGS)
        if rng.random() < 0.3:
            words = f"{words} on {choose(rng, MODALITIES)}"
    elif roll < 0.68:
        part = choose(rng, UNSEEN_PARTS + SEEN_PARTS)
        problem = choose(rng, MORE_PROBLEMS)
        words = choose(rng, ("{0} {1}", "{0} {1}", "a {0} {1} on x-ray", "{1}, {0}", "patient with a {0} {1}", "fracture of the {1}",
                             "{1} fracture", "{1} injury", "surgery of the {1}", "{1} transplant", "pain in the {1}")).format(problem, part)  # fmt: skip
    else:
        part = choose(rng, UNSEEN_PARTS)
        plane = choose(rng, PLANE[choose(rng, tuple(PLANE))])
        modality = choose(rng, MODALITY[choose(rng, tuple(MODALITY))])
        sequence = choose(rng, SEQUENCE[choose(rng, ("t1", "t2", "flair"))])
        words = choose(rng, ("{m} of the {b}", "{b} {m}", "{p} {m} of the {b}", "{p} {s} of the {b}", "{s} {p} {b}", "{b}", "left {b}",
                             "right {b} {m}", "{p} {s} MRI of the {b}", "lesion in the {b}", "{m}, {b}, {p}")).format(
            m=modality, b=part, p=plane, s=sequence)  # fmt: skip
    return typed(choose(rng, SENTENCES).format(words, a=words), rng)


@cache
def _lines(name: str) -> tuple[str, ...]:
    text = (importlib.resources.files("mirage_training.trust") / name).read_text("utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def general_text(rng: Rng) -> str:
    """A question about medicine or about anything else, of the lists that the domain check is trained on."""
    return choose(rng, _lines("medical_training.txt" if rng.random() < 0.6 else "other_training.txt"))
