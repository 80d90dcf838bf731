"""Decide what a stack consists of: its processes, their addresses, and what commands must know."""

from dataclasses import dataclass

from django.conf import settings

from config.env import env_str
from fleet.cluster import autoscaler, llm, node, proxy, redis, worker
from fleet.cluster.credentials import Credentials
from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout
from fleet.cluster.ports import free_ports, require_free
from fleet.cluster.postgres.programs import find_bin
from fleet.cluster.postgres.servers import Servers
from fleet.cluster.postgres.topology import Topology
from fleet.cluster.postgres.topology import load as load_topology

# Settings that decide what a command in another terminal does, as the stack was started with them.
HANDED_ON = (
    "CHAIN_RUNNABLES",
    "DEFAULT_REQUESTS_PER_MINUTE",
    "DEFAULT_TOKENS_PER_DAY",
    "DEFAULT_MAX_CONCURRENT",
    "DRAIN_SECONDS",
    "DRAIN_SETTLE_SECONDS",
    "EMBEDDED_JOB_GRACE_SECONDS",
    "EMBEDDED_POSTGRES_BIN",
    "EMBEDDED_POSTGRES_USER",
    "EMBEDDED_SYNCHRONOUS_COMMIT",
    "EMBEDDED_WSGI",
    "MAX_NODES",
    "STATIC_ROOT",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The processes of one stack; one is absent when the environment names another server."""

    url: str
    environment: dict[str, str]
    servers: Servers | None
    redis: redis.Redis | None
    llm: llm.Llm | None
    nodes: list[node.Node]
    workers: list[worker.Worker]
    proxy: proxy.Proxy
    autoscaler: autoscaler.Autoscaler | None


def make_plan(
    layout: Layout,
    credentials: Credentials,
    *,
    nodes: int,
    workers: int,
    replicas: int | None,
    with_llm: bool,
    with_autoscaler: bool = False,
) -> Plan:
    """Choose programs and ports; raise `ClusterError` when one is missing or taken.

    Without a number of replicas there are as many as the last time, and at least one.
    """
    require_free(settings.PORT, setting="PORT")
    require_free(settings.STATS_PORT, setting="STATS_PORT")
    databases = _wanted_topology(layout, replicas)
    count = nodes + workers + len(databases.names) + 3
    ports = iter(free_ports(count, avoid={settings.PORT, settings.STATS_PORT}))
    binary = proxy.find_haproxy()
    haproxy = proxy.Proxy(
        id=proxy.proxy_id(settings.PORT),
        layout=layout,
        binary=binary,
        stats_port=settings.STATS_PORT,
    )
    url = f"http://{haproxy.id.address}"
    environment = {
        "PORT": str(settings.PORT),
        "STATS_PORT": str(settings.STATS_PORT),
        **_given("SECRET_KEY", default=credentials.secret_key),
    }
    for name in HANDED_ON:
        environment |= _given(name)

    servers = None
    if _is_given("DATABASE_URL"):
        environment |= _given("DATABASE_URL") | _given("DATABASE_REPLICA_URLS")
    else:
        servers = Servers(
            layout=layout,
            credentials=credentials,
            bin_dir=find_bin(),
            topology=databases,
            ports={name: next(ports) for name in databases.names},
        )
        environment["DATABASE_URL_FILE"] = str(layout.database_url_file)
        environment["DATABASE_REPLICA_URLS_FILE"] = str(layout.replica_urls_file)

    cache = None
    environment |= _given("CACHE_URL") | _given("REDIS_URL") | _given("BROKER_URL")
    if not (_is_given("CACHE_URL") and _is_given("BROKER_URL")):
        cache = redis.Redis(
            id=redis.redis_id(next(ports)),
            layout=layout,
            credentials=credentials,
            server=redis.find_server(),
        )
        environment.setdefault("CACHE_URL", cache.url)
        environment.setdefault("BROKER_URL", cache.broker_url)

    model = None
    if with_llm and not any(map(_is_given, ("LLM_BASE_URL", "LLM_MODEL", "LLM_API_KEY"))):
        model = llm.Llm(id=llm.llm_id(next(ports)), weights=llm.find_weights())
        environment |= model.environment
    else:
        for name in ("LLM_BASE_URL", "LLM_MODEL", "LLM_API_KEY"):
            environment |= _given(name)

    return Plan(
        url=url,
        environment=environment,
        servers=servers,
        redis=cache,
        llm=model,
        nodes=[node.Node(id=node.node_id(n, next(ports))) for n in range(1, nodes + 1)],
        workers=[worker.Worker(id=worker.worker_id(n, next(ports))) for n in range(1, workers + 1)],
        proxy=haproxy,
        autoscaler=autoscaler.Autoscaler(id=autoscaler.autoscaler_id(next(ports)))
        if with_autoscaler
        else None,
    )


def has_orphaned_data(layout: Layout) -> bool:
    """Return whether there is a database whose password was lost."""
    return any(layout.state_dir.glob("postgres*/PG_VERSION")) and not layout.secrets_file.exists()


def _wanted_topology(layout: Layout, replicas: int | None) -> Topology:
    recorded = load_topology(layout.topology_file) or Topology()
    if replicas is None:
        replicas = max(1, len(recorded.replicas))
    if replicas == 0 and settings.EMBEDDED_SYNCHRONOUS_COMMIT == "remote_apply":
        raise ClusterError(
            "EMBEDDED_SYNCHRONOUS_COMMIT=remote_apply needs a replica to wait for; "
            "start with --replicas 1 or more."
        )
    return recorded.resized(replicas)


def _is_given(name: str) -> bool:
    return bool(env_str(name) or env_str(f"{name}_FILE"))


def _given(name: str, *, default: str = "") -> dict[str, str]:
    """Return the variable as the user set it, so that commands elsewhere see the same."""
    for given in (name, f"{name}_FILE"):
        if value := env_str(given):
            return {given: value}
    return {name: default} if default else {}
