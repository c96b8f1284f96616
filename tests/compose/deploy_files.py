"""The files in deploy/, and what the compose files say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("docker-compose*.yml"))
# Those of ours that run all the time, and the settings that they read.
SETTINGS = {
    "encoder": "mirage_encoder.settings:EncoderSettings",
    "retriever": "mirage_retriever.settings:RetrieverSettings",
    "llm": "mirage_llm.settings:LlmSettings",
    "reader": "mirage_reader.settings:ReaderSettings",
    "generator": "mirage_generator.settings:GeneratorSettings",
    "worker": "mirage_generator.settings:GeneratorSettings",
    "gateway": "mirage_gateway.settings:GatewaySettings",
}


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes Compose's tags for how files are merged as if they were not there."""


Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_mapping(node, deep=True))


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return content


def services() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in FILES:
        for name, service in load(path)["services"].items():
            yield path.name, name, service


MAIN = load(DEPLOY / "docker-compose.yml")["services"]
