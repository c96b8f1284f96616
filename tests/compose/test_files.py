"""What the compose files and Dockerfiles say, held against the code: no engine is needed."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from mirage_core.settings import Secret, ServiceSettings, variable_of
from tests.support.paths import program as installed

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("docker-compose*.yml"))
DOCKERFILES = sorted(
    [*ROOT.glob("services/*/Dockerfile"), *ROOT.glob("deploy/*/Dockerfile"), ROOT / "models/Dockerfile"]
)
HOSTS = sorted(DEPLOY.glob("hosts/*.env"))
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
BUILDERS = {"models-encoder", "models-llm", "models-generator"}
ONE_SHOT = {"keys", "demo", "index", *BUILDERS}


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes Compose's tags for how files are merged as if they were not there."""


Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_mapping(node, deep=True))


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return content


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found


def services() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in FILES:
        for name, service in load(path)["services"].items():
            yield path.name, name, service


MAIN = load(DEPLOY / "docker-compose.yml")["services"]
WHOLE = [(file, name, service) for file, name, service in services() if "image" in service]


@pytest.mark.parametrize(("file", "name", "service"), WHOLE, ids=lambda value: value if isinstance(value, str) else "")
def test_every_container_is_fenced_in(file: str, name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not service.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"}
    assert service["restart"] == ("on-failure:5" if name in ONE_SHOT else "unless-stopped")
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


def test_only_the_gateway_is_published_and_grafana_on_loopback() -> None:
    published = {(name, port) for _, name, service in services() for port in service.get("ports", ())}
    assert published == {
        ("gateway", "${MIRAGE_PUBLISH:-127.0.0.1}:${MIRAGE_HTTP_PORT:-8080}:8080"),
        ("gateway", "${MIRAGE_PUBLISH:-127.0.0.1}:${MIRAGE_GRPC_PORT:-8081}:8081"),
        ("grafana", "127.0.0.1:${MIRAGE_GRAFANA_PORT:-3000}:3000"),
    }
    # It refuses another address without keys, which it can only where it is told.
    assert MAIN["gateway"]["environment"]["MIRAGE_GATEWAY_PUBLISHED"] == "${MIRAGE_PUBLISH:-127.0.0.1}"


def test_what_is_not_published_is_on_the_inner_network_alone() -> None:
    assert load(DEPLOY / "docker-compose.yml")["networks"]["inner"] == {"internal": True}
    outside = {name for _, name, service in WHOLE if "outer" in service["networks"]}
    # Builders fetch checkpoints.
    assert outside == {"gateway", "grafana", *BUILDERS}


def image_of(service: dict[str, Any]) -> str:
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", service["image"])


@pytest.mark.parametrize(("file", "name", "service"), WHOLE, ids=lambda value: value if isinstance(value, str) else "")
def test_images_are_pinned_by_version(file: str, name: str, service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:v?\d[\w.-]*", image_of(service))


@pytest.mark.parametrize("name", SETTINGS)
def test_services_are_told_only_what_their_settings_know(name: str) -> None:
    module, _, cls = SETTINGS[name].partition(":")
    settings: type[ServiceSettings] = getattr(import_module(module), cls)
    prefix = settings.model_config["env_prefix"]
    shared = {"MIRAGE_API_KEYS", "MIRAGE_SERVICE_KEY", "MIRAGE_LOG_LEVEL", "MIRAGE_TRACES_ENDPOINT"}
    known = {f"{prefix}{field.upper()}" for field in settings.model_fields} | shared
    secrets = [
        field
        for field, info in settings.model_fields.items()
        if any(isinstance(each, Secret) for each in info.metadata)
    ]
    known |= {f"{variable_of(settings, field)}_FILE" for field in secrets}
    for file in FILES:
        given = load(file)["services"].get(name, {}).get("environment", {})
        assert given.keys() <= known, file.name
    dockerfile = ROOT / f"services/{'generator' if name == 'worker' else name}/Dockerfile"
    assert set(re.findall(r"MIRAGE_\w+(?==)", dockerfile.read_text())) <= known


@pytest.mark.parametrize("name", SETTINGS)
def test_readiness_is_asked_for(name: str) -> None:
    dockerfile = (ROOT / f"services/{'generator' if name == 'worker' else name}/Dockerfile").read_text()
    check = MAIN[name].get("healthcheck", {}).get("test") or match(r"HEALTHCHECK.*\n.*", dockerfile)[0]
    assert "mirage_core.probe" in str(check)


@pytest.mark.parametrize("name", ["qdrant", "redis"])
def test_readiness_of_what_is_not_ours_is_asked_for(name: str) -> None:
    assert MAIN[name]["healthcheck"]["test"]


def test_nothing_waits_for_a_mere_start_but_what_searches_do_without() -> None:
    started = {
        (name, on)
        for name, service in MAIN.items()
        for on, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_started"
    }
    assert started == {("gateway", "llm"), ("gateway", "reader"), ("gateway", "generator"), ("worker", "generator")}


def variables(text: str) -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


def test_every_variable_is_explained_and_no_other() -> None:
    used = set().union(*(variables(path.read_text()) for path in FILES))
    explained = set(re.findall(r"^#?([A-Z]\w+)=", (DEPLOY / ".env.example").read_text(), re.M))
    limits = {name for name in used if name.endswith("_MEMORY")} - {"MIRAGE_BUILD_MEMORY"}
    for host in HOSTS:
        given = set(re.findall(r"^(\w+)=", host.read_text(), re.M))
        others = {"MIRAGE_REDIS_MAXMEMORY", "MIRAGE_LLM_CPUS", "MIRAGE_WORKER_CPUS"}
        assert given - {"MIRAGE_WORKERS"} == limits | others, host.name
    cpus = {name for name in used if name.endswith("_CPUS")}
    of_others = {name for name in used if name.endswith("_IMAGE")}
    # Compose's own.
    assert explained - {"COMPOSE_FILE"} <= used
    assert used - explained <= limits | cpus | of_others


def mebibytes(text: str) -> float:
    number, unit = match(r"^([\d.]+)([mg])$", text).groups()
    return float(number) * {"m": 1, "g": 1024}[unit]


def host_settings(host: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(\S+)$", host.read_text(), re.M))


@pytest.mark.parametrize("host", HOSTS, ids=lambda path: path.stem)
def test_limits_leave_the_host_some(host: Path) -> None:
    size, processors = map(int, match(r"with (\d+) GB and (\d+) processors", host.read_text()).groups())
    given = host_settings(host)
    workers = int(given.get("MIRAGE_WORKERS", 1))
    total = sum(mebibytes(value) for name, value in given.items() if name.endswith("_MEMORY"))
    total += (workers - 1) * mebibytes(given["MIRAGE_WORKER_MEMORY"])
    # And what indexes: the demonstration on the smallest, an atlas on the others.
    total += mebibytes("768m" if host.stem == "8gb" else "1g")
    assert 0.5 * size * 1024 < total < 0.935 * size * 1024
    # However much is explained and drawn, searches have a processor.
    assert float(given["MIRAGE_LLM_CPUS"]) + workers * float(given["MIRAGE_WORKER_CPUS"]) <= processors - 1


def test_redis_refuses_jobs_before_the_kernel_ends_it() -> None:
    default = match(r"MIRAGE_REDIS_MAXMEMORY:-(\d+)mb", (DEPLOY / "docker-compose.yml").read_text())[1]
    assert f"{default}mb" == host_settings(DEPLOY / "hosts/8gb.env")["MIRAGE_REDIS_MAXMEMORY"]
    for host in HOSTS:
        given = host_settings(host)
        most = float(given["MIRAGE_REDIS_MAXMEMORY"].removesuffix("mb"))
        assert most <= 0.6 * mebibytes(given["MIRAGE_REDIS_MEMORY"]), host.name


def test_the_smallest_hosts_limits_are_the_defaults() -> None:
    given = {name: value for name, value in host_settings(DEPLOY / "hosts/8gb.env").items() if name.endswith("_MEMORY")}
    defaults = dict(re.findall(r"mem_limit: \$\{(\w+):-(\w+)\}", (DEPLOY / "docker-compose.yml").read_text()))
    assert defaults == given


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_images_come_from_the_locks_and_run_as_nobody(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", final, re.M) == ["10001:10001"]
    assert "org.opencontainers.image.licenses" in final
    assert not re.search(r"^ADD |apt-get|curl |wget |:latest|# syntax", text, re.M)
    # What a build is told of an index stays in its stage.
    assert "INDEX" not in final
    locks = re.findall(r"-r requirements/([\w.]+)", text)
    assert locks
    assert all((ROOT / "requirements" / lock).is_file() for lock in locks)
    assert text.count("--require-hashes") == len(locks)


@pytest.mark.parametrize("lock", ["encoder", "retriever", "llm", "generator", "reader", "gateway", "tools"])
def test_no_runtime_image_gets_what_building_needs(lock: str) -> None:
    names = set(re.findall(r"^([\w.-]+)==", (ROOT / f"requirements/{lock}.txt").read_text(), re.M))
    assert not names & {
        "torch",
        "torchvision",
        "transformers",
        "diffusers",
        "optimum",
        "open-clip-torch",
        "nncf",
        "pytest",
    }
    if lock != "tools":
        assert not names & {"rich", "pygments"}


# What deploy/tools/Dockerfile installs of ours; the rest of the launcher's imports has to be where they are used.
TOOLS = ("mirage_protos", "mirage_api", "mirage_core", "mirage", "mirage_atlas", "mirage_launcher")
IN_TOOLS = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first.startswith("mirage") and first not in sys.argv[1].split(","):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def test_the_image_of_the_command_has_all_that_it_runs() -> None:
    text = (DEPLOY / "tools/Dockerfile").read_text()
    assert re.findall(r"\./([\w/]+)", text.partition("pip wheel")[2].partition("\n")[0]) == [
        *("libs/mirage_protos", "libs/mirage_api", "libs/mirage_core", "libs/mirage", "atlas", "launcher"),
    ]
    run = ("mirage_launcher.demo_job", "mirage_launcher.backups.operations", "mirage_launcher.queue_files.rdb")
    done = subprocess.run([sys.executable, "-P", "-c", IN_TOOLS, ",".join(TOOLS), *run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements/tools.txt").read_text(), re.M))
    assert {"rdb-py", "psutil", "pydantic"} <= locked


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


def test_redis_and_qdrant_are_asked_with_passwords_that_only_their_callers_have() -> None:
    """Each password in a volume of its own, which only who needs it has, and only its maker may write."""
    holders = {"queue-key": {"redis", "generator", "worker"}, "vectors-key": {"qdrant", "retriever", "prometheus"}}
    found: dict[str, set[str]] = {volume: set() for volume in holders}
    for _, name, service in services():
        for volume in service.get("volumes", ()):
            source, _, rest = volume.partition(":") if isinstance(volume, str) else ("", "", "")
            if source in holders and name != "keys":
                assert rest.endswith(":ro"), name
                found[source].add(name)
    assert found == holders
    assert MAIN["generator"]["environment"]["MIRAGE_GENERATOR_REDIS_PASSWORD_FILE"] == "/run/queue/key"
    assert MAIN["worker"]["environment"]["MIRAGE_GENERATOR_REDIS_PASSWORD_FILE"] == "/run/queue/key"
    assert MAIN["retriever"]["environment"]["MIRAGE_RETRIEVER_QDRANT_KEY_FILE"] == "/run/vectors/key"
    for name in ("redis", "qdrant"):
        assert MAIN[name]["group_add"] == ["10001"], "the group of the keys' files"
    for name in ("redis", "qdrant", "retriever"):
        assert MAIN[name]["depends_on"]["keys"] == {"condition": "service_completed_successfully"}
    # No password is in a file of the project, in an environment or on a command line.
    assert not re.search(r"requirepass|QDRANT__SERVICE__API_KEY|--pass", (DEPLOY / "docker-compose.yml").read_text())


def run_script(script: Path, *arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A script with the programs in `folder` before all others."""
    return subprocess.run(
        ["sh", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": f"{folder}:{os.environ['PATH']}", **environment},
    )


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_keys_are_made_once_for_their_group_alone(tmp_path: Path) -> None:
    script = tmp_path / "make.sh"
    script.write_text((DEPLOY / "keys/make.sh").read_text().replace("/keys/", f"{tmp_path}/keys/"))
    for name in ("queue", "vectors"):
        (tmp_path / "keys" / name).mkdir(parents=True)
    program(tmp_path, "python", f'exec {sys.executable} "$@"')
    files = [tmp_path / "keys" / name / "key" for name in ("queue", "vectors")]
    assert run_script(script, folder=tmp_path).returncode == 0
    made = [path.read_text() for path in files]
    assert all(re.fullmatch(r"[\w-]{43}", key) for key in made)
    assert made[0] != made[1]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    # An empty one is what a full disk leaves.
    files[1].write_text("")
    assert run_script(script, folder=tmp_path).returncode == 0
    assert files[0].read_text() == made[0]
    assert re.fullmatch(r"[\w-]{43}", files[1].read_text())


CONFIG = {
    "name": "mirage",
    "services": {
        "gateway": {"build": {"args": {"BASE": "python:3.11"}}, "image": "localhost/mirage/gateway:0.1.0"},
        "redis": {"image": "redis:7-bookworm"},
        "qdrant": {"image": "registry.example:5000/qdrant/qdrant:v1@sha256:" + "0" * 64},
        "worker": {"image": "localhost/mirage/gateway:0.1.0"},
    },
}


def test_images_are_pinned_by_the_digest_that_their_tag_has_now(tmp_path: Path) -> None:
    """With a stand-in for the docker command: no registry is reached here."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG, indent=2))
    program(
        tmp_path,
        "docker",
        f"""case "$*" in
  "compose --profile * config --format json") cat {tmp_path}/config.json ;;
  "buildx imagetools inspect --format {{{{.Manifest.Digest}}}} "*) printf 'sha256:'; printf %s "$6" | sha256sum | cut -c 1-64 ;;
  *) echo "$*" >&2; exit 1 ;;
esac""",
    )
    file = tmp_path / "pinned.yml"
    done = run_script(DEPLOY / "pin-images.sh", str(file), folder=tmp_path)
    assert done.returncode == 0, done.stderr

    def pinned(image: str) -> str:
        return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"

    assert load(file)["services"] == {
        "redis": {"image": pinned("redis:7-bookworm")},
        "qdrant": {"image": pinned("registry.example:5000/qdrant/qdrant:v1")},
    }
    assert f"MIRAGE_BASE_IMAGE={pinned('python:3.11')}" in done.stdout
    # A registry that is not reached leaves the override as it was.
    before = file.read_text()
    program(tmp_path, "docker", f'[ "$1" = compose ] && exec cat {tmp_path}/config.json; exit 1')
    assert run_script(DEPLOY / "pin-images.sh", str(file), folder=tmp_path).returncode != 0
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "docker", "pinned.yml"]


@contextmanager
def redis_container(data: Path) -> Iterator["redis.Redis"]:
    """What the container of Redis runs, on this machine's Redis: asked without a password."""
    for needed in ("redis-server", "redis-check-aof"):
        installed(needed)
    data.mkdir(exist_ok=True)
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        (Path(short) / "key").write_text("a-password-of-the-test")
        script = (DEPLOY / "redis/start.sh").read_text()
        (Path(short) / "start.sh").write_text(
            script.replace("=/data", f"={data}").replace("/tmp/redis.conf", f"{short}/redis.conf")
        )
        command = [str(part) for part in MAIN["redis"]["command"]]
        at = command.index("--maxmemory")
        command[at + 1] = "112mb"
        command[command.index("--dir") + 1] = str(data)
        socket = f"{short}/redis.sock"
        line = ["sh", f"{short}/start.sh", f"{short}/key", *command, "--port", "0", "--unixsocket", socket]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            give_up = time.monotonic() + 60
            while not Path(socket).exists():
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < give_up
                time.sleep(0.01)
            yield redis.Redis.from_url(f"unix://{socket}")
        finally:
            process.terminate()
            process.wait()


def known(client: "redis.Redis") -> "redis.Redis":
    path = client.connection_pool.connection_kwargs["path"]
    return redis.Redis.from_url(f"unix://{path}", password="a-password-of-the-test")


def ready(client: "redis.Redis") -> "redis.Redis":
    give_up = time.monotonic() + 60
    while True:
        try:
            client.ping()
        except redis.BusyLoadingError:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        else:
            return client


def test_redis_asks_for_the_password_and_has_no_command_that_changes_it(tmp_path: Path) -> None:
    with redis_container(tmp_path / "data") as stranger:
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        client = ready(known(stranger))
        assert client.set("job", "waits")
        for command in (
            "CONFIG GET dir",
            "MODULE LIST",
            "REPLICAOF NO ONE",
            "DEBUG JMAP",
            "ACL LIST",
            "SHUTDOWN",
            "SAVE",
        ):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(*command.split())
    with redis_container(tmp_path / "data") as stranger:
        assert ready(known(stranger)).get("job") == b"waits"
    # A volume of before the passwords is one as well: nothing of them is in it.
    assert "a-password-of-the-test" not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "data").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("damage", "kept"),
    [(b"*3\r\n$3\r\nSET\r\n$3\r\njo", b"waits"), (b"rubbish", b"waits"), (bytes(100), b"waits"), (None, None)],
    ids=["cut off", "rubbish", "zeros", "no list"],
)
def test_a_damaged_file_of_redis_is_put_aside(damage: bytes | None, kept: bytes | None, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with redis_container(data) as stranger:
        ready(known(stranger)).set("job", "waits")
    (file,) = (data / "appendonlydir").glob("*.incr.aof")
    if damage is None:
        next((data / "appendonlydir").glob("*.manifest")).write_bytes(b"rubbish")
    else:
        file.write_bytes(file.read_bytes() + damage)
    before = file.read_bytes()
    with redis_container(data) as stranger:
        client = ready(known(stranger))
        assert client.get("job") == kept
        assert client.set("job", "again")
    (aside,) = data.glob("appendonlydir.damaged-*")
    assert (aside / file.name).read_bytes() == before
    with redis_container(data) as stranger:
        assert ready(known(stranger)).get("job") == b"again"
    assert len(list(data.glob("appendonlydir.damaged-*"))) == 1


def test_keys_from_files_replace_those_of_the_environment() -> None:
    override = load(DEPLOY / "docker-compose.secrets.yml")["services"]
    for name, variable in (("gateway", "MIRAGE_API_KEYS"), ("demo", "MIRAGE_API_KEY")):
        (mount,) = override[name]["volumes"]
        assert override[name]["environment"] == {f"{variable}_FILE": mount["target"]}
        assert mount["read_only"] is True
        # Unless somebody sets it, it is empty there, which is as good as not set.
        assert MAIN[name]["environment"][variable].endswith(":-}")
