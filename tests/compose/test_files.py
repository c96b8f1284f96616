"""What the compose files and Dockerfiles say, held against the code: no engine is needed."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mirage_core.settings import Secret, ServiceSettings, variable_of

from .deploy_files import DEPLOY, FILES, MAIN, ROOT, SETTINGS, load, services

DOCKERFILES = sorted(
    [*ROOT.glob("services/*/Dockerfile"), *ROOT.glob("deploy/*/Dockerfile"), ROOT / "models/Dockerfile"]
)
HOSTS = sorted(DEPLOY.glob("hosts/*.env"))
BUILDERS = {"models-encoder", "models-llm", "models-generator"}
ONE_SHOT = {"keys", "demo", "index", *BUILDERS}
WHOLE = [(file, name, service) for file, name, service in services() if "image" in service]


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found


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


def test_keys_from_files_replace_those_of_the_environment() -> None:
    override = load(DEPLOY / "docker-compose.secrets.yml")["services"]
    for name, variable in (("gateway", "MIRAGE_API_KEYS"), ("demo", "MIRAGE_API_KEY")):
        (mount,) = override[name]["volumes"]
        assert override[name]["environment"] == {f"{variable}_FILE": mount["target"]}
        assert mount["read_only"] is True
        # Unless somebody sets it, it is empty there, which is as good as not set.
        assert MAIN[name]["environment"][variable].endswith(":-}")
