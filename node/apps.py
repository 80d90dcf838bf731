"""The node app."""

from django.apps import AppConfig


class NodeConfig(AppConfig):
    name = "node"
