"""`mirage classify`: what an image seems to be."""

from pathlib import Path

import click

from mirage.cli.options import image_path, open_client, read_image, server_options
from mirage.cli.output import print_fields, print_json

_WORDS = {
    "medical": "a medical image",
    "unsure": "perhaps a medical image",
    "not_medical": "no medical image",
    "unknown": "not known: the model has no calibration",
}


@click.command("classify")
@click.argument("file", type=image_path)
@server_options
def command(file: Path, url: str | None, as_json: bool) -> None:
    """Say what the image FILE is: a medical one or not, its modality and the part of the body. No diagnosis."""
    with open_client(url) as client:
        guess = client.classify(read_image(file))
    if as_json:
        print_json(guess.raw)
        return
    fields = {"seems to be": f"{_WORDS.get(guess.kind, guess.kind)} ({guess.medical_score:.2f})"}
    for facet in guess.facets:
        values = ", ".join(f"{each.value} {each.probability:.2f}" for each in facet.values)
        note = " (stated by the file)" if facet.stated else "" if facet.known else " (not known)"
        fields[facet.facet.replace("_", " ")] = values + note
    print_fields(fields)
