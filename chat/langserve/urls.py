"""Addresses below /chains/."""

urlpatterns = []
