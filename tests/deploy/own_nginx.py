"""An nginx of a test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.cluster import ports, proxy
from tests.support.lone_proxy import read_all
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping


CONFIG = proxy.CONFIG_DIR.parent / "deploy" / "nginx" / "headrace.conf"
MAIN = """
pid nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include headrace.conf;
}
"""
UNPRIVILEGED = "nobody"


class Nginx:
    """One nginx without privileges, all its files in a directory of its own."""

    def __init__(
        self,
        binary: Path,
        nodes: list[int],
        changes: Mapping[str, str] = {},
        certificate: Path | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="headrace-nginx-"))
        self.port, self.tls_port = ports.free_ports(2, avoid=set())
        self.url = f"http://127.0.0.1:{self.port}"
        servers = "".join(
            f"server 127.0.0.1:{node} max_fails=2 fail_timeout=5s max_conns=1800;" for node in nodes
        )
        if certificate is not None:
            shutil.copyfile(certificate, self.directory / "site.pem")
            changes = {
                **changes,
                "#listen 443 ": f"listen 127.0.0.1:{self.tls_port} ",
                "#ssl_certificate     /etc/nginx/site.pem;": "ssl_certificate site.pem;",
                "#ssl_certificate_key /etc/nginx/site.key;": "ssl_certificate_key site.pem;",
                "#if ($headrace_is_plain)": "if ($headrace_is_plain)",
            }
        text = CONFIG.read_text(encoding="utf-8")
        for old, new in {
            "server 127.0.0.1:8001 max_fails=2 fail_timeout=5s max_conns=1800;": servers,
            "server 127.0.0.1:8002 max_fails=2 fail_timeout=5s max_conns=1800;": "",
            "listen 127.0.0.1:8000 ": f"listen 127.0.0.1:{self.port} ",
            "/var/cache/nginx/headrace": "cache",
            **changes,
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.directory / "headrace.conf").write_text(text, encoding="utf-8")
        (self.directory / "nginx.conf").write_text(MAIN, encoding="utf-8")
        command = [str(binary), "-p", f"{self.directory}/", "-c", "nginx.conf", "-e", "stderr"]
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        subprocess.run([*command, "-t", "-q"], check=True)
        self.process = subprocess.Popen([*command, "-g", "daemon off;"])
        eventually(self.listens, seconds=5, what="nginx listens")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(data)
            # Then it waits for no rest of a body.
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        shutil.rmtree(self.directory)
