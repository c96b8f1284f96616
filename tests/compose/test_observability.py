"""Metrics, alerts, dashboard and traces as the files in deploy/ have them, held against what services export."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .deploy_files import DEPLOY, MAIN, SETTINGS, load


def test_every_service_is_scraped_by_name() -> None:
    scraped = load(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    assert set(scraped) == set(SETTINGS)


def test_each_service_sends_its_traces_to_where_they_are_taken_and_none_without_the_override() -> None:
    override = load(DEPLOY / "docker-compose.observability.yml")["services"]
    endpoint = "${MIRAGE_TRACES_ENDPOINT-http://collector:4317}"
    assert {name: override[name]["environment"]["MIRAGE_TRACES_ENDPOINT"] for name in SETTINGS} == dict.fromkeys(
        SETTINGS, endpoint
    )
    assert not any("MIRAGE_TRACES_ENDPOINT" in str(service) for service in MAIN.values())
    collector, tempo = load(DEPLOY / "collector/collector.yml"), load(DEPLOY / "tempo/tempo.yml")
    assert collector["receivers"] == {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}}}}
    assert collector["exporters"] == {"otlp": {"endpoint": "tempo:4317", "tls": {"insecure": True}}}
    (pipeline,) = collector["service"]["pipelines"].values()
    assert (pipeline["receivers"], pipeline["exporters"]) == (["otlp"], ["otlp"])
    assert set(pipeline["processors"]) == collector["processors"].keys()
    assert tempo["distributor"]["receivers"] == {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}}}}
    assert tempo["usage_report"] == {"reporting_enabled": False}
    asked = load(DEPLOY / "grafana/provisioning/datasources/tempo.yml")["datasources"][0]["url"]
    assert asked == f"http://tempo:{tempo['server']['http_listen_port']}"


# Loads all of a service's modules, as its process comes to do, and tells what its /metrics then has.
EXPORTED = """
import importlib, json, pkgutil, sys
from prometheus_client import REGISTRY
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
ours = [each for each in REGISTRY._collector_to_names if getattr(each, "_name", "").startswith("mirage_")]
print(json.dumps({each._name: [each._type, list(each._labelnames)] for each in ours}))
"""
# What Prometheus' client makes of a metric's name, and the labels that it or the scrape adds.
SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
ADDED = {"le", "service", "job", "instance"}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of each series that a service exports."""
    modules = sorted({f"mirage_{'generator' if name == 'worker' else name}" for name in SETTINGS})
    command = [sys.executable, "-P", "-c", EXPORTED, "mirage_core", *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    metrics = json.loads(done.stdout).items()
    return {f"{name}{end}": set(labels) for name, (kind, labels) in metrics for end in SERIES[kind]}


def expressions() -> Iterator[tuple[str, str]]:
    """Each PromQL expression of the dashboard and the alerts, under what names it."""
    for panel in json.loads((DEPLOY / "grafana/dashboards/mirage.json").read_text())["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for group in load(DEPLOY / "prometheus/alerts.yml")["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_what_is_shown_or_raises_an_alert_is_exported(
    name: str, expression: str, exported: dict[str, set[str]]
) -> None:
    shown = re.findall(r"\bmirage_\w+", expression)
    assert shown or "up" in expression
    labels = set(ADDED)
    for series in shown:
        assert series in exported, f"{name}: nothing exports {series}"
        labels |= exported[series]
    used = {each.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for each in group.split(",")}
    used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", expression))
    assert used <= labels, name


def test_the_dashboard_has_what_an_operator_asks_first() -> None:
    shown = {series for _, expression in expressions() for series in re.findall(r"\bmirage_\w+", expression)}
    assert {
        "mirage_http_seconds_bucket",
        "mirage_http_problems_total",
        "mirage_rpc_seconds_bucket",
        "mirage_queue_waiting",
        "mirage_generator_queue_jobs",
        "mirage_generator_step_seconds_bucket",
        "mirage_encoder_text_cache_total",
        "mirage_model_load_seconds",
    } <= shown
