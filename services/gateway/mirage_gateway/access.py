"""Permissions: one table for HTTP operations and gRPC methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.methods import Kind, MethodRule, check_role
from mirage_core.settings import Identity, Role


class Action(StrEnum):
    """The kind of a call, by which it is permitted."""

    SEARCH = "search"
    DESCRIBE = "describe"
    READ = "read"
    CLASSIFY = "classify"
    READ_RECORDS = "read_records"
    READ_MODELS = "read_models"
    READ_QUALITY = "read_quality"
    STORE_QUALITY = "store_quality"
    MANAGE_RATINGS = "manage_ratings"
    RATE = "rate"
    LIST_COLLECTIONS = "list_collections"
    USE_JOBS = "use_jobs"
    CREATE_JOB = "create_job"
    FLAG = "flag"
    WRITE_RECORDS = "write_records"
    LIST_FLAGS = "list_flags"
    MANAGE_COLLECTIONS = "manage_collections"
    READ_METRICS = "read_metrics"
    PROBE = "probe"


@dataclass(frozen=True)
class Permission:
    """The least role for an action. `public`: also without a key if the atlas is public; `open`: always without a key."""

    role: Role
    public: bool = False
    open: bool = False


PERMISSIONS: Mapping[Action, Permission] = {
    Action.SEARCH: Permission(Role.READ, public=True),
    Action.DESCRIBE: Permission(Role.READ, public=True),
    Action.READ: Permission(Role.READ, public=True),
    Action.CLASSIFY: Permission(Role.READ, public=True),
    Action.READ_RECORDS: Permission(Role.READ, public=True),
    Action.READ_MODELS: Permission(Role.READ, public=True),
    Action.READ_QUALITY: Permission(Role.READ, public=True),
    Action.STORE_QUALITY: Permission(Role.ADMIN),
    Action.MANAGE_RATINGS: Permission(Role.ADMIN),
    # The token in the path is the key; see mirage_gateway.web.edge.
    Action.RATE: Permission(Role.READ, public=True),
    Action.LIST_COLLECTIONS: Permission(Role.READ),
    Action.USE_JOBS: Permission(Role.READ, public=True),
    Action.CREATE_JOB: Permission(Role.READ, public=True),
    Action.FLAG: Permission(Role.READ),
    Action.WRITE_RECORDS: Permission(Role.WRITE),
    Action.LIST_FLAGS: Permission(Role.ADMIN),
    Action.MANAGE_COLLECTIONS: Permission(Role.ADMIN),
    Action.READ_METRICS: Permission(Role.ADMIN),
    Action.PROBE: Permission(Role.READ, public=True, open=True),
}


def check_permission(caller: Identity | None, action: Action) -> None:
    """Raises API_KEY_MISSING, API_KEY_REQUIRED or ROLE_REQUIRED unless the caller may do this."""
    permission = PERMISSIONS[action]
    if permission.open:
        return
    if caller is None or (caller.public and not permission.public):
        raise MirageError(Code.API_KEY_MISSING)
    check_role(caller, permission.role)


def permitted(caller: Identity | None) -> list[Action]:
    """Returns the actions that a caller may do."""
    found = []
    for action in Action:
        try:
            check_permission(caller, action)
        except MirageError:
            continue
        found.append(action)
    return found


# Of mirage.v1.MirageService, each method's action.
METHODS: Mapping[str, Action] = {
    "Search": Action.SEARCH,
    "Compare": Action.SEARCH,
    "FindSimilar": Action.SEARCH,
    "Describe": Action.DESCRIBE,
    "Read": Action.READ,
    "ClassifyImage": Action.CLASSIFY,
    "GetRecord": Action.READ_RECORDS,
    "GetCase": Action.READ_RECORDS,
    "GetImage": Action.READ_RECORDS,
    "ListFacets": Action.READ_RECORDS,
    "ListRecords": Action.READ_RECORDS,
    "LookupRecords": Action.READ_RECORDS,
    "ListModels": Action.READ_MODELS,
    "GetCollection": Action.READ_MODELS,
    "ListCommonQueries": Action.READ_MODELS,
    "ListEvaluations": Action.READ_QUALITY,
    "StoreEvaluation": Action.STORE_QUALITY,
    "ListCollections": Action.LIST_COLLECTIONS,
    "CreateJob": Action.CREATE_JOB,
    "GetJob": Action.USE_JOBS,
    "ListJobs": Action.USE_JOBS,
    "WatchJob": Action.USE_JOBS,
    "CancelJob": Action.USE_JOBS,
    "GetJobImage": Action.USE_JOBS,
    "FlagRecord": Action.FLAG,
    "UpsertRecords": Action.WRITE_RECORDS,
    "DeleteRecords": Action.WRITE_RECORDS,
    "ListFlags": Action.LIST_FLAGS,
    "CreateCollection": Action.MANAGE_COLLECTIONS,
    "ActivateCollection": Action.MANAGE_COLLECTIONS,
    "DeleteCollection": Action.MANAGE_COLLECTIONS,
}
# The messages that carry an image or vectors, and the answers that last.
_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("Search", "Compare", "Describe", "Read", "ClassifyImage"), limits.MESSAGE_BYTES),
    "UpsertRecords": limits.VECTORS_BYTES,
}
_WATCHES = frozenset({"WatchJob", "Describe", "Read"})


def method_rules() -> dict[str, MethodRule]:
    """The rules of the gRPC methods, as the server takes them."""
    return {
        name: MethodRule(
            PERMISSIONS[action].role,
            _BYTES.get(name, limits.REQUEST_BYTES),
            Kind.WATCH if name in _WATCHES else Kind.CALL,
        )
        for name, action in METHODS.items()
    }
