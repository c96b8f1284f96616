"""A client waits longer than the gateway does, so that a slow reply is the gateway's to refuse, with a reason."""

from mirage.calls import COLLECTION_S, UPSERT_S
from mirage.transport import USUAL_S
from mirage_gateway.settings import GatewaySettings


def test_a_client_waits_longer_than_the_gateway() -> None:
    settings = {name: field.default for name, field in GatewaySettings.model_fields.items()}
    assert settings["upsert_timeout_s"] < UPSERT_S
    assert settings["collection_timeout_s"] < COLLECTION_S
    assert max(settings["search_timeout_s"], settings["read_timeout_s"]) < USUAL_S
