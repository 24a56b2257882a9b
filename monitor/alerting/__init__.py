"""Scores to alarms, alarms to alerts, alerts to people."""
