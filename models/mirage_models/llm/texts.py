"""The texts that a language model is compared with the original on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirage_inference.llm.prompt import PromptFormat, prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mirage_inference.llm.tokenizer import LlmTokenizer

# Written for this project; they say nothing of any patient.
SENTENCES = (
    "Axial T1-weighted image of the brain at the level of the thalamus, without contrast.",
    "Chest radiograph in frontal projection with an enlarged cardiac silhouette and small bilateral effusions.",
    "Computed tomography of the abdomen shows a cyst of 3.5 cm in the upper pole of the left kidney.",
    "Sagittal FLAIR image with several periventricular lesions perpendicular to the corpus callosum.",
    "Histology of the skin stained with haematoxylin and eosin; nests of squamous cells invade the dermis.",
    "Fundus photograph of the right eye with cotton wool spots and flame-shaped haemorrhages.",
    "Ultrasound of the gallbladder reveals a single echogenic stone with posterior acoustic shadowing.",
    "Lateral radiograph of the cervical spine with normal alignment of the vertebral bodies.",
    "Coronal CT reconstruction of the paranasal sinuses with complete opacification of the left maxillary sinus.",
    "Bone scintigraphy with intense uptake in the third lumbar vertebra.",
    "The arrow points to a fracture of the distal radius with dorsal displacement.",
    "A ring-enhancing lesion of the right frontal lobe is surrounded by vasogenic oedema.",
    "The liver is of normal size and shows no focal lesion in the portal venous phase.",
    "Diffusion-weighted imaging demonstrates restricted diffusion in the territory of the middle cerebral artery.",
    "After treatment the mass had decreased from 42 to 18 mm in its largest diameter.",
    "What is the difference between a transudate and an exudate in the pleural space?",
    "The hippocampus lies in the medial temporal lobe and is best seen on coronal images.",
    "In T2-weighted images water is bright, while cortical bone and air are dark.",
    "Mammography in two views shows a spiculated mass in the upper outer quadrant.",
    "The student should compare both sides before calling an asymmetry abnormal.",
    "An apical four-chamber view shows a dilated left ventricle with reduced ejection fraction.",
    "Contrast medium fills the appendix, which makes acute appendicitis unlikely.",
    "Positron emission tomography reveals hypermetabolic lymph nodes in the mediastinum.",
    "The optic chiasm is displaced upwards by a pituitary adenoma.",
    "Multiple small nodules are distributed at random through both lungs.",
    "A midline shift of 9 mm indicates raised pressure in the left hemisphere.",
    "The meniscus shows a horizontal tear that reaches its lower surface.",
    "Photomicrograph at 400-fold magnification: granulomas without central necrosis.",
    "Ground-glass opacities with septal thickening in the lower lobes of both lungs.",
    "An angiogram of the left coronary artery shows a stenosis of about 70 per cent.",
    "The image was acquired in a patient of 54 years with sudden headache.",
    "Haemorrhage appears hyperdense on unenhanced computed tomography within the first days.",
    "Please describe the image in a few sentences for a student in the third year.",
    "The caption names the plane, the sequence and the finding, in this order.",
    "A normal variant must not be mistaken for a pathological finding.",
    "The cerebellar tonsils descend 8 mm below the foramen magnum, as in a Chiari malformation.",
    "Doppler sonography shows absent flow in the deep veins of the thigh.",
    "The pancreas is swollen and surrounded by fluid; the amylase was ten times the normal value.",
    "No evidence of free air below the diaphragm on the upright film.",
    "Electron microscopy demonstrates fusion of the foot processes of podocytes.",
)
_CAPTIONS_IN_PROMPT = 3
_QUERY_WORDS = 6


@dataclass(frozen=True)
class ParityText:
    """Ids of a text.

    Predictions are compared from the token at `start` on (at least 1: nothing comes before the first).
    """

    ids: tuple[int, ...]
    start: int

    @property
    def predicted(self) -> int:
        """Returns the number of compared tokens."""
        return len(self.ids) - self.start


def read_captions(folder: Path, *, items: int) -> list[str]:
    """Returns at most `items` captions, evenly spaced, of a folder with captions.jsonl.

    Raises ValueError for an empty one.
    """
    # Imported here: without a folder, no reader is needed.
    from mirage_atlas.jsonl import CaptionsReader
    from mirage_atlas.records import AtlasRecord

    try:
        captions = [row.caption for row in CaptionsReader(folder).read() if isinstance(row, AtlasRecord)]
    except OSError as error:
        raise ValueError(f"no captions.jsonl in {folder}") from error
    captions = [caption for caption in captions if caption.strip()]
    if not captions:
        raise ValueError(f"no captions in {folder}")
    return _spaced(captions, items)


def parity_texts(
    tokenizer: LlmTokenizer, captions: Sequence[str], *, form: PromptFormat | None, context: int, tokens: int
) -> list[ParityText]:
    """Texts of captions, at most `tokens` compared tokens in all and each within the context.

    For a model that follows instructions (`form`), prompts as the service makes them, of three captions each, compared from the
    end of their common beginning on; for another, three captions in a row.
    """
    texts: list[ParityText] = []
    left = tokens
    for text in _texts(captions, form):
        start = 1 if form is None else len(tokenizer.encode(form.prefix))
        ids = tokenizer.encode(text)[: min(context, start + left)]
        if len(ids) > start:
            texts.append(ParityText(tuple(ids), start))
            left -= len(ids) - start
        if left <= 0:
            break
    if not texts:
        raise ValueError("no text that fits into the model's context")
    return texts


def _texts(captions: Sequence[str], form: PromptFormat | None) -> Iterable[str]:
    for first in range(0, len(captions), _CAPTIONS_IN_PROMPT):
        group = captions[first : first + _CAPTIONS_IN_PROMPT]
        if form is not None:
            yield prompt(" ".join(group[0].split()[:_QUERY_WORDS]), group, form)
        else:
            yield "\n".join(group)


def _spaced(items: Sequence[str], count: int) -> list[str]:
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
