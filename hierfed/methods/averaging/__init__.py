"""Federated averaging of networks, with its two levels of personalisation."""
